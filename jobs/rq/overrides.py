"""Everything that is overridden in RQ 3.0.0, so that it wakes workers and does nothing else.

RQ picks the process, wakes it and shows it in `rq info`. It holds no work, runs nothing that Redis names and
interrupts nothing. Each override names the behavior of RQ 3.0.0 that it replaces (file:line, or a public issue,
rq/rq#n), and `tests/rq` checks each. Import it through `jobs.rq.workers`: RQ's key prefix comes first.
"""

from __future__ import annotations

import re
import time
import zlib
from collections.abc import Callable
from types import FrameType
from typing import Any, cast

import structlog
from redis import Redis
from redis.client import Pipeline
from redis.exceptions import RedisError
from rq.exceptions import DequeueTimeout, InvalidJobOperation
from rq.executions import Execution
from rq.job import Job, JobStatus
from rq.queue import Queue
from rq.registry import StartedJobRegistry
from rq.timeouts import BaseDeathPenalty
from rq.utils import now
from rq.worker import SimpleWorker, WorkerStatus

from jobs.rq.bells import ANSWERED_TTL_S, BELL_TIMEOUT_S, REFUSED_TTL_S, SHIFT

BLOCK_S = 1  # the longest wait for a bell, and so until a stop is noticed
RECONNECT_S = 0.2  # between two attempts while Redis is away
WORKER_TTL_S = 30  # RQ adds 60: a dead worker leaves `rq info` after 90 s
KEEP_ALIVE_EVERY_S = 10.0

# What `bells.ring` lets RQ write: function, instance, arguments, keywords. It is compared, never interpreted.
PAYLOAD = f'["{SHIFT}", null, [], {{}}]'.encode()
# The hash of a bell has these fields. A value in any other is an order to RQ (a callback, webhook, retry,
# repeat, dependency, group, rate limit), and the bell is refused.
FIELDS = frozenset(
    b"created_at data description ended_at enqueued_at failure_ttl last_heartbeat origin"
    b" result_ttl started_at status timeout worker_name".split()
)
_BELL = re.compile(r"bell_[0-9a-f]{32}", re.ASCII)
STATUSES = frozenset(status.value.encode() for status in JobStatus)

log = structlog.get_logger()


class NotABell(Exception):
    """Something other than a bell was in the queue. It was not run."""


class NoDeathPenalty(BaseDeathPenalty):
    """Every shift ends by itself. RQ's alarm could interrupt the captain during a commit (timeouts.py:70)."""

    def setup_death_penalty(self) -> None: ...

    def cancel_death_penalty(self) -> None: ...


class BellJob(Job):
    """A job as our workers see it: a bell, or refused."""

    shift: Callable[[], None]
    refused: str | None = None

    def restore(self, raw_data: dict[bytes, bytes]) -> None:
        # A client that can write to Redis can name functions, methods, callbacks and webhooks here, and RQ imports
        # and runs them, with JSON as with pickle (job.py:537, rq/rq#2389). So RQ gets none of it to see.
        # An unknown status would end the worker, and later every cleanup (job.py:1010).
        status = raw_data.get(b"status", b"")
        if _unpacked(raw_data.get(b"data", b"")) != PAYLOAD:
            self.refused = "its payload is not a bell's"
        elif any(value for name, value in raw_data.items() if name not in FIELDS):
            self.refused = "it carries orders to RQ"
        elif status not in STATUSES:
            self.refused = "its status is unknown"
        super().restore(
            {
                "data": PAYLOAD,
                "origin": raw_data.get(b"origin", b"").decode(errors="replace"),
                "status": status if status in STATUSES else JobStatus.QUEUED.value,
                "timeout": BELL_TIMEOUT_S,
                "result_ttl": str(ANSWERED_TTL_S),
                "failure_ttl": str(REFUSED_TTL_S),
            }
        )

    @property
    def func(self) -> Callable[[], None]:
        # RQ would import a name (job.py:537). The shift is given by the process.
        if self.refused:
            raise NotABell(self.refused)
        return self.shift


class ShiftWorker(SimpleWorker):
    """Takes a shift for each bell of one queue, in this process and its main thread.

    One queue, because with two RQ pops with BLPOP, and a worker that dies then loses the bell (queue.py:1783,
    rq/rq#1716). A random name, because a fixed one blocks the restart after a kill -9 (base.py:959).
    """

    death_penalty_class = NoDeathPenalty
    log_result_lifespan = False

    def __init__(
        self,
        redis: Redis,
        queue: str,
        take_shift: Callable[[ShiftWorker], object],
        heartbeat: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(
            [queue],
            connection=redis,
            job_class=BellJob,
            serializer="json",
            worker_ttl=WORKER_TTL_S,
            log_job_description=False,
        )
        self._take_shift = take_shift
        self._our_heartbeat = heartbeat
        self._keep_alive_at = 0.0
        self._redis_lost = False

    def bootstrap(self, *arguments: Any, **options: Any) -> None:
        # RQ registers its worker first, and would end here if Redis is out of memory, a replica, or still loading.
        while not self._stop_requested:
            self._our_heartbeat()
            try:
                super().bootstrap(*arguments, **options)
            except RedisError as error:
                self._note(error)
                time.sleep(RECONNECT_S)
                continue
            self._note(None)
            log.info("worker.started", worker=self.name, queue=",".join(self.queue_names()))
            return

    # For the shift: workers.ShiftControl.

    def stop_requested(self) -> bool:
        return self._stop_requested

    def keep_alive(self) -> None:
        if not self.executions or time.monotonic() < self._keep_alive_at:
            return
        self._keep_alive_at = time.monotonic() + KEEP_ALIVE_EVERY_S
        (execution,) = self.executions.values()
        try:
            self.maintain_heartbeats(execution.job, execution)
        except RedisError as error:
            self._note(error)

    # Stopping.

    def request_stop(self, signum: int, frame: FrameType | None) -> None:
        # RQ raises out of a blocking pop unless a job is running, which loses what was just popped
        # (base.py:571, rq/rq#2236, #2079), talks to Redis inside the signal handler, and takes a second
        # signal for a cold stop in mid-call. Here any number of signals is one flag.
        self._stop_requested = True

    def register_death(self) -> None:
        # RQ calls it last, in a `finally`. If Redis is away, a clean stop would end in a traceback.
        try:
            super().register_death()  # type: ignore[no-untyped-call]
        except RedisError as error:
            self._note(error)

    # Waiting for a bell.

    def dequeue_job_and_maintain_ttl(
        self, timeout: int | None, max_idle_time: int | None = None
    ) -> tuple[Job, Queue] | None:
        # RQ's own loop never checks the stop flag, blocks for worker_ttl - 15 s, and pauses up to a minute
        # although Redis is back (base.py:1143).
        while not self._stop_requested:
            self._our_heartbeat()
            try:
                self.set_state(WorkerStatus.IDLE)
                self.heartbeat()
                if self.should_run_maintenance_tasks:
                    self.run_maintenance_tasks()
                taken = self.queue_class.dequeue_any(
                    self.queues, BLOCK_S, self.connection, self.job_class, self.serializer
                )
            except DequeueTimeout:
                taken = None
            except RedisError as error:
                if str(error).startswith("WRONGTYPE"):
                    # Another program has put something else into our key. Waiting does not help, so the process ends.
                    raise
                self._note(error)
                time.sleep(RECONNECT_S)
                continue
            self._note(None)
            if taken:
                return taken
        return None

    def _set_connection(self, connection: Redis) -> Redis:
        # RQ raises the socket timeout to worker_ttl - 5 s (base.py:428), and the captain would wait that long on a
        # silent network. `workers.WORKER_TIMEOUT_S` is chosen for both.
        return connection

    def subscribe(self) -> None:
        # RQ would start a thread and a connection here, by which a client that may PUBLISH can stop a worker. We stop
        # workers with signals.
        pass

    def check_for_suspension(self, burst: bool) -> None:
        # One key in Redis would pause all workers; our switches are in Postgres. If Redis is away, RQ quits here.
        pass

    def run_maintenance_tasks(self) -> None:
        # RQ cleans up after killed workers. It must not end a living one: RQ would do so if Redis goes away meanwhile,
        # and at every later cleanup if an entry cannot be read.
        self.last_cleaned_at = now()  # type: ignore[assignment]
        try:
            super().run_maintenance_tasks()  # type: ignore[no-untyped-call]
        except (RedisError, ValueError) as error:
            log.warning("sweep.interrupted", worker=self.name, reason=type(error).__name__)

    def heartbeat(self, timeout: int | None = None, pipeline: Pipeline | None = None) -> None:
        # RQ's work loop sends a heartbeat after every job, and quits if that fails (base.py:683).
        try:
            super().heartbeat(timeout, pipeline)
        except RedisError as error:
            self._note(error)

    # Answering it.

    def execute_job(self, job: Job, queue: Queue) -> None:
        bell = cast("BellJob", job)
        bell.shift = self._shift
        bell.origin = queue.name  # not what its hash says, because RQ builds keys from it
        self._keep_alive_at = time.monotonic() + KEEP_ALIVE_EVERY_S
        try:
            self.perform_job(bell, queue, self.prepare_execution(bell))
        except RedisError as error:
            # Redis went away before or during the shift, and RQ would quit. A relay rings an unanswered bell again.
            self._note(error)
        finally:
            self.executions.clear()

    def _shift(self) -> None:
        self._take_shift(self)

    def get_heartbeat_ttl(self, job: Job, working_time: float = 0.0) -> int:
        # SimpleWorker reserves the whole job timeout, because it sends no heartbeat during a job. A captain does.
        return int(self.worker_ttl) + 60

    def handle_exception(self, job: Job, *exc_info: Any) -> None:
        # RQ logs function and arguments (base.py:1337), which another client may have written.
        error = exc_info[1]
        if isinstance(error, NotABell):
            log.warning("bell.refused", bell=_ours(job.id), reason=str(error))
        elif isinstance(error, InvalidJobOperation):
            log.warning("bell.forgotten", bell=_ours(job.id))  # flushed during its shift, which is over
        else:
            log.error("shift.broken", bell=_ours(job.id), exc_info=exc_info)

    def handle_job_failure(
        self,
        job: Job,
        queue: Queue,
        started_job_registry: StartedJobRegistry | None = None,
        exc_string: str = "",
        execution: Execution | None = None,
    ) -> None:
        # RQ writes the traceback into Redis (base.py:1645). It may show values that our logs leave out.
        super().handle_job_failure(job, queue, started_job_registry, "see the worker's log", execution)

    def _note(self, error: RedisError | None) -> None:
        """Log once that Redis is away, and once that it is back."""
        if error and not self._redis_lost:
            log.warning("redis.lost", worker=self.name, reason=type(error).__name__)
        elif self._redis_lost and not error:
            log.info("redis.found", worker=self.name)
        self._redis_lost = error is not None


def _ours(bell: str) -> str | None:
    """The id of a bell, if it has the form of ours. Another client's may be any text."""
    return bell if _BELL.fullmatch(bell) else None


def _unpacked(data: bytes) -> bytes:
    """What RQ compressed; nothing if it cannot be read. Unpacks no more bytes than a bell has, however many there
    are."""
    try:
        return zlib.decompressobj().decompress(data, len(PAYLOAD) + 1)
    except zlib.error:
        return b""
