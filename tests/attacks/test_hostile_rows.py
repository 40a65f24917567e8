"""Whatever an application's own login writes, every good row beside it goes its way, and every bad one has its end.

BILLING_TEST_HOSTILE sets how many batches of rows are tried; Hypothesis prints how to repeat one that fails.
"""

import contextlib
import json
import os
import re
from typing import Any

import pytest
import structlog
from command import run, settings
from hypothesis import HealthCheck, example, given
from hypothesis import settings as trying
from hypothesis import strategies as st
from service import Service
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from billing import database, ids
from billing.operations import OPERATIONS
from jobs.config import queues
from jobs.road.contracts import starting

__all__ = ["run", "settings"]

EXAMPLES = int(os.environ.get("BILLING_TEST_HOSTILE", "12"))

# Texts. A zero byte and half a surrogate pair are no text to Postgres.
TEXTS = st.one_of(
    st.sampled_from(
        [
            "",
            " ",
            "pi_x/cancel?",
            "x/../../customers",
            "pi_1\r\nStripe-Account: acct_2",
            "pi_\u202e1",
            "\x1b[2J\x1b]0;x\x07",
            "'; DROP TABLE billing.facts; --",
            "%s %(id)s {0} \\",
            "cus_1",
            "acct_1",
            "pi_3PqR",
            "\U0001f600" * 20,
            "x" * 255,
        ]
    ),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40),
)
MOMENTS = st.sampled_from(
    ["infinity", "-infinity", "0001-01-01Z", "0044-03-15 BC", "9999-12-31T23:59:59Z", "294276-01-01Z", "2030-01-01Z"]
)
WHOLE = st.one_of(st.integers(-5, 5), st.integers(-(2**63), 2**63 - 1), st.sampled_from([99_999_999, 10**12]))

# JSON as text, because Python could not hold all of it.
SCALARS = st.one_of(
    st.sampled_from(["null", "true", "false", "9" * 5000, "-" + "1" * 4400, "0." + "3" * 5000, "1e400", "-0.0"]),
    st.integers(1, 3000).map(lambda levels: "[" * levels + "]" * levels),
    st.integers(1, 1500).map(lambda levels: '{"a":' * levels + "1" + "}" * levels),
    st.integers().map(str),
    MOMENTS.map(json.dumps),
    TEXTS.map(json.dumps),
    st.integers(0, 40_000).map(lambda size: json.dumps("x" * size)),
)
KEYS = st.one_of(
    st.sampled_from(["account", "authorized", "capture_before", "probes", "scope", "minor", "currency", "why"]), TEXTS
)
OBJECTS = st.dictionaries(KEYS.map(json.dumps), SCALARS, max_size=6).map(
    lambda fields: "{" + ",".join(f"{name}:{value}" for name, value in fields.items()) + "}"
)
PAYLOADS = st.one_of(OBJECTS, SCALARS, st.lists(SCALARS, max_size=3).map(lambda each: f"[{','.join(each)}]"))


@st.composite
def facts(draw: st.DrawFn) -> dict[str, Any]:
    """A fact about nothing that exists, or about something that never had such an id."""
    topic = draw(st.sampled_from([*starting(), "capture.attempted", "switch.released", "capture.of_tomorrow"]))
    kind = topic.partition(".")[0]
    entity_id = draw(st.one_of(st.just(ids.new(OPERATIONS[kind].prefix)), TEXTS))
    return {
        "kind": "facts",
        "topic": topic,
        "entity_type": kind,
        "entity_id": entity_id[:40],
        "entity_version": draw(WHOLE),
        "actor": draw(TEXTS),
        "correlation_id": draw(st.none() | TEXTS),
        "payload": draw(PAYLOADS),
    }


@st.composite
def captures(draw: st.DrawFn) -> dict[str, Any]:
    return {
        "kind": "captures",
        "id": ids.new("cap"),
        "request_id": draw(TEXTS),
        "payment_intent": draw(TEXTS),
        "amount_minor": draw(WHOLE),
        "currency": draw(st.sampled_from(["USD", "usd", "JPY", "XYZ", "", "\r\n", "€"])),
        "authorized_minor": draw(st.none() | WHOLE),
        "authorized_currency": draw(st.sampled_from([None, "USD", "EUR", ""])),
        "capture_before": draw(st.none() | MOMENTS),
        "account": draw(st.none() | TEXTS),
        "correlation_id": draw(st.none() | TEXTS),
        "version": draw(st.sampled_from([0, 1, 2**62])),
        "payload": draw(OBJECTS),
    }


@st.composite
def invoices(draw: st.DrawFn) -> dict[str, Any]:
    return {
        "kind": "invoices",
        "id": ids.new("inv"),
        "request_id": draw(TEXTS),
        "customer": draw(TEXTS),
        "currency": draw(st.sampled_from(["EUR", "eur", "XYZ", ""])),
        "total_minor": draw(WHOLE),
        "days_until_due": draw(WHOLE),
        "account": draw(st.none() | TEXTS),
        "correlation_id": draw(st.none() | TEXTS),
        "version": draw(st.sampled_from([0, 1, 2**62])),
        "payload": draw(OBJECTS),
        "lines": draw(
            st.lists(
                st.fixed_dictionaries(
                    {"position": WHOLE, "description": TEXTS | st.just("y" * 3000), "amount_minor": WHOLE}
                ),
                max_size=3,
            )
        ),
        "many": draw(st.sampled_from([0, 0, 1, 99, 101, 3000])),
    }


def insert(session: database.Session, table: str, values: dict[str, Any]) -> None:
    names = ", ".join(values)
    placed = ", ".join(f"CAST(:{name} AS jsonb)" if name == "payload" else f":{name}" for name in values)
    session.execute(text(f"INSERT INTO billing.{table} ({names}) VALUES ({placed})"), values)


def write(service: Service, row: dict[str, Any]) -> bool:
    """As the application's login, in a transaction of its own. Whether Postgres took it."""
    values = dict(row)
    table, lines, many = values.pop("kind"), values.pop("lines", []), values.pop("many", 0)
    payload = values.pop("payload") if table != "facts" else None
    with contextlib.suppress(DBAPIError), database.transaction(service.engines["application"]) as session:
        insert(session, table, values)
        for line in lines:
            insert(session, "invoice_lines", {"invoice_id": row["id"], **line})
        if many:
            session.execute(
                text(
                    "INSERT INTO billing.invoice_lines (invoice_id, position, description, amount_minor)"
                    " SELECT :id, n + 1000, 'a seat', 1 FROM generate_series(1, :many) AS n"
                ),
                {"id": row["id"], "many": many},
            )
        if payload is not None:
            kind = table.removesuffix("s")
            about = {"topic": f"{kind}.requested", "entity_type": kind, "entity_id": row["id"], "entity_version": 1}
            insert(session, "facts", {**about, "actor": "application", "payload": payload})
        return True
    return False


def drop_constraints(service: Service) -> None:
    """As a database whose rows are from before all constraints on what an application writes."""
    found = (
        "SELECT conrelid::regclass || ' DROP CONSTRAINT ' || conname FROM pg_constraint WHERE contype = 'c'"
        " AND connamespace = 'billing'::regnamespace AND conname NOT LIKE '%state_known'"
        " AND conrelid::regclass::text IN"
        " ('billing.facts', 'billing.captures', 'billing.invoices', 'billing.invoice_lines')"
    )
    with database.transaction(service.engine) as session:
        for constraint in session.scalars(text(found)).all():
            session.execute(text(f"ALTER TABLE {constraint}"))


WRITTEN = ", ".join(
    f"billing.{name}" for name in "captures refunds invoices invoice_lines facts work idempotency_records".split()
)
PATHS = re.compile(r"/v1/(account|events|customers|invoices|(payment_intents|invoices)/(pi|in)_\w+(/[a-z_]+)?)")


@pytest.mark.timeout(240)
@pytest.mark.parametrize("old", [False, True], ids=["today's rows", "rows from before the constraints"])
def test_every_good_row_goes_its_way_and_every_bad_one_has_its_end(service: Service, run: Any, old: bool) -> None:
    if old:
        drop_constraints(service)

    @trying(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(st.one_of(facts(), captures(), invoices()), min_size=1, max_size=8))
    @example([])
    def tried(rows: list[dict[str, Any]]) -> None:
        # An example that is tried again finds the database as it was.
        service.execute(f"TRUNCATE {WRITTEN} CASCADE")
        with structlog.testing.capture_logs() as lines:
            before = service.ask_for_capture()
            taken = [row for row in rows if write(service, row)]
            after = [service.ask_for_capture(), service.ask_for_invoice()]
            assert service.settle(before, *after) == ["captured", "captured", "sent"]
            for queue in queues.NAMES:
                service.relay.round()
                service.work_off(queue)
        assert set_aside_without_a_reason(service, lines) == []
        assert unplanned(service) == 0
        assert left(service) == []
        for row in taken:
            if row["kind"] != "facts":
                ran = run("explain", row["id"])
                assert (ran.status, [sign for sign in ran.out if sign < " " and sign != "\n"]) == (0, []), ran
        assert run("quarantine", "list").status == 0
        assert [r["path"] for r in service.standin.requests() if not PATHS.fullmatch(r["path"].partition("?")[0])] == []

    tried()


def set_aside_without_a_reason(service: Service, lines: Any) -> list[int]:
    """Set aside in this batch, and not told; afterwards they count no more."""
    told = {line["fact_id"]: line["why"] for line in lines if line["event"] == "fact.unplannable"}
    with database.transaction(service.engine) as session:
        aside = session.scalars(
            text("UPDATE billing.facts SET planned_version = 1 WHERE planned_version < 0 RETURNING id")
        ).all()
    return [fact_id for fact_id in aside if not told.get(fact_id)]


def unplanned(service: Service) -> int:
    with database.transaction(service.engine) as session:
        count = "SELECT count(*) FROM billing.facts WHERE planned_version IS NULL AND topic = ANY (:starting)"
        return session.scalars(text(count), {"starting": starting()}).one()


def left(service: Service) -> list[Any]:
    """Work that nobody has concluded, given to a person with a reason, or put off to a time."""
    with database.transaction(service.engine) as session:
        return list(
            session.execute(
                text(
                    "SELECT entity_id, state, reason FROM billing.work AS w WHERE NOT (state = 'done'"
                    " OR state = 'quarantined' AND reason <> '' OR state = 'waiting' AND (due_at IS NOT NULL"
                    " OR EXISTS (SELECT FROM billing.idempotency_records AS r WHERE r.work_id = w.id AND r.look_at"
                    " IS NOT NULL)))"
                )
            )
        )
