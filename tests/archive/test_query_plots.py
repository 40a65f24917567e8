"""Pictures: each says what it shows, in which units, and where it comes from."""

import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import objects
import pictured_month
import pytest
from objects import fact

from archive.errors import BadQuestion
from archive.queries import engine, plots, query_file
from archive.queries.asking import Answer, Read
from archive.queries.engine import USUAL
from archive.queries.parameters import values
from archive.queries.plots import PLOTS

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
BEGIN = datetime(2026, 11, 1, 9, tzinfo=UTC)
HEAD = "ab" * 32


def history() -> list[dict[str, Any]]:
    """Captures in two currencies, on two days with one between them; two are in doubt."""
    facts = []
    for topic, of, at, currency in (
        ("capture.requested", "cap_1", BEGIN, "USD"),
        ("capture.captured", "cap_1", BEGIN + timedelta(seconds=2), "USD"),
        ("capture.requested", "cap_2", BEGIN, "JPY"),
        ("capture.captured", "cap_2", BEGIN + timedelta(days=2), "JPY"),
        ("capture.requested", "cap_3", BEGIN + timedelta(days=2), "JPY"),
        ("capture.requested", "cap_4", BEGIN + timedelta(days=2), "USD"),
        ("capture.undecided", "cap_3", BEGIN + timedelta(days=2, hours=2), "JPY"),
        ("capture.undecided", "cap_4", BEGIN + timedelta(days=2, hours=2), "USD"),
    ):
        facts.append(fact(len(facts) + 1, topic, at, minor=123456, currency=currency) | {"entity_id": of})
    return facts


def answer(name: str, place: Path, facts: list[dict[str, Any]], **given: str) -> Answer:
    query = query_file.load(PLOTS[name].query)
    asked = values(query.parameters, ({"tz": "Europe/Berlin"} if name != "ageing" else {}) | given, NOW)
    read = objects.evidence(place, *facts) if facts else []
    with tempfile.TemporaryDirectory() as scratch:
        schema, table = engine.run(
            query.sql, asked.of_sql, read, scratch=Path(scratch), zone=asked.zone, limits=USUAL, declared=query.columns
        )
    read_of_class = [Read("capture", 1, 2, HEAD, len(facts), 2, 0)]
    return Answer(
        query.name, query.title, query.sql, asked.given, asked.zone, asked.since, asked.until, NOW, 5, read_of_class,
        schema, table,
    )  # fmt: skip


def svg(name: str, place: Path, facts: list[dict[str, Any]], **given: str) -> str:
    plots.save(PLOTS[name], answer(name, place, facts, **given), place / "picture.svg", "svg")
    return (place / "picture.svg").read_text()


SAYS = {
    "captured_by_day": ["USD: 1,234.56 in all", "JPY: 123,456 in all", "USD a day", "JPY a day"],
    "latency": ["request to money", "seconds", "99 of 100 took at most"],
    "ageing": ["over 7 days", "123,456 JPY", "1,234.56 USD", "undecided", "in doubt for"],
    "heat_map": ["local hour", "captures", "12:00", "Sunday"],
}


@pytest.mark.parametrize("name", PLOTS)
def test_a_picture_has_a_title_units_and_its_source(tmp_path: Path, name: str) -> None:
    picture = svg(name, tmp_path, history())
    query = query_file.load(PLOTS[name].query)
    for words in [*SAYS[name], query.title, f"query {query.name}", query.sha256, f"head {HEAD}"]:
        assert words in picture, words


def test_the_pictures_of_the_docs_are_those_that_the_code_draws(tmp_path: Path) -> None:
    """`make docs` writes them."""
    drawn = pictured_month.draw(tmp_path)
    assert {path.name: path.read_text() for path in drawn} == {
        path.name: path.read_text() for path in pictured_month.FOLDER.iterdir()
    }


@pytest.mark.parametrize("name", PLOTS)
@pytest.mark.parametrize("kind", ["png", "svg"])
def test_the_same_answer_gives_the_same_picture(tmp_path: Path, name: str, kind: str) -> None:
    drawn = answer(name, tmp_path, history())
    for path in (tmp_path / "one", tmp_path / "two"):
        plots.save(PLOTS[name], drawn, path, kind)
    one = (tmp_path / "one").read_bytes()
    assert one == (tmp_path / "two").read_bytes()
    assert one.startswith({"png": b"\x89PNG", "svg": b"<?xml"}[kind])


@pytest.mark.parametrize("name", PLOTS)
def test_a_picture_of_nothing_says_so(tmp_path: Path, name: str) -> None:
    assert "nothing in this range" in svg(name, tmp_path, [])


def test_what_was_in_doubt_is_shown_as_of_the_end_of_the_range(tmp_path: Path) -> None:
    assert "1 to 24 hours" in svg("ageing", tmp_path, history(), until="2026-11-04")
    assert len(answer("ageing", tmp_path, history(), until="2026-11-04").named_rows) == 2
    assert "nothing in this range" in svg("ageing", tmp_path, history(), until="2026-11-02")


def test_more_days_than_fit_are_refused(tmp_path: Path) -> None:
    far = [*history(), fact(8, "capture.captured", BEGIN + timedelta(days=2000), minor=1, currency="USD")]
    with pytest.raises(BadQuestion, match="2001 days do not fit on a picture; ask for at most 1100"):
        svg("captured_by_day", tmp_path, far)
