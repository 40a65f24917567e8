"""A worker process: it takes a shift for each bell of its queue, until it is asked to stop."""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING, Protocol

import structlog
from redis import Redis
from redis.exceptions import RedisError

from jobs.logs import Libraries
from jobs.rq.bells import check_stamp, choose_prefix, open_redis

if TYPE_CHECKING:
    from jobs.rq.overrides import ShiftWorker

# Longer than a worker blocks for a bell (overrides.BLOCK_S), and much shorter than a lease: if Redis stops answering
# during a shift, the captain may wait this long.
WORKER_TIMEOUT_S = 3.0

log = structlog.get_logger()


class ShiftControl(Protocol):
    """What a running shift may ask of the worker around it."""

    def stop_requested(self) -> bool:
        """True once the process was asked to stop: claim nothing more, finish the calls, return."""

    def keep_alive(self) -> None:
        """Show RQ that this shift is alive. Call it as often as you like: it acts every 10 s and never raises.

        It may wait `WORKER_TIMEOUT_S` for a silent Redis: keep it out of transactions.
        """


def run_worker(
    redis_url: str,
    environment: str,
    queue: str,
    take_shift: Callable[[ShiftControl], object],
    heartbeat: Callable[[], None] = lambda: None,
    stop_requested: Callable[[], bool] = lambda: False,
) -> int:
    """Answer the bells of `queue`, one shift at a time, until SIGTERM or SIGINT. Returns the exit code.

    0: a stop was asked for. 1: the loop ended by itself, and the log says why; restart it after either.
    Raises WrongEnvironment. The worker waits while Redis is away or takes no writes, at its start, too.
    `stop_requested` says whether a stop was asked for before this function handles signals.

    `take_shift` runs in the main thread and is never interrupted: it checks `stop_requested`. Its result
    is not used. An exception is logged and costs only that shift; to leave the process it calls `os._exit`.
    `heartbeat` is called between shifts, every second or so: it shows that the worker lives.
    """
    choose_prefix(environment)
    rq_log = logging.getLogger("rq")
    rq_log.handlers, rq_log.propagate = [Libraries()], False  # without a handler RQ writes to stdout
    with open_redis(redis_url, WORKER_TIMEOUT_S) as redis:
        worker = _hired(redis, environment, queue, take_shift, heartbeat, stop_requested)
        if worker is None:
            return 0
        _on_stop(worker.request_stop)  # RQ sets it too, but later: a stop in between would be lost
        if stop_requested():
            worker.request_stop(signal.SIGTERM, None)
        worker.work(logging_level="WARNING")
        # Nothing is left to stop. At exit Python resets handlers, but leaves ignored signals ignored. Without this, a
        # second signal would kill the process then, with another exit code.
        _on_stop(signal.SIG_IGN)
        # RQ leaves its loop for many reasons and reports each as a success (RQ 3.0.0). Only a requested stop is one.
        stopped = worker.stop_requested()
        log.info("worker.stopped", worker=worker.name, queue=queue, stop_requested=stopped)
    return 0 if stopped else 1


def _hired(
    redis: Redis,
    environment: str,
    queue: str,
    take_shift: Callable[[ShiftControl], object],
    heartbeat: Callable[[], None],
    stop_requested: Callable[[], bool],
) -> ShiftWorker | None:
    """RQ's worker, once Redis answers: it may have gone away since the process found it ready. None if a stop was
    asked for before that."""
    from jobs.rq.overrides import RECONNECT_S, ShiftWorker  # noqa: PLC0415 - imports RQ: not before its prefix is chosen

    lost = False
    while not stop_requested():
        heartbeat()
        try:
            check_stamp(redis, environment)
            return ShiftWorker(redis, queue, take_shift, heartbeat)
        except RedisError as error:
            if not lost:
                log.warning("redis.lost", queue=queue, reason=type(error).__name__)
            lost = True
            time.sleep(RECONNECT_S)
    return None


def _on_stop(handler: Callable[[int, FrameType | None], None] | signal.Handlers) -> None:
    signal.signal(signal.SIGTERM, handler)
    signal.signal(signal.SIGINT, handler)
