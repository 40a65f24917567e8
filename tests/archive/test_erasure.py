"""An erased customer leaves no text in Postgres; what was archived stays evidence, for us and for a stranger."""

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from auditor import Auditor
from evidence import Archive
from long_ago import happened_long_ago
from psycopg import sql
from service import Service
from sqlalchemy import text
from sqlalchemy.engine import make_url
from test_no_personal_data import MAIL, NAME, STREET, everything, found
from test_verification import verify
from test_verifier import auditor, pem_of, signed  # noqa: F401 - fixtures

import billing
from archive import queries
from archive.keeping.search import Criteria
from archive.purging import purger as purging
from archive.purging.purger import Purger
from billing import audit, database, erasure
from billing.erasure import Erased
from billing.errors import InvalidRequest, RequestReused, UnknownEntity
from billing.operations import OPERATIONS
from billing.tables.entities import Capture, Invoice, InvoiceLine
from jobs.road import quarantine

PERSONAL = [billing.Line(f"{NAME}, {STREET}", billing.Money(4500, "EUR")), billing.Line(MAIL, billing.Money(1, "EUR"))]
OTHERS = "Neighbor Nilsson, Neighbor Lane 1"


def asking(service: Service) -> Callable[..., Any]:
    """With an operator's login, which may call the function, and change none of the rows itself."""

    def ask(step: Callable[..., Any]) -> Any:
        with database.transaction(service.engines["operator"]) as session:
            return step(session)

    return ask


def issued(service: Service, customer: str, lines: list[billing.Line], request_id: str, actor: str = NAME) -> str:
    with database.transaction(service.engines["application"]) as session:
        return billing.issue_invoice(
            session,
            customer=customer,
            lines=lines,
            collect=billing.SendInvoice(days_until_due=14),
            request_id=request_id,
            actor=actor,
        ).invoice_id


def erased(service: Service, customer: str, *also: str) -> Erased:
    ask = asking(service)
    return erasure.erase(ask, erasure.operations_of(ask, customer, also), customer)


def dumped(service: Service) -> str:
    """Every row of every table, as pg_dump copies it."""
    url = make_url(service.url).set(drivername="postgresql").render_as_string(hide_password=False)
    read = bytearray()
    with psycopg.connect(url) as owner:
        tables = owner.execute(
            "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'billing'::regnamespace"
        )
        for (name,) in tables.fetchall():
            with owner.cursor().copy(sql.SQL("COPY {} TO STDOUT").format(sql.Identifier("billing", name))) as copy:
                read += b"".join(bytes(row) for row in copy)
    return read.decode()


def over(service: Service) -> tuple[str, str, str]:
    """A customer whose invoice was refused, reopened with careless words, and sent; with a capture that was replayed.
    Long ago, and planned. Returns the customer, the invoice and the capture."""
    customer = service.customer()
    invoice = issued(service, customer, PERSONAL, "order-80")
    service.standin.add_fault("other_amount", path="/add_lines$", times=1)
    assert service.settle(invoice) == ["refused"]
    with database.transaction(service.engines["operator"]) as session:
        quarantine.reopen_invoice(session, invoice, actor="anna", reason=f"{NAME} wrote to us")
        by = audit.command("invoice reopen", actor="anna", reason=f"{MAIL} called")
        audit.done(session, by, about=invoice)
    capture = service.ask_for_capture()
    service.plan()
    service.execute("UPDATE billing.work SET state = 'quarantined' WHERE entity_id = :id", id=capture)
    with database.transaction(service.engines["operator"]) as session:
        work = service.work(capture).id
        quarantine.replay(session, work, actor="anna", reason=f"{NAME} waits")
        audit.done(session, audit.command("quarantine replay", actor="anna", reason=f"for {MAIL}"), about=work)
    assert service.settle(invoice, capture) == ["sent", "captured"]
    service.plan()
    happened_long_ago(service)
    return customer, invoice, capture


def test_nothing_of_the_person_is_left_and_every_proof_stays(
    signed: Archive,  # noqa: F811
    auditor: Auditor,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The whole way: archived, erased, verified by us and by a stranger, asked, asked for again, purged."""
    monkeypatch.setattr(purging, "REST", 0)
    service = signed.service
    customer, invoice, capture = over(service)
    neighbor = issued(
        service, service.customer(), [billing.Line(OTHERS, billing.Money(700, "EUR"))], "order-81", "till-7"
    )
    assert service.settle(neighbor) == ["sent"]
    service.plan()
    assert signed.archive_all() > 10
    before = everything(signed)
    # The control: it is there, and the search finds it.
    assert {NAME, MAIL, STREET} <= set(found(dumped(service)))
    done = erased(service, customer, capture)
    assert done == Erased(operations=2, descriptions=2, bodies=2, facts=5)
    assert found(dumped(service)) == []
    # Nobody else's, no money, and nothing of the evidence.
    assert OTHERS in dumped(service)
    assert service.row(Invoice, invoice).total_minor == 4501
    assert (service.status(invoice).state, service.status(capture).state) == ("sent", "captured")
    assert everything(signed) == before
    assert verify(signed).findings == []
    said = auditor.verify(signed.bucket, [pem_of(signed)])
    assert (said.differs, said.status) == ([], 0)
    for name in ("invoices_by_state_and_age", "completeness"):
        rows = queries.ask(signed.cache(), name).named_rows
        assert bool(rows) == (name != "completeness")
    # Again: nothing is left. And its request id stays used.
    assert not erased(service, customer, capture).anything
    with pytest.raises(RequestReused, match="lines"):
        issued(service, customer, PERSONAL, "order-80")
    # Its facts still agree with their copies, so they may leave Postgres.
    service.execute("DELETE FROM billing.work")
    service.execute("DELETE FROM billing.idempotency_records")
    purged = Purger(service.engines["archiver"], signed.store, timedelta(days=90)).run()
    assert (purged.troubles, purged.facts > 10) == ((), True)


def test_what_is_erased_before_it_is_archived_is_archived_without_it(archive: Archive) -> None:
    service = archive.service
    customer, *_ = over(service)
    erased(service, customer)
    archive.archive_all()
    assert found(everything(archive)) == []
    assert verify(archive).findings == []


def test_an_erased_invoice_is_never_sent_again(service: Service) -> None:
    """An operator may reopen a refused one at any time. Its lines are gone, so it is refused again, without a call."""
    customer = service.customer()
    invoice = issued(service, customer, PERSONAL, "order-80")
    service.standin.add_fault("other_amount", path="/add_lines$", times=1)
    assert service.settle(invoice) == ["refused"]
    happened_long_ago(service)
    erased(service, customer)
    drafts = len(service.posts("/v1/invoices"))
    service.reopen(invoice)
    assert service.settle(invoice) == ["refused"]
    assert service.status(invoice).reason == "unfit_lines: line 0 was erased"
    assert len(service.posts("/v1/invoices")) == drafts


def test_what_every_call_sent_of_many_lines_is_erased(service: Service) -> None:
    customer = service.customer()
    lines = [billing.Line(f"{NAME}, {number}", billing.Money(100, "EUR")) for number in range(101)]
    invoice = issued(service, customer, lines, "order-80")
    assert service.settle(invoice) == ["sent"]
    happened_long_ago(service)
    assert {NAME} <= set(found(dumped(service)))
    done = erased(service, customer)
    assert (done.descriptions, done.bodies) == (101, 2)
    assert found(dumped(service)) == []


def test_memo_footer_and_custom_fields_are_erased_with_the_call_that_sent_them(service: Service) -> None:
    customer = service.customer()
    terms = billing.InvoiceTerms(memo=f"For {NAME}", footer=STREET, custom_fields={"buyer": NAME}, discounts=["co_1"])
    service.by_hand("/v1/coupons", "id=co_1&percent_off=10")
    invoice = service.ask_for_invoice(customer, [billing.Line("a seat", billing.Money(100, "EUR"))], terms=terms)
    assert service.settle(invoice) == ["sent"]
    happened_long_ago(service)
    assert {NAME, STREET} <= set(found(dumped(service)))
    done = erased(service, customer)
    assert (done.descriptions, done.bodies) == (2, 2)
    assert found(dumped(service)) == []
    row = service.row(Invoice, invoice)
    assert (row.terms, row.final_minor) == ({"discounts": ["co_1"], "computed": True}, 90)
    assert not erased(service, customer).anything


def with_texts(service: Service, **payment: Any) -> str:
    """A capture that took money: its metadata names a person, and so does an operator's reason."""
    terms = billing.CaptureTerms(statement_descriptor_suffix="FOR ANNA", metadata={"buyer": NAME})
    capture = service.ask_for_capture(service.intents(**payment)[0], terms=terms)
    service.plan()
    service.execute("UPDATE billing.work SET state = 'quarantined' WHERE entity_id = :id", id=capture)
    with database.transaction(service.engines["operator"]) as session:
        quarantine.replay(session, service.work(capture).id, actor="anna", reason=f"{NAME} waits")
    assert service.settle(capture) == ["captured"]
    return capture


def test_captures_are_found_by_the_customer_whom_stripe_names_or_whose_invoice_they_are_on(archive: Archive) -> None:
    """And what is written of them is in no archive, before and after."""
    service = archive.service
    customer, other = service.customer(), service.customer()
    paid, invoiced, others = with_texts(service, customer=customer), with_texts(service), with_texts(service)
    invoice = service.ask_for_invoice_of_capture(invoiced, customer)
    assert service.settle(invoice) == ["paid"]
    service.plan()
    happened_long_ago(service)
    archive.archive_all()
    assert found(everything(archive)) == []
    assert sorted(erasure.operations_of(asking(service), customer)) == sorted([paid, invoiced, invoice])
    assert erasure.operations_of(asking(service), other) == []
    done = erased(service, customer)
    # Each capture's texts, the text of its line on the invoice, and what was written of the one that is to be invoiced.
    assert (done.operations, done.descriptions, done.bodies, done.facts) == (3, 4, 3, 2)
    for capture in (paid, invoiced):
        row = service.row(Capture, capture)
        assert (row.statement_descriptor_suffix, row.callers_metadata) == (None, None)
        assert (row.state, row.amount_minor, row.charge is not None) == ("captured", 1999, True)
    # A guest's names nobody here, so it is named by whoever knows whose it is.
    assert service.row(Capture, others).callers_metadata == {"buyer": NAME}
    assert erased(service, customer, others).descriptions == 1
    assert found(dumped(service)) == []
    assert not erased(service, customer, others).anything
    assert verify(archive).findings == []


def test_a_young_capture_of_the_customer_stands_in_the_way(service: Service) -> None:
    customer = service.customer()
    capture = with_texts(service, customer=customer)
    with pytest.raises(InvalidRequest, match=f"not over for a day: {capture}"):
        erased(service, customer)
    assert service.row(Capture, capture).callers_metadata == {"buyer": NAME}


def test_nothing_is_erased_while_something_of_the_customer_is_not_over(service: Service) -> None:
    customer = service.customer()
    first = issued(service, customer, PERSONAL, "order-80")
    assert service.settle(first) == ["sent"]
    for older in (False, True):
        if older:
            happened_long_ago(service)
            second = issued(service, customer, PERSONAL, "order-81")
        before = dumped(service)
        ask = asking(service)
        ids = erasure.operations_of(ask, customer)
        open_ = second if older else first
        assert erasure.count(ask, ids, customer).not_over == (open_,)
        with pytest.raises(InvalidRequest, match=f"not over for a day: {open_}"):
            erasure.erase(ask, ids, customer)
        assert dumped(service) == before


@pytest.mark.parametrize(
    "undecided",
    [
        "UPDATE billing.work SET state = 'quarantined'",
        "UPDATE billing.idempotency_records SET state = 'conflict'",
        "UPDATE billing.idempotency_records SET concluded_at = NULL WHERE step = 'send'",
        "UPDATE billing.idempotency_records SET concluded_at = now()",
    ],
)
def test_a_call_or_work_that_is_undecided_or_young_stands_in_the_way(service: Service, undecided: str) -> None:
    customer = service.customer()
    invoice = issued(service, customer, PERSONAL, "order-80")
    assert service.settle(invoice) == ["sent"]
    happened_long_ago(service)
    service.execute(undecided)
    with pytest.raises(InvalidRequest, match="not over for a day"):
        erased(service, customer)
    assert NAME in dumped(service)


def test_a_legal_hold_that_names_the_customer_stands_in_the_way_until_it_is_released(service: Service) -> None:
    criteria = Criteria(customer="cus_1").as_json()
    service.execute(
        "INSERT INTO billing.archive_holds (name, criteria, placed_by, reason) VALUES ('CASE-7', :criteria, 'a', 'b')",
        criteria=criteria,
    )
    with pytest.raises(InvalidRequest, match="legal hold CASE-7"):
        erasure.operations_of(asking(service), "cus_1")
    # Another customer's id that begins or looks alike is another one.
    assert erasure.operations_of(asking(service), "cus_11") == []
    service.execute("UPDATE billing.archive_holds SET released_at = now()")
    assert erasure.operations_of(asking(service), "cus_1") == []


def test_invoices_are_found_page_by_page_and_only_the_customers(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(erasure, "SEARCHED", 2)
    monkeypatch.setattr(erasure, "PAGE", 2)
    ids = sorted(issued(service, f"cus_{n % 2}", PERSONAL, f"order-{n}") for n in range(7))
    mine = sorted(line.id for line in (service.row(Invoice, each) for each in ids) if line.customer == "cus_0")
    assert sorted(erasure.operations_of(asking(service), "cus_0")) == mine
    counted = erasure.count(asking(service), mine, "cus_0")
    assert (counted.operations, counted.descriptions, len(counted.not_over)) == (4, 8, 4)


@pytest.mark.parametrize("named", ["cap_1", "wrk_1", "swi_1", "' OR true --", ""])
def test_only_a_capture_or_an_invoice_that_exists_can_be_named(service: Service, named: str) -> None:
    with pytest.raises(UnknownEntity):
        erasure.operations_of(asking(service), "cus_1", [named])


@pytest.mark.parametrize("customer", ["cus_' OR true --", "%", "pi_1", ""])
def test_only_a_customer_can_be_erased(service: Service, customer: str) -> None:
    with pytest.raises(InvalidRequest):
        erasure.operations_of(asking(service), customer)


HOSTILE = ['"reason"', '["reason", "work_id"]', '{"reason": {"who": ["x"]}, "work_id": [1]}', "17", "null"]


def test_hostile_rows_harm_nothing_and_nobody_else(service: Service) -> None:
    customer = service.customer()
    lines = [billing.Line("'); DROP TABLE billing.facts; --", billing.Money(100, "EUR"))]
    lines += [billing.Line("%(ids)s %s \\x00 (erased)", billing.Money(100, "EUR"))]
    invoice = issued(service, customer, lines, "order-80", actor="Robert'); --")
    assert service.settle(invoice) == ["sent"]
    happened_long_ago(service)
    service.execute("ALTER TABLE billing.facts DROP CONSTRAINT facts_payload_bounded")
    try:
        for number, payload in enumerate(HOSTILE):
            service.execute(
                "INSERT INTO billing.facts (topic, entity_type, entity_id, entity_version, actor, payload)"
                " VALUES ('invoice.requested', 'invoice', :id, :version, 'A Name', CAST(:payload AS jsonb)),"
                " ('command.done', 'command', :command, 1, 'A Name', CAST(:payload AS jsonb))",
                id=invoice,
                version=50 + number,
                command=f"cmd_{number}",
                payload=payload,
            )
        assert erased(service, customer).descriptions == 2
        with database.transaction(service.engine) as session:
            line = session.get_one(InvoiceLine, (invoice, 0))
            assert (line.description, line.amount_minor) == ("(erased)", 100)
            kept = session.execute(
                text("SELECT payload::text FROM billing.facts WHERE entity_type = 'command' ORDER BY id")
            )
            # A command about something else keeps its words.
            assert [json.loads(row[0]) for row in kept] == [json.loads(payload) for payload in HOSTILE]
            names = session.execute(
                text("SELECT DISTINCT actor FROM billing.facts WHERE entity_id = :id"), {"id": invoice}
            )
            assert set(names.scalars()) == {"erased", "billing"}
    finally:
        service.execute("DELETE FROM billing.facts")
        service.execute(
            "ALTER TABLE billing.facts ADD CONSTRAINT facts_payload_bounded CHECK (planned_version IS NOT NULL OR"
            " (jsonb_typeof(payload) = 'object' AND length(payload::text) <= 16384))"
        )


def test_the_function_knows_all_kinds_with_their_ends_and_the_steps_that_send_texts(service: Service) -> None:
    with database.transaction(service.engine) as session:
        source = session.execute(text("SELECT prosrc FROM pg_proc WHERE proname = 'erase_texts'")).scalar_one()
    somebodys = {kind: operation for kind, operation in OPERATIONS.items() if operation.belongs_to}
    kinds = source.partition("kinds text[] := ARRAY[")[2].partition("]")[0]
    assert {each.strip(" \n'") for each in kinds.split(",")} == somebodys.keys()
    for operation in somebodys.values():
        life, table = operation.table.life, operation.table.__tablename__
        part = source[: source.index(f"FROM billing.{table} AS")].rpartition("state IN (")[2].partition(")")[0]
        ends = {str(state) for state in life.states if life.is_final(state)}
        assert {each.strip(" '") for each in part.split(",")} == ends, table
    for kind, step in (
        ("invoice", "add_lines"),
        ("invoice", "create"),
        ("capture", "capture"),
        ("credit_note", "issue"),
    ):
        assert f"'{step}'" in source
        assert somebodys[kind].steps(step)


def test_what_the_function_does_not_know_is_not_over(service: Service) -> None:
    """A kind that came later than the function, or an id that is none."""
    counted = erasure.count(asking(service), ["lab_1"], "cus_1")
    assert (counted.not_over, counted.anything) == (("lab_1",), False)
    with pytest.raises(InvalidRequest, match="lab_1"):
        erasure.erase(asking(service), ["lab_1"], "cus_1")


def test_an_erasure_that_died_between_two_pages_is_run_again(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(erasure, "PAGE", 1)
    customer = service.customer()
    first, second = (issued(service, customer, PERSONAL, f"order-8{n}") for n in range(2))
    assert service.settle(first, second) == ["sent", "sent"]
    happened_long_ago(service)
    ask, pages = asking(service), 0

    def die(step: Callable[..., Any]) -> Any:
        nonlocal pages
        pages += 1
        return ask(step if pages == 1 else lambda session: [step(session), 1 / 0])

    with pytest.raises(ZeroDivisionError):
        erasure.erase(die, [first, second], customer)
    # What it did in the page that was not committed is not done.
    left = erasure.count(ask, [first, second], customer)
    assert (left.descriptions, left.bodies, left.facts) == (2, 1, 1)
    assert erased(service, customer) == left
    assert found(dumped(service)) == []


def test_the_record_of_an_erasure_is_archived_so_that_it_can_be_repeated_after_a_restore(archive: Archive) -> None:
    with database.transaction(archive.service.engines["operator"]) as session:
        audit.done(session, audit.command("erase customer", actor="anna", reason="DSR-12"), about="cus_123", count=2)
    archive.service.plan()
    archive.archive_all()
    (row,) = archive.outside.facts()["admin"]
    assert json.loads(row["payload"]) == {"command": "erase customer", "about": "cus_123", "count": 2}


def test_the_texts_of_a_capture_are_erased_with_the_call_that_repeats_them(service: Service) -> None:
    terms = billing.CaptureTerms(statement_descriptor_suffix="MEIER", metadata={"buyer": NAME})
    with_texts, plain = service.ask_for_capture(terms=terms), service.ask_for_capture()
    assert service.settle(with_texts, plain) == ["captured", "captured"]
    happened_long_ago(service)
    assert NAME in dumped(service)
    customer = service.customer()
    counted = erasure.count(asking(service), [with_texts, plain], customer)
    done = erased(service, customer, with_texts, plain)
    assert (done.descriptions, done.bodies, done.not_over) == (1, 1, ())
    assert counted == done
    everything_left = dumped(service)
    assert NAME not in everything_left
    assert NAME.replace(" ", "+") not in everything_left
    assert "MEIER" not in everything_left
    assert [bool(record.body) for record in service.records(plain)] == [True]
    assert erased(service, customer, with_texts).descriptions == 0
