"""A SELECT chooses facts by class and number: it chooses exactly these, however many, and invents none."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import objects
import pytest
from objects import evidence, fact

from archive.copies.cache import Evidence
from archive.errors import BadQuery, TooLarge
from archive.format import records
from archive.queries import engine, views
from archive.queries.views import EVERYTHING, Range


def day(number: int) -> datetime:
    return datetime(2026, 11, number, 12, tzinfo=UTC)


def nine(root: Path, **how: Any) -> list[Evidence]:
    """Facts 1 to 9, three on each of three days."""
    return evidence(root, *(fact(n, at=day(1 + n // 4), payment_intent=f"pi_{n}") for n in range(1, 10)), **how)


def chosen(read: list[Evidence], sql: str, tmp_path: Path, within: Range = EVERYTHING) -> list[dict[str, Any]]:
    scratch = tmp_path / "scratch"
    scratch.mkdir(exist_ok=True)
    rows = engine.facts_chosen(sql, read, scratch=scratch, zone="UTC", within=within)
    return [row for batch in rows for row in batch.to_pylist()]


@pytest.mark.parametrize(
    ("sql", "numbers"),
    [
        ("SELECT * FROM facts", [1, 2, 3, 4, 5, 6, 7, 8, 9]),
        ("SELECT * FROM facts WHERE archive_seq % 4 = 1", [1, 5, 9]),
        ("SELECT retention_class, first_seq AS archive_seq FROM batches", [1, 4, 8]),
        ("SELECT * FROM facts WHERE archive_seq = 2 UNION ALL SELECT * FROM facts WHERE archive_seq = 2", [2]),
        ("SELECT 'capture' AS retention_class, '7' AS archive_seq, 'forged' AS topic", [7]),
        ("SELECT 'capture' AS retention_class, unnest([0, -1, 10, 1000000000000, NULL]) AS archive_seq", []),
        ("SELECT unnest(['invoice', 'nothing', NULL]) AS retention_class, 1 AS archive_seq", []),
        ("SELECT * FROM facts WHERE false -- nothing", []),
    ],
)
def test_exactly_the_facts_of_these_numbers_come(tmp_path: Path, sql: str, numbers: list[int]) -> None:
    rows = chosen(nine(tmp_path), sql, tmp_path)
    assert [(row["archive_seq"], row["topic"], row["payment_intent"]) for row in rows] == [
        (number, "capture.captured", f"pi_{number}") for number in numbers
    ]
    assert all(list(row) == [name for name, _ in views.columns()] for row in rows)


def test_only_facts_of_the_time_can_be_chosen(tmp_path: Path) -> None:
    rows = chosen(nine(tmp_path), "SELECT * FROM facts", tmp_path, Range(day(2), day(3)))
    assert [row["archive_seq"] for row in rows] == [4, 5, 6, 7]


def test_no_limit_of_an_answer_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for limit in ("MOST_ROWS", "MOST_BYTES", "_BATCH_ROWS"):
        monkeypatch.setattr(engine, limit, 1)
    assert len(chosen(nine(tmp_path), "SELECT * FROM facts", tmp_path)) == 9


def test_an_object_of_an_older_version_gives_the_same_rows(tmp_path: Path) -> None:
    older = records.SCHEMA.remove(records.SCHEMA.get_field_index("payment_intent"))
    sql = "SELECT * FROM facts WHERE payment_intent > 'pi_3'"
    now = chosen(nine(tmp_path / "now"), sql, tmp_path)
    assert len(now) == 6
    assert chosen(nine(tmp_path / "then", schema=older), sql, tmp_path) == now


@pytest.mark.parametrize(
    ("sql", "error", "why"),
    [
        ("SELECT topic FROM facts", BadQuery, "no column retention_class"),
        ("SELECT retention_class FROM facts", BadQuery, "no column archive_seq"),
        ("SELECT * FROM facts WHERE topic = $topic", BadQuery, "\\$topic is no parameter"),
        ("DROP VIEW facts", BadQuery, "write one SELECT"),
        ("SELECT * FROM read_text('/etc/passwd')", BadQuery, "no file"),
        ("SELECT retention_class, 'x' AS archive_seq FROM facts", BadQuery, "convert"),
        # One row in a hundred thousand, so that it fails once others were taken.
        (
            "SELECT 'capture' AS retention_class, CAST(CASE WHEN i = 90000 THEN 'x' ELSE '1' END AS BIGINT) AS"
            " archive_seq FROM range(100000) AS r (i)",
            BadQuery,
            "convert",
        ),
        (
            "SELECT 'capture' AS retention_class, length(string_agg(repeat('x', 100000), '')) AS archive_seq"
            " FROM range(5000)",
            TooLarge,
            "MB of memory",
        ),
    ],
)
def test_what_is_wrong_is_said_in_one_line(tmp_path: Path, sql: str, error: type[Exception], why: str) -> None:
    with pytest.raises(error, match=why) as raised:
        chosen(nine(tmp_path), sql, tmp_path)
    assert "\n" not in str(raised.value)


def test_a_class_without_any_batch_is_empty(tmp_path: Path) -> None:
    assert chosen([Evidence("invoice", 0, "0" * 64, (), ())], "SELECT * FROM facts", tmp_path) == []
    assert objects.run("SELECT count(*) AS n FROM facts") == [{"n": 0}]
