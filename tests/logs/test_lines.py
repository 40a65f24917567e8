"""A line is one JSON object with a static event name; docs/logs.md lists them all, as the source has them."""

import ast
import json
import logging
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from jobs import logs

ROOT = Path(__file__).parents[2]
PAGES = sorted(path for package in ("billing", "archive", "jobs") for path in (ROOT / package).rglob("*.py"))
LEVELS = {"debug", "info", "warning", "error", "exception", "critical", "log"}


@dataclass(frozen=True)
class Call:
    place: str
    level: str
    event: ast.expr
    keywords: list[ast.keyword]

    @property
    def names(self) -> list[str]:
        """The event's name, or two where it is one or the other; empty where it is anything but a plain text."""
        either = [self.event.body, self.event.orelse] if isinstance(self.event, ast.IfExp) else [self.event]
        texts = [part.value for part in either if isinstance(part, ast.Constant) and isinstance(part.value, str)]
        return texts if len(texts) == len(either) else []

    @property
    def fields(self) -> set[str]:
        both = {"operation_id", "correlation_id"}
        return {name for keyword in self.keywords for name in ([keyword.arg] if keyword.arg else both)} - {
            "exc_info"
        } | ({"raised"} if any(keyword.arg == "exc_info" for keyword in self.keywords) else set())


def calls_in(source: str, place: str) -> Iterator[Call]:
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Name(id="log") | ast.Attribute(attr="log"), attr=level)) if (
                level in LEVELS
            ):
                arguments = node.args[1:] if level == "log" else node.args
            case ast.Call(func=ast.Name(id="level")):
                level, arguments = "info, error", node.args
            case _:
                continue
        yield Call(f"{place}:{node.lineno}", level.replace("log", "any"), arguments[0], node.keywords)


CALLS = [call for path in PAGES for call in calls_in(path.read_text(), str(path.relative_to(ROOT)))]


def test_the_source_was_read() -> None:
    assert {"operation.settled", "batch.archived", "library.reported", "bell.refused"} <= {
        name for call in CALLS for name in call.names
    }


def test_an_event_has_a_static_name_of_two_words() -> None:
    wrong = [call.place for call in CALLS if not call.names or not all(map(_NAME.fullmatch, call.names))]
    assert wrong == []


_NAME = re.compile(r"[a-z]+\.[a-z]+(?:_[a-z]+)*")


@pytest.mark.parametrize(
    "source", ['log.info(f"{x}.done")', "log.info(name)", 'log.log(30, "a.b" + x)', 'level("x" % 1)']
)
def test_a_name_that_is_put_together_would_be_seen(source: str) -> None:
    (call,) = calls_in(source, "")
    assert call.names == []


def test_a_line_about_one_operation_has_both_ids() -> None:
    """Fields come from `about`, or are written out; what is spread out into a line comes from nowhere else."""
    for call in CALLS:
        assert ("operation_id" in call.fields) == ("correlation_id" in call.fields), call.place
        for keyword in call.keywords:
            if keyword.arg is None:
                assert ast.unparse(keyword.value).partition("(")[0] in ("about", "alone"), call.place


def test_nobody_else_writes_lines() -> None:
    """Only `jobs.logs` sets up handlers, and nothing but the command prints."""
    printing = [
        str(path.relative_to(ROOT))
        for path in PAGES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    allowed = (
        "jobs/cli/output.py",
        "jobs/local/",
        "stripe_standin/src/stripe_standin/",
        # A program of its own, and the command that prints it byte for byte.
        "archive/verifying/verify.py",
        "jobs/cli/archive_verifier.py",
    )
    assert [place for place in printing if not place.startswith(allowed)] == []


def documented() -> dict[str, tuple[str, set[str]]]:
    text = (ROOT / "docs" / "logs.md").read_text().partition("## Every event")[2]
    rows = re.findall(r"^\| `([a-z]+\.[a-z_]+)` \| ([^|]+) \| ([^|]*) \|", text, re.MULTILINE)
    assert len(rows) == len({name for name, *_ in rows})
    return {name: (level, set(re.findall(r"`(\w+)`", fields))) for name, level, fields in rows}


def test_the_page_lists_every_event_with_its_fields() -> None:
    in_source: dict[str, tuple[str, set[str]]] = {}
    for call in CALLS:
        for name in call.names:
            level, fields = in_source.get(name, (call.level, set()))
            assert level == call.level, call.place
            in_source[name] = (level, fields | call.fields)
    assert documented() == in_source


# What a field, an exception or a library says cannot begin a line of its own.

FORGED = 'x\n{"event": "operation.settled", "state": "captured"}\r\n\x1b[2K\x1b[31mred\u2028\u0085\x00'


@pytest.fixture
def written(style: str) -> list[str]:
    program = f"""
import logging, warnings, sys, threading
from jobs import logs
logs.configure("debug", {style!r})
logs.own_the_process()
forged = {FORGED!r}
log = logs.log
log.info("a.field", value=forged, nested={{"inner": [forged]}})
if {style!r} == "json":  # for people, no more than what the source can do
    log.info("a.field", object=type("X", (), {{"__repr__": lambda _: forged}})(), **{{forged: 1}})
try:
    raise ValueError(forged) from KeyError(forged)
except ValueError:
    log.error("an.exception", exc_info=True)
logging.getLogger("botocore").warning(forged)
logging.getLogger("botocore").warning("a text with %s", forged)
warnings.warn(forged)
thread = threading.Thread(target=lambda: int(forged))
thread.start(); thread.join()
raise RuntimeError(forged)
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, env=environment, check=False)
    assert (ran.returncode, ran.stdout) == (1, b"")
    return ran.stderr.decode("utf-8").split("\n")


EVENTS = ["a.field", "an.exception", *["library.reported"] * 3, *["process.crashed"] * 2]


@pytest.mark.parametrize("style", ["json"])
def test_no_field_can_forge_a_line(written: list[str]) -> None:
    assert written.pop() == ""
    assert [json.loads(line)["event"] for line in written] == ["a.field", *EVENTS]
    assert all(line.isascii() and line.isprintable() for line in written)
    exception, first, second = written[2:5]
    assert [raised["kind"] for raised in json.loads(exception)["raised"]] == ["ValueError", "KeyError"]
    assert "operation.settled" not in exception
    assert (json.loads(first)["text"], json.loads(second)["text"]) == (None, "a text with %s")


@pytest.mark.parametrize("style", ["console"])
def test_no_field_can_forge_a_line_for_people(written: list[str]) -> None:
    assert written.pop() == ""
    assert len(written) == len(EVENTS)
    assert all(line.isprintable() for line in written)


def test_an_exception_is_told_by_its_kind_its_codes_and_its_place() -> None:
    def deep() -> None:
        raise ValueError("canary")

    try:
        deep()
    except ValueError as error:
        (told,) = logs.chain_of(error)
    assert told["kind"] == "ValueError"
    assert [at.rpartition(" ")[2] for at in told["at"]] == [
        "test_an_exception_is_told_by_its_kind_its_codes_and_its_place",
        "deep",
    ]
    assert told["at"][0].startswith("tests/logs/test_lines.py:")


def test_an_error_of_postgres_is_told_with_its_code_and_constraint_and_not_with_its_row(service) -> None:
    service.ask_for_capture()
    with pytest.raises(Exception, match="Failing row contains") as failed:
        service.execute("UPDATE billing.captures SET amount_minor = 0")
    wrapped, original = logs.chain_of(failed.value)
    assert (original["sqlstate"], original["constraint"]) == ("23514", "captures_amount_positive")
    assert "Failing" not in json.dumps([wrapped, original])


def test_handlers_of_libraries_are_ours() -> None:
    assert any(isinstance(handler, logs.Libraries) for handler in logging.getLogger().handlers)
