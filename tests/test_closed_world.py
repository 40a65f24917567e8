"""Lists that must be complete: whoever adds a member is told here what else it needs."""

import ast
import dataclasses
import inspect
import random
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

import psycopg
import pytest
import sqlalchemy.exc
import stripe
import stripe._error
import urllib3
from cases import case
from urllib3.exceptions import HTTPError

from billing import answers, duplicate_drafts, effects, facts, idempotency, records, runs
from billing.answers import Kind, read_answer
from billing.calls import Standing
from billing.capture_steps import _STATES, CAPTURE, READ_AUTHORIZATION
from billing.credit_note_steps import ISSUE, READ_LINES
from billing.credit_note_steps import OBSERVE as READ_CREDIT_NOTE
from billing.email_steps import SEND_EMAIL
from billing.event_sweep import READ_EVENTS
from billing.gateway import Budget, NoAnswer, NotSent, Request, Response, boot_clock
from billing.invoice_action_steps import CALLS
from billing.invoice_charge_steps import PAY
from billing.invoice_draft_steps import CREATE, DELETE_DRAFT
from billing.invoice_final_steps import FINALIZE, SEND
from billing.invoice_line_steps import ADD_LINES
from billing.invoice_observing import OBSERVE
from billing.learned import DEFINITE, Learned
from billing.operations import OPERATIONS, topics
from billing.probes import PROBE
from billing.refund_steps import OBSERVE as OBSERVE_REFUND
from billing.refund_steps import READ_PAYMENT, REFUND
from billing.registration import Contract, Operation
from billing.runs import CALL
from billing.schedules import SCHEDULES
from billing.states import LIVES, CaptureState, CreditNoteState, Life, RefundState, RunState, VoidState, WorkState
from billing.steps import LoadedOperation, Step
from billing.stripe_gateway import StripeGateway
from billing.tables.entities import Capture
from billing.tables.facts import Fact
from billing.tables.idempotency_records import Record
from billing.timing import PRODUCTION, SHORT, Timing
from billing.void_steps import _STATES as _VOID_STATES
from billing.void_steps import READ_HOLD, VOID
from jobs.config import queues
from jobs.road import contracts, guards, planning
from jobs.road.verdicts import (
    IN_DOUBT,
    LEFT_TO_GUARDS,
    SHORT_PAUSE,
    STOPPED,
    VERDICTS,
    Failure,
    Verdict,
    backoff,
    classify,
    in_turn,
    soon,
)
from jobs.schedules.functions import FUNCTIONS

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"


# Errors of the SDK.


def stripe_errors() -> dict[str, type[Exception]]:
    """They load lazily: `vars(stripe)` shows none."""
    return {
        name: error
        for name, error in vars(stripe._error).items()
        if inspect.isclass(error) and issubclass(error, Exception)
    }


@pytest.mark.parametrize("status", [None, 200, 307, 400, 401, 402, 404, 409, 429, 500])
def test_every_error_of_the_sdk_is_read_by_the_bytes_that_came_back(
    status: int | None, monkeypatch: pytest.MonkeyPatch
):
    """[87] Every class of the installed version: with an exchange its status decides, without one nothing is known."""
    gateway = StripeGateway(lambda: "sk_test_x", "http://127.0.0.1:9", livemode=False, connections=1)
    came_back = None if status is None else Response(status, b"{}", {}, "req_1", replayed=False)
    facts = "a text", b"{}", status, {"error": {"code": "a_code"}}, {"Request-Id": "req_1"}
    for name, kind in stripe_errors().items():
        error = kind.__new__(kind)
        stripe.StripeError.__init__(error, *facts)

        def raises(*_: object, error: Exception = error, **__: object) -> None:
            gateway._http._current.answer = came_back
            raise error

        monkeypatch.setattr(gateway._client, "raw_request", raises)
        with case(name):
            answer = gateway.send(Request("POST", "/v1/x", "", key="a-key"), Budget(1e12, 1e12))
            assert answer == came_back if came_back else isinstance(answer, NoAnswer)
            loaded = LoadedOperation(Capture(payment_intent="pi_1", currency="USD"), [], "", "")
            assert read_answer(CAPTURE, loaded, Record(unanswered=1, livemode=False), answer).kind in Kind


# Errors of the transport.


def transport_errors() -> list[type[Exception]]:
    found = [
        error
        for error in vars(urllib3.exceptions).values()
        if inspect.isclass(error) and issubclass(error, HTTPError) and not issubclass(error, Warning)
    ]
    return [*found, OSError, ConnectionResetError, BrokenPipeError, TimeoutError, InterruptedError]


@pytest.mark.parametrize("kind", transport_errors(), ids=lambda kind: kind.__name__)
def test_every_error_of_the_transport_is_no_answer(kind: type[Exception], monkeypatch: pytest.MonkeyPatch):
    gateway = StripeGateway(lambda: "sk_test_x", "http://127.0.0.1:9", livemode=False, connections=1)

    def broken(*_: Any, **__: Any) -> Any:
        raise kind.__new__(kind)

    monkeypatch.setattr(gateway._http._pool, "urlopen", broken)
    later = boot_clock() + 5
    answer = gateway.send(Request("POST", "/v1/x", "a=1", "key"), Budget(later, later))
    assert answer == NoAnswer(kind.__name__)


# Errors of Postgres.


def test_every_sqlstate_says_what_its_transaction_needs():
    for sqlstate, kind in psycopg.errors._sqlcodes.items():
        error = kind("x")
        with case(sqlstate):
            assert classify(sqlalchemy.exc.DBAPIError("SELECT 1", {}, error)) is classify(error)
            assert isinstance(classify(error), Failure)


@pytest.mark.parametrize(
    ("sqlstate", "expected"),
    [
        ("40001", Failure.REPEAT),
        ("40P01", Failure.REPEAT),
        ("55P03", Failure.REPEAT),
        ("57014", Failure.HALVE),
        ("25P03", Failure.HALVE),
        ("25P04", Failure.HALVE),
        ("53100", Failure.HALVE),
        ("53200", Failure.HALVE),
        ("53300", Failure.RECONNECT),
        ("08006", Failure.RECONNECT),
        ("08003", Failure.RECONNECT),
        ("57P01", Failure.RECONNECT),
        ("57P02", Failure.RECONNECT),
        ("57P03", Failure.RECONNECT),
        ("23505", Failure.DATA),
        ("22001", Failure.DATA),
        ("23514", Failure.DATA),
    ],
)
def test_what_postgres_says_is_taken_as_it_is_meant(sqlstate: str, expected: Failure):
    assert classify(psycopg.errors.lookup(sqlstate)("x")) is expected


@pytest.mark.parametrize("sqlstate", ["25006", "40003", "58030", "53400"])
def test_a_server_in_trouble_is_no_error_of_a_row(sqlstate: str):
    """Read-only (the old primary), a commit whose outcome is unknown, a failing disk, a limit of the server."""
    assert classify(psycopg.errors.lookup(sqlstate)("x")) is not Failure.DATA


@pytest.mark.parametrize(
    "error",
    [psycopg.OperationalError("gone"), psycopg.InterfaceError("closed")],
    ids=lambda error: type(error).__name__,
)
def test_a_connection_without_a_sqlstate_is_gone(error: Exception):
    assert classify(error) is Failure.RECONNECT
    assert classify(sqlalchemy.exc.OperationalError("SELECT 1", {}, error)) is Failure.RECONNECT


@pytest.mark.parametrize("error", [ValueError("x"), KeyError("x"), AssertionError("x"), TypeError("x")])
def test_a_bug_of_ours_is_an_error_of_a_row(error: Exception):
    assert classify(error) is Failure.DATA


def test_every_family_of_sqlalchemy_says_what_its_transaction_needs():
    for error in vars(sqlalchemy.exc).values():
        if inspect.isclass(error) and issubclass(error, sqlalchemy.exc.DBAPIError):
            assert isinstance(classify(error("SELECT 1", {}, Exception("x"))), Failure)


# Standings, verdicts and states.


def test_every_standing_has_a_verdict_and_work_comes_into_every_state():
    assert set(VERDICTS) == set(Standing)
    by_verdicts = {verdict.state for verdict in VERDICTS.values()}
    # A guard parks the contracts that it does not know; nothing ends as failed by itself.
    assert {str(state) for state in {*WorkState} - by_verdicts} <= {"parked", "failed"}


def test_only_what_waits_has_a_pause():
    paused = {verdict.state for verdict in VERDICTS.values() if verdict.policy is not None and verdict.policy.pause}
    assert paused == {WorkState.WAITING}


def test_a_guard_replaces_no_verdict_that_ends_the_work_or_brings_it_back_through_the_claim():
    replaced = {VERDICTS[standing] for standing in LEFT_TO_GUARDS}
    assert replaced == {
        Verdict(WorkState.READY),
        Verdict(WorkState.HELD, STOPPED),
        Verdict(WorkState.WAITING, IN_DOUBT),
        Verdict(WorkState.WAITING, SHORT_PAUSE),
    }
    in_another_hand = {Standing.WAITING, Standing.SIBLING}
    assert {standing for standing in Standing if VERDICTS[standing] in replaced} == LEFT_TO_GUARDS | in_another_hand


@pytest.mark.parametrize("pause", [soon, backoff, in_turn])
def test_every_pause_is_short(pause: Any):
    for tries in (0, 1, 5, 10**6):
        assert 0 <= pause(tries, PRODUCTION, random.Random(1)).total_seconds() <= PRODUCTION.retry_max_s


def test_every_definite_outcome_of_a_capture_has_its_state():
    assert set(_STATES) == set(DEFINITE)
    assert set(_STATES.values()) == set(CaptureState) - {CaptureState.REQUESTED}
    assert set(_VOID_STATES) == set(DEFINITE)
    assert set(_VOID_STATES.values()) == set(VoidState) - {VoidState.REQUESTED}


# Facts.


def told_in_code() -> set[str]:
    """Every text that `new_fact`, `new_command_fact` or `move` is given as a topic, and the states of captures,
    refunds and credit notes that are told as such."""
    topics = {
        str(state) for state in (*CaptureState, *RefundState, *CreditNoteState) if state != CaptureState.REQUESTED
    }
    for path in [*(ROOT / "billing").glob("*.py"), *(ROOT / "jobs").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
                continue
            if node.func.id in ("new_fact", "new_command_fact", "move"):
                named = [*node.args, *(keyword.value for keyword in node.keywords if keyword.arg == "topic")]
                named += [
                    each for chosen in named if isinstance(chosen, ast.IfExp) for each in (chosen.body, chosen.orelse)
                ]
                topics |= {
                    each.value for each in named if isinstance(each, ast.Constant) and isinstance(each.value, str)
                }
    return topics


def test_every_topic_is_told_somewhere_and_every_told_topic_is_known():
    known = {topic.partition(".")[2] for topic in topics()}
    # A run that is due is told under the name of its schedule.
    told = told_in_code() | {schedule.name for schedule in SCHEDULES} | {RunState.DUE}
    # By the function that purges, in SQL: tests/archive/test_purging.py.
    told |= facts.OF_BATCHES.keys()
    assert known - told == set()
    assert {topic for topic in told if re.fullmatch(r"[a-z_]+", topic)} - known == set()


def test_a_topic_that_is_not_known_cannot_be_told():
    with pytest.raises(KeyError):
        facts.new_fact(Capture(id="cap_1", version=0), "celebrated")


def test_a_topic_of_an_older_version_is_stamped_and_explained_and_never_written():
    assert facts.OLD_TOPICS.keys() <= set(planning.only_stamped())
    assert not facts.OLD_TOPICS.keys() & topics().keys()


def test_every_topic_says_what_it_means():
    assert all(meaning and meaning[-1] != "." for meaning in topics().values())


# Contracts.


@pytest.mark.parametrize(("operation", "contract"), contracts.contracts(), ids=lambda each: getattr(each, "name", ""))
def test_a_contract_carries_ids_only_and_names_what_exists(operation: Operation, contract: Contract):
    """[74]"""
    assert f"{operation.kind}.{contract.topic}" in topics()
    assert contract.queue in queues.NAMES
    assert contract.since <= contracts.CONTRACTS_VERSION
    good = f"{operation.prefix}_" + "0" * 32
    assert planned(good, operation, contract)["entity_id"] == good
    for bad in ("os.system", good.upper(), good + "0", good + "\n", "", "x" + good):
        with pytest.raises(contracts.Unplannable, match="entity_id"):
            planned(bad, operation, contract)


def planned(entity_id: str, operation: Operation, contract: Contract) -> dict[str, Any]:
    fact = Fact(id=1, entity_id=entity_id, payload={}, happened_at=datetime.now(UTC))
    return contracts.work_for(fact, operation, contract, PRODUCTION)


@pytest.mark.parametrize(("operation", "contract"), contracts.contracts(), ids=lambda each: getattr(each, "name", ""))
def test_what_is_on_a_queue_without_stripe_changes_nothing_there(operation: Operation, contract: Contract):
    assert operation.local or contract.queue not in queues.LOCAL


def test_a_schedule_is_a_function_of_ours_or_only_looks_at_stripe():
    for schedule in SCHEDULES:
        step = runs.STEPS[schedule.name]
        assert step.rules.local == (schedule.queue in queues.LOCAL)
        assert step.rules.local or step.only_looks


def test_every_schedule_has_its_function():
    assert [schedule.name for schedule in SCHEDULES if schedule.queue in queues.LOCAL] == list(FUNCTIONS)


def test_contracts_have_different_names_and_each_operation_has_one():
    assert len(set(contracts.known())) == len(contracts.contracts())
    assert {operation.kind for operation, _ in contracts.contracts()} == set(OPERATIONS)


def test_a_guard_stops_everything_that_a_person_or_a_switch_has_stopped():
    assert set(guards.STOPPED) == {WorkState.HELD, WorkState.QUARANTINED, WorkState.PARKED}


_ASKS_A_KIND = re.compile(
    r'isinstance\([^)]*\b(Capture|Void|Invoice|Switch)\b(?!\w)|startswith\(\(?"(cap|void|inv|swi)_'
    r'|"(capture|void|invoice|switch)": ["\w]'
)
_OWN_FILES = re.compile(
    r"billing/(captures|compensations|voids|refunds|refund_requests|refund_steps|credit_\w+|emails|email_steps|documents|document_steps|invoices|invoice_\w+|capture_steps"
    r"|void_steps|probes|tables|switches)\.py"
    r"|jobs/(local|access)/"
    r"|jobs/recovery/(retold|shown)\w*\.py|jobs/cli/email_preview\.py|jobs/bulk/columns\.py"
)


def test_nobody_asks_of_which_kind_an_operation_is_but_its_own_files():
    """Whatever differs from kind to kind is asked of the registration. The demo and the grants name their tables,
    and so does what makes forgotten rows anew."""
    asking = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for package in ("billing", "jobs")
        for path in sorted((ROOT / package).rglob("*.py"))
        if not _OWN_FILES.match(str(path.relative_to(ROOT))) and "migrations" not in path.parts
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if _ASKS_A_KIND.search(line)
    ]
    assert asking == []


# Steps.

STEPS: list[Step] = [
    READ_AUTHORIZATION,
    CAPTURE,
    READ_HOLD,
    VOID,
    CREATE,
    ADD_LINES,
    OPERATIONS["invoice"].steps("add_lines_100"),
    FINALIZE,
    SEND,
    PAY,
    *CALLS.values(),
    REFUND,
    OBSERVE_REFUND,
    SEND_EMAIL,
    READ_PAYMENT,
    *(READ_LINES, ISSUE, READ_CREDIT_NOTE),
    DELETE_DRAFT,
    duplicate_drafts.list_duplicates("before_lines"),
    duplicate_drafts.delete_duplicate("in_1"),
    OBSERVE,
    PROBE,
    CALL,
    READ_EVENTS,
]


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.name)
def test_every_step_is_found_by_the_name_in_its_record(step: Step):
    found = [operation for operation in OPERATIONS.values() if _has(operation, step.name)]
    assert len(found) == 1
    assert found[0].steps(step.name).name == step.name


def _has(operation: Any, name: str) -> bool:
    try:
        operation.steps(name)
    except KeyError:
        return False
    return True


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.name)
def test_only_what_the_provider_replays_by_key_is_resent_under_it(step: Step):
    """The rest is reading and deleting, which may be repeated."""
    posts = {"capture", "void", "refund", "issue", "create", "add_lines", "add_lines_100", "finalize", "send", "pay"}
    posts |= {step.name for step in CALLS.values()}
    assert step.rules.replays == (step.name in posts)


def test_every_learned_state_is_produced_somewhere():
    sources = "".join(path.read_text() for path in (ROOT / "billing").glob("*.py"))
    sources += (ROOT / "jobs" / "road" / "runner.py").read_text()
    for learned in Learned:
        assert sources.count(f"Learned.{learned.name}") >= 2, learned


# Timing.

VIOLATIONS: dict[str, dict[str, float]] = {
    "a call would start after its lease": {"not_after_s": PRODUCTION.lease_s},
    "a transaction would outlive a lease": {"transaction_timeout_s": PRODUCTION.lease_s},
    "a key would be forgotten under a call": {"horizon_s": 24 * 3600 - PRODUCTION.lease_s},
    "no lease": {"lease_s": 0, "not_after_s": -1, "transaction_timeout_s": -1},
    "no budget": {"call_budget_s": 0},
    "nothing could ever start": {"not_after_s": 0},
}


@pytest.mark.parametrize("changes", VIOLATIONS.values(), ids=VIOLATIONS)
def test_every_inequality_of_the_timing_refuses_its_violation(changes: dict[str, float]):
    with pytest.raises(ValueError, match="timing: "):
        dataclasses.replace(PRODUCTION, **changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"margin_s": -20.0},
        {"settle_s": -1.0},
        {"look_first_s": 0.0},
        {"retry_first_s": -1.0},
        {"look_first_s": 7200.0},
        {"past_deadline_s": -1.0},
    ],
    ids="".join,
)
def test_durations_that_make_no_sense_are_refused(changes: dict[str, float]):
    with pytest.raises(ValueError, match="timing: "):
        dataclasses.replace(PRODUCTION, **changes)


@pytest.mark.parametrize("timing", [PRODUCTION, SHORT], ids=["production", "short"])
def test_a_send_is_over_before_it_counts_as_abandoned(timing: Timing):
    assert timing.not_after_s + timing.call_budget_s <= timing.abandoned.total_seconds()
    assert timing.horizon_s == 23 * 3600


def test_the_numbers_of_production_are_the_documented_ones():
    shown = (PRODUCTION.lease_s, PRODUCTION.not_after_s, PRODUCTION.call_budget_s, PRODUCTION.margin_s)
    assert shown == (15, 10, 30, 15)
    assert (PRODUCTION.settle_s, PRODUCTION.transaction_timeout_s) == (60, 2)


# Answers.


def test_every_kind_of_answer_and_of_move_is_matched():
    assert {kind.__name__ for kind in get_args(idempotency.Move)} == {
        "Send",
        "Resend",
        "Wait",
        "Look",
        "Rotate",
        "Park",
        "Conflict",
        "Done",
    }
    for kind in get_args(idempotency.Move):
        assert f"{kind.__name__}(" in inspect.getsource(effects._advance)
    for kind in answers.Kind:
        assert f"Kind.{kind.name}" in inspect.getsource(effects.settle)
        assert f"Kind.{kind.name}" in inspect.getsource(records.learn_from_answer)
    assert NotSent.__name__ in inspect.getsource(answers.read_answer)


# The failure catalog.

_ROW = re.compile(r"^\| *(\d+) *\| *([^|]+?) *\| *([^|]+?) *\|$", re.MULTILINE)
_TEST = re.compile(r"`(tests/[\w/]+\.py)(?:::(\w+))?`")


def catalog() -> dict[int, tuple[str, str]]:
    rows = _ROW.findall((DOCS / "failures.md").read_text())
    return {int(number): (words, where) for number, words, where in rows}


def test_the_failure_catalog_is_complete():
    assert sorted(catalog()) == list(range(1, len(catalog()) + 1))
    assert len(catalog()) == len(_ROW.findall((DOCS / "failures.md").read_text()))


def test_every_failure_names_its_tests_or_says_why_not():
    for number, (words, where) in catalog().items():
        with case(number):
            assert len(words) > 10
            tests = _TEST.findall(where)
            excused = ("does not apply", "owned by a later part", "to be written")
            assert tests or where.startswith(excused), where
            for path, name in tests:
                source = ROOT / path
                assert source.exists(), path
                if name:
                    assert re.search(rf"^def {name}\(", source.read_text(), re.MULTILINE), f"{path}::{name}"


_NUMBERS = re.compile(r'^    """\[([\d, ]+)\]', re.MULTILINE)
TO_MONEY = (*range(1, 88), 182, 183)
"""The dangers to what moves money: captures, voids, refunds, invoices, webhooks, restores and reconciliation."""


def numbers_of(path: str, name: str) -> set[int]:
    """Those that the test's docstring begins with."""
    source = (ROOT / path).read_text()
    said = _NUMBERS.search(source[source.index(f"\ndef {name}(") :].partition("\n\n\n")[0])
    return set(map(int, said[1].split(","))) if said else set()


@pytest.mark.parametrize("number", TO_MONEY)
def test_every_danger_to_money_has_a_test_that_says_its_number(number: int):
    _, where = catalog()[number]
    named = [(path, name) for path, name in _TEST.findall(where) if name]
    assert where.startswith("does not apply") or any(number in numbers_of(*test) for test in named), where


def test_every_number_that_a_test_says_is_in_the_catalog():
    said = {
        (path.name, int(number))
        for path in (ROOT / "tests").rglob("test_*.py")
        for found in _NUMBERS.findall(path.read_text())
        for number in found.split(",")
    }
    assert {each for each in said if each[1] not in catalog()} == set()


def test_the_protocol_is_told_with_every_move_and_every_learned_state():
    text = (DOCS / "protocol.md").read_text()
    for move in get_args(idempotency.Move):
        assert f"**{move.__name__}**" in text, move
    for word in (*Learned, *Standing):
        assert f"`{word}`" in text, word


@pytest.mark.parametrize("life", LIVES, ids=lambda life: life.of)
def test_the_page_of_states_draws_every_life_as_the_code_obeys_it(life: Life):
    _, _, section = (DOCS / "states.md").read_text().partition(f"\n## {life.of.capitalize()}\n")
    section = section.partition("\n## ")[0]
    assert set(re.findall(r"^    (\w+) --> (\w+)", section, re.MULTILINE)) == life.legal
    assert re.findall(r"^    \[\*\] --> (\w+)$", section, re.MULTILINE) == [life.first]
    assert dict(re.findall(r"^\| `(\w+)` \| ([^|]*) \|$", section, re.MULTILINE)) == dict(life.states)


def test_the_decision_can_be_imported_without_a_driver_or_a_socket():
    """It is pure: it needs neither Postgres nor HTTP, only the words for what was learned, and the timing."""
    code = (
        "import sys, billing.idempotency as page; "
        "print(sorted(n for n in vars(page) if not n.startswith('_')) and page.next_move.__module__)"
    )
    shown = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "billing.idempotency"
    imported = {
        node.module
        for page in ("billing/idempotency.py", "billing/learned.py")
        for node in ast.walk(ast.parse((ROOT / page).read_text()))
        if isinstance(node, ast.ImportFrom)
    }
    assert imported == {"dataclasses", "datetime", "enum", "typing", "billing.learned", "billing.timing"}
