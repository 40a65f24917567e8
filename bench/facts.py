"""Synthetic captures of the year 2025, written into Postgres as the service would have left them.

Each has four facts in two classes (requested, its authorization read, its capture attempted, captured), in three
currencies and two accounts, with ids as random as Stripe's; if asked for, its row, its work and its two calls. The
same captures come out each time.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg
from sqlalchemy.engine import make_url

FACTS = 4
"""Of each capture."""
CALLS = 2
CURRENCIES = ("EUR", "JPY", "USD")
CHUNK = 50_000
"""Captures of one statement."""
Connection = psycopg.Connection[tuple[object, ...]]

FIRST_MS = 1_735_689_600_000
"""The beginning of 2025 in UTC."""

_AT_MS = f"({FIRST_MS} + (n - 1) * CAST(%(every_ms)s AS float))"
_AT = f"to_timestamp({_AT_MS} / 1000)"
# Ids as `billing.ids` makes them: the time, then what is random.
_ID = f"'{{}}_' || lpad(to_hex(CAST({_AT_MS} AS bigint)), 12, '0') || substr(md5(CAST(n AS text)), 1, 20)"
_CAPTURE, _WORK, _CALL = (_ID.format(prefix) for prefix in ("cap", "wrk", "rec"))
_LETTERS = "translate(encode(decode(md5({} || n), 'hex'), 'base64'), '+/=', 'Aa')"
"""22 letters and digits."""
_INTENT, _CHARGE = (f"'{kind}_3' || {_LETTERS.format(repr(kind))}" for kind in ("pi", "ch"))
_REQUEST_ID = "'req_' || substr({}, 1, 14)".format(_LETTERS.format("v || 'req'"))
_MINOR = "100 + mod(n * 7919, 99900)"
_CURRENCY = f"(ARRAY[{', '.join(map(repr, CURRENCIES))}])[1 + CAST(mod(n, 3) AS int)]"
_ACCOUNT = "CASE mod(n, 2) WHEN 0 THEN 'own' ELSE 'acct_1NxYzAbCdEfGhIjK' END"

_MONEY = (
    f"jsonb_build_object('minor', {_MINOR}, 'currency', {_CURRENCY}, 'account', {_ACCOUNT},"
    f" 'payment_intent', {_INTENT})"
)
_CALLED = (
    "jsonb_build_object('step', CASE v WHEN 2 THEN 'read_authorization' ELSE 'capture' END, 'generation', 1,"
    " 'outcome', 'definite', 'learned', 'succeeded', 'status', 200, 'replayed', false,"
    f" 'took_ms', 90 + mod(n * 31, 800), 'request_id', {_REQUEST_ID})"
)
_N = "generate_series(CAST(%(first)s AS bigint), %(last)s) AS n"

_UNIQUE = "facts_entity_type_entity_id_entity_version_key"
_OF_FACTS = f"""
    INSERT INTO billing.facts (topic, entity_type, entity_id, entity_version, actor, correlation_id, payload,
                               happened_at, planned_version, batch_no, archive_seq)
    SELECT (ARRAY['capture.requested', 'capture.attempted', 'capture.attempted', 'capture.captured'])[v], 'capture',
           {_CAPTURE}, v, 'billing', 'order-' || n,
           CASE v WHEN 1 THEN {_MONEY}
                  WHEN 4 THEN {_MONEY} || jsonb_build_object('authorized_minor', {_MINOR}, 'charge', {_CHARGE})
                  ELSE {_CALLED} END,
           {_AT} + v * interval '300 ms', 1, {{batch_no}}, {{archive_seq}}
      FROM {_N}, generate_series(1, {FACTS}) AS v ORDER BY n, v"""
_OF_CAPTURES = f"""
    INSERT INTO billing.captures (id, request_id, payment_intent, amount_minor, currency, state, version, charge,
                                  correlation_id, authorized_minor, authorized_currency, state_since)
    SELECT {_CAPTURE}, 'order-' || n, {_INTENT}, {_MINOR}, {_CURRENCY}, 'captured', {FACTS}, {_CHARGE}, 'order-' || n,
           {_MINOR}, {_CURRENCY}, {_AT}
      FROM {_N}"""
_OF_WORK = f"""
    INSERT INTO billing.work (id, contract, version, queue, entity_id, scopes, state, urgency, dedupe_key, created_at,
                              state_since)
    SELECT {_WORK}, 'take_capture', 1, 'captures', {_CAPTURE}, '{{everything,captures,account:own}}', 'done',
           {_AT}, 'fact:' || n, {_AT}, {_AT}
      FROM {_N}"""
_OF_CALLS = f"""
    INSERT INTO billing.idempotency_records (id, operation_id, step, generation, work_id, queue, key, method, path,
            body, livemode, api_version, state, learned, sends, answer_status, answer, request_ids, conclusion,
            created_at, first_sent_at, last_prepared_at, last_reported_at, concluded_at)
    SELECT {_CALL} || v, {_CAPTURE}, 'step' || v, v, {_WORK}, 'captures',
           'billing:production:' || {_CAPTURE} || ':g' || v, 'POST', '/v1/payment_intents/pi_1/capture',
           'amount_to_capture=1999&metadata[operation]=' || n, true, '2025-01-01', 'answered', 'succeeded', 1, 200,
           convert_to(repeat(md5(CAST(n AS text)), 12), 'UTF8'), ARRAY['req_' || n], 'succeeded',
           {_AT}, {_AT}, {_AT}, {_AT}, {_AT}
      FROM {_N}, generate_series(1, {CALLS}) AS v"""


@contextmanager
def connected(url: str) -> Iterator[Connection]:
    """Without a pool, and with parameters that any statement may have."""
    plain = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(plain, autocommit=True, cursor_factory=psycopg.ClientCursor) as connection:
        connection.execute("SET maintenance_work_mem = '256MB'")
        connection.execute("SET work_mem = '64MB'")
        yield connection


@dataclass(frozen=True, slots=True)
class Captures:
    """So many of them, one every `every_ms` milliseconds from the first day of 2025 on, numbered from 1."""

    count: int
    every_ms: float = 1.0

    def make_facts(
        self,
        connection: Connection,
        *,
        batch_no: str = "NULL",
        archive_seq: str = "NULL",
        told: Callable[[int], None] = lambda _: None,
    ) -> None:
        """Planned, and not archived unless `batch_no` and `archive_seq` say so: expressions of `n`, the number of the
        capture. `told` is given the number of facts so far. An index over all of them is built at the end."""
        connection.execute(f"ALTER TABLE billing.facts DROP CONSTRAINT {_UNIQUE}")
        statement = _OF_FACTS.format(batch_no=batch_no, archive_seq=archive_seq)
        self._in_chunks(connection, statement, lambda done: told(FACTS * done))
        unique = "UNIQUE (entity_type, entity_id, entity_version)"
        connection.execute(f"ALTER TABLE billing.facts ADD CONSTRAINT {_UNIQUE} {unique}")

    def make_rows(self, connection: Connection) -> None:
        self._in_chunks(connection, _OF_CAPTURES)

    def make_work_and_calls(self, connection: Connection) -> None:
        """A piece of work of each capture, and its two calls, all of them concluded."""
        self._in_chunks(connection, _OF_WORK)
        self._in_chunks(connection, _OF_CALLS)

    def _in_chunks(self, connection: Connection, statement: str, told: Callable[[int], None] = lambda _: None) -> None:
        for first in range(1, self.count + 1, CHUNK):
            last = min(first + CHUNK - 1, self.count)
            connection.execute(statement, {"first": first, "last": last, "every_ms": self.every_ms})
            told(last)


def work_and_calls_bytes(connection: Connection, captures: int) -> float:
    """How many bytes the work and the calls of one capture take, with their indexes. They are removed again."""
    tables = ("billing.work", "billing.idempotency_records")
    Captures(captures).make_work_and_calls(connection)
    size = sum(table_bytes(connection, table) for table in tables)
    connection.execute(f"TRUNCATE {', '.join(tables)} CASCADE")
    return size / captures


def table_bytes(connection: Connection, table: str) -> int:
    """With indexes."""
    return asked(connection, "SELECT pg_total_relation_size(CAST(%s AS regclass))", [table])


def asked(connection: Connection, query: str, values: object = None) -> int:
    """The one number that this query finds; 0 for null."""
    row = connection.execute(query, values).fetchone()
    return int(row[0] or 0) if row else 0
