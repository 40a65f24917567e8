"""The floor: threads that look, call and store with urllib3 and psycopg. No queue, no SDK, no ORM, no safety.

The ids come over a Redis list, one message per batch, and go to the threads in memory.
"""

import json
import os
import queue
import sys
import threading
from urllib.parse import urlencode

import psycopg
import urllib3
from redis import Redis

CHANNEL = "bench:floor"


class Floor:
    def __init__(self, threads: int) -> None:
        self._ids: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._http = urllib3.connection_from_url(os.environ["STRIPE_API_BASE"], maxsize=threads)
        self._connections: queue.SimpleQueue[psycopg.Connection] = queue.SimpleQueue()
        for _ in range(max(2, threads // 8)):
            url, name = os.environ["DATABASE_URL"], os.environ["BENCH_SIDE"]
            self._connections.put(psycopg.connect(url, autocommit=True, application_name=name))
        for _ in range(threads):
            threading.Thread(target=self._work, daemon=True).start()

    def run(self) -> None:
        redis = Redis.from_url(os.environ["REDIS_URL"], socket_timeout=None)
        while True:
            for capture_id in json.loads(redis.blpop([CHANNEL])[1]):
                self._ids.put(capture_id)

    def _work(self) -> None:
        while True:
            self._take(self._ids.get())

    def _take(self, capture_id: str) -> None:
        _, intent, amount = self._execute(
            "SELECT state, payment_intent, amount_minor FROM bench.captures WHERE id = %s", capture_id
        ).fetchone()
        answer = self._http.urlopen(
            "POST",
            f"/v1/payment_intents/{intent}/capture",
            body=urlencode({"amount_to_capture": amount, "metadata[billing_operation]": capture_id}),
            headers={
                "Authorization": "Bearer sk_test_bench",
                "Idempotency-Key": capture_id,
                "Content-Type": "application/x-www-form-urlencoded",
            },
            retries=False,
        )
        self._execute(
            "UPDATE bench.captures SET state = 'captured', charge = %s, request_id = %s, answered_at = now()"
            " WHERE id = %s",
            json.loads(answer.data)["latest_charge"],
            answer.headers["Request-Id"],
            capture_id,
        )

    def _execute(self, statement: str, *values: object) -> psycopg.Cursor:
        connection = self._connections.get()
        try:
            return connection.execute(statement, values)
        finally:
            self._connections.put(connection)


def main() -> None:
    floor = Floor(int(sys.argv[1]))
    print("started", flush=True)
    floor.run()
