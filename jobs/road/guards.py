"""May this work send something now? Asked before its first call and before every next one, never for a look."""

from collections.abc import Mapping
from dataclasses import dataclass

from billing.tables import Work, WorkState
from jobs.road.contracts import Contract
from jobs.road.verdicts import Verdict


@dataclass(frozen=True, slots=True)
class Refusal:
    """The first guard that said no, and what becomes of the work if nothing of it is in flight."""

    verdict: Verdict
    reason: str


STOPPED = (WorkState.HELD, WorkState.QUARANTINED, WorkState.PARKED)
"""Claimed only to be looked at; a person, a release or a new version lets it send again."""


def check_guards(work: Work, contract: Contract | None, pulled: Mapping[str, str]) -> Refusal | None:
    """None: it may send. The deadline is judged in `billing.idempotency`, where it turns a send into a look."""
    if contract is None:
        return Refusal(Verdict.PARK, "unknown contract version")
    if work.state in STOPPED:
        return Refusal(Verdict.LEAVE, work.reason or work.state)
    for scope in work.scopes:
        if scope in pulled:
            return Refusal(Verdict.HOLD, f"{scope}: {pulled[scope]}")
    if work.attempts >= contract.max_attempts:
        return Refusal(Verdict.QUARANTINE, f"{work.attempts} workers or attempts failed on it: {work.reason or ''}")
    return None
