"""Any id leads to its story: by an index, on one timeline, with its place in the archive."""

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from command import Run
from service import Service
from sqlalchemy.dialects import postgresql

import billing
from billing import database, finding
from billing.errors import UnknownEntity
from billing.tables.differences import MoneyDifference
from billing.tables.entities import Capture, Invoice
from billing.tables.received_events import ReceivedEvent
from billing.tables.stripe_records import StripeRecord

PAGE = (Path(__file__).parents[2] / "docs" / "operate" / "explain.md").read_text().partition("## For programs")[2]


def ids_of(run: Run, name: str) -> list[str]:
    return [each["status"]["id"] for each in run("explain", name, "--json").json["operations"]]


def request(service: Service, request_id: str, **more: Any) -> str:
    with database.transaction(service.engines["application"]) as session:
        return billing.request_capture(
            session,
            payment_intent=service.intents()[0],
            amount=billing.Money(1999, "USD"),
            request_id=request_id,
            authorization=billing.Authorization(1999, "USD", None),
            **more,
        ).capture_id


def test_every_id_of_a_capture_leads_to_it(run: Run, service: Service) -> None:
    capture = service.ask_for_capture(correlation_id="basket-7")
    assert service.settle(capture) == ["captured"]
    row, record = service.row(Capture, capture), service.record(capture)
    names = (
        capture,
        row.payment_intent,
        row.charge,
        service.work(capture).id,
        record.id,
        record.key,
        record.request_ids[0],
        "order-1",
        "basket-7",
    )
    assert {name: ids_of(run, name) for name in names} == {name: [capture] for name in names}


def test_an_answer_and_a_key_lead_to_it_when_work_and_calls_were_removed_long_ago(run: Run, service: Service) -> None:
    capture = service.ask_for_capture()
    service.settle(capture)
    record = service.record(capture)
    service.execute("DELETE FROM billing.idempotency_records")
    service.execute("DELETE FROM billing.work")
    for name in (record.request_ids[0], record.key):
        assert ids_of(run, name) == [capture]
    assert "every attempt is among the facts" in run("explain", capture).out


def test_every_id_of_an_invoice_leads_to_it(run: Run, service: Service) -> None:
    invoice = service.ask_for_invoice()
    service.settle(invoice)
    row = service.row(Invoice, invoice)
    for name in (invoice, row.stripe_invoice, row.customer, service.records(invoice)[0].key):
        assert ids_of(run, name) == [invoice]


def test_what_nobody_requested_is_explained_too(run: Run, service: Service) -> None:
    switch = run("switch", "pull", "captures", "--reason", "INC-12", "--actor", "grace", "--json").json["id"]
    told = run("explain", switch).out
    assert f"{switch}: pulled since" in told
    assert "do: billing switch release captures --reason WHY  # " in told
    assert "switch.pulled: nothing new is sent in this scope, by grace (scope captures" in told
    started = run("schedule", "run", "snapshot_queues", "--actor", "grace", "--json").json
    (run_id,) = re.findall(r"run_[0-9a-f]{32}", json.dumps(started))
    assert ids_of(run, run_id) == [run_id]
    assert "schedule: snapshot_queues" in run("explain", run_id).out


def test_all_that_an_id_leads_to_is_on_one_timeline(run: Run, service: Service) -> None:
    """A payment intent with two captures: the first was declined, and gave the authorization back."""
    (intent,) = service.intents()
    first = service.ask_for_capture(intent, amount=1998)
    service.standin.add_fault("402_declined", path="/capture$", times=1)
    assert service.settle(first) == ["declined"]
    second = service.ask_for_capture(intent)
    assert service.settle(second) == ["captured"]
    story = run("explain", intent, "--json").json
    assert [each["status"]["id"] for each in story["operations"]] == [second, first]
    moments = [(each["at"], each["of"]) for each in story["timeline"]]
    assert moments == sorted(moments)
    assert [of for _, of in moments] == sorted((of for _, of in moments), key=[first, second].index)
    told = run("explain", intent).out
    assert told.count("\ntimeline\n") == 1
    assert f"  {first}  capture.declined: the card's issuer declined it" in told


def test_one_request_id_of_several_accounts_leads_to_all(run: Run, service: Service) -> None:
    captures = [request(service, "order-7", account=account) for account in (None, "acct_1", "acct_2")]
    assert ids_of(run, "order-7") == sorted(captures, reverse=True)


def test_a_request_id_leads_first_to_what_was_asked_for_with_it(run: Run, service: Service) -> None:
    """What came of it is newer and has the same correlation id: the refund of a capture, the document of an invoice."""
    capture = service.captured_one()
    name = service.row(Capture, capture).request_id
    refund = service.ask_for_refund(capture, correlation_id=name)
    with database.transaction(service.engine) as session:
        assert finding.find(session, name) == [capture, refund]
    assert run("status", name, "--json").json["id"] == capture


def test_of_very_many_the_newest_are_shown_and_the_others_counted(
    run: Run, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("billing.explain.MOST", 2)
    captures = [request(service, f"order-{number}", correlation_id="bulk-1") for number in range(3)]
    assert ids_of(run, "bulk-1") == captures[:0:-1]
    assert "it leads to 1 older ones, too, which are not shown" in run("explain", "bulk-1").out


@pytest.mark.parametrize("name", ["cap_\0", "x" * 301, "order-1\n", "req_none", "wrk_none", "a:cap_1:b:g1"])
def test_what_leads_to_nothing_is_refused_in_one_line(run: Run, service: Service, name: str) -> None:
    ran = run("explain", name)
    assert (ran.status, ran.out) == (2, "")
    assert len(ran.err.splitlines()) == 1
    with database.transaction(service.engine) as session, pytest.raises(UnknownEntity):
        finding.find(session, name)


OURS = ("cap_1", "void_1", "ref_1", "inv_1", "swi_1", "run_1", "wrk_1", "rec_1")
NAMES = (*OURS, "pi_1", "ch_1", "re_1", "in_1", "order-1", "req_1")


@pytest.mark.parametrize("name", NAMES)
def test_whatever_is_indexed_is_found_by_its_index(service: Service, name: str) -> None:
    """A customer's invoices are read through: only an erasure and a person ask for them."""
    dialect = postgresql.psycopg.dialect()  # type: ignore[attr-defined]
    with database.transaction(service.engines["operator"]) as session:
        for way in (finding._by_id, finding._by_request_id, finding._by_correlation_id, finding._by_answer):
            for query in way(name):
                written = str(query.compile(dialect=dialect, compile_kwargs={"literal_binds": True}))
                plan = (
                    session.connection().exec_driver_sql(f"EXPLAIN (COSTS OFF) {written.replace('%', '%%')}").scalars()
                )
                steps = list(plan)
                assert not any("Seq Scan" in step for step in steps), steps
                conditions = [step for step in steps if "Index Cond" in step or "Result" in step]
                assert conditions, steps


# What Stripe's own records say.


def test_money_and_differences_are_on_the_timeline_and_an_open_one_is_the_next_to_look_at(
    run: Run, service: Service
) -> None:
    capture = service.ask_for_capture()
    assert service.settle(capture) == ["captured"]
    charge, now = service.row(Capture, capture).charge, datetime.now(UTC)
    own: dict[str, Any] = {"account": "own", "currency": "USD"}
    entry = {"id": "txn_7", "object": "balance_transaction", "type": "charge", "source": charge, "payout": "po_1"}
    amounts = {"amount_minor": 1999, "fee_minor": 88, "net_minor": 1911}
    differs = {"id": "dif_" + "1" * 32, "kind": "amount", "subject": capture, "what": "here 1999, at Stripe 1998"}
    differs["stripe_id"] = charge
    seen = {"state_since": now, "first_seen_at": now, "last_seen_at": now}
    with database.transaction(service.engine) as session:
        session.add(StripeRecord(**own, id=charge, object="charge", operation_id=capture, created_at=now, seen_at=now))
        session.add(StripeRecord(**own, **entry, **amounts, created_at=now, seen_at=now))
        session.add(MoneyDifference(**own, **differs, **seen))
    assert ids_of(run, "txn_7") == ids_of(run, differs["id"]) == [capture]
    told = run("explain", capture).out
    assert "money: txn_7, balance_transaction charge, in po_1, fee 0.88 USD, net 19.11 USD (19.99 USD)" in told
    assert f"difference: {differs['id']}, amount: here 1999, at Stripe 1998 (at Stripe: {charge})" in told
    assert "why: it ended as captured, and Stripe's own records say something else: here 1999, at Stripe 1998" in told
    assert f"do: billing differences show {differs['id']}  # " in told
    assert run("differences", "close", differs["id"], "--reason", "a test", "--actor", "grace").status == 0
    told = run("explain", capture).out
    assert f"{differs['id']} is closed: a test, by grace" in told
    assert "do: nothing: the money is taken" in told


def test_an_event_leads_to_what_it_was_matched_with(run: Run, service: Service) -> None:
    capture, now = service.ask_for_capture(), datetime.now(UTC)
    event = {"id": "evt_7", "type": "charge.captured", "livemode": False, "source": "webhook", "created_at": now}
    with database.transaction(service.engine) as session:
        session.add(ReceivedEvent(**event, matched_with=capture, object_id="ch_7"))
    assert ids_of(run, "evt_7") == [capture]
    story = run("explain", capture, "--json").json
    ((heard,),) = [each["events"] for each in story["operations"]]
    assert (heard["id"], heard["object_id"], heard["source"]) == ("evt_7", "ch_7", "webhook")
    assert [each["text"] for each in story["timeline"] if each["what"] == "event"] == [
        f"evt_7: charge.captured of ch_7, {now:%Y-%m-%d %H:%M:%S} UTC at Stripe"
    ]
    assert "event: evt_7: charge.captured of ch_7" in run("explain", capture).out


def test_a_difference_about_what_only_stripe_knows_is_explained_by_both_sides(run: Run, service: Service) -> None:
    now, name = datetime.now(UTC), "dif_" + "2" * 32
    seen = {"state_since": now, "first_seen_at": now, "last_seen_at": now}
    what = {"kind": "missing_here", "subject": "ch_9", "stripe_id": "ch_9", "what": "19.99 USD at Stripe, nothing here"}
    with database.transaction(service.engine) as session:
        session.add(MoneyDifference(id=name, account="own", **what, **seen))
    told = run("explain", name)
    assert told.status == 0, told.err
    assert f"{name}: missing_here, open since " in told.out
    assert "19.99 USD at Stripe, nothing here (at Stripe: ch_9)" in told.out
    assert "no operation of ours is known for that" in told.out
    assert f"do: billing differences show {name}  # " in told.out
    found = run("explain", name, "--json").json
    assert (found["operations"], found["difference"]["stripe_id"]) == ([], "ch_9")


# The archive.


def test_each_fact_is_shown_with_the_object_that_holds_it(run: Run, service: Service, made: str, taken: str) -> None:
    assert run("archive", "run", "--once").status == 0
    story = run("explain", taken, "--json").json
    (found,) = story["operations"]
    assert [(fact["topic"], fact["retention_class"], fact["batch"]) for fact in found["facts"]] == [
        ("capture.requested", "capture", 1),
        ("capture.attempted", "attempt", 1),
        ("capture.captured", "capture", 1),
    ]
    day = found["facts"][0]["at"][:10]
    place = f"v1/class=capture/event_date={day}/b000000000001-000000000001-000000000002.parquet"
    assert f"  {place} (batch capture 1): facts 1, 3" in run("explain", taken).out


# What programs read.


def test_the_fields_of_the_json_are_those_of_the_page(run: Run, service: Service) -> None:
    capture = service.ask_for_capture()
    service.settle(capture)
    story = run("explain", capture, "--json").json
    (found,) = story["operations"]
    parts = {"the answer": story, "an operation": found, "`status`": found["status"], "`advice`": found["advice"]}
    parts |= {"`work`": found["work"][0], "`calls`": found["calls"][0], "`facts`": found["facts"][0]}
    parts |= {"`timeline`": story["timeline"][0]}
    for part, fields in parts.items():
        (listed,) = re.findall(rf"^\| {re.escape(part)} \| (.*?) \|", PAGE, re.MULTILINE)
        assert re.findall(r"`(\w+)`", listed) == list(fields), part
    assert story["version"] == 1
