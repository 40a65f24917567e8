"""Give the bucket what the retention policy asks for, and say what this server does not do.

Each part is written whole, so applying it again changes nothing. What is still different afterwards is named: a server
may refuse a part, store it and not return it, or store it and not obey it.
"""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, timedelta

from archive.errors import BadRetention, StoreRefused
from archive.keeping import bucket_rules
from archive.keeping.bucket_rules import ONLY_NEW_KEYS, OURS, Difference
from archive.policy.retention import Lock, Policy
from archive.s3 import abilities, configuration
from archive.s3.configuration import Configuration
from archive.s3.store import Store
from billing.tables.facts import ArchiveBatch

PAUSES_S = (1.0, 3.0)
"""A new bucket policy takes a moment at AWS. After these pauses a rule that is not obeyed is named as such."""


@dataclass(frozen=True, slots=True)
class Applied:
    """`changed`: the parts that the bucket has now. `not_done`: what this server does not do, a sentence each."""

    changed: list[Difference]
    not_done: list[str]


def differences(store: Store, policy: Policy) -> list[Difference]:
    """Raises StoreAway and StoreRefused."""
    return bucket_rules.differences(policy, store.bucket, configuration.read(store))


def check_not_shorter(policy: Policy, differing: Iterable[Difference], newest: Iterable[ArchiveBatch]) -> None:
    """Raises BadRetention if the policy is shorter or weaker than the bucket, or than the newest batches' locks."""
    shorter = [str(each) for each in differing if each.shorter] + [
        f"batch {batch.number} of {batch.retention_class} is locked in {batch.lock_mode} until"
        f" {batch.locked_until:%Y-%m-%d}, and the policy would lock it in {would.mode} until {would.until:%Y-%m-%d}"
        for batch in newest
        if not (would := _as_now(policy, batch)).holds(Lock(batch.lock_mode, batch.locked_until))
    ]
    if shorter:
        raise BadRetention(f"a policy is never shortened: {shorter[0]}; correct the retention file")


def _as_now(policy: Policy, batch: ArchiveBatch) -> Lock:
    """The lock that the policy would give this batch today. Which day its claim saw is known within a day only."""
    claimed = batch.claimed_at.astimezone(UTC).date()
    return policy.lock(batch.retention_class, batch.event_date, claimed + timedelta(days=1))


def apply(store: Store, policy: Policy, differing: Sequence[Difference]) -> Applied:
    """Write the parts that differ. Raises StoreAway and StoreRefused; what was written before stays, and is right."""
    parts = {each.part.split()[0] for each in differing}
    has = configuration.read(store)
    answers: dict[str, str] = {}
    if "versioning" in parts:
        answers |= _named("versioning", configuration.enable_versions(store))
    if "default" in parts:
        answers |= _named("default", configuration.put_default_lock(store, bucket_rules.default_lock(policy)))
    if "lifecycle" in parts:
        answers |= _named("lifecycle", _put_lifecycle(store, policy))
    if "statement" in parts:
        answers |= _named("statement", _put_statements(store, policy, has))
    left = differences(store, policy)
    not_done = [_not_done(each, answers) for each in left]
    if not any(each.part.endswith(ONLY_NEW_KEYS) for each in left) and not _obeyed(store):
        not_done.append(f"statement {ONLY_NEW_KEYS} is stored and not obeyed: an object could be overwritten")
    still = {each.part for each in left}
    return Applied([each for each in differing if each.part not in still], not_done)


def _put_lifecycle(store: Store, policy: Policy) -> str | None:
    rules = bucket_rules.lifecycle(policy)
    answer = configuration.put_lifecycle(store, rules)
    if answer and any("Transitions" in rule for rule in rules):
        # A server without storage classes can still let objects end.
        configuration.put_lifecycle(store, [bucket_rules.without_moves(rule) for rule in rules])
    return answer


def _put_statements(store: Store, policy: Policy, has: Configuration) -> str | None:
    others = [each for each in has.statements if not str(each.get("Sid", "")).startswith(OURS)]
    ours = bucket_rules.statements(policy, store.bucket)
    answer = configuration.put_statements(store, [*others, *ours])
    if answer is None and _takes_evidence(store):
        return None
    # This server does not know a condition, or takes it for fulfilled and would refuse the archiver, too.
    unconditional = [each for each in ours if set(each.get("Condition", {})) <= {"StringNotEquals"}]
    configuration.put_statements(store, [*others, *unconditional])
    return answer or "it refuses every object then"


def _takes_evidence(store: Store) -> bool:
    """Whether an object is taken that is put as the archiver puts them."""
    try:
        store.put_once(abilities.fresh_key(), b"", abilities.soon())
    except StoreRefused:
        return False
    return True


def _obeyed(store: Store) -> bool:
    """Whether an object that might overwrite another is refused."""
    for pause_s in (0.0, *PAUSES_S):
        time.sleep(pause_s)
        if not configuration.put_without_condition(store, abilities.fresh_key(), abilities.soon()):
            return True
    return False


def _named(part: str, answer: str | None) -> dict[str, str]:
    return {part: answer} if answer else {}


def _not_done(left: Difference, answers: dict[str, str]) -> str:
    answer = answers.get(left.part.split()[0])
    return f"{left}{f' (this server answers: {answer})' if answer else ''}"
