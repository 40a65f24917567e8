"""The labels of our numbers, each with what it says and the few values that it may have.

A value comes from a line of the log or from a row, and neither is trusted with how many there are: every value that is
not known is `other`. No label ever holds an id, so none can name a person or an account.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from archive.policy.retention import CLASSES
from billing.currencies import CURRENCIES
from billing.operations import by_id
from billing.tables.schema import Table
from jobs.config import queues
from jobs.reconciliation.classes import BY_NAME
from jobs.road.contracts import contracts


@dataclass(frozen=True, slots=True)
class Label:
    meaning: str
    bound: Callable[[str], str]
    """One of few values, for any."""


def bounded(label: str, value: object) -> str:
    return LABELS[label].bound(str(value))


OTHER = "other"


def _one_of(*values: str) -> Callable[[str], str]:
    known = frozenset(values)
    return lambda text: text if text in known else OTHER


def _like(pattern: str) -> Callable[[str], str]:
    compiled = re.compile(pattern, re.ASCII)
    return lambda text: text if compiled.fullmatch(text) else OTHER


_our_word = _like(r"[a-z][a-z0-9_.]{0,59}")
"""Of words that only our code writes, and it has few."""


def _contract(text: str) -> str:
    return text if any(text == contract.name for _, contract in contracts()) else OTHER


def _operation(prefix: str) -> str:
    operation = by_id(prefix)
    return OTHER if operation is None else operation.kind


_ANSWERS = "200 400 401 402 403 404 409 424 429 500 502 503 504 no_answer not_sent seen"

LABELS: Mapping[str, Label] = {
    "answer": Label("Stripe's status, or `no_answer`, `not_sent`, or `seen` by a look", _one_of(*_ANSWERS.split())),
    # What follows a colon is an id.
    "called": Label("the step whose call came back, as `capture`", lambda text: _our_word(text.partition(":")[0])),
    "class": Label("of a difference, as in [reconciliation](../moves/reconciliation.md)", _one_of(*BY_NAME)),
    "contract": Label("what the work is for, as `take_capture`", _contract),
    "currency": Label("in capitals, or `none` for what is not about money", _one_of("none", *CURRENCIES)),
    "event": Label("of a line of the log, as in [logs.md](../logs.md)", _our_word),
    "level": Label("of a line of the log", _our_word),
    "memory": Label("`used` or `limit`", _our_word),
    "operation": Label("`capture`, `void`, `refund`, `invoice`, `email`, `switch` or `run`", _operation),
    "outcome": Label("`read`, `too_slow` or `failed`; of spans `exported`, `failed` or `dropped`", _our_word),
    "queue": Label("`captures`, `refunds`, `invoices`, `emails`, `documents` or `maintenance`", _one_of(*queues.NAMES)),
    "reason": Label("why a webhook was refused, as in [webhooks.md](../moves/webhooks.md)", _our_word),
    "retention_class": Label("of facts, as in `archive/policy/retention.toml`", _one_of(*CLASSES)),
    "server": Label("`postgres`, `redis`, `s3` or `secrets`", _our_word),
    "sqlstate": Label("Postgres' own code; `53100` is a full disk", _like(r"[0-9A-Z]{5}")),
    "standing": Label("how an operation stands, as in [logs.md](../logs.md)", _our_word),
    "state": Label("of an operation or of work, as in [states.md](../states.md)", _our_word),
    "statement": Label("the name of a statement in `jobs/metrics/reading.sql`", _our_word),
    "table": Label("of the schema `billing`", _one_of(*(table.name for table in Table.metadata.tables.values()))),
    "use": Label("`in_use` or `idle`", _our_word),
    "version": Label("of this package", _like(r"[0-9A-Za-z.+-]{1,40}")),
    "withheld_from": Label("`planning` or `archiving`", _our_word),
}
