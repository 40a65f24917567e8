"""The file that says how long each class of evidence is kept, read and checked: `retention.toml` is the one that is
shipped, and docs/finance/retention.md says what may be in it."""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn

from archive.errors import BadRetention
from archive.policy.retention import (
    CLASSES,
    EVERY_KIND_OF_DAY,
    MANIFEST,
    MOST_DAYS,
    STANDARD,
    STORAGE,
    From,
    Mode,
    Period,
    Policy,
    Rule,
    Transition,
    Unit,
    is_policy_name,
)

SHIPPED = Path(__file__).with_name("retention.toml")

_RESTORED = "must be restored for hours before a query or a verification can read it"
_ONE_PLACE = "is kept in a single place, and lost with it"
NO_STORAGE = {
    "GLACIER": _RESTORED,
    "DEEP_ARCHIVE": _RESTORED,
    "ONEZONE_IA": _ONE_PLACE,
    "EXPRESS_ONEZONE": _ONE_PLACE,
    "REDUCED_REDUNDANCY": "is kept with fewer copies than others",
}
"""Classes of S3 that are refused, and why: what is in one of them …"""

_CONFIRM = "compliance_cannot_be_undone"
_OF_A_RULE = ("mode", "keep", "keep_days", "from", "storage", "transitions", "because", "name")
_MOST = {Unit.DAY: MOST_DAYS, Unit.MONTH: 1200, Unit.YEAR: 100}


def load(path: Path = SHIPPED) -> Policy:
    """Read the policy from this file. Raises BadRetention, whose one line says what to write."""
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadRetention(f"{path}: {error.strerror}; BILLING_ARCHIVE_RETENTION names the retention file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadRetention(f"{path}: not TOML ({error})") from None
    return _policy(content, path.name)


def _policy(content: dict[str, Any], file: str) -> Policy:
    classes = content.pop("class", {})
    confirmed = content.pop(_CONFIRM, False)
    grace_days = content.pop("lifecycle_grace_days", 1)
    bypass_role = content.pop("bypass_role", None)
    if type(grace_days) is not int or not 1 <= grace_days <= 366:
        _refuse(f"{file}: lifecycle_grace_days must be a whole number from 1 to 366")
    if bypass_role is not None and not re.fullmatch(r"arn:aws[a-z-]*:iam::\d{12}:role/[\w+=,.@/-]+", str(bypass_role)):
        _refuse(f'{file}: bypass_role must be a role of AWS, as in "arn:aws:iam::123456789012:role/billing-raiser"')
    default = _rule(content, None, f"{file}: ")
    if not isinstance(classes, dict) or not all(isinstance(rule, dict) for rule in classes.values()):
        _refuse(f"{file}: a class is a table; write [class.capture]")
    for name in classes.keys() - CLASSES.keys() - {MANIFEST}:
        _refuse(f"{file}: [class.{name}] is no class; there are: {', '.join([*CLASSES, MANIFEST])}")
    rules = {name: _rule(classes.get(name, {}), default, f"{file}: [class.{name}] ") for name in CLASSES}
    manifests = None
    if MANIFEST in classes:
        manifests = _rule(classes[MANIFEST], default, f"{file}: [class.{MANIFEST}] ")
        _check_manifests(manifests, rules, f"{file}: [class.{MANIFEST}] ")
    wanted = [*rules.values(), *([manifests] if manifests else [])]
    if any(rule.mode is Mode.COMPLIANCE for rule in wanted) and confirmed is not True:
        _refuse(
            f"{file}: COMPLIANCE locks cannot be undone by anybody; write {_CONFIRM} = true at the top to want them"
        )
    return Policy(rules, manifests, grace_days, bypass_role)


def _check_manifests(manifests: Rule, rules: Mapping[str, Rule], where: str) -> None:
    """A manifest must outlive every object, whichever day it is of."""
    if manifests.transitions or manifests.storage != STANDARD:
        what = "transitions" if manifests.transitions else "storage"
        _refuse(f"{where}{what}: a manifest is read by every query, and stays in {STANDARD}")
    for name, rule in rules.items():
        if any(manifests.until(day) < rule.until(day) for day in EVERY_KIND_OF_DAY):
            _refuse(f"{where}keep {manifests.keep} is shorter than [class.{name}], and a manifest outlives every class")


def _rule(content: dict[str, Any], default: Rule | None, where: str) -> Rule:
    for name in content.keys() - set(_OF_A_RULE):
        _refuse(f"{where}{name} is unknown; there are {', '.join(_OF_A_RULE)}")
    mode = content.get("mode", default and default.mode)
    if mode not in list(Mode):
        _refuse(f'{where}mode must be "GOVERNANCE" or "COMPLIANCE"')
    counted_from = content.get("from", default.counted_from if default else From.EVENT)
    if counted_from not in list(From):
        _refuse(f'{where}from must be "event" or "end_of_year"')
    because, name = (_words(content, key, default, where) for key in ("because", "name"))
    storage = _storage(content.get("storage", default.storage if default else STANDARD), f"{where}storage")
    rule = Rule(Mode(mode), _keep(content, default, where), From(counted_from), (), because, name, storage)
    if rule.most_days > MOST_DAYS + 1:
        _refuse(f"{where}keep {rule.keep} is longer than S3 can lock, which is 100 years with the rest of a year")
    if "transitions" in content:
        transitions = _transitions(content["transitions"], where)
    else:
        transitions = default.transitions if default else ()
    for each in transitions:
        if each.days >= rule.keep.least_days:
            _refuse(f"{where}transitions: {each.storage} after {each.days} days is not before the end, {rule.keep}")
    for before, after in pairwise((storage, *(each.storage for each in transitions))):
        if list(STORAGE).index(after) <= list(STORAGE).index(before):
            _refuse(f"{where}transitions: S3 moves nothing from {before} to {after}; the order is {', '.join(STORAGE)}")
    return replace(rule, transitions=transitions)


def _keep(content: dict[str, Any], default: Rule | None, where: str) -> Period:
    if "keep" in content and "keep_days" in content:
        _refuse(f"{where}keep and keep_days say the same; write one of them")
    if "keep_days" in content:
        days = content["keep_days"]
        if type(days) is not int or not 0 < days <= MOST_DAYS:
            _refuse(f"{where}keep_days must be a whole number from 1 to {MOST_DAYS}")
        return Period(days, Unit.DAY)
    if "keep" in content:
        return _period(content["keep"], f"{where}keep")
    if default is None:
        _refuse(f'{where}keep must say how long, as in keep = "10 years"')
    return default.keep


def _period(value: object, where: str) -> Period:
    found = re.fullmatch(r"([1-9][0-9]{0,4}) (day|month|year)s?", value) if isinstance(value, str) else None
    if found is None or int(found[1]) > _MOST[Unit(found[2])]:
        _refuse(f'{where} must be like "90 days", "13 months" or "10 years", and at most 100 years')
    return Period(int(found[1]), Unit(found[2]))


def _transitions(value: object, where: str) -> tuple[Transition, ...]:
    where = f"{where}transitions"
    if not isinstance(value, list) or not all(isinstance(each, list) and len(each) == 2 for each in value):
        _refuse(f'{where} must be like [["90 days", "GLACIER_IR"]]')
    found = tuple(Transition(_period(after, where).most_days, _storage(storage, where)) for after, storage in value)
    for each in found:
        if each.days < STORAGE[each.storage]:
            _refuse(f"{where}: S3 moves nothing to {each.storage} before {STORAGE[each.storage]} days")
    if any(later.days <= earlier.days for earlier, later in pairwise(found)):
        _refuse(f"{where} must be in the order of their days")
    return found


def _storage(value: object, where: str) -> str:
    if isinstance(value, str) and value in NO_STORAGE:
        _refuse(f"{where}: what is in {value} {NO_STORAGE[value]}; choose one of {', '.join(STORAGE)}")
    if not isinstance(value, str) or value not in STORAGE:
        _refuse(f"{where}: {value} is no storage class of S3 that is read at once; there are {', '.join(STORAGE)}")
    return value


def _words(content: dict[str, Any], key: str, default: Rule | None, where: str) -> str:
    words: object = content.get(key, getattr(default, key) if default else "")
    if not isinstance(words, str) or not is_policy_name(words):
        _refuse(f"{where}{key} must be a line of at most 80 ASCII characters")
    return words


def _refuse(problem: str) -> NoReturn:
    raise BadRetention(problem)
