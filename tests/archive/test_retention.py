"""The retention file says how long evidence is locked, or the process does not start and says what to write."""

from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from archive.errors import BadRetention
from archive.policy import retention, retention_file
from archive.policy.retention import CLASSES, From, Lock, Mode, Period, Rule, Transition, Unit

CONFIRMED = "compliance_cannot_be_undone = true\n"
DEFAULT = 'mode = "GOVERNANCE"\nkeep_days = 90\n'


@pytest.fixture
def told(tmp_path: Path):
    def told(text: str) -> retention.Policy:
        (tmp_path / "retention.toml").write_text(text)
        return retention_file.load(tmp_path / "retention.toml")

    return told


def days(count: int) -> Period:
    return Period(count, Unit.DAY)


def test_what_is_shipped_can_be_lifted_and_lasts_90_days():
    assert retention_file.load().rules == dict.fromkeys(CLASSES, Rule(Mode.GOVERNANCE, days(90)))


def test_a_class_may_differ(told):
    rules = told(f'{DEFAULT}[class.capture]\nkeep_days = 3650\n[class.admin]\nmode = "GOVERNANCE"\n').rules
    assert rules["capture"] == Rule(Mode.GOVERNANCE, days(3650))
    assert {rules[name] for name in CLASSES if name != "capture"} == {Rule(Mode.GOVERNANCE, days(90))}


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
        ('mode = "GOVERNANCE"', "keep must say how long, as in"),
        ('mode = "GOVERNANCE"\nkeep_days = 0', "keep_days must be"),
        ('mode = "GOVERNANCE"\nkeep_days = true', "keep_days must be"),
        ('mode = "GOVERNANCE"\nkeep_days = 36601', "keep_days must be"),
        (f"{DEFAULT}keep_years = 1", "keep_years is unknown"),
        (
            f"{DEFAULT}[class.captures]",
            r"\[class.captures\] is no class; there are: attempt, capture, invoice, admin, m",
        ),
        (f"{DEFAULT}[class.capture]\nkeep = 1", r'\[class.capture\] keep must be like "90 days"'),
        (f'{DEFAULT}keep = "1 year"', "keep and keep_days say the same"),
        (f'{DEFAULT}[class.capture]\nkeep = "0 days"', "keep must be like"),
        (f'{DEFAULT}[class.capture]\nkeep = "10 decades"', "keep must be like"),
        (f'{DEFAULT}[class.capture]\nkeep = "101 years"', "at most 100 years"),
        (f'{DEFAULT}[class.capture]\nkeep = "99999 years"', "at most 100 years"),
        (f'{DEFAULT}[class.capture]\nkeep = "100 years"\nfrom = "end_of_year"', "longer than S3 can lock"),
        (f'{DEFAULT}from = "settlement"', 'from must be "event" or "end_of_year"'),
        (f"{DEFAULT}because = 7", "because must be a line"),
        (f'{DEFAULT}name = "a\\nb"', "name must be a line"),
        (f'{DEFAULT}transitions = ["GLACIER_IR"]', "transitions must be like"),
        (f'{DEFAULT}transitions = [["30 days", "GLACIER"]]', "what is in GLACIER must be restored for hours before"),
        (f'{DEFAULT}storage = "DEEP_ARCHIVE"', "storage: what is in DEEP_ARCHIVE must be restored for hours before"),
        (f'{DEFAULT}storage = "ONEZONE_IA"', "what is in ONEZONE_IA is kept in a single place"),
        (f'{DEFAULT}storage = "COLD"', "COLD is no storage class of S3 that is read at once; there are STANDARD, "),
        (f"{DEFAULT}storage = 1", "1 is no storage class of S3"),
        (
            f'{DEFAULT}storage = "GLACIER_IR"\ntransitions = [["60 days", "STANDARD_IA"]]',
            "S3 moves nothing from GLACIER_IR to STANDARD_IA; the order is STANDARD, STANDARD_IA",
        ),
        (f'{DEFAULT}transitions = [["60 days", "STANDARD"]]', "S3 moves nothing from STANDARD to STANDARD"),
        (f'{DEFAULT}[class.manifest]\nstorage = "STANDARD_IA"', "manifest.* storage: .* stays in STANDARD"),
        (f'{DEFAULT}transitions = [["soon", "GLACIER_IR"]]', "transitions must be like"),
        (f'{DEFAULT}transitions = [["29 days", "STANDARD_IA"]]', "nothing to STANDARD_IA before 30 days"),
        (f'{DEFAULT}transitions = [["90 days", "GLACIER_IR"]]', "after 90 days is not before the end, 90 days"),
        (f'{DEFAULT}transitions = [["60 days", "GLACIER_IR"], ["31 days", "STANDARD_IA"]]', "in the order of"),
        (f"{DEFAULT}lifecycle_grace_days = 0", "lifecycle_grace_days must be"),
        (f'{DEFAULT}bypass_role = "anna"', "bypass_role must be a role of AWS"),
        (f"{DEFAULT}[class.manifest]\nkeep_days = 89", r"keep 89 days is shorter than \[class.attempt\]"),
        (f'{DEFAULT}[class.manifest]\ntransitions = [["1 day", "GLACIER_IR"]]', "a manifest is read by every query"),
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
        retention_file.load(tmp_path / "none.toml")


def test_a_lock_begins_at_the_end_of_the_day_and_late_evidence_is_kept_as_long():
    policy = retention_file.load()
    day, later = date(2026, 1, 1), date(2026, 6, 1)
    assert policy.lock("capture", day, day).until == datetime(2026, 4, 2, tzinfo=UTC)
    assert policy.lock("capture", day, later).until == datetime(2026, 8, 31, tzinfo=UTC)


def test_a_manifest_outlives_every_object(told):
    policy = told(f'{CONFIRMED}{DEFAULT}[class.attempt]\nkeep_days = 400\n[class.admin]\nmode = "COMPLIANCE"\n')
    day = date(2026, 1, 1)
    lock = policy.manifest_lock(day, day)
    assert all(lock.holds(policy.lock(name, day, day)) for name in CLASSES)
    assert lock.mode == Mode.COMPLIANCE


LONG = f"""
{CONFIRMED}{DEFAULT}
[class.capture]
mode = "COMPLIANCE"
keep = "10 years"
from = "end_of_year"
transitions = [["90 days", "GLACIER_IR"]]
because = "HGB 257"
name = "RP-2"
[class.attempt]
keep = "13 months"
[class.manifest]
keep = "11 years"
"""


def test_a_class_is_kept_for_as_long_as_a_law_says_and_counted_as_it_says(told):
    policy = told(LONG)
    capture, attempt = policy.rules["capture"], policy.rules["attempt"]
    assert capture == Rule(
        *(Mode.COMPLIANCE, Period(10, Unit.YEAR), From.END_OF_YEAR, (Transition(90, "GLACIER_IR"),), "HGB 257", "RP-2")
    )
    day = date(2026, 3, 15)
    assert policy.lock("capture", day, day) == Lock("COMPLIANCE", datetime(2037, 1, 1, tzinfo=UTC))
    assert policy.lock("attempt", day, day).until == datetime(2027, 4, 16, tzinfo=UTC)
    assert policy.manifest_lock(day, day) == Lock("COMPLIANCE", datetime(2037, 3, 16, tzinfo=UTC))
    assert (capture.policy, attempt.policy) == ("RP-2", "13 months from the event, GOVERNANCE")


@pytest.mark.parametrize(
    ("period", "begin", "end"),
    [
        (Period(1, Unit.YEAR), date(2024, 2, 29), date(2025, 3, 1)),
        (Period(4, Unit.YEAR), date(2024, 2, 29), date(2028, 2, 29)),
        (Period(1, Unit.MONTH), date(2026, 1, 31), date(2026, 3, 1)),
        (Period(1, Unit.MONTH), date(2026, 12, 31), date(2027, 1, 31)),
        (Period(13, Unit.MONTH), date(2026, 1, 31), date(2027, 3, 1)),
        (Period(11, Unit.MONTH), date(2026, 1, 1), date(2026, 12, 1)),
        (Period(90, Unit.DAY), date(2026, 1, 1), date(2026, 4, 1)),
    ],
)
def test_a_day_that_a_month_does_not_have_is_never_rounded_down(period, begin, end):
    assert period.after(begin) == end
    assert period.least_days <= (end - begin).days <= period.most_days


def test_an_event_of_leap_day_is_kept_for_a_whole_year(told):
    policy = told('mode = "GOVERNANCE"\nkeep = "1 year"\n')
    leap_day = date(2024, 2, 29)
    assert policy.lock("capture", leap_day, leap_day).until == datetime(2025, 3, 1, tzinfo=UTC)


def test_the_last_moment_of_a_year_is_of_that_year(told):
    policy = told('mode = "GOVERNANCE"\nkeep = "8 years"\nfrom = "end_of_year"\n')
    for day, until in ((date(2025, 12, 31), 2034), (date(2026, 1, 1), 2035)):
        assert policy.lock("invoice", day, day).until == datetime(until, 1, 1, tzinfo=UTC)


def test_the_longest_that_a_lock_can_last_is_never_less_than_a_lock(told):
    """The bucket's rules of expiry count from the day on which an object was written."""
    rules = told(LONG).rules.values()
    for rule in rules:
        for day in (date(2024, 1, 1), date(2024, 2, 29), date(2025, 12, 31), date(2027, 7, 1)):
            assert (rule.until(day).date() - day).days <= rule.most_days
