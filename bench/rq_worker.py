"""The baseline: N of RQ's own fork workers, forked from one process that has imported all that a job needs."""

import contextlib
import ctypes
import os
import signal
import sys

import stripe
from redis import Redis
from rq import Queue, Worker
from sqlalchemy import NullPool
from sqlalchemy.orm import Session

from bench import bare_job

QUEUE = "bench"


# Made before the fork, with every import that a job needs, because the SDK loads a service at its first use. Neither
# holds a connection.
engine = bare_job.open_engine(poolclass=NullPool)
client = bare_job.open_client()


def take(capture_id: str) -> None:
    """A job has its own process, so it opens its own connection. It keeps it during the call, without a transaction."""
    with engine.connect() as connection, Session(connection, expire_on_commit=False) as session:
        bare_job.take(session, client, capture_id)


def preload() -> None:
    """Do everything that a first job does for the first time, except opening connections."""
    with engine.connect() as connection, Session(connection) as session:
        session.get(bare_job.Capture, "none")
    # A call that fails: nothing listens there.
    nowhere = stripe.StripeClient("sk_test_bench", base_addresses={"api": "http://127.0.0.1:9"}, max_network_retries=0)
    with contextlib.suppress(stripe.APIConnectionError):
        nowhere.v1.payment_intents.capture("pi_none")


def queue(redis: Redis) -> Queue:
    return Queue(QUEUE, connection=redis)


def main() -> None:
    preload()
    parent = os.getpid()
    for _ in range(int(sys.argv[1])):
        if os.fork() == 0:
            ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)  # PR_SET_PDEATHSIG
            if os.getppid() != parent:
                os._exit(1)
            redis = Redis.from_url(os.environ["REDIS_URL"])
            Worker([queue(redis)], connection=redis).work(logging_level="WARNING")
            os._exit(0)
    print("started", flush=True)
    signal.pause()
