"""Which parts of a fact are archived, and in what form: one Parquet schema per version, and an allow-list.

No personal data is archived: a payload key that is not listed here is left out, and so is a value that does not have
the shape listed for it. Never change a type or a meaning: add a nullable column, or make version 2.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from io import BytesIO
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from sqlalchemy import Row

from archive.format import layout
from billing.provider_ids import SHAPES, IdKind
from billing.request_ids import is_digest
from billing.shapes import (
    Shape,
    code,
    exactly,
    id_of,
    invoice_number,
    like,
    locale,
    message_id,
    reference,
    template,
    whole,
    yes_or_no,
)

VERSION = layout.VERSION
SCHEMA = pa.schema(
    [
        pa.field("archive_seq", pa.int64(), nullable=False),
        pa.field("fact_id", pa.int64(), nullable=False),
        pa.field("topic", pa.string(), nullable=False),
        pa.field("fact_version", pa.int64(), nullable=False),
        pa.field("entity_type", pa.string(), nullable=False),
        pa.field("entity_id", pa.string(), nullable=False),
        pa.field("entity_version", pa.int64(), nullable=False),
        # Null if it does not look like the id of a service or of a member of staff.
        pa.field("actor", pa.string()),
        # Null if it does not look like an opaque id, or may be a card number: nothing can be deleted from the archive.
        pa.field("correlation_id", pa.string()),
        pa.field("happened_at", pa.timestamp("us", tz="UTC"), nullable=False),
        # These two, and the last two, are copied from the payload: an engine finds and sums them without reading JSON.
        pa.field("minor", pa.int64()),
        pa.field("currency", pa.string()),
        # Canonical JSON: sorted keys, no spaces.
        pa.field("payload", pa.string(), nullable=False),
        # Since 0.2.0. An object that an older version wrote, perhaps today, lacks the columns from here on.
        pa.field("payment_intent", pa.string()),
        pa.field("account", pa.string()),
    ],
    metadata={"billing.schema": str(VERSION)},
)

COPIED = ("minor", "currency", "payment_intent", "account")
"""Columns that are copied from the payload. It keeps the keys: it is the whole fact, which is compared with Postgres
and brought back from here, and older versions read nothing else."""
_CAME_AS_COLUMNS = ("payment_intent", "account")

# A dictionary for ids makes a file larger, and slower to write.
_FEW_VALUES = ["topic", "entity_type", "actor", "currency", "account"]
LOOKED_UP = ("entity_id", "payment_intent")
"""Columns with a bloom filter: whoever looks for one id passes over the objects that do not hold it. Sorting would not
do: the rows of an object are in the order of `archive_seq`."""
_RISING = dict.fromkeys(("archive_seq", "fact_id", "entity_version", "happened_at"), "DELTA_BINARY_PACKED")

WRITING: dict[str, Any] = {
    "compression": "zstd",
    "compression_level": 3,
    "use_dictionary": _FEW_VALUES,
    "column_encoding": _RISING,
}
"""How a Parquet file of facts is written, whatever the order of its rows."""

Rows: TypeAlias = pa.Table

# That of our own key is `own` in facts about how something ended.
_account = like(rf"own|{SHAPES[IdKind.ACCOUNT]}")
_currency = like(r"[A-Z]{3}")
moment = like(r"\d{4}-\d\d-\d\dT[0-9:.]{8,15}(?:Z|[+-]\d\d:\d\d)")
_SCOPE = (
    r"everything|captures|voids|refunds|invoices|emails|documents|schedules|account:(?:own|acct_[A-Za-z0-9]{1,64})"
    r"|(?:contract|queue):[a-z][a-z_]{0,59}|currency:[A-Z]{3}"
)
_scope = like(_SCOPE)
# A scope, an id of ours, a revision of the schema, a month, a signing key, or a customer who was erased.
_changed = like(rf"{_SCOPE}|[a-z]{{2,8}}_[0-9a-f]{{32}}|\d{{4}}(?:-\d\d)?|key_[0-9a-f]{{16}}|{SHAPES[IdKind.CUSTOMER]}")
_staff_or_service = like(r"[a-z][a-z0-9_.:-]{0,63}")
_opaque = like(r"(?=.*\d)[A-Za-z0-9_.:-]{1,128}")


def _sums(value: Any) -> bool:
    return isinstance(value, dict) and all(_currency(name) and whole(minor) for name, minor in value.items())


PAYLOAD: dict[str, Shape] = {
    # What was done with an invoice: one of our four words.
    "action": code,
    # What a command changed. The names of buckets and databases stay in Postgres.
    "about": _changed,
    "account": _account,
    # Of a refund: whether all that was left was asked for.
    "all_left": yes_or_no,
    "application_fee_minor": whole,
    # Of an invoice: how often Stripe has counted an attempt to pay it, and how much was paid of it by then.
    "attempts": whole,
    "authorized": yes_or_no,
    "authorised": yes_or_no,  # in facts from before migration 0010
    "authorized_minor": whole,
    # Of an entry of Stripe's ledger, in UTC: from when on it can be paid out, and when the money moved.
    "available_on": moment,
    "booked_at": moment,
    # Why an authorization is given back: one of Stripe's four words.
    "cancellation_reason": code,
    "capture_before": moment,
    # Of a refund: the capture of which money is given back. Of an invoice: the one that paid it.
    "capture": like(r"cap_[0-9a-z]{1,36}"),
    "capture_no": whole,
    # Of an invoice: whether Stripe charges it, instead of sending it.
    "charged": yes_or_no,
    # The money that facts say was taken which left Postgres: minor units by currency.
    "captured": _sums,
    "charge": id_of(IdKind.CHARGE),
    "command": like(
        r"(?:access|archive|capture|close|compensate|differences|document|email|erase|housekeeping|invoice|migrate|quarantine"
        r"|reconcile|recover|refund|schedule|switch|void)(?: [a-z-]{1,20}){0,2}"
    ),
    # Of a refund: whether it undoes its capture.
    "compensates": yes_or_no,
    # Of an invoice: whether Stripe reckons its total.
    "computed": yes_or_no,
    "count": whole,
    # Of a credit note: why, in one of Stripe's four words.
    "credit_reason": code,
    "currency": _currency,
    # Stripe's own opaque id. Which customer it is, only Postgres knows; erasure deletes it there.
    "customer": id_of(IdKind.CUSTOMER),
    # Of Stripe's ledger.
    "entry": like(r"txn_[A-Za-z0-9_]{1,128}"),
    # Of Stripe's, by which a change was noticed.
    "event": like(r"evt_[A-Za-z0-9_]{1,128}"),
    # Of an action: the credit note that it voids.
    "credit_note": like(r"crn_[0-9a-z]{1,36}"),
    "event_type": like(r"[a-z][a-z0-9_]{0,39}(?:\.[a-z0-9_]{1,40}){1,5}"),
    "discount_minor": whole,
    "expires_at": moment,
    "fee_minor": whole,
    "generation": whole,
    # Of a document, of a capture that is on one, of a refund of what was paid for one, or of a credit note: its
    # invoice. Of a document also what it is, and the object of Stripe's; then where it lies in the bucket, and what it
    # must be there. Digests and versions are ours and S3's, and any run of digits in them is chance.
    "invoice": like(r"inv_[0-9a-z]{1,36}"),
    "keeps_remainder": yes_or_no,
    "kind": code,
    "learned": code,
    # Of a capture that is on an invoice: on which line.
    "line": whole,
    "lines": whole,
    # Of an e-mail, as its template and its recipient: ids only, and no address.
    "locale": locale,
    "lock_mode": like("GOVERNANCE|COMPLIANCE"),
    "locked_until": moment,
    # Of a credit note: whether it has one. What it says is not archived.
    "memo": yes_or_no,
    "minor": whole,
    "net_minor": whole,
    "number": invoice_number,
    "object_key": exactly(r"documents/[a-z_]{1,40}/doc_[0-9a-z]{1,36}\.pdf"),
    "object_version": exactly(r"[A-Za-z0-9._~+/=-]{1,255}"),
    # Of an invoice that is paid: whether that was not through Stripe.
    "out_of_band": yes_or_no,
    "outcome": code,
    # Of an invoice: whether its money was taken before, so that nobody is asked for it.
    "paid_already": yes_or_no,
    "paid_minor": whole,
    # Of a capture that is on the invoice of a period: which of its invoices that is, and the bounds of the period.
    "part": whole,
    # Stripe's own opaque id. Whose it is, only Stripe knows.
    "payment_method": id_of(IdKind.PAYMENT_METHOD),
    "payment_intent": id_of(IdKind.PAYMENT_INTENT),
    # Of Stripe's, in which it went to the bank, and how much that was with everything else in it.
    "payout": like(r"po_[A-Za-z0-9_]{1,128}"),
    "payout_minor": whole,
    "per_hour": whole,
    "period_end": moment,
    "period_start": moment,
    "probes": yes_or_no,
    "provider_message": message_id,
    "recipient": reference,
    # Of a credit note: the refund that gives its amount back.
    "refund": like(r"ref_[0-9a-z]{1,36}"),
    "refund_reason": code,
    "replayed": yes_or_no,
    # What stands for the application's request id.
    "request_digest": is_digest,
    "request_id": like(r"req_[A-Za-z0-9_]{1,128}"),
    "scope": _scope,
    "settle": code,
    "sha256": exactly(r"[0-9a-f]{64}"),
    "size_bytes": whole,
    "source": code,
    "status": whole,
    "step": like(r"[a-z][a-z0-9_]{0,63}(?::in_[A-Za-z0-9_]{1,128})?"),
    "stripe_credit_note": id_of(IdKind.CREDIT_NOTE),
    "stripe_object": like(r"(?:in|cn)_[A-Za-z0-9_]{1,250}"),
    "stripe_invoice": id_of(IdKind.INVOICE),
    "stripe_refund": id_of(IdKind.REFUND),
    "subtotal_minor": whole,
    "tax_minor": whole,
    "template": template,
    "theirs": whole,
    "took_ms": whole,
    "transfer_minor": whole,
    "why": code,
    # The capture or the void of ours that was first, where an operation lost to it.
    "winner": like(r"(?:cap|void)_[0-9a-f]{32}"),
    "work_state": code,
    "work_id": like(r"wrk_[A-Za-z0-9_]{1,128}"),
}


def by_column(facts: Sequence[Row[Any]]) -> dict[str, Sequence[Any]]:
    """The values of each column; none if there is no fact. To ask each row for a value by name takes a microsecond, and
    so most of the time in which a fact is archived."""
    return dict(zip(facts[0]._fields, zip(*facts, strict=True), strict=True)) if facts else {}


def table(facts: Sequence[Row[Any]]) -> Rows:
    """The rows to be archived for these facts, which `batches.facts_of` has read. Times are UTC."""
    if not facts:
        return SCHEMA.empty_table()
    told = by_column(facts)
    texts, copies = _payloads(told["payload"])
    columns = {
        "archive_seq": told["archive_seq"],
        "fact_id": told["id"],
        "topic": told["topic"],
        "fact_version": told["version"],
        "entity_type": told["entity_type"],
        "entity_id": told["entity_id"],
        "entity_version": told["entity_version"],
        "actor": [_shown(actor, _staff_or_service) for actor in told["actor"]],
        "correlation_id": [_shown(correlation_id, _opaque) for correlation_id in told["correlation_id"]],
        "happened_at": told["happened_at"],
        "payload": texts,
        **copies,
    }
    return pa.table(columns, schema=SCHEMA)


def _payloads(payloads: Sequence[dict[str, Any] | None]) -> tuple[list[str], dict[str, list[Any]]]:
    """The column `payload`, and the columns `COPIED`."""
    texts: list[str] = []
    copies: dict[str, list[Any]] = {name: [] for name in COPIED}
    for payload in payloads:
        allowed = members(payload or {})
        texts.append(joined(allowed))
        for name, column in copies.items():
            column.append(payload[name] if payload and name in allowed else None)
    return texts, copies


def members(payload: dict[str, Any]) -> dict[str, str]:
    """The part of a payload that may be archived: each key, with `"key":value` as it stands in canonical JSON. Null
    values are left out.

    Most of the time in which a fact is archived was spent on these texts. Most are the same in many facts, so they are
    remembered one by one.
    """
    return {key: member for key, value in payload.items() if (member := _member(key, value)) is not None}


def joined(allowed: Mapping[str, str]) -> str:
    """Canonical JSON of these members. They are sorted by key, because each begins with its key, and no key holds a
    character that sorts before the quote at its end."""
    return "{" + ",".join(sorted(allowed.values())) + "}"


def _member(key: str, value: Any) -> str | None:
    """`"key":value` as it stands in canonical JSON; None if it may not be archived."""
    if type(value) is str:
        return _TEXT_MEMBER[key](value) if key in _TEXT_MEMBER else None
    if key not in PAYLOAD or not PAYLOAD[key](value):
        return None
    return f'"{key}":{value}' if type(value) is int else f'"{key}":{canonical(value)}'


def _text_member(key: str) -> Callable[[str], str | None]:
    return lambda value: f'"{key}":{canonical(value)}' if PAYLOAD[key](value) else None


# The facts of one operation repeat its ids, and all facts the same codes.
_TEXT_MEMBER = {key: lru_cache(maxsize=16_384)(_text_member(key)) for key in PAYLOAD}


_encoder = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def canonical(value: Any) -> str:
    """The one way to write this value as JSON."""
    return _encoder.encode(value)


def parquet(rows: Rows) -> bytes:
    """The object. One version of pyarrow writes the same bytes for the same rows; another may not."""
    sink = BytesIO()
    filters = {name: _filter(rows.column(name)) for name in LOOKED_UP}
    pq.write_table(rows, sink, **WRITING, row_group_size=128 * 1024, bloom_filter_options=filters)
    return sink.getvalue()


def _filter(column: pa.ChunkedArray) -> dict[str, float]:
    """A bloom filter for as many values as there are: that of a small object is small."""
    return {"ndv": max(1, pc.count_distinct(column).as_py()), "fpp": 0.01}


def read(body: bytes) -> Rows:
    """The rows of an object, with every column: what an older version did not copy from the payload is copied now.

    Raises ValueError if it is not one of our Parquet files.
    """
    try:
        names = pq.read_schema(pa.BufferReader(body)).names
        rows = pq.read_table(pa.BufferReader(body), schema=SCHEMA)
        for name in _CAME_AS_COLUMNS:
            if name not in names:
                values = pa.array(copied(rows, name), pa.string())
                rows = rows.set_column(SCHEMA.get_field_index(name), SCHEMA.field(name), values)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise ValueError(f"not one of our Parquet files: {type(error).__name__}") from None
    return rows


def copied(rows: Rows, name: str) -> list[Any]:
    """What these rows have in a column of `COPIED`, by their payloads. Raises ValueError if one is no JSON object."""
    found = (read_payload(payload).get(name) for payload in rows.column("payload").to_pylist())
    return [value if PAYLOAD[name](value) else None for value in found]


def read_payload(text: str) -> dict[str, Any]:
    """Raises ValueError if it is no JSON object."""
    try:
        payload = json.loads(text)
    except RecursionError:
        payload = None
    if isinstance(payload, dict):
        return payload
    raise ValueError("no JSON object")


def captured(rows: Rows) -> dict[str, int]:
    """The money that these facts say was taken: minor units by currency."""
    taken = rows.filter(pc.equal(rows.column("topic"), "capture.captured")).select(["currency", "minor"]).drop_null()
    sums = taken.group_by("currency").aggregate([("minor", "sum")])
    return dict(zip(sums.column("currency").to_pylist(), sums.column("minor_sum").to_pylist(), strict=True))


@lru_cache(maxsize=16_384)
def _shown(value: str | None, shape: Shape) -> str | None:
    return value if value is not None and shape(value) else None
