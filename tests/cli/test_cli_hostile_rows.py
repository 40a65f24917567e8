"""What an application's own login can write is shown to a person as it is, and breaks no command."""

import contextlib
import io
import json
from typing import Any

import psycopg
import pytest
import sqlalchemy.exc
from hypothesis import example, given, settings
from hypothesis import strategies as st
from service import Service

import billing.explain as stories
from jobs.cli.output import print_json, print_line, print_table

UNREADABLE = f'{{"minor": {"9" * 5000}}}'


def write_facts(service: Service, capture: str, payloads: dict[str, str], actor: str = "application") -> None:
    """As an application can write them, from before the schema had rules for them."""
    service.execute("ALTER TABLE billing.facts DROP CONSTRAINT IF EXISTS facts_payload_bounded")
    service.execute("ALTER TABLE billing.facts DROP CONSTRAINT IF EXISTS facts_names_shaped")
    for version, (topic, payload) in enumerate(payloads.items(), start=10):
        service.execute(
            "INSERT INTO billing.facts (topic, entity_type, entity_id, entity_version, actor, payload)"
            " VALUES (:topic, 'capture', :id, :version, :actor, CAST(:payload AS jsonb))",
            topic=topic,
            id=capture,
            version=version,
            actor=actor,
            payload=payload,
        )


def test_a_story_is_told_whatever_its_facts_hold(run, service: Service) -> None:
    capture = service.ask_for_capture()
    payloads = {
        "capture.attempted": UNREADABLE,
        "capture.looked": "[]",
        "capture.conflict": '{"minor": [], "currency": {}, "why": null}',
        "capture.undecided": '{"minor": true, "currency": "usd"}',
    }
    write_facts(service, capture, payloads)
    ran = run("explain", capture)
    assert ran.status == 0
    assert "unreadable the payload is nested too deeply, or holds a number that is too long" in ran.out
    assert "unreadable the payload is list, not an object" in ran.out
    facts = run("explain", capture, "--json").json["operations"][0]["facts"]
    assert [fact["topic"] for fact in facts] == ["capture.requested", *payloads]
    assert not any(fact["set_aside"] for fact in facts)


def test_a_fact_that_was_set_aside_is_named_by_the_story_and_by_the_doctor(run, service: Service) -> None:
    capture = service.ask_for_capture()
    service.execute("UPDATE billing.facts SET payload = jsonb_set(payload, '{capture_before}', '7')")
    service.plan()
    told = run("explain", capture).out
    assert "next: nothing: its fact was set aside as unplannable" in told
    assert "SET ASIDE: it could not be planned" in told
    write_facts(service, "cap_1", {f"capture.requested{n}": "[]" for n in "abc"})
    service.execute("UPDATE billing.facts SET planned_version = -1")
    (found,) = [each for each in run("doctor", "--json").json if each["part"] == "facts set aside"]
    assert found["level"] == "warn"
    assert found["message"].startswith("4 facts are set aside: ")
    assert f"(capture.requested of {capture})" in found["message"]
    assert found["message"].endswith(" and 1 more")
    assert "fact.unplannable" in found["fix"]


def test_a_command_that_a_busy_machine_interrupts_is_tried_again(
    run, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    capture = service.ask_for_capture()
    really, errors = stories.explain, [psycopg.errors.IdleInTransactionSessionTimeout, psycopg.errors.QueryCanceled]

    def interrupted(*arguments: Any) -> Any:
        if errors:
            raise sqlalchemy.exc.InternalError("SELECT", {}, errors.pop()("a timeout"))
        return really(*arguments)

    monkeypatch.setattr(stories, "explain", interrupted)
    assert run("explain", capture).status == 0
    errors += [psycopg.errors.TransactionTimeout] * 10
    ran = run("explain", capture)
    assert ran.status == 2
    assert "Postgres ended a statement that took too long (TransactionTimeout, 25P04)" in ran.err


def test_no_row_can_move_the_cursor_of_a_terminal(run, service: Service) -> None:
    capture = service.ask_for_capture()
    write_facts(service, capture, {"capture.looked": '{"why": "\\u001b[2Jgone\\u202e"}'}, actor="\x1b]0;root\x07")
    service.execute("UPDATE billing.captures SET reason = :reason", reason="\x1b[31mred\x9b")
    service.plan()
    service.execute("UPDATE billing.work SET state = 'quarantined', reason = :reason", reason="\x1b[31mred\rthen")
    for command in (["explain", capture], ["quarantine", "list"]):
        ran = run(*command)
        assert ran.status == 0
        assert not any(sign in ran.out for sign in "\x1b\x07\x9b\u202e\r"), command
        assert "\\x1b[31mred" in ran.out


def test_no_row_can_begin_a_line_or_spoil_what_a_program_reads(run, service: Service) -> None:
    """A reason with a line break could look like a fact of ours; and JSON stays JSON, with the very text in it."""
    capture, forged = service.ask_for_capture(), "x\n2026-01-01 00:00:00.000  capture.captured: the money was taken"
    hostile = f"{forged}\x1b[2J\x9b31m\u202e\u2028\xa0\x7f\U000e0041"
    service.plan()
    service.execute("UPDATE billing.work SET state = 'quarantined', reason = :reason", reason=hostile)
    for command in (["explain", capture], ["quarantine", "list"]):
        ran = run(*command)
        assert not any(line.startswith("2026-01-01") for line in ran.out.splitlines()), command
        told = run(*command, "--json").out
        assert all(sign.isprintable() for sign in told.replace("\n", "")), command
        reasons = json.loads(told)["operations"][0]["work"] if command[0] == "explain" else json.loads(told)
        assert [each["reason"] for each in reasons] == [hostile]


@given(text=st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=30))
@example(text="a\nb\x1b[31m\x9b\u202e")
@settings(max_examples=300, deadline=None)
def test_whatever_a_text_holds_it_is_one_line_that_a_terminal_does_not_act_on(text: str) -> None:
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        print_line(f"({text})")
        print_json({"reason": text})
        print_table("told", ("reason",), [(f"({text})",)])
    said, *json_lines = out.getvalue().split("\n")
    assert all(sign.isprintable() for sign in said)
    assert json.loads("\n".join(json_lines[:3])) == {"reason": text}
    assert all(sign.isprintable() for sign in "".join(json_lines))
