"""Rows that were written past `billing`'s own functions ask Stripe for nothing, and harm only themselves."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from cases import case
from service import Service, eventually
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from billing import database, ids, switches
from billing.errors import InvalidRequest
from billing.tables.entities import Capture, Invoice
from jobs.road import quarantine

FINE: dict[str, Any] = {
    "payment_intent": "pi_1",
    "account": None,
    "amount_minor": 1999,
    "currency": "USD",
    "authorized_minor": 1999,
    "authorized_currency": "USD",
    "capture_before": None,
}
NO_IDS = {
    "another action": "pi_x/cancel?",
    "another object": "x/../../customers",
    "a query": "pi_x?expand[]=customer",
    "an anchor": "pi_x#",
    "an escape": "pi_x%2fcancel",
    "two lines": "pi_x\r\nStripe-Account: acct_2",
    "a line at the end": "pi_x\n",
    "a blank": "pi_x ",
    "unicode": "pi_é",
    "other digits": "pi_\u0661",
    "a bidi mark": "pi_\u202ex",
    "empty": "",
    "only a prefix": "pi_",
    "another kind": "in_1",
    "a client secret": "pi_x_secret_abcdefgh",
    "an API key": "sk_live_abcdefgh",
}
HOSTILE_CAPTURES: dict[str, dict[str, Any]] = {
    **{f"payment_intent: {name}": {"payment_intent": value} for name, value in NO_IDS.items()},
    **{f"account: {name}": {"account": value.replace("pi_", "acct_")} for name, value in NO_IDS.items() if value},
    "capture_before: infinity": {"capture_before": "infinity"},
    "capture_before: -infinity": {"capture_before": "-infinity"},
    "capture_before: BC": {"capture_before": "0044-03-15 12:00:00+00 BC"},
    "capture_before: year 1": {"capture_before": "0001-01-01 00:00:00+00"},
    "capture_before: year 9999": {"capture_before": "9999-12-31 23:59:59+00"},
    "capture_before: year 10000": {"capture_before": "10000-01-01 00:00:00+00"},
    "amount: above every currency's": {"amount_minor": 10**12},
    "amount: the largest number": {"amount_minor": 2**63 - 1},
    "currency: no code": {"currency": "u$d"},
    "currency: small letters": {"currency": "usd"},
}
UNKNOWN_MONEY: dict[str, dict[str, Any]] = {
    "currency: unknown": {"currency": "XXX", "authorized_currency": "XXX"},
    "amount: not in whole tens": {"amount_minor": 5124, "currency": "KWD", "authorized_currency": "KWD"},
    "amount: not in whole hundreds": {"amount_minor": 150, "currency": "UGX", "authorized_currency": "UGX"},
}


def write(service: Service, request_id: str, **changes: Any) -> str:
    """As an application's own login can: the row, and the fact that asks for its work."""
    row = {**FINE, "id": ids.new("cap"), "request_id": request_id, **changes}
    values = ", ".join(f"CAST(:{name} AS timestamptz)" if name == "capture_before" else f":{name}" for name in row)
    with database.transaction(service.engines["application"]) as session:
        session.execute(text(f"INSERT INTO billing.captures ({', '.join(row)}, version) VALUES ({values}, 1)"), row)
        tell(session, "capture.requested", row["id"], authorized=row["authorized_minor"] is not None)
    return str(row["id"])


def tell(session: Session, topic: str, entity_id: str, **payload: Any) -> None:
    session.execute(
        text(
            "INSERT INTO billing.facts (topic, entity_type, entity_id, entity_version, actor, payload)"
            " VALUES (:topic, :kind, :id, 1, 'x', CAST(:payload AS jsonb))"
        ),
        {"topic": topic, "kind": topic.partition(".")[0], "id": entity_id, "payload": json.dumps(payload)},
    )


@contextmanager
def before_the_constraints(service: Service) -> Iterator[None]:
    """The database as it was before it had them; what is written in here is an old row when they are back."""
    with service.engine.begin() as connection:
        found = connection.execute(
            text(
                "SELECT conrelid::regclass, conname, pg_get_constraintdef(oid) FROM pg_constraint"
                " WHERE connamespace = 'billing'::regnamespace AND contype = 'c' AND conname ~ '_(shape|range|real)$'"
            )
        ).all()
        for table, name, _ in found:
            connection.exec_driver_sql(f"ALTER TABLE {table} DROP CONSTRAINT {name}")
    yield
    with service.engine.begin() as connection:
        for table, name, condition in found:
            not_valid = condition.replace("%", "%%").removesuffix(" NOT VALID") + " NOT VALID"
            connection.exec_driver_sql(f"ALTER TABLE {table} ADD CONSTRAINT {name} {not_valid}")
    assert found


def asked(service: Service, since: int) -> set[str]:
    """The paths that the stand-in was asked for, whatever came of it."""
    return {request["path"] for request in service.standin.requests()[since:]}


def test_the_database_refuses_a_row_of_which_no_request_can_be_made(service: Service) -> None:
    for hostile, changes in HOSTILE_CAPTURES.items():
        with case(hostile):
            with pytest.raises(IntegrityError, match="CheckViolation") as refused:
                write(service, "order-1", **changes)
            assert refused.value.orig is not None
            (name, *_) = changes
            assert refused.value.orig.diag.constraint_name.startswith(f"captures_{name}")  # type: ignore[attr-defined]


def test_the_database_refuses_an_id_that_is_none_of_ours(service: Service) -> None:
    """It would be a part of an idempotency key, which is a header."""
    for name in ("cap_", "cap_1\n", "cap_\r\nX: y", "inv_" + "0" * 32, ""):
        with case(repr(name)), pytest.raises(IntegrityError, match="captures_id_shape"):
            write(service, "order-1", id=name)


def test_the_database_refuses_an_invoice_of_which_no_request_can_be_made(service: Service) -> None:
    for column, value in (
        *(("customer", value.replace("pi_", "cus_")) for value in NO_IDS.values()),
        *(("account", "acct_1\r\nX: y"), ("total_minor", 10**12), ("currency", "eur"), ("days_until_due", 0)),
    ):
        row = {"id": ids.new("inv"), "request_id": "x", "customer": "cus_1", "currency": "EUR", "total_minor": 1}
        row |= {"days_until_due": 14, column: value}
        statement = f"INSERT INTO billing.invoices ({', '.join(row)}) VALUES ({', '.join(f':{n}' for n in row)})"
        with (
            case(column, repr(value)),
            pytest.raises(IntegrityError, match=f"invoices_{column}"),
            database.transaction(service.engines["application"]) as session,
        ):
            session.execute(text(statement), row)


def test_an_old_row_of_which_no_request_can_be_made_is_set_aside_alone_and_nothing_is_sent(service: Service) -> None:
    """All of them in one queue, with good ones around them that are claimed together with them."""
    intents = iter(service.intents(4))
    with before_the_constraints(service):
        fine = [write(service, f"fine-{n}", payment_intent=next(intents)) for n in range(2)]
        hostile = {
            name: write(service, name, **{"payment_intent": f"pi_hostile{n}", **_perhaps_to_be_read(n), **changes})
            for n, (name, changes) in enumerate({**HOSTILE_CAPTURES, **UNKNOWN_MONEY}.items())
        }
        fine += [write(service, f"fine-{n}", payment_intent=next(intents)) for n in range(2, 4)]
    before = len(service.standin.requests())
    service.plan()
    service.work_off(crew=8)
    for name, capture_id in hostile.items():
        work = service.work(capture_id)
        assert (work.state, work.attempts) == ("quarantined", 0), (name, work.reason)
        assert str(work.reason).startswith(f"unfit: {name.partition(':')[0]}"), (name, work.reason)
        assert service.records(capture_id) == []
    assert [service.captured(capture_id) for capture_id in fine] == [{1999: 1}] * 4
    assert asked(service, before) == {
        f"/v1/payment_intents/{service.row(Capture, capture_id).payment_intent}/capture" for capture_id in fine
    }


def _perhaps_to_be_read(n: int) -> dict[str, Any]:
    """Every other one's authorization is not known: the first thing that is asked for is another."""
    return {"authorized_minor": None, "authorized_currency": None} if n % 2 else {}


def test_a_call_in_doubt_whose_row_went_bad_asks_for_nothing_and_is_kept_for_a_person(service: Service) -> None:
    """What may have gone out is not thrown away, and it is not asked about in a circle."""
    service.standin.add_fault("drop_after_commit", path="/capture$", times=1)
    capture_id = service.ask_for_capture()
    service.plan()
    service.work_off()
    assert service.record(capture_id).state == "in_doubt"
    with before_the_constraints(service):
        service.execute("UPDATE billing.captures SET payment_intent = 'pi_x/cancel?'")
    service.execute("UPDATE billing.idempotency_records SET path = '/v1/payment_intents/pi_x/cancel?/capture'")
    before = len(service.standin.requests())

    def set_aside() -> bool:
        service.relay.round()
        service.work_off()
        return service.work(capture_id).state == "quarantined"

    eventually(set_aside, "it is set aside")
    since = service.work(capture_id).state_since
    for _ in range(3):
        set_aside()
    assert service.work(capture_id).state_since == since
    assert asked(service, before) == set()
    assert (service.record(capture_id).state, service.record(capture_id).unanswered) == ("in_doubt", 1)
    assert service.work(capture_id).attempts == 0
    with (
        pytest.raises(InvalidRequest, match="payment_intent does not hold the id of a payment intent"),
        database.transaction(service.engine) as session,
    ):
        quarantine.replay(session, service.work(capture_id).id, actor="ada", reason="again")


def test_a_row_that_was_put_right_is_replayed(service: Service) -> None:
    intent = service.intents()[0]
    with before_the_constraints(service):
        capture_id = write(service, "order-1", payment_intent=f"{intent} ")
    service.plan()
    service.work_off()
    assert service.work(capture_id).state == "quarantined"
    service.execute("UPDATE billing.captures SET payment_intent = :intent", intent=intent)
    with database.transaction(service.engine) as session:
        quarantine.replay(session, service.work(capture_id).id, actor="ada", reason="a blank behind the id")
    assert service.settle(capture_id) == ["captured"]
    assert service.captured(capture_id) == {1999: 1}


HOSTILE_INVOICES = {
    "customer = 'cus_x?limit=100'": "customer",
    "customer = E'cus_x\\r\\nX: y'": "customer",
    "stripe_invoice = 'in_x/void?', state = 'drafted'": "stripe_invoice",
    "account = E'acct_x\\r\\nX: y'": "account",
    "days_until_due = 0": "days_until_due",
    "currency = 'XXX'": "currency",
}


def test_an_old_invoice_of_which_no_request_can_be_made_is_set_aside_alone(service: Service) -> None:
    fine = service.ask_for_invoice()
    hostile = {changes: service.ask_for_invoice() for changes in HOSTILE_INVOICES}
    with before_the_constraints(service):
        for changes, invoice_id in hostile.items():
            service.execute(f"UPDATE billing.invoices SET {changes} WHERE id = :id", id=invoice_id)
    before = len(service.standin.requests())
    assert service.settle(fine) == ["sent"]
    for changes, invoice_id in hostile.items():
        assert service.work(invoice_id).state == "quarantined", changes
        assert str(service.work(invoice_id).reason).startswith(f"unfit: {HOSTILE_INVOICES[changes]}"), changes
    made = service.row(Invoice, fine).stripe_invoice
    assert asked(service, before) == {
        "/v1/invoices",
        *(f"/v1/invoices/{made}/{verb}" for verb in ("add_lines", "finalize", "send")),
    }


def test_a_switch_for_an_account_that_is_none_asks_for_nothing_and_can_be_released(service: Service) -> None:
    switch_id = ids.new("swi")
    with before_the_constraints(service), database.transaction(service.engine) as session:
        session.execute(
            text(
                "INSERT INTO billing.switches (id, scope, account, actor, reason, probes, version)"
                " VALUES (:id, 'account:x', E'acct_x\r\nX: y', 'billing', 'x', true, 1)"
            ),
            {"id": switch_id},
        )
        tell(session, "switch.pulled", switch_id, probes=True)
    before = len(service.standin.requests())
    service.plan()
    service.work_off()
    assert service.work(switch_id).state == "quarantined"
    assert str(service.work(switch_id).reason).startswith("unfit: account")
    assert asked(service, before) == set()
    with database.transaction(service.engine) as session:
        switches.release(session, "account:x", actor="ada", reason="x")


def test_a_row_with_a_time_that_python_has_not_is_read_and_so_are_its_neighbors(service: Service) -> None:
    fine = service.ask_for_capture()
    with before_the_constraints(service):
        bad = [write(service, f"t-{n}", payment_intent=f"pi_{n}", capture_before=time) for n, time in enumerate(TIMES)]
        service.execute("UPDATE billing.captures SET state_since = 'infinity' WHERE id = :id", id=bad[0])
    assert [service.row(Capture, capture_id).capture_before.year for capture_id in bad] == [9999, 1, 1, 9999]
    assert service.settle(fine) == ["captured"]
    assert service.status(bad[0]).since.year == 9999


TIMES = ("infinity", "-infinity", "0044-03-15 12:00:00+00 BC", "10000-01-01 00:00:00+00")
