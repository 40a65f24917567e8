"""Asking for room before many requests at once, so that a queue does not grow for hours."""

import math
from datetime import timedelta

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from billing.asking import callers_session
from billing.errors import InvalidRequest, InvalidText, TooBusy
from billing.operations import OPERATIONS
from billing.tables.queue_loads import QueueLoad

BULK_WITHIN_S = 300.0
"""A bulk has room if all that waits, the bulk included, is started within five minutes at the measured rate."""
STALE = timedelta(minutes=2)
"""A measurement that is older says nothing: no relay runs. An idle relay measures every 30 s."""
COME_BACK_MOST_S = 3600.0
"""Nobody knows for longer how fast a queue will be."""


def admit(session: Session, queue: str, count: int) -> None:
    """Ask whether `count` more requests have room on this queue now. Raises TooBusy, which says when they will.

    Call it before you write a bulk: a month's invoices, or an import. A single request needs no room and is never
    refused. Nothing is reserved: a bulk counts once it is committed and a relay has measured again, a second later, and
    whoever asks before that gets the same answer. On a queue that was never measured, in a new installation, everything
    has room.

    `queue`: `captures`, `refunds`, `invoices`, `emails` or `documents`. Raises InvalidText for another, and
    InvalidRequest for a count below 1.
    """
    session = callers_session(session)
    queues = list(dict.fromkeys(each.queue for kind in OPERATIONS.values() for each in kind.contracts))
    if queue not in queues:
        raise InvalidText("queue", f"must be one of {', '.join(queues)}")
    given: object = count
    if not isinstance(given, int) or isinstance(given, bool) or count < 1:
        raise InvalidRequest("count", "must be a whole number from 1")
    load = session.execute(
        select(
            QueueLoad.waiting,
            QueueLoad.starts_per_s,
            (func.clock_timestamp() - QueueLoad.measured_at > STALE).label("stale"),
        ).where(QueueLoad.queue == queue)
    ).one_or_none()
    if load is None:
        return
    if load.stale:
        raise TooBusy(queue, count, waiting=load.waiting, room=0, at_most=0, retry_after_s=int(STALE.total_seconds()))
    at_most = room_of(load.starts_per_s)
    room = max(0, at_most - load.waiting)
    if count > room:
        missing = load.waiting + min(count, at_most) - at_most
        wait_s = missing / load.starts_per_s if load.starts_per_s > 0 else COME_BACK_MOST_S
        retry_after_s = math.ceil(min(max(wait_s, 1.0), COME_BACK_MOST_S))
        raise TooBusy(queue, count, waiting=load.waiting, room=room, at_most=at_most, retry_after_s=retry_after_s)


def room_of(starts_per_s: float) -> int:
    """How many requests may wait on a queue that starts so many in a second."""
    return int(starts_per_s * BULK_WITHIN_S)
