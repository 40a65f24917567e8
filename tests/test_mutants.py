"""The mutation run itself: which slips it makes, and that it tells those that are found from those that are not."""

from pathlib import Path

import pytest

from bench.mutants.__main__ import FOUND, ROOT, SURVIVED, choose, run
from bench.mutants.rules import RULES, Rule
from bench.mutants.slips import slips

CODE = '''
"""A docstring with 1 < 2 and ORDER BY x."""
QUERY = "SELECT id FROM t WHERE seen IS NULL ORDER BY id LIMIT 10 FOR UPDATE SKIP LOCKED"
LATER = f"""
    SELECT {QUERY} FROM t
     ORDER BY at"""


def few(n: int = 2) -> bool:
    log.info("counted", n=5)
    if n < 0:
        raise ValueError("n < 0")
    return not n >= 3 and ready


def sent(call, first, last):
    call(first, last, once=True)
    if last:
        return query.order_by(first).limit(7)
'''
TEST = """
from types import SimpleNamespace

import code_under_test as code
code.ready, code.log = True, SimpleNamespace(info=lambda *_, **__: None)


def test_few():
    assert code.few(1) and not code.few(4)
"""


def test_it_slips_as_a_tired_engineer_does_and_leaves_words_alone(tmp_path: Path) -> None:
    (tmp_path / "code.py").write_text(CODE)
    made = {(slip.line, slip.kind) for slip in slips(tmp_path, "code.py")}
    assert made == {
        (3, "condition negated"),
        (3, "order dropped"),
        (3, "limit dropped"),
        (3, "lock dropped"),
        (3, "lock waits"),
        (5, "order dropped"),
        (9, "off by one"),
        (9, "constant doubled"),
        (11, "comparison flipped"),
        (11, "comparison shifted"),
        (11, "off by one"),
        (13, "and for or"),
        (13, "condition dropped"),
        (13, "not removed"),
        (13, "comparison flipped"),
        (13, "comparison shifted"),
        (13, "off by one"),
        (13, "constant doubled"),
        (17, "statement dropped"),
        (17, "arguments swapped"),
        (17, "keyword dropped"),
        (17, "true for false"),
        (18, "condition negated"),
        (19, "order dropped"),
        (19, "limit dropped"),
        (19, "off by one"),
        (19, "constant doubled"),
    }


def test_each_slip_changes_one_place_and_leaves_a_program(tmp_path: Path) -> None:
    (tmp_path / "code.py").write_text(CODE)
    for slip in slips(tmp_path, "code.py"):
        changed = slip.put_into(CODE.encode()).decode()
        assert changed != CODE
        assert len(changed) - len(CODE) == len(slip.after) - len(slip.before)


def test_the_same_seed_chooses_the_same_and_every_kind_has_its_turn(tmp_path: Path) -> None:
    (tmp_path / "code.py").write_text(CODE)
    known = slips(tmp_path, "code.py")
    kinds = {slip.kind for slip in known}
    assert choose(known, 7, 20) == choose(known, 7, 20) != choose(known, 8, 20)
    assert {slip.kind for slip in choose(known, 7, len(kinds))} == kinds
    assert len(choose(known, 7, 10_000)) == len(known)


def test_what_the_tests_find_is_told_from_what_they_do_not(tmp_path: Path) -> None:
    (tmp_path / "code_under_test.py").write_text(CODE)
    (tmp_path / "test_it.py").write_text(TEST)
    wanted = {
        (13, "comparison flipped"): FOUND,
        (13, "comparison shifted"): SURVIVED,
        (17, "statement dropped"): SURVIVED,
    }
    chosen = [slip for slip in slips(tmp_path, "code_under_test.py") if (slip.line, slip.kind) in wanted]
    results = run(tmp_path, dict.fromkeys(chosen, ("test_it.py",)))
    assert {(slip.line, slip.kind): result for slip, result in results} == wanted
    assert (tmp_path / "code_under_test.py").read_text() == CODE


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.says.replace(" ", "-"))
def test_a_rule_is_broken_in_one_place_and_leaves_a_program(rule: Rule) -> None:
    slip = rule.broken(ROOT)
    source = (ROOT / slip.path).read_bytes()
    broken = slip.put_into(source)
    assert broken != source
    for tests in rule.tests.split():
        path, _, name = tests.partition("::")
        assert not name or f"def {name}(" in (ROOT / path).read_text()
    if slip.path.endswith(".py"):
        compile(broken, slip.path, "exec")


def test_a_rule_whose_place_is_gone_is_named(tmp_path: Path) -> None:
    (tmp_path / "code.py").write_text("paid = once = True")
    with pytest.raises(ValueError, match=r"code\.py has 'twice' 0 times: money moves once"):
        Rule("money moves once", "code.py", "twice", "once", "tests").broken(tmp_path)


def test_the_page_says_how_many_rules_are_broken() -> None:
    assert f"breaks {len(RULES)} rules" in (ROOT / "docs" / "failures.md").read_text()
