"""What may be sent now: one question, asked before every call. A refusal stops sends; looks go on.

Its account's limit, its contract, switches and attempts. The limit (`jobs.limits`) alone refuses looks as well.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from billing.states import WorkState
from billing.tables.work import Work
from jobs.limits.pace import Pace
from jobs.road.contracts import contract_of
from jobs.road.verdicts import SHORT_PAUSE, Verdict


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a guard refuses, and what becomes of the work if no call of it is in flight."""

    verdict: Verdict
    reason: str
    untouched: bool = False
    """True: the operation is not touched. False: it is prepared without sending, so unanswered calls are looked at."""


STOPPED = (WorkState.HELD, WorkState.QUARANTINED, WorkState.PARKED)
"""Work in these states is claimed for looks only, until an operator decides, a switch is released, or a version that
knows its contract runs."""
SUSPECT = 2
"""Attempts after which work is called with no other call in its process. When a worker dies, all work that it had in
hand counts an attempt, also work that has nothing to do with it. From here on only the work itself can be the cause."""
AT_ITS_LIMIT = Refusal(Verdict(WorkState.WAITING, SHORT_PAUSE), "its account is at its limit", untouched=True)
"""Only where several accounts are called: work is claimed for as many calls as there are tokens, whichever account they
are for."""
UNAVAILABLE = Refusal(Verdict(WorkState.QUARANTINED), "its operation is unknown", untouched=True)
IN_OTHER_HANDS = Refusal(Verdict(WorkState.WAITING, SHORT_PAUSE), "others have its operation", untouched=True)
"""An operation may have several pieces of work: its own, and those that observe. One transaction takes one of them. And
another transaction may have its row: an application's that compensates it, which may take its time, a relay's, an
operator's. The others of a claim do not wait for that."""


class Guards:
    """The guards of one worker process, with what they remember from call to call."""

    def __init__(self, pace: Pace) -> None:
        self.pace = pace

    def check(self, work: Work, pulled: Mapping[str, str], account: str | None, *, follows: bool) -> Refusal | None:
        """None: it may send. Only the deadline is checked elsewhere: `billing.idempotency` turns a late send into a
        look.

        `follows`: it is the next step of an operation whose call is over, and made on credit if need be.
        """
        if not follows and not self.pace.allows(account):
            return AT_ITS_LIMIT
        contract = contract_of(work)
        if contract is None:
            return Refusal(Verdict(WorkState.PARKED), "unknown contract version")
        if work.state in STOPPED:
            return Refusal(Verdict(None), work.reason or work.state)
        for scope in work.scopes:
            if scope in pulled:
                return Refusal(Verdict(WorkState.HELD), f"{scope}: {pulled[scope]}")
        if work.attempts >= contract.max_attempts:
            reason = f"{work.attempts} workers or attempts failed on it: {work.reason or ''}"
            return Refusal(Verdict(WorkState.QUARANTINED), reason)
        return None
