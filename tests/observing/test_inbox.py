"""Each event is in the inbox once, and a relay finds what it is about, whatever came first."""

import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from service import Service, Through
from sqlalchemy import select
from sqlalchemy.exc import ProgrammingError

from billing import database, inbox, row_io, statements
from billing.events import event_of
from billing.operations import OPERATIONS
from billing.registration import Operation
from billing.tables.entities import Capture, Invoice
from billing.tables.received_events import ReceivedEvent
from billing.tables.work import Work
from jobs.access.grants import may
from jobs.growth.forgotten import KEPT_DAYS, forget_events
from jobs.metrics import reading

SOMEBODY = "payment_intent.canceled"


def event(number: int, subject: dict[str, Any], kind: str = SOMEBODY, **more: Any) -> ReceivedEvent:
    data = {
        "id": f"evt_{number}",
        "object": "event",
        "type": kind,
        "livemode": False,
        "created": int(datetime.now(UTC).timestamp()) + number,
        "data": {"object": subject},
        "request": None,
    }
    made = event_of(data | more, source="webhook")
    assert made is not None
    return made


def put(service: Service, *events: ReceivedEvent) -> int:
    with database.transaction(service.engines["web"]) as session:
        return inbox.put(session, events)


def match(service: Service) -> int:
    with database.transaction(service.engines["relay"]) as session:
        return inbox.match(session, 500)


def rows(service: Service) -> dict[str, tuple[str, str | None]]:
    with database.transaction(service.engine) as session:
        found = session.scalars(select(ReceivedEvent).order_by(ReceivedEvent.id))
        return {each.id: (each.state, each.matched_with) for each in found}


def notices(service: Service, entity_id: str) -> list[dict[str, Any]]:
    return [fact.payload for fact in service.facts(entity_id) if fact.topic.endswith(".noticed")]


def later(service: Service, seconds: float) -> None:
    service.execute(
        "UPDATE billing.received_events SET received_at = received_at - make_interval(secs => :seconds),"
        " match_at = match_at - make_interval(secs => :seconds)",
        seconds=seconds,
    )


def intent_of(service: Service, capture: str) -> str:
    return str(service.row(Capture, capture).payment_intent)


def test_an_event_is_there_once_however_often_it_comes(service: Service) -> None:
    """[22] The same webhook comes twice."""
    again = [event(1, {"id": "pi_1"}), event(2, {"id": "pi_1"}), event(1, {"id": "pi_1"})]
    assert put(service, *again) == 2
    assert put(service, *again) == 0
    assert set(rows(service)) == {"evt_1", "evt_2"}


def test_the_process_that_takes_events_can_do_nothing_else(service: Service) -> None:
    put(service, event(1, {"id": "pi_1"}))
    for statement in (
        "SELECT id FROM billing.received_events",
        "UPDATE billing.received_events SET state = 'matched'",
        "DELETE FROM billing.received_events",
        "SELECT id FROM billing.captures",
        "INSERT INTO billing.received_events (id, type, livemode, created_at, source, state)"
        " VALUES ('evt_9', 'a.b', false, now(), 'webhook', 'matched')",
    ):
        with (
            pytest.raises(ProgrammingError, match="permission denied"),
            database.transaction(service.engines["web"]) as session,
        ):
            session.connection().exec_driver_sql(statement)


def test_an_event_leads_to_its_capture_by_the_intent_and_that_is_noticed_once(service: Service) -> None:
    """[23] Of several events the newest is named, and Stripe is looked at once."""
    capture = service.ask_for_capture()
    subject = {"id": intent_of(service, capture)}
    put(service, *(event(number, subject) for number in (3, 1, 2)))
    assert match(service) == 3
    assert set(rows(service).values()) == {("matched", capture)}
    assert notices(service, capture) == [
        {"source": "webhook", "event": "evt_3", "event_type": SOMEBODY, "account": None}
    ]
    assert match(service) == 0


def test_an_event_about_a_charge_or_with_our_metadata_leads_there_too(service: Service) -> None:
    capture, invoice = service.ask_for_capture(), service.ask_for_invoice()
    put(
        service,
        event(1, {"id": "ch_1", "payment_intent": intent_of(service, capture)}, "charge.expired"),
        event(2, {"id": "in_9", "metadata": {"billing_operation": invoice}}, "invoice.voided"),
    )
    match(service)
    assert rows(service) == {"evt_1": ("matched", capture), "evt_2": ("matched", invoice)}
    assert len(notices(service, capture)) == len(notices(service, invoice)) == 1


def test_metadata_that_names_an_operation_of_another_account_leads_nowhere(service: Service) -> None:
    capture = service.ask_for_capture()
    forged = {"id": "pi_other", "metadata": {"billing_operation": capture}}
    put(service, event(1, forged, account="acct_1"), event(2, {"id": intent_of(service, capture)}, account="acct_1"))
    match(service)
    assert {state for state, _ in rows(service).values()} == {"received"}
    assert notices(service, capture) == []


def test_an_event_of_a_connected_account_leads_to_what_is_asked_for_there(service: Service) -> None:
    capture = service.ask_for_capture(account="acct_1")
    put(service, event(1, {"id": intent_of(service, capture)}, account="acct_1"))
    match(service)
    assert notices(service, capture)[0]["account"] == "acct_1"


def test_a_webhook_that_overtakes_the_commit_of_its_request_is_matched_later(service: Service) -> None:
    """[21] The event is there first; it is looked for again, less and less often."""
    (intent,) = service.intents()
    put(service, event(1, {"id": intent}))
    assert match(service) == 1
    assert match(service) == 0, "not again at once"
    capture = service.ask_for_capture(intent)
    later(service, 3)
    assert match(service) == 1
    assert rows(service) == {"evt_1": ("matched", capture)}


def strange(service: Service) -> int:
    """As a relay exports it."""
    with database.transaction(service.engines["relay"]) as session:
        return int(statements.run(session, reading.SQL["strange_events"], most=100).scalar_one())


def test_an_event_that_names_an_operation_of_ours_which_is_not_known_here_is_strange(service: Service) -> None:
    """81: the database was restored. What somebody else does at Stripe is nothing strange."""
    ours = "cap_" + "7" * 32
    named = {"id": "pi_1", "metadata": {"billing_operation": ours}}
    with_our_key = {"request": {"idempotency_key": f"billing:test:{ours}:capture:g1"}}
    put(service, event(1, named), event(2, {"id": "pi_2"}, **with_our_key), event(3, {"id": "pi_3"}))
    match(service)
    assert strange(service) == 0, "its commit may still come"
    later(service, 3700)
    match(service)
    assert {state for state, _ in rows(service).values()} == {"unknown"}
    assert strange(service) == 2
    later(service, 24 * 3600)
    assert strange(service) == 0


def test_what_is_nobodys_here_is_unknown_after_an_hour_and_other_kinds_are_ignored_at_once(service: Service) -> None:
    put(service, event(1, {"id": "pi_dashboard"}), event(2, {"id": "cus_1"}, "customer.created"))
    match(service)
    assert rows(service) == {"evt_1": ("received", None), "evt_2": ("ignored", None)}
    tries = 0
    while rows(service)["evt_1"][0] == "received":
        later(service, 600)
        tries += match(service)
        assert tries < 20
    assert rows(service)["evt_1"] == ("unknown", None)


def test_what_our_own_call_caused_is_matched_and_not_looked_at(service: Service) -> None:
    capture = service.ask_for_capture()
    service.settle(capture)
    invoice = service.ask_for_invoice()
    service.settle(invoice)
    key = service.record(invoice).key
    at_stripe = str(service.row(Invoice, invoice).stripe_invoice)
    put(
        service,
        event(1, {"id": intent_of(service, capture)}, "payment_intent.succeeded"),
        event(2, {"id": at_stripe}, "invoice.sent", request={"id": "req_1", "idempotency_key": key}),
    )
    match(service)
    assert {state for state, _ in rows(service).values()} == {"matched"}
    assert notices(service, capture) == [], "a captured capture cannot change"
    assert notices(service, invoice) == [], "the answer to our own call has told it"


def test_while_our_answer_is_missing_an_event_of_our_own_call_is_worth_a_look(service: Service) -> None:
    """[8, 21] Stripe did it, answered 500, and sent a webhook."""
    capture = service.ask_for_capture()
    service.standin.add_fault("500_with_effect", path="/capture$")
    service.plan()
    service.work_off()
    service.execute("UPDATE billing.idempotency_records SET look_at = clock_timestamp() + interval '1 hour'")
    service.execute("UPDATE billing.work SET state = 'waiting', due_at = NULL WHERE state <> 'done'")
    request = {"id": "req_1", "idempotency_key": service.record(capture).key}
    put(service, event(1, {"id": intent_of(service, capture)}, "payment_intent.succeeded", request=request))
    match(service)
    service.plan()
    service.work_off()
    assert service.status(capture).state == "captured"
    assert service.captured(capture) == {1999: 1}


def test_an_operation_that_a_worker_holds_is_noticed_when_it_is_free(service: Service) -> None:
    capture = service.ask_for_capture()
    put(service, event(1, {"id": intent_of(service, capture)}))
    with database.transaction(service.engines["worker"]) as session:
        row_io.locked(session, Capture, [capture])
        assert match(service) == 1
    assert rows(service)["evt_1"][0] == "received"
    assert notices(service, capture) == []
    later(service, 2)
    match(service)
    assert rows(service) == {"evt_1": ("matched", capture)}
    assert len(notices(service, capture)) == 1


def test_events_and_their_notices_are_one_commit(service: Service) -> None:
    """[76] An event is marked only in the transaction that writes what follows of it."""
    capture = service.ask_for_capture()
    put(service, event(1, {"id": intent_of(service, capture)}))
    with pytest.raises(RuntimeError):
        match_and_die(service)
    assert rows(service)["evt_1"][0] == "received"
    assert notices(service, capture) == []
    match(service)
    assert len(notices(service, capture)) == 1


def match_and_die(service: Service) -> None:
    with database.transaction(service.engines["relay"]) as session:
        assert inbox.match(session, 500) == 1
        raise RuntimeError("killed")


def test_events_in_any_order_twice_and_late_end_in_stripes_own_state(service: Service) -> None:
    """[22, 23] An invoice that is finalized, sent and paid, told in every order."""
    rng = random.Random(7)
    invoice = service.ask_for_invoice()
    service.settle(invoice)
    at_stripe = str(service.row(Invoice, invoice).stripe_invoice)
    service.by_hand(f"/v1/invoices/{at_stripe}/pay", "paid_out_of_band=true")
    told = [
        event(number, {"id": at_stripe}, kind)
        for number, kind in enumerate(("invoice.finalized", "invoice.sent", "invoice.paid", "invoice.updated"))
    ]
    for _ in range(3):
        rng.shuffle(told)
        for each in told:
            put(service, each)
            match(service)
            service.plan()
            service.work_off("invoices")
            service.execute("UPDATE billing.work SET state = 'ready', due_at = NULL WHERE state = 'waiting'")
    assert service.status(invoice).state == "paid"
    assert service.topics(invoice).count("paid") == 1


def test_a_relay_matches_by_itself(service: Service) -> None:
    capture = service.ask_for_capture()
    put(service, event(1, {"id": intent_of(service, capture)}))
    service.relay.round()
    assert rows(service) == {"evt_1": ("matched", capture)}


def test_a_million_captures_are_found_by_an_index(service: Service) -> None:
    with database.transaction(service.engines["relay"]) as session:
        session.connection().exec_driver_sql("SET LOCAL enable_bitmapscan = off")
        plan = "\n".join(
            session.connection()
            .exec_driver_sql(
                "EXPLAIN SELECT id FROM billing.captures WHERE account IS NULL AND payment_intent IN ('pi_1', 'pi_2')"
                " AND state IN ('requested', 'captured', 'expired')"
            )
            .scalars()
        )
    assert "captures_one_per_authorization" in plan


def test_events_are_forgotten_after_a_month_but_not_before_they_are_matched(service: Service) -> None:
    put(service, *(event(number, {"id": "cus_1"}, "customer.created") for number in range(3)), event(9, {"id": "pi_9"}))
    match(service)
    assert forget_events(service.engines["worker"], within_s=60) == 0
    service.execute(
        "UPDATE billing.received_events SET received_at = received_at - make_interval(days => :days)"
        " WHERE id <> 'evt_2'",
        days=KEPT_DAYS + 1,
    )
    assert forget_events(service.engines["worker"], within_s=60) == 2
    assert set(rows(service)) == {"evt_2", "evt_9"}


def test_an_event_that_comes_again_after_it_was_forgotten_does_no_harm(service: Service) -> None:
    capture = service.ask_for_capture()
    service.settle(capture)
    put(
        service,
        event(1, {"id": intent_of(service, capture)}, created=int((datetime.now(UTC) - timedelta(90)).timestamp())),
    )
    match(service)
    service.plan()
    gateway = Through(service)
    service.work_off("captures", gateway)
    assert gateway.asked == []
    assert service.status(capture).state == "captured"
    with database.transaction(service.engine) as session:
        assert set(session.scalars(select(Work.state))) == {"done"}


@pytest.mark.parametrize("operation", [each for each in OPERATIONS.values() if any(c.observes for c in each.contracts)])
def test_a_relay_may_notice_every_kind_that_is_observed(operation: Operation) -> None:
    rights = may("relay", operation.table.__tablename__)
    asked = {prefix: column.key for prefix, column in operation.found_by.items() if prefix != "cus"}
    assert rights.see >= {*inbox._NOTICED, *asked.values()}
    assert rights.change == {"version"}
