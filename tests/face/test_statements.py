"""The SQL on the way of a capture: whole, explained by Postgres, found by index, and alike where it must be alike."""

import random
import re
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

from billing import (
    accounts,
    capture_places,
    compensations,
    credit_note_refunds,
    inbox,
    invoice_actions,
    invoice_captures,
    invoices,
    lineage,
    many,
    paid_already,
    period_invoices,
    refund_turns,
    statements,
    store,
    switches,
)
from billing.database import transaction
from billing.timing import SHORT
from jobs.growth import tables
from jobs.metrics import instruments, reading
from jobs.reconciliation import archived, booking, classes, comparing, differences, findings, mirror, passes
from jobs.recovery import from_archive, from_stripe, invoiced_again, switches_again
from jobs.road import backlog, housekeeping, load, paced_release, planning, ticks, work_queue
from jobs.road.cadence import CostlyChecks
from jobs.road.contracts import known
from jobs.schedules import catalog, deadlines, listing

ROOT = Path(__file__).parents[2]
# By its name the package holds the function.
changes = sys.modules["billing.changes"]
ROOMS = [
    accounts,
    capture_places,
    changes,
    compensations,
    credit_note_refunds,
    inbox,
    invoice_captures,
    invoice_actions,
    invoices,
    lineage,
    many,
    paid_already,
    period_invoices,
    refund_turns,
    store,
    switches,
    backlog,
    housekeeping,
    load,
    paced_release,
    planning,
    ticks,
    work_queue,
    reading,
    catalog,
    deadlines,
    listing,
    tables,
    archived,
    booking,
    classes,
    comparing,
    differences,
    findings,
    mirror,
    passes,
    from_archive,
    from_stripe,
    invoiced_again,
    switches_again,
]
FILES = sorted(path for package in ("billing", "jobs") for path in (ROOT / package).rglob("*.sql"))
ALL = [(f"{Path(room.__file__).stem}.{name}", sql) for room in ROOMS for name, sql in room.SQL.items()]

every_statement = pytest.mark.parametrize("sql", [sql for _, sql in ALL], ids=[name for name, _ in ALL])

READ_THROUGH = {"switches", "installation", "lineage", "queue_loads", "stripe_cursors", "differences"}
"""A few rows, or an alarm has sounded. Whatever else is read through would be read through when it has a million."""


def test_every_file_of_statements_is_tested_here():
    assert sorted(Path(room.__file__).with_suffix(".sql") for room in ROOMS) == FILES


def test_every_statement_is_used_by_the_room_beside_it():
    for room in ROOMS:
        # What is read for metrics is named where they are listed.
        source = Path((instruments if room is reading else room).__file__).read_text()
        assert [name for name in room.SQL if f'"{name}"' not in source] == []


def test_a_parameter_is_written_for_the_driver_and_a_comment_is_left_out(tmp_path: Path):
    (tmp_path / "room.sql").write_text(
        "-- name: first\n-- As :told.\nSELECT CAST(:x AS text), 'a:b', 7 % 2 -- name: no\n WHERE :x = 1;\n\n"
        "-- name: second\nSELECT 1\n  -- why\n     , 2;\n"
    )
    assert statements.beside(str(tmp_path / "room.py")) == {
        "first": "SELECT CAST(%(x)s AS text), 'a:b', 7 %% 2 -- name: no\n WHERE %(x)s = 1",
        "second": "SELECT 1\n     , 2",
    }


def test_a_fragment_stands_in_a_statement_as_a_parameter_does(tmp_path: Path):
    (tmp_path / "room.sql").write_text("-- name: first\nSELECT :x FROM :rows AS r WHERE r.rows = :rows_most;\n")
    assert statements.beside(str(tmp_path / "room.py"), rows="(SELECT 1)") == {
        "first": "SELECT %(x)s FROM (SELECT 1) AS r WHERE r.rows = %(rows_most)s"
    }


def plain(sql: str) -> str:
    """With one space for each gap."""
    return " ".join(sql.split())


def explained(session: Session, sql: str) -> list[str]:
    """The plan for any values."""
    names = list(dict.fromkeys(re.findall(r"%\((\w+)\)s", sql)))
    numbered = re.sub(r"%\((\w+)\)s", lambda found: f"${1 + names.index(found[1])}", sql).replace("%%", "%")
    plan = session.connection().exec_driver_sql(f"EXPLAIN (GENERIC_PLAN, COSTS OFF) {numbered}")
    return list(plan.scalars())


@every_statement
def test_a_statement_can_be_pasted_and_explained_and_reads_no_table_through(engine: Engine, sql: str):
    with transaction(engine) as session:
        scans = [line for line in explained(session, sql) if "Seq Scan" in line]
    assert [line for line in scans if not any(f"on {table}" in line for table in READ_THROUGH)] == []


@every_statement
def test_a_limit_of_locked_rows_is_read_once(sql: str):
    """`id IN (SELECT ... LIMIT n FOR UPDATE SKIP LOCKED)` may be planned as a loop that asks again for each row. A row
    that the statement has changed is passed over then, so n more are taken each time. An array is made once."""
    if re.match(r"UPDATE .* FOR (NO KEY )?UPDATE", plain(sql)):
        assert "id = ANY (ARRAY(SELECT" in plain(sql)
        assert "id IN (SELECT" not in plain(sql)


# Conditions that stand in several statements.

LEASE_OVER = plain(
    """
    (r.lease_until IS NULL OR r.lease_until < clock_timestamp()
     OR r.lease_until > clock_timestamp() + make_interval(secs => r.lease_s + 1))
    """
)
A_TIME_HAS_COME = r"\((\S+) <= clock_timestamp\(\) OR \1 > clock_timestamp\(\) \+ interval '2 hours'\)"
WRITES_OR_WAKES = {"store.renew_leases", "work_queue.wake_looks"}


def test_a_lease_and_a_due_time_are_judged_in_the_same_words_everywhere():
    judging = {name: plain(sql) for name, sql in ALL if name not in WRITES_OR_WAKES}
    assert sum(sql.count(LEASE_OVER) for sql in judging.values()) == 9
    for name, sql in judging.items():
        rest = re.sub(A_TIME_HAS_COME, "", sql.replace(LEASE_OVER, ""))
        assert not re.search(r"(lease_until|due_at|look_at) [<>]|clock_timestamp\(\) [<>]", rest), name


HELD_BACK = plain(
    """
    AND urgency <= (SELECT CASE WHEN QUEUE = ANY (%(may_wait)s) AND EXISTS
     (SELECT FROM billing.queue_loads AS l
       WHERE l.behind_since IS NOT NULL AND NOT l.queue = ANY (%(may_wait)s)
         AND l.measured_at > clock_timestamp() - interval '2 minutes')
     THEN clock_timestamp() ELSE 'infinity' END)
    """
)


def test_what_is_held_back_is_judged_in_the_same_words_everywhere():
    judging = [plain(sql) for _, sql in ALL if "behind_since IS NOT NULL AND" in plain(sql)]
    found = [HELD_BACK.replace("QUEUE", queue) for queue in ("%(queue)s", "q.name")]
    assert [sum(words in sql for words in found) for sql in judging] == [1, 1, 1]


def scatter(session: Session, rng: random.Random) -> None:
    """A few pieces of work with a record, each in any state whatever."""
    times = ["NULL", *(f"clock_timestamp() + interval '{away}'" for away in ("-1 min", "1 min", "3 hours", "-1 day"))]
    for table in ("work", "idempotency_records", "switches", "facts", "received_events"):
        session.execute(text(f"DELETE FROM billing.{table}"))
    for scope in rng.sample(["captures", "account:acct_1"], rng.randint(0, 1)):
        columns, values = "id, scope, actor, expires_at", f"'swi_1', '{scope}', 'x', {rng.choice(times)}"
        session.execute(text(f"INSERT INTO billing.switches ({columns}) VALUES ({values})"))
    if rng.random() < 0.4:
        columns = "id, scope, actor, state, release_per_hour, release_next_at"
        values = (
            f"'swi_2', '{rng.choice(['captures', 'account:acct_1'])}', 'x', 'released', 60, {rng.choice(times[1:])}"
        )
        session.execute(text(f"INSERT INTO billing.switches ({columns}) VALUES ({values})"))
    if rng.random() < 0.7:
        columns, state = "id, type, livemode, created_at, source, state, match_at", rng.choice(["received", "unknown"])
        values = f"'evt_1', 'a.b', false, now(), 'webhook', '{state}', {rng.choice(times)}"
        session.execute(text(f"INSERT INTO billing.received_events ({columns}) VALUES ({values})"))
    for n in range(rng.randint(1, 3)):
        state = rng.choice(["waiting", "ready", "running", "held", "parked", "quarantined", "done"])
        scopes = rng.choice(["{everything,captures}", "{everything,captures,account:acct_1}"])
        session.execute(
            text(
                "INSERT INTO billing.work (id, contract, version, arguments, queue, entity_id, scopes, state, due_at,"
                " urgency, record_id, dedupe_key) VALUES"
                f" ('wrk_{n}', 'take_capture', {rng.choice([1, 1, 9])}, '{{}}', 'captures', 'cap_{n}', '{scopes}',"
                f" '{state}', {rng.choice(times)}, now(), 'rec_{n}', '{n}')"
            )
        )
        session.execute(
            text(
                "INSERT INTO billing.idempotency_records (id, operation_id, step, generation, work_id, queue, key,"
                " method, path, body, fingerprint, livemode, api_version, state, unanswered, look_at, lease_until,"
                " lease_s, concluded_at)"
                f" VALUES ('rec_{n}', 'cap_{n}', 'capture', 1, 'wrk_{n}', 'captures', 'k{n}', 'POST', '/', '', '',"
                f" false, '', '{rng.choice(['sent', 'in_doubt', 'planned'])}', {rng.choice([0, 1])},"
                f" {rng.choice(times)}, {rng.choice(times)}, 15, {rng.choice(['NULL', 'NULL', 'now()'])})"
            )
        )
        topic = rng.choice(["capture.requested", "capture.looked", "capture.from_a_newer_version"])
        session.execute(
            text(
                "INSERT INTO billing.facts (topic, version, entity_type, entity_id, entity_version, actor, payload,"
                f" planned_version) VALUES ('{topic}', {rng.choice([1, 1, 9])}, 'capture', 'cap_{n}', 1, 'x', '{{}}',"
                f" {rng.choice(['NULL', '1'])})"
            )
        )


def taken(session: Session, take: Any) -> int:
    """How many rows it takes, and as if it had not."""
    with session.begin_nested() as undone:
        found = take()
        undone.rollback()
    return found if isinstance(found, int) else len(found)


def test_what_a_relay_sees_is_what_is_then_taken_in_whatever_state_the_rows_are(engine: Engine):
    rng, most = random.Random(11), {"captures": 9, "invoices": 9}
    seen: list[backlog.Backlog] = []
    for _ in range(100):
        with Session(engine) as session:
            scatter(session, rng)
            now = backlog.read(session, most, CostlyChecks(stopped=True, unknown=True))
            for sweep in (*housekeeping.SWEEPS, housekeeping.STAMP):
                assert (taken(session, lambda move=sweep.move: move(session, 9)) > 0) == sweep.wanted(now), sweep.name
            assert (taken(session, lambda: planning.plan(session, SHORT)) > 0) == now.unplanned
            assert planning.any_unplanned(session) == now.unplanned
            ready = taken(session, lambda: work_queue.claim_ready(session, "captures", known(), 9))
            looks = taken(session, lambda: work_queue.claim_looks(session, "captures", 9))
            assert now.claimable == {"captures": ready + looks, "invoices": 0}
            assert work_queue.claimable(session, known(), most) == now.claimable
        seen.append(now)
    for field in fields(backlog.Backlog):
        values = [getattr(each, field.name) for each in seen]
        assert len(set(map(bool, values))) == 2 or field.name == "claimable", f"{field.name} was always the same"


def test_what_is_costly_is_only_looked_for_when_asked(engine: Engine):
    with Session(engine) as session:
        scatter(session, random.Random(1))
        session.execute(text("UPDATE billing.work SET state = 'held', version = 9, scopes = '{}'"))
        session.execute(text("UPDATE billing.work SET state = 'ready' WHERE id = 'wrk_0'"))
        for stopped, unknown in ((True, True), (False, False), (True, False)):
            now = backlog.read(session, {"captures": 1}, CostlyChecks(stopped, unknown))
            assert now.unknown is unknown
