"""The retention file says how long evidence is locked, or the process does not start and says what to write."""

from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from archive.errors import BadRetention
from archive.policy import retention
from archive.policy.retention import CLASSES, Mode, Rule

CONFIRMED = "compliance_cannot_be_undone = true\n"
DEFAULT = 'mode = "GOVERNANCE"\nkeep_days = 90\n'


@pytest.fixture
def told(tmp_path: Path):
    def told(text: str) -> retention.Policy:
        (tmp_path / "retention.toml").write_text(text)
        return retention.load(tmp_path / "retention.toml")

    return told


def test_what_is_shipped_can_be_lifted_and_lasts_90_days():
    assert retention.load().rules == dict.fromkeys(CLASSES, Rule(Mode.GOVERNANCE, 90))


def test_a_class_may_differ(told):
    rules = told(f'{DEFAULT}[class.capture]\nkeep_days = 3650\n[class.admin]\nmode = "GOVERNANCE"\n').rules
    assert rules["capture"] == Rule(Mode.GOVERNANCE, 3650)
    assert {rules[name] for name in CLASSES if name != "capture"} == {Rule(Mode.GOVERNANCE, 90)}


@pytest.mark.parametrize(
    "text", ['mode = "COMPLIANCE"\nkeep_days = 1\n', f'{DEFAULT}[class.admin]\nmode = "COMPLIANCE"']
)
def test_compliance_needs_the_flag(told, text):
    with pytest.raises(BadRetention, match="cannot be undone by anybody; write compliance_cannot_be_undone = true"):
        told(text)
    with pytest.raises(BadRetention, match="cannot be undone"):
        told(f"compliance_cannot_be_undone = 1\n{text}")
    assert Mode.COMPLIANCE in [rule.mode for rule in told(CONFIRMED + text).rules.values()]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "mode must be"),
        ('mode = "governance"\nkeep_days = 1', 'mode must be "GOVERNANCE" or "COMPLIANCE"'),
        ('mode = ["GOVERNANCE"]\nkeep_days = 1', "mode must be"),
        ('mode = "GOVERNANCE"', "keep_days must be a whole number from 1 to"),
        ('mode = "GOVERNANCE"\nkeep_days = 0', "keep_days must be"),
        ('mode = "GOVERNANCE"\nkeep_days = true', "keep_days must be"),
        ('mode = "GOVERNANCE"\nkeep_days = 36601', "keep_days must be"),
        (f"{DEFAULT}keep_years = 1", "keep_years is unknown"),
        (f"{DEFAULT}[class.captures]", r"\[class.captures\] is no class; there are: attempt, capture, invoice, admin"),
        (f"{DEFAULT}[class.capture]\nkeep = 1", r"\[class.capture\] keep is unknown"),
        (f"{DEFAULT}class = 1", "a class is a table"),
        (f"{DEFAULT}[class]\ncapture = 1", "a class is a table"),
        ("mode = GOVERNANCE", "not TOML"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(told, text, complaint):
    with pytest.raises(BadRetention, match=complaint) as refusal:
        told(text)
    assert "\n" not in str(refusal.value)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(BadRetention, match=r"none\.toml: No such file"):
        retention.load(tmp_path / "none.toml")


def test_a_lock_begins_at_the_end_of_the_day_and_late_evidence_is_kept_as_long():
    policy = retention.load()
    day, later = date(2026, 1, 1), date(2026, 6, 1)
    assert policy.lock("capture", day, day).until == datetime(2026, 4, 2, tzinfo=UTC)
    assert policy.lock("capture", day, later).until == datetime(2026, 8, 31, tzinfo=UTC)


def test_a_manifest_outlives_every_object(told):
    policy = told(f'{CONFIRMED}{DEFAULT}[class.attempt]\nkeep_days = 400\n[class.admin]\nmode = "COMPLIANCE"\n')
    day = date(2026, 1, 1)
    lock = policy.manifest_lock(day, day)
    assert all(lock.holds(policy.lock(name, day, day)) for name in CLASSES)
    assert lock.mode == Mode.COMPLIANCE
