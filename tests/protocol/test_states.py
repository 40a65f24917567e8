"""States change in one way only: by a transition that billing/states names."""

import ast
import re
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from types import SimpleNamespace

import pytest
from protocol_model import capture
from transitions import TABLES

from billing import states
from billing.errors import IllegalTransition
from billing.states import LIVES, Life, set_state

ROOT = Path(__file__).parents[2]

STATES: dict[str, type[StrEnum]] = {
    "capture": states.CaptureState,
    "void": states.VoidState,
    "refund": states.RefundState,
    "invoice": states.InvoiceState,
    "invoice_action": states.InvoiceActionState,
    "credit_note": states.CreditNoteState,
    "email": states.EmailState,
    "document": states.DocumentState,
    "switch": states.SwitchState,
    "run": states.RunState,
    "idempotency record": states.RecordState,
    "work": states.WorkState,
    "received event": states.EventState,
    "archive batch": states.BatchState,
    "difference": states.DifferenceState,
}


@pytest.mark.parametrize("life", LIVES, ids=lambda life: life.of)
def test_every_state_is_explained_in_one_line_and_is_come_to(life: Life) -> None:
    assert list(life.states) == sorted(STATES[life.of], key=list(life.states).index)
    assert all(0 < len(line) <= 100 and "\n" not in line and line[-1] != "." for line in life.states.values())
    assert {each.end for each in life.transitions} >= life.states.keys() - {life.first}
    for each in life.transitions:
        assert {each.start, each.end} <= life.states.keys()
        assert each.start != each.end
        assert len(each.when) > 10


def test_every_table_with_states_has_its_life_here() -> None:
    assert sorted(life.of for life in TABLES.values()) == sorted(life.of for life in LIVES)


@pytest.mark.parametrize("life", LIVES, ids=lambda life: life.of)
def test_a_change_that_is_no_transition_is_refused_and_changes_nothing(life: Life) -> None:
    for start in life.states:
        for end in life.states:
            row = SimpleNamespace(life=life, state=start)
            if start == end or (start, end) in life.legal:
                set_state(row, end)
                assert row.state == end
                continue
            with pytest.raises(IllegalTransition, match=f"^{life.of}: {start} cannot become {end}$"):
                set_state(row, end)
            assert row.state == start


def test_what_only_an_operator_could_still_change_is_final() -> None:
    final = {life.of: {state for state in life.states if life.is_final(state)} for life in LIVES[:10]}
    assert final == {
        "capture": {"captured", "declined", "refused", "expired", "canceled"},
        "void": {"voided", "refused", "expired"},
        "refund": {"succeeded", "failed", "canceled", "refused"},
        "invoice": {"sent", "unpaid", "paid", "uncollectible", "voided", "refused"},
        "invoice_action": {"done", "declined", "refused"},
        "credit_note": {"issued", "voided", "refused"},
        "email": {"sent", "bounced", "complained", "refused"},
        "document": {"stored", "refused"},
        "switch": {"released"},
        "run": {"done"},
    }
    assert not capture().life.is_final("requested")


# Nothing goes around it.


def modules() -> Iterator[tuple[str, str]]:
    """Every module of the product with its source. Read, not imported: whoever imports RQ chooses its keys."""
    for package in ("billing", "archive", "jobs"):
        for path in sorted((ROOT / package).rglob("*.py")):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            if not name.startswith("billing.migrations"):
                yield name, path.read_text()


def test_no_code_but_one_function_assigns_a_state() -> None:
    assigning = set()
    for name, source in modules():
        for node in ast.walk(ast.parse(source)):
            targets = node.targets if isinstance(node, ast.Assign) else []
            each = [t for target in targets for t in (target.elts if isinstance(target, ast.Tuple) else [target])]
            if any(isinstance(target, ast.Attribute) and target.attr == "state" for target in each):
                assigning.add(name)
    assert assigning == {"billing.states.lives"}


def statements() -> list[tuple[str, str]]:
    """Every statement of the product's that sets states, with where it stands."""
    found = []
    for path in sorted(each for package in ("billing", "archive", "jobs") for each in (ROOT / package).rglob("*.sql")):
        _, *parts = re.split(r"^-- name: (\w+)\n", path.read_text(), flags=re.MULTILINE)
        found += [(name, text) for name, text in zip(parts[::2], parts[1::2], strict=True) if "SET state = " in text]
    return found


def moved_by(statement: str) -> tuple[Life, set[tuple[str, str]]]:
    """The transitions that a statement makes: from every state of the same life that its conditions name."""
    table, end, conditions = re.search(  # type: ignore[union-attr]
        r"UPDATE billing\.(\w+)(?: AS \w+)?\s+SET state = '(\w+)'(.*)", statement, re.DOTALL
    ).groups()
    life = TABLES[table]
    named = re.findall(r"(?:\bw\.|(?<![.\w]))state (?:= |IN \()((?:'\w+'(?:, )?)+)", conditions)
    starts = {start for names in named for start in re.findall(r"'(\w+)'", names)} & life.states.keys()
    return life, {(start, end) for start in starts}


@pytest.mark.parametrize(("where", "statement"), statements(), ids=[where for where, _ in statements()])
def test_every_statement_that_changes_many_states_makes_legal_transitions_only(where: str, statement: str) -> None:
    life, moved = moved_by(statement)
    assert moved, f"{where} names no state that it comes from"
    assert moved <= life.legal


def test_the_sweeps_of_the_relay_are_among_those_statements() -> None:
    assert len(statements()) >= 7


def test_statements_built_by_the_orm_take_their_states_from_the_table() -> None:
    """Each asks its life for where it comes from: `.before(...)` in the same function."""
    for name, source in modules():
        for function in ast.walk(ast.parse(source)):
            if isinstance(function, ast.FunctionDef):
                written = ast.unparse(function)
                if re.search(r"\bstate=\w*State\.|'state': \w*State\.", written) and "update(" in written:
                    assert ".before(" in written, f"{name}.{function.name}"
