"""The table holds, and no line and no row can make more of a number than it is."""

import re
import threading
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from scraping import Page
from service import Service
from sqlalchemy.orm import Session

from billing import statements
from billing.database import transaction
from billing.operations import OPERATIONS
from jobs.metrics import reading
from jobs.metrics.counting import SERIES_MOST, Counting
from jobs.metrics.exporter import AtScrape, _series
from jobs.metrics.instruments import ALL, ARCHIVER, UNCOUNTED, WORKER, instruments
from jobs.metrics.labels import LABELS, OTHER, bounded
from jobs.metrics.reading import SQL
from jobs.metrics.sources import FromDatabase, FromLog, Kind, Process

ROOT = Path(__file__).parents[2]
TABLE = instruments()
LOGS = (ROOT / "docs" / "logs.md").read_text()
EVENTS = set(re.findall(r"^\| `([a-z]+\.[a-z_]+)` \|", LOGS, re.MULTILINE))
NAME = re.compile(r"billing_[a-z_]+")


def test_every_name_is_there_once_and_is_named_as_prometheus_wants_it() -> None:
    names = [each.name for each in TABLE]
    assert len(set(names)) == len(names)
    for each in TABLE:
        assert NAME.fullmatch(each.name)
        assert each.name.endswith("_total") == (each.kind is Kind.COUNTER), each.name
        plain = each.name.removesuffix("_total")
        assert (each.unit == "seconds") == plain.endswith("_seconds"), each.name
        assert (each.unit == "minor units") == plain.endswith("_minor"), each.name
        assert set(each.labels) <= set(LABELS)
        assert set(each.roles) <= set(ALL)
        assert bool(each.buckets) == (each.kind is Kind.HISTOGRAM)


def test_every_label_is_used() -> None:
    assert {label for each in TABLE for label in each.labels} == set(LABELS)


def test_what_is_counted_is_logged_and_what_is_read_is_stated() -> None:
    events = {event for each in TABLE if isinstance(each.source, FromLog) for event in each.source.events}
    assert events <= EVENTS
    read = {each.source.statement for each in TABLE if isinstance(each.source, FromDatabase)}
    assert read == set(SQL)
    for each in TABLE:
        for labels in each.from_zero:
            assert [bounded(name, said) for name, said in zip(each.labels, labels, strict=True)] == list(labels)


def test_every_statement_has_the_columns_that_are_read_of_it(service: Service) -> None:
    """By the relay's own rights."""
    with transaction(service.engines["relay"]) as session:
        for name, sql in SQL.items():
            columns = set(statements.run(session, sql, **reading.VALUES).keys())
            wanted = [each for each in TABLE if isinstance(each.source, FromDatabase) and each.source.statement == name]
            assert columns == {label for each in wanted for label in each.labels} | {
                each.source.column  # type: ignore[union-attr]
                for each in wanted
            }, name


def test_every_operation_that_is_about_money_is_in_the_sums() -> None:
    for operation in OPERATIONS.values():
        for metric in operation.business:
            assert operation.table.life.is_final(metric.state)
            assert operation.amount or not metric.money
        for name in ("in_doubt", "stopped_money"):
            assert (f"FROM billing.{operation.table.__tablename__}" in SQL[name]) == bool(operation.amount)


SETTLED = {
    "event": "operation.settled",
    "level": "info",
    "contract": "take_capture",
    "state": "captured",
    "standing": "concluded",
    "called": "capture",
    "answer": "200",
    "took_ms": 300,
    "ran_ms": 1200,
    "minor": 1999,
    "currency": "USD",
}


def shown(counting: Counting, role: str = WORKER) -> Page:
    """As Prometheus reads it."""
    process = Process(role, lambda: 0, lambda: 0.0, lambda: None, lambda: {"in_use": 0, "idle": 0})
    registry = CollectorRegistry()
    registry.register(AtScrape(process, role, counting, None))
    return Page(generate_latest(registry).decode())


def test_money_is_counted_by_the_line_that_tells_its_end_and_by_no_other() -> None:
    counting = Counting(WORKER)
    counting.count(SETTLED)
    # Its work was claimed again: it stands as it stood, and nothing ended.
    for other in ({"ran_ms": None, "minor": None, "currency": None}, {"state": "declined"}, {"contract": "another"}):
        counting.count({**SETTLED, **other})
    found = shown(counting)
    assert found.all("billing_captured_money_minor_total") == {frozenset({("currency", "USD")}): 1999}
    assert found.sum("billing_ended_total") == 3
    assert found.value("billing_settled_total", contract="take_capture", standing="concluded") == 3


HOSTILE: list[dict[str, Any]] = [
    {"contract": "x" * 4000},
    {"contract": None},
    {"called": 'delete"}\nbilling_fake 1'},
    {"called": "delete_duplicate_draft:in_1"},
    {"answer": "418"},
    {"currency": "\u202eUSD"},
    {"state": "captured", "currency": "usd"},
    {"standing": ["a", "list"]},
    {"took_ms": "soon"},
    {"minor": -5},
    {"sqlstate": "53100"},
    {"sqlstate": "'; --"},
]


def test_a_line_that_nobody_expects_is_written_and_makes_no_number_of_its_own() -> None:
    counting = Counting(WORKER)
    for odd in HOSTILE:
        counting.count({**SETTLED, **odd})
    counting.count({})
    found = shown(counting)
    assert found.names <= {each.name for each in TABLE}
    assert found.value("billing_lines_uncounted_total") == 4
    assert found.sum("billing_postgres_errors_total", sqlstate="53100") == 1
    assert {"delete_duplicate_draft", OTHER} <= found.labels
    assert [value for value in found.labels if not re.fullmatch(r"[A-Za-z0-9_.+]{1,40}", value)] == []


def test_however_many_values_come_few_series_are_made() -> None:
    counting = Counting(WORKER)
    for n in range(SERIES_MOST + 100):
        counting.count({**SETTLED, "currency": f"X{n}", "called": f"x{n}", "answer": n})
    counted = counting._counted["billing_captured_money_minor_total"]
    assert len(counted.sums) == SERIES_MOST + 1
    found = shown(counting)
    other = frozenset({("currency", OTHER)})
    assert found.all("billing_captured_money_minor_total") == {other: 1999 * (SERIES_MOST + 100)}
    assert found.sum("billing_provider_call_seconds_count") == SERIES_MOST + 100


def test_a_histogram_counts_each_value_under_every_bound_that_it_does_not_pass() -> None:
    counting = Counting(WORKER)
    for ms in (0, 50, 51, 20_000, 31_000):
        counting.count({**SETTLED, "took_ms": ms})
    found, calls = shown(counting), {"contract": "take_capture", "called": "capture", "answer": "200"}
    under = {
        le: found.value("billing_provider_call_seconds_bucket", **calls, le=le)
        for le in ("0.05", "0.1", "20.0", "30.0", "+Inf")
    }
    assert under == {"0.05": 2, "0.1": 3, "20.0": 4, "30.0": 4, "+Inf": 5}
    assert found.value("billing_provider_call_seconds_count", **calls) == 5
    assert found.value("billing_provider_call_seconds_sum", **calls) == pytest.approx(51.101)


def test_many_threads_count_every_line() -> None:
    counting = Counting(WORKER)
    threads = [threading.Thread(target=lambda: [counting.count(SETTLED) for _ in range(500)]) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert shown(counting).sum("billing_captured_money_minor_total") == 8 * 500 * 1999


def test_rows_that_look_alike_once_they_are_bounded_are_one_number() -> None:
    """Two series of one name would be refused with everything else of their scrape."""
    by_name = {each.name: each for each in TABLE}
    rows = [
        {"operation": "cap", "currency": currency, "minor": 5, "oldest_s": age}
        for currency, age in (("AAA", 7), ("BBB", 9))
    ]
    assert _series(by_name["billing_in_doubt_money_minor"], rows, "minor") == {("capture", OTHER): 10}
    assert _series(by_name["billing_in_doubt_oldest_seconds"], rows, "oldest_s") == {("capture", OTHER): 9}


def test_an_archiver_counts_what_it_tells() -> None:
    counting = Counting(ARCHIVER)
    counting.count({"event": "batch.archived", "level": "info", "rows": 60, "bytes": 5758})
    found = shown(counting, ARCHIVER)
    assert found.value("billing_archived_facts_total") == 60
    assert found.value("billing_archived_bytes_total") == 5758
    assert found.value(UNCOUNTED.name) == 0


def test_rows_written_past_our_functions_keep_no_number_from_the_others(service: Service) -> None:
    """Times that are none, currencies that are none, work of nobody."""
    capture = service.ask_for_capture()
    service.plan()
    service.execute("UPDATE billing.captures SET currency = 'ZZZ', capture_before = now()")
    service.execute("UPDATE billing.work SET state = 'quarantined', state_since = 'infinity'")
    service.execute("UPDATE billing.facts SET happened_at = '-infinity', planned_version = NULL")
    service.execute(
        "INSERT INTO billing.idempotency_records (id, operation_id, step, generation, work_id, queue, key, method,"
        " path, body, livemode, api_version, state, first_sent_at, parked_at)"
        " VALUES ('rec_1', :id, 'capture', 1, 'wrk_1', 'nobodys', 'k', 'POST', '/', '', false, '', 'in_doubt',"
        " '-infinity', 'infinity'), ('rec_2', 'nobody', 'x', 1, 'wrk_2', 'captures', 'k2', 'POST', '/', '', false, '',"
        " 'in_doubt', NULL, now())",
        id=capture,
    )
    with transaction(service.engines["relay"]) as session:
        found = {name: read(session, name) for name in SQL}
    assert all(float(value) >= 0 for rows in found.values() for row in rows for value in numbers(row))
    assert {(row["operation"], row["currency"]) for row in found["in_doubt"]} == {("cap", "ZZZ"), ("nobody", "none")}
    assert [row["captures"] for row in found["expiring"]] == [1]


def read(session: Session, name: str) -> list[dict[str, Any]]:
    return [dict(row) for row in statements.run(session, SQL[name], **reading.VALUES).mappings()]


def numbers(row: dict[str, Any]) -> list[Any]:
    return [value for value in row.values() if not isinstance(value, str)]


def test_the_page_and_the_code_tell_one_another() -> None:
    text = (ROOT / "docs" / "operate" / "metrics.md").read_text()
    assert set(re.findall(r"`(billing_[a-z_]+)`", text)) == {each.name for each in TABLE}
    # The numbers in its sentences.
    assert f"every {reading.EVERY_S:.0f} s at most" in text
    assert f"for\n{reading.LIMIT_S:.0f} s at most" in text
    assert f"more than {reading.STALE_S:.0f} s ago" in text
    assert f"stop at {reading.COUNT_MOST:,}" in text
    assert reading.REST == 20
