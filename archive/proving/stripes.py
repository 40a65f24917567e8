"""The export of Stripe's side: every effect that its lists show, ours and those of others. It only reads."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from archive.proving.exports import Line
from archive.proving.kinds import asked_at
from billing.reading import NotRead
from billing.steps import METADATA_KEY, Json, Reader, Unread

AUTHORIZED_DAYS = 35
"""An intent may be captured so long after it was made: authorizations last 31 days at most, with some to spare.
Source: docs.stripe.com/payments/extended-authorization."""
_CLOCKS = timedelta(hours=1)


def lines(reader: Callable[[str | None], Reader], accounts: Sequence[str | None], since: datetime) -> Iterator[Line]:
    """One for each effect. `reader`: of an account; `accounts`: ours, and those that requests were for.

    Raises NotRead.
    """
    for account in accounts:
        read = reader(account)
        for path, further, effect in _LISTS:
            asking = {**_EXPANDED.get(path, {}), "created": {"gte": int((since - further).timestamp())}}
            try:
                for each in read.pages(path, asking):
                    if (line := effect(each)) is not None:
                        yield {"account": account, **line, **_asked(each)}
            except Unread as unread:
                raise NotRead(unread.why) from None


def _asked(shown: Json) -> dict[str, Any]:
    """By which request: the id of ours in its metadata, and when that id was made, in seconds since 1970."""
    metadata = shown.get("metadata")
    operation = metadata.get(METADATA_KEY) if isinstance(metadata, Mapping) else None
    return {"operation": operation if isinstance(operation, str) else None, "asked": asked_at(operation)}


def _captured(intent: Json) -> Line | None:
    received = intent.get("amount_received")
    return _effect("capture", intent, received) if type(received) is int and received > 0 else None


def _invoiced(invoice: Json) -> Line | None:
    """A draft binds nobody. A void or uncollectible invoice was issued. `asks`: what it still asks for. `off_stripe`:
    what was marked as paid out of band."""
    if invoice.get("status") == "draft":
        return None
    asks, off_stripe = invoice.get("amount_remaining"), invoice.get("amount_paid_off_stripe")
    effect = _effect("invoice", invoice, invoice.get("total"))
    return {**effect, "asks": _whole(asks), "off_stripe": _whole(off_stripe)}


def _credited(note: Json) -> Line | None:
    """One that is void takes nothing off."""
    return _effect("credit_note", note, note.get("amount")) if note.get("status") != "void" else None


def _refunded(refund: Json) -> Line | None:
    """One that failed or was canceled gave nothing back."""
    effect = _effect("refund", refund, refund.get("amount"), of=refund.get("payment_intent"))
    return effect if refund.get("status") not in ("failed", "canceled") else None


def _effect(kind: str, shown: Json, minor: object, of: object = None) -> Line:
    """`of`: the intent that a refund gives back of. A refund has no mode of its own."""
    livemode = shown.get("livemode")
    return {
        "kind": kind,
        "object": str(shown.get("id")),
        "of": of if isinstance(of, str) else None,
        "minor": _whole(minor),
        "currency": str(shown.get("currency")).upper(),
        "livemode": livemode if isinstance(livemode, bool) else None,
        "state": str(shown.get("status")),
    }


def _whole(value: object) -> int | None:
    return value if type(value) is int else None


_EXPANDED: Mapping[str, Mapping[str, Any]] = {"/v1/invoices": {"expand": ["data.amount_paid_off_stripe"]}}
"""What Stripe shows in a list only where it is asked for.
Source: docs.stripe.com/changelog/dahlia/2026-05-27/invoice-object-amount-paid-off-stripe-property."""
_LISTS: tuple[tuple[str, timedelta, Callable[[Json], Line | None]], ...] = (
    ("/v1/payment_intents", timedelta(days=AUTHORIZED_DAYS), _captured),
    ("/v1/invoices", _CLOCKS, _invoiced),
    ("/v1/credit_notes", _CLOCKS, _credited),
    ("/v1/refunds", _CLOCKS, _refunded),
)
"""Each list, how much further back than the requests it is read, and what of it is an effect."""
