"""Whoever can write to Redis can make a worker take a shift, and nothing else.

Every hostile job is first given to RQ as it comes, which runs it: the control that shows that the test would
notice. Then it is given to our worker.
"""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import redis
from bell_tower import ENVIRONMENT, HERE, PREFIX, Valkey, Worker, wait_until
from hypothesis import example, given, settings
from hypothesis import strategies as st

from jobs.rq import bells

RQ = f"{PREFIX}rq3"


def payload(function: object, instance: object, *arguments: object, **keywords: object) -> bytes:
    return zlib.compress(json.dumps([function, instance, arguments, keywords]).encode())


class Exploit:
    """Runs a function when it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch $WITNESS",)


@dataclass
class Hostile:
    """A hash that differs from a bell's in `fields`; `stock` is what RQ as it comes needs to fall for it."""

    fields: dict[str, bytes | str]
    stock: dict[str, bytes | str] = field(default_factory=dict)
    serializer: str = "json"


HOSTILE = {
    "a-function-by-name": Hostile({"data": payload("witness.see", None)}),
    "a-command": Hostile({"data": payload("os.system", None, "touch $WITNESS")}),
    "a-harmless-function": Hostile({"data": payload("os.getpid", None)}),
    "a-method-of-the-instance": Hostile({"data": payload("upper", "x")}),
    "a-pickle": Hostile({"data": zlib.compress(pickle.dumps(Exploit()))}, serializer="pickle"),
    "a-success-callback": Hostile({"success_callback_name": "witness.see"}, {"data": payload("os.getpid", None)}),
    "a-failure-callback": Hostile({"failure_callback_name": "witness.see"}, {"data": payload("witness.fail", None)}),
    "a-failure-callback-of-a-refused-job": Hostile(
        {"failure_callback_name": "witness.see", "data": payload("witness.fail", None)}
    ),
    "a-webhook-for-success": Hostile({"webhooks": "finished"}, {"data": payload("os.getpid", None)}),
    "a-webhook-for-failure": Hostile({"webhooks": "failed"}, {"data": payload("witness.fail", None)}),
    "repeats": Hostile({"repeats_left": "1", "repeat_intervals": "[3600]"}, {"data": payload("os.getpid", None)}),
    "retries": Hostile({"retries_left": "1", "retry_intervals": "[3600]"}, {"data": payload("witness.fail", None)}),
}
# What RQ as it comes has no use for either, but a shift could take for an order.
STRANGE: dict[str, dict[str, bytes | str]] = {
    "an-argument": {"data": payload("shift", None, "invoices")},
    "a-keyword": {"data": payload("shift", None, queue="invoices")},
    "an-instance": {"data": payload("shift", "x")},
    "nothing": {"data": b""},
    "not-compressed": {"data": zlib.decompress(payload("shift", None))},
    "a-word-more": {"data": zlib.compress(zlib.decompress(payload("shift", None)) + b" ")},
    "an-unknown-status": {"status": "pondering"},
    "a-group": {"group_id": "g"},
    "a-rate-limit": {"rate_limit_key": "k", "rate_limit_concurrency": "1"},
    "a-dependency": {"dependency_ids": '["bell_1"]'},
    "a-field-nobody-knows": {"\x1b[2Jforged\nline": "x"},
}


@dataclass
class Trap:
    """Everything that shows that a hostile job did something."""

    client: redis.Redis
    witness: Path
    requests: list[str]

    def sprung(self) -> bool:
        succeeded = any(
            entry is not None and (b"type", b"1") in entry.items()
            for key in self.client.scan_iter(f"{RQ}:results:*")
            for _, entry in self.client.xrange(key) or []
        )
        scheduled = any(True for _ in self.client.scan_iter(f"{RQ}:scheduled:*"))
        return succeeded or scheduled or self.witness.exists() or bool(self.requests)

    def reset(self) -> None:
        self.client.flushall()
        self.witness.unlink(missing_ok=True)
        self.requests.clear()


@pytest.fixture
def webhook() -> Iterator[tuple[str, list[str]]]:
    """The address of an HTTP server, and the paths that were asked for."""
    requests: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            requests.append(self.path)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/", requests
        server.shutdown()
        thread.join()


@pytest.fixture
def trap(client: redis.Redis, tmp_path: Path, webhook: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch) -> Trap:
    monkeypatch.setenv("WITNESS", str(tmp_path / "witness"))
    return Trap(client, tmp_path / "witness", webhook[1])


@pytest.fixture
def forge(client: redis.Redis, webhook: tuple[str, list[str]]) -> Callable[..., str]:
    """Put a job into the queue `captures` that differs from a bell in some fields."""

    def forge(fields: dict[str, bytes | str]) -> str:
        bells.ring(client, ENVIRONMENT, "model")
        model = client.rpop(f"{RQ}:queue:model")
        assert isinstance(model, bytes)
        job_id = f"bell_{uuid4().hex}"
        mapping: dict[Any, Any] = client.hgetall(f"{RQ}:job:{model.decode()}")
        mapping |= {name.encode(): value for name, value in fields.items()}
        mapping[b"origin"] = b"captures"
        if "webhooks" in fields:
            hook = {"url": webhook[0], "job_status": fields["webhooks"], "method": "GET", "headers": None}
            mapping[b"webhooks"] = json.dumps([hook | {"timeout": 5}])
        # For the control: RQ keeps a result only for a while.
        mapping[b"result_ttl"] = b"60"
        client.hset(f"{RQ}:job:{job_id}", mapping=mapping)
        client.rpush(f"{RQ}:queue:captures", job_id)
        return job_id

    return forge


@pytest.mark.parametrize("case", HOSTILE)
def test_what_rq_would_run_is_refused(
    valkey: Valkey, hire: Callable[..., Worker], forge: Callable[..., str], trap: Trap, case: str
) -> None:
    hostile = HOSTILE[case]
    forge(hostile.fields | hostile.stock)
    subprocess.run(
        [sys.executable, HERE / "stock_process.py", valkey.url, "captures", hostile.serializer],
        env={**os.environ, "PYTHONPATH": str(HERE), "RQ_KEY_PREFIX": RQ},
        check=True,
        timeout=200,
        capture_output=True,
    )
    assert trap.sprung(), "the control: RQ as it comes runs this"

    trap.reset()
    job_id = forge(hostile.fields)
    worker = hire()
    worker_takes_the_next_bell(worker, trap.client)
    assert not trap.sprung()
    assert len(worker.shifts("started")) == 1, "only the honest bell led to a shift"
    assert worker.log().count("bell.refused") == worker.log().count(job_id) == 1


def test_strange_jobs_are_refused(hire: Callable[..., Worker], forge: Callable[..., str], trap: Trap) -> None:
    job_ids = {case: forge(fields) for case, fields in STRANGE.items()}
    worker = hire()
    worker_takes_the_next_bell(worker, trap.client)
    assert not trap.sprung()
    assert len(worker.shifts("started")) == 1, "only the honest bell led to a shift"
    refused = [json.loads(line) for line in worker.log().splitlines() if "bell.refused" in line]
    assert [line["bell"] for line in refused] == list(job_ids.values())
    assert "library.reported" not in worker.log()
    assert "forged" not in worker.log()


def test_a_bell_of_another_queue_is_answered_as_one_of_this(
    client: redis.Redis, hire: Callable[..., Worker], forge: Callable[..., str], keys: Callable[..., set[str]]
) -> None:
    job_id = forge({"data": payload("os.getpid", None)})
    client.hset(f"{RQ}:job:{job_id}", "origin", "invoices")
    worker = hire()
    worker_takes_the_next_bell(worker, client)
    assert keys("*:intermediate") == set()
    assert keys("*:invoices") == set()


def test_a_refused_job_is_forgotten_within_a_minute(
    client: redis.Redis, hire: Callable[..., Worker], forge: Callable[..., str]
) -> None:
    job_id = forge({"data": payload("os.getpid", None)})
    worker = hire()
    wait_until(lambda: "bell.refused" in worker.log(), "the job is refused")
    wait_until(lambda: 0 < client.ttl(f"{RQ}:job:{job_id}") <= 60, "its hash expires")


def test_a_payload_that_unpacks_to_a_giant_is_not_unpacked(
    hire: Callable[..., Worker], forge: Callable[..., str], trap: Trap
) -> None:
    worker = hire()
    before = worker.memory_peak_mb()
    forge({"data": zlib.compress(bytes(200_000_000))})
    worker_takes_the_next_bell(worker, trap.client)
    assert worker.memory_peak_mb() - before < 30


@pytest.mark.parametrize("job_id", ["../../etc", "bell 1", "\xff"])
def test_an_id_that_rq_cannot_read_ends_the_worker_once_and_not_with_success(
    client: redis.Redis, hire: Callable[..., Worker], job_id: str
) -> None:
    worker = hire()
    client.rpush(f"{RQ}:queue:captures", job_id.encode("latin-1"))
    assert worker.exit_code() == 1
    # The supervisor starts it again, and it must not meet the same id in RQ's sweep at every start.
    client.delete(f"{RQ}:clean_registries:captures")
    worker.start()
    worker_takes_the_next_bell(worker, client)
    assert worker.alive()


@settings(max_examples=int(os.environ.get("BILLING_TEST_HASHES", "300")), deadline=None, database=None)
@given(
    hash_=st.dictionaries(
        st.binary(max_size=12)
        | st.sampled_from(
            b"data status origin timeout result_ttl failure_ttl created_at webhooks meta group_id"
            b" success_callback_name failure_callback_name dependency_ids retries_left repeats_left".split()
        ),
        st.binary(max_size=40)
        | st.sampled_from([b"queued", b"started", b"[]", b"-1", payload("shift", None), payload("os.getpid", None)]),
        max_size=8,
    )
)
@example({b"data": payload("shift", None), b"status": b"queued"})
@example({b"data": payload("shift", None), b"status": b"queued", b"webhooks": b"[]"})
def test_no_hash_whatever_it_says_runs_or_breaks_anything(hash_: dict[bytes, bytes]) -> None:
    bells.choose_prefix(ENVIRONMENT)
    from jobs.rq.overrides import FIELDS, PAYLOAD, STATUSES, BellJob, NotABell

    job = BellJob("bell_1", connection=redis.Redis(), serializer="json")
    taken: list[str] = []
    job.shift = lambda: taken.append("a shift")
    job.restore(hash_)
    with suppress(NotABell):
        job.perform()
    honest = (
        hash_.get(b"data") == payload("shift", None)
        and hash_.get(b"status") in STATUSES
        and not any(value for name, value in hash_.items() if name not in FIELDS)
    )
    assert taken == (["a shift"] if honest else [])
    assert job.data == PAYLOAD
    assert (job.func_name, job.instance, job.args, job.kwargs) == ("shift", None, [], {})
    orders: list[object] = [
        job.success_callback,
        job.failure_callback,
        job.stopped_callback,
        job.webhooks,
        job.should_retry,
    ]
    orders += [job.repeats_left, job.has_rate_limit, job.group_id, job.dependency, job.meta]
    assert not any(orders)


def worker_takes_the_next_bell(worker: Worker, client: redis.Redis) -> None:
    """The queue is served in order: once this honest bell was answered, whatever came before is over."""
    bells.ring(client, ENVIRONMENT, "captures")
    worker.wait_for_shifts(1)
