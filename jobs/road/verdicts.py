"""What becomes of a piece of work: one table from how its operation stands, and one from what went wrong.

Whatever a table does not know is quarantined with its evidence: a person looks.
"""

import random
from datetime import timedelta
from enum import StrEnum

import psycopg
import sqlalchemy.exc

from billing import database
from billing.effects import Standing
from billing.timing import Timing


class Verdict(StrEnum):
    RUN = "run"
    """A call is in hand."""
    DONE = "done"
    AT_ONCE = "at_once"
    """Ready again now."""
    SOON = "soon"
    """Ready again after a short pause."""
    RETRY = "retry"
    """Ready again after a pause that grows with the tries, with full jitter."""
    LOOK = "look"
    """Waits without a due time: the record's own clock brings it back."""
    HOLD = "hold"
    """Until the switch is released."""
    QUARANTINE = "quarantine"
    """A person decides."""
    PARK = "park"
    """Until a worker knows this version of the contract."""
    LEAVE = "leave"
    """As it is: somebody else has it, or something else stops it."""


VERDICTS: dict[Standing, Verdict] = {
    Standing.CALLING: Verdict.RUN,
    Standing.CONCLUDED: Verdict.DONE,
    Standing.AGAIN: Verdict.AT_ONCE,
    Standing.NOT_SENT: Verdict.SOON,
    Standing.IN_DOUBT: Verdict.RETRY,
    Standing.THROTTLED: Verdict.RETRY,
    Standing.WAITING: Verdict.SOON,
    Standing.SIBLING: Verdict.SOON,
    Standing.LOOKING: Verdict.LOOK,
    Standing.PARKED: Verdict.LOOK,
    Standing.MISCONFIGURED: Verdict.HOLD,
    Standing.BLOCKED: Verdict.HOLD,
    Standing.CONFLICT: Verdict.QUARANTINE,
    Standing.UNFIT: Verdict.QUARANTINE,
    Standing.LATE: Verdict.LEAVE,
}


class Trouble(StrEnum):
    """What an exception in a transaction of the captain means for that transaction."""

    REPEAT = "repeat"
    """The same transaction again after a pause: nothing was wrong with the rows."""
    HALVE = "halve"
    """It took too long: again with half the rows."""
    RECONNECT = "reconnect"
    """The connection is gone, and with it the answer: read first what was written, then go on."""
    DATA = "data"
    """Something about a row: row by row, and the one that fails alone is quarantined with its answer."""


# SQLSTATE classes: postgresql.org/docs/current/errcodes-appendix.html
_BY_SQLSTATE = {
    "40001": Trouble.REPEAT,  # serialization_failure
    "40P01": Trouble.REPEAT,  # deadlock_detected
    "55P03": Trouble.REPEAT,  # lock_not_available
    **dict.fromkeys(database.TOO_SLOW, Trouble.HALVE),
    "53300": Trouble.RECONNECT,  # too_many_connections
    "25006": Trouble.RECONNECT,  # read_only_sql_transaction: the primary is another one now
    "40003": Trouble.RECONNECT,  # statement_completion_unknown
}


def trouble(error: Exception) -> Trouble:
    """What a failed transaction means. Total: what it does not know is DATA, and ends with one row in quarantine."""
    original = getattr(error, "orig", None) or error
    code = database.sqlstate(error)
    if code is not None:
        if code in _BY_SQLSTATE:
            return _BY_SQLSTATE[code]
        if code.startswith(("08", "57P")):  # connection exception, admin shutdown and its kin
            return Trouble.RECONNECT
        if code.startswith("42"):
            # A missing grant, table or column: the code is newer than the database, and no row is to blame.
            return Trouble.REPEAT
        # 53 insufficient resources, 58 system error: a full disk goes on by itself when there is room.
        return Trouble.HALVE if code.startswith(("53", "58")) else Trouble.DATA
    if isinstance(error, sqlalchemy.exc.DBAPIError) and error.connection_invalidated:
        return Trouble.RECONNECT
    if isinstance(original, psycopg.OperationalError | psycopg.InterfaceError):
        return Trouble.RECONNECT
    return Trouble.DATA


def pause(verdict: Verdict, tries: int, timing: Timing, rng: random.Random) -> timedelta:
    """How long until the work is ready again. Full jitter: a fleet that failed together does not return together.

    Source: "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
    """
    if verdict is Verdict.SOON:
        return timedelta(seconds=timing.retry_first_s)
    if verdict is Verdict.RETRY:
        most = min(timing.retry_max_s, timing.retry_first_s * 2 ** min(tries, 20))
        return timedelta(seconds=rng.uniform(0, most))
    return timedelta(0)
