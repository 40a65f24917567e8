"""An application writes lines with its own login: an invoice that no call of ours can carry is refused at once."""

import random
from collections.abc import Callable

import pytest
import sqlalchemy.exc
from service import Service, Through
from sqlalchemy import text

from billing import database, ids, store
from billing.gateway import Answer, Request
from billing.operations import operation_of
from billing.tables.entities import MAX_DESCRIPTION, MAX_LINES
from jobs.road.runner import Runner

MANY = "SELECT n, 'a seat', 1 FROM generate_series(0, 19999) AS n"
LONG = "SELECT 0, repeat('x', 5000000), 1"
UNFIT = {
    "many": (MANY, "unfit_lines: 251 or more, expected 1 to 250"),
    "long": (LONG, "unfit_lines: line 0, description has more than 500 characters, or none"),
    "longer than ours": (
        "SELECT 7, repeat('x', 501), 1",
        "unfit_lines: line 7, description has more than 500 characters, or none",
    ),
    "empty": ("SELECT 0, '', 1", "unfit_lines: line 0, description has more than 500 characters, or none"),
    "none": ("SELECT 0, 'a seat', 1 WHERE false", "unfit_lines: none, expected 1 to 250"),
}


def write_invoice(service: Service, lines: str, customer: str = "cus_1") -> str:
    """As an application can write one, past `billing.issue_invoice`."""
    invoice_id = ids.new("inv")
    with database.transaction(service.engines["application"]) as session:
        for statement in (
            "INSERT INTO billing.invoices (id, request_id, customer, currency, total_minor, days_until_due, version)"
            " VALUES (:id, :id, :customer, 'EUR', 4501, 14, 1)",
            "INSERT INTO billing.facts (topic, entity_type, entity_id, entity_version, actor, payload)"
            " VALUES ('invoice.requested', 'invoice', :id, 1, 'application', '{}')",
        ):
            session.execute(text(statement), {"id": invoice_id, "customer": customer})
        write_lines(session, invoice_id, lines)
    return invoice_id


def write_lines(session: database.Session, invoice_id: str, lines: str) -> None:
    statement = "INSERT INTO billing.invoice_lines (invoice_id, position, description, amount_minor)"
    session.execute(text(f"{statement} SELECT :id, l.* FROM ({lines}) AS l"), {"id": invoice_id})


@pytest.fixture
def unchecked(service: Service) -> Service:
    """A database whose rows are from before the constraints, where only the code stands against them."""
    for name in ("invoice_lines_position_bounded", "invoice_lines_description_bounded"):
        service.execute(f"ALTER TABLE billing.invoice_lines DROP CONSTRAINT {name}")
    return service


def test_lines_that_no_call_can_carry_refuse_their_invoice_in_the_claim_itself(unchecked: Service) -> None:
    service = unchecked
    unfit = {write_invoice(service, lines): why for lines, why in UNFIT.values()}
    good = service.ask_for_invoice()
    service.plan()
    runner = Runner(service.call_settings, random.Random(1))
    with database.transaction(service.engines["worker"]) as session:
        claimed = runner.claim(session, "invoices", 8)
        prepared = runner.start(session, claimed)
    assert len(claimed) == len(unfit) + 1
    assert [call.loaded.row.id for call in prepared.calls] == [good]
    for invoice_id, why in unfit.items():
        status = service.status(invoice_id)
        assert (status.state, status.final, status.reason) == ("refused", True, why)
        assert service.work(invoice_id).state == "done"
        assert service.records(invoice_id) == []
        _, refused = service.facts(invoice_id)
        assert (refused.payload["why"], f"unfit_lines: {refused.payload['differs']}") == ("unfit_lines", why)


def test_the_other_invoices_of_a_queue_are_sent(unchecked: Service) -> None:
    unfit = [write_invoice(unchecked, lines) for lines, _ in UNFIT.values()]
    good = [unchecked.ask_for_invoice() for _ in range(2)]
    assert unchecked.settle(*unfit, *good) == ["refused"] * len(unfit) + ["sent"] * len(good)
    assert len(unchecked.posts("/v1/invoices")) == len(good)


def test_of_too_many_or_too_long_lines_no_more_is_loaded_than_shows_it(unchecked: Service) -> None:
    many, long, both = write_invoice(unchecked, MANY), write_invoice(unchecked, LONG), write_invoice(unchecked, MANY)
    wanted = dict.fromkeys((many, long, both), ("wrk", "invoices"))
    with database.transaction(unchecked.engines["worker"]) as session:
        cases = store.load(session, operation_of(many), wanted)
    assert [line.position for line in cases[many].parts] == list(range(MAX_LINES + 1))
    assert [line.position for line in cases[both].parts] == list(range(MAX_LINES + 1))
    assert [line.description for line in cases[long].parts] == [None]


def test_lines_that_come_after_the_draft_have_it_deleted_and_nothing_finalized(unchecked: Service) -> None:
    """The application's login may add lines to an invoice that is being made."""
    service = unchecked
    invoice = service.ask_for_invoice()

    def meanwhile(request: Request, answer: Answer) -> Answer:
        if (request.method, request.path) == ("POST", "/v1/invoices"):
            with database.transaction(service.engines["application"]) as session:
                write_lines(session, invoice, "SELECT n + 2, 'more', 1 FROM generate_series(0, 999) AS n")
        return answer

    assert service.settle(invoice, gateway=Through(service, meanwhile)) == ["refused"]
    assert service.status(invoice).reason == "unfit_lines: 251 or more, expected 1 to 250"
    assert [record.step for record in service.records(invoice)] == ["create", "delete_draft"]
    assert [topic for topic in service.topics(invoice) if topic not in ("attempted", "looked")] == [
        "requested",
        "drafted",
        "lines_differ",
        "refused",
    ]
    assert service.effects("invoice.finalized") == []


def test_lines_out_of_bounds_are_not_even_written(service: Service) -> None:
    invoice = service.ask_for_invoice()
    for position, description in [(-1, "a"), (MAX_LINES, "a"), (2, ""), (3, "x" * (MAX_DESCRIPTION + 1))]:
        with (
            pytest.raises(sqlalchemy.exc.IntegrityError, match="_bounded"),
            database.transaction(service.engines["application"]) as session,
        ):
            write_lines(session, invoice, f"SELECT {position}, '{description}', 1")


def test_the_migration_leaves_old_lines_as_they_are_and_bounds_new_ones(migrated: Callable[..., Service]) -> None:
    invoice = ids.new("inv")
    service = migrated(
        "0003",
        "INSERT INTO billing.invoices (id, request_id, customer, currency, total_minor, days_until_due, version)"
        f" VALUES ('{invoice}', 'x', 'cus_1', 'EUR', 4501, 14, 1)",
        "INSERT INTO billing.facts (topic, entity_type, entity_id, entity_version, actor, payload)"
        f" VALUES ('invoice.requested', 'invoice', '{invoice}', 1, 'application', '{{}}')",
        "INSERT INTO billing.invoice_lines (invoice_id, position, description, amount_minor)"
        f" VALUES ('{invoice}', {MAX_LINES}, repeat('x', 501), 1)",
    )
    with (
        pytest.raises(sqlalchemy.exc.IntegrityError, match="_bounded"),
        database.transaction(service.engines["application"]) as session,
    ):
        write_lines(session, invoice, f"SELECT {MAX_LINES + 1}, 'a seat', 1")
    assert service.settle(invoice) == ["refused"]
