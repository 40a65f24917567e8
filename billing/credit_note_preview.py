"""What a credit note would come to at Stripe, asked without creating anything there or here.

Source: docs.stripe.com/api/credit_notes/preview: it takes what the call that issues one takes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from billing.credit_note_steps import asked_of, ids_of_lines, refused_by_stripe
from billing.creditable import Credited
from billing.errors import InvalidRequest
from billing.gateway import Response
from billing.idempotency import BAD_REQUEST
from billing.money import Money
from billing.reading import NotRead
from billing.steps import Reader, Unread, body_of
from billing.tables.credit_notes import CreditNote


@dataclass(frozen=True, slots=True)
class CreditPreview:
    """In minor units: what the note comes to, and how much of it reduces what is due and how much was paid before.
    `differs`: whether Stripe reckons otherwise than would be asked for."""

    currency: str
    minor: int
    reduces_due_minor: int
    of_what_was_paid_minor: int
    differs: bool


def preview(
    read: Reader, of: Credited, amount: Money | None, lines: dict[str, Any] | None, settle: str, reason: str | None
) -> CreditPreview:
    """`amount`: None of lines with taxes or discounts of an open invoice: then it is what Stripe reckons. Raises
    InvalidRequest if Stripe refuses it, and NotRead if it does not answer."""
    row = CreditNote(
        id="",
        invoice_id=of.id,
        stripe_invoice=of.stripe_invoice,
        amount_minor=amount.minor if amount is not None else 0,
        currency=of.currency,
        lines=lines,
        credit_reason=reason,
        settle=settle,
    )
    try:
        answer = read.get("/v1/credit_notes/preview", asked_of(row, None, _ids_of_lines(row, read)))
        if isinstance(answer, Response) and answer.status == BAD_REQUEST and isinstance(answer.data, Mapping):
            raise InvalidRequest("Stripe", f"refuses it: {refused_by_stripe(answer)}")
        shown = body_of(answer)
    except Unread as unread:
        raise NotRead(unread.why) from None
    minor, before, after = (shown.get(f"{name}amount") for name in ("", "pre_payment_", "post_payment_"))
    if type(minor) is not int or type(before) is not int or type(after) is not int:
        raise NotRead("a preview without its amounts")
    asked = minor if amount is None else amount.minor
    wanted = (asked, asked if settle == "reduce" else 0)
    return CreditPreview(of.currency, minor, before, after, differs=(minor, before) != wanted)


def _ids_of_lines(row: CreditNote, read: Reader) -> list[str]:
    """Stripe's ids of its lines. Raises Unread and InvalidRequest."""
    found = ids_of_lines(row, read)
    if missing := [position for position, own in found.items() if own is None]:
        raise InvalidRequest("lines", f"are not on the invoice at Stripe: {', '.join(missing)}")
    return [str(own) for own in found.values()]
