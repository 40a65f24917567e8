"""What becomes of a piece of work: the named policies, and one table each for the outcome of a step and for errors.

Work with an error that the table does not know is quarantined with its evidence, and needs a decision.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

import psycopg
import sqlalchemy.exc

from billing import database
from billing.calls import Standing
from billing.registration import Retry
from billing.states import WorkState
from billing.tables.work import Work
from billing.timing import Timing
from jobs.road.contracts import contract_of


def soon(_tries: int, timing: Timing, _rng: random.Random) -> timedelta:
    """A short pause, always the same."""
    return timedelta(seconds=timing.retry_first_s)


def backoff(tries: int, timing: Timing, rng: random.Random) -> timedelta:
    """Grows with the tries, with full jitter: workers that failed together do not return together.

    Source: "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
    """
    most = min(timing.retry_max_s, timing.retry_first_s * 2 ** min(tries, 20))
    return timedelta(seconds=rng.uniform(0, most))


def patient_backoff(tries: int, timing: Timing, rng: random.Random) -> timedelta:
    """As `backoff`: its first limit is five times as long, its longest twice."""
    most = min(2 * timing.retry_max_s, 5 * timing.retry_first_s * 2 ** min(tries, 20))
    return timedelta(seconds=rng.uniform(0, most))


def in_turn(tries: int, timing: Timing, _rng: random.Random) -> timedelta:
    """Short at first, because most operations are over in seconds. One that is held may take days."""
    return timedelta(seconds=timing.retry_first_s * 2 ** min(max(tries - 10, 0), 6))


@dataclass(frozen=True, slots=True)
class Policy:
    """A named way to try again, or not to. docs/operate/retries.md lists all of them with their errors."""

    name: str
    promise: str
    """What happens to the work, in words."""
    pause: Callable[[int, Timing, random.Random], timedelta] | None = None
    """After how many tries, and after which pause, it is ready again. None: by no pause."""


NETWORK_TIMEOUT = Policy(
    Retry.PROMPT,
    "the same bytes again under the same key, after a random pause whose limit doubles from 1 s to 5 min; after a "
    "replayed error, a third 5xx or 23 hours it is in doubt",
    backoff,
)
PATIENT = Policy(
    Retry.PATIENT,
    "as network timeout, with a limit from 5 s to 10 min: for contracts that leave what Stripe can do to the others",
    patient_backoff,
)
RATE_LIMIT = Policy(
    "rate limit",
    "it was not carried out: the same key again after a pause as above; after a 429 all workers call this account more "
    "slowly (`billing limits`)",
    backoff,
)
SHORT_PAUSE = Policy("short pause", "nothing of it was sent: it is tried again after 1 s", soon)
IN_TURN = Policy(
    "in turn", "it is seen again whether the other one is over: ten times after 1 s, then up to 1 min apart", in_turn
)
IN_DOUBT = Policy(
    "in doubt",
    "Stripe is looked at before anything is sent again; pauses between looks that are not answered grow to 1 h",
)
VALIDATION = Policy("validation", "never tried again: the operation ends with its reason")
ABSENT = Policy(
    "permanently absent",
    "never tried again: the operation ends with its reason; as nothing happened, there is nothing to compensate",
)
STOPPED = Policy("stopped", "held until the switch is released; where Stripe refuses our key, a probe releases it")
UNKNOWN = Policy(
    "unknown",
    "quarantined with its evidence, a crash only after the contract's `max_attempts`: `billing quarantine list`",
)
TRANSACTION = Policy("transaction", "the same transaction again after a pause; no answer of Stripe's is lost")
SERVER_AWAY = Policy("server away", "the process waits until the server is back; pauses grow to 10 s")
OPERATOR = Policy("setup", "never by itself: the message says what to correct, and the process ends")

RETRIES: dict[Retry, Policy] = {Retry.PROMPT: NETWORK_TIMEOUT, Retry.PATIENT: PATIENT}
"""What a contract's `retry` means: the policy of its calls that got no answer."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The state that a piece of work goes to, and the policy by which it is tried again."""

    state: WorkState | None
    """None: unchanged, because another worker has it or something else stops it."""
    policy: Policy | None = None
    """None: it makes progress. Work that waits under a policy without a pause is claimed when its look is due
    (`look_at`)."""


VERDICTS: dict[Standing, Verdict] = {
    Standing.CALLING: Verdict(WorkState.RUNNING),
    Standing.CONCLUDED: Verdict(WorkState.DONE),
    Standing.AGAIN: Verdict(WorkState.READY),
    Standing.NOT_SENT: Verdict(WorkState.WAITING, SHORT_PAUSE),
    Standing.IN_DOUBT: Verdict(WorkState.WAITING, NETWORK_TIMEOUT),
    Standing.THROTTLED: Verdict(WorkState.WAITING, RATE_LIMIT),
    Standing.WAITING: Verdict(WorkState.WAITING, SHORT_PAUSE),
    Standing.SIBLING: Verdict(WorkState.WAITING, SHORT_PAUSE),
    Standing.IN_TURN: Verdict(WorkState.WAITING, IN_TURN),
    Standing.LOOKING: Verdict(WorkState.WAITING, IN_DOUBT),
    # The call is parked, that is, undecided: its work waits for the next look. `WorkState.PARKED` is something else, an
    # unknown version of a contract.
    Standing.PARKED: Verdict(WorkState.WAITING, IN_DOUBT),
    Standing.MISCONFIGURED: Verdict(WorkState.HELD, STOPPED),
    Standing.BLOCKED: Verdict(WorkState.HELD, STOPPED),
    Standing.CONFLICT: Verdict(WorkState.QUARANTINED, UNKNOWN),
    Standing.UNFIT: Verdict(WorkState.QUARANTINED, UNKNOWN),
    Standing.LATE: Verdict(None),
}


def policy_of(verdict: Verdict, work: Work) -> Policy | None:
    """The policy by which this work is tried again: of a call without an answer, the one that its contract names."""
    contract = contract_of(work) if verdict.policy is NETWORK_TIMEOUT else None
    return verdict.policy if contract is None else RETRIES[contract.retry]


LEFT_TO_GUARDS = frozenset(
    {
        Standing.AGAIN,
        Standing.NOT_SENT,
        Standing.BLOCKED,
        Standing.MISCONFIGURED,
        Standing.LOOKING,
        Standing.PARKED,
    }
)
"""If a guard refuses, its verdict replaces that of the table for these outcomes: the work could send now, or soon, or
waits for that guard. The others keep their verdict: after its pause the work is claimed again, and the guards are asked
again."""


class Failure(StrEnum):
    """What an exception in a transaction of the captain means for that transaction."""

    REPEAT = "repeat"
    """Try the same transaction again after a pause: nothing was wrong with the rows."""
    HALVE = "halve"
    """It took too long: try again with half the rows."""
    RECONNECT = "reconnect"
    """The connection is lost, and with it the answer to the commit: first read what was written."""
    DATA = "data"
    """A row is wrong: try row by row. The one that fails alone is quarantined with its answer."""


FAILURES: dict[Failure, Policy] = {
    Failure.REPEAT: TRANSACTION,
    Failure.HALVE: TRANSACTION,
    Failure.RECONNECT: TRANSACTION,
    Failure.DATA: UNKNOWN,
}

# SQLSTATE classes: postgresql.org/docs/current/errcodes-appendix.html
_BY_SQLSTATE = {
    "40001": Failure.REPEAT,  # serialization_failure
    "40P01": Failure.REPEAT,  # deadlock_detected
    "55P03": Failure.REPEAT,  # lock_not_available
    **dict.fromkeys(database.TOO_SLOW, Failure.HALVE),
    "53300": Failure.RECONNECT,  # too_many_connections
    "25006": Failure.RECONNECT,  # read_only_sql_transaction: the primary is another one now
    "40003": Failure.RECONNECT,  # statement_completion_unknown
}


def classify(error: Exception) -> Failure:
    """What a failed transaction means. An unknown error is DATA, which ends with one row in quarantine."""
    original = getattr(error, "orig", None) or error
    code = database.sqlstate(error)
    if code is not None:
        if code in _BY_SQLSTATE:
            return _BY_SQLSTATE[code]
        if code.startswith(("08", "57P")):  # connection exception, admin shutdown and its kin
            return Failure.RECONNECT
        if code.startswith("42"):
            # A missing grant, table or column: the code is newer than the database, and no row is wrong.
            return Failure.REPEAT
        # 53 insufficient resources, 58 system error: Postgres goes on when, for example, the disk has room again.
        return Failure.HALVE if code.startswith(("53", "58")) else Failure.DATA
    if isinstance(error, sqlalchemy.exc.DBAPIError) and error.connection_invalidated:
        return Failure.RECONNECT
    if isinstance(original, psycopg.OperationalError | psycopg.InterfaceError):
        return Failure.RECONNECT
    return Failure.DATA
