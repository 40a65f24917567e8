"""What a credit note would come to at Stripe, asked without creating anything there or here.

Source: docs.stripe.com/api/credit_notes/preview: it takes what the call that issues one takes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from billing.credit_note_requests import Credited
from billing.credit_note_steps import READ_LINES, asked_of
from billing.errors import InvalidRequest
from billing.gateway import Response
from billing.learned import Learned
from billing.money import Money
from billing.reading import NotRead
from billing.steps import LoadedOperation, Reader, Unread, body_of
from billing.tables.credit_notes import CreditNote

_REFUSED = 400


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
    read: Reader, of: Credited, amount: Money, lines: dict[str, Any] | None, settle: str, reason: str | None
) -> CreditPreview:
    """Raises InvalidRequest if Stripe refuses it, and NotRead if it does not answer."""
    row = CreditNote(
        id="",
        invoice_id=of.id,
        stripe_invoice=of.stripe_invoice,
        amount_minor=amount.minor,
        currency=amount.currency,
        lines=lines,
        credit_reason=reason,
        settle=settle,
    )
    try:
        if lines is not None:
            _name_lines(row, read)
        answer = read.get("/v1/credit_notes/preview", asked_of(row, None))
        if isinstance(answer, Response) and answer.status == _REFUSED and isinstance(answer.data, Mapping):
            why = answer.error_code or answer.error_type or "no code"
            raise InvalidRequest(
                "Stripe", f"refuses it: {why}{f': {answer.error_param}' if answer.error_param else ''}"
            )
        shown = body_of(answer)
    except Unread as unread:
        raise NotRead(unread.why) from None
    minor, before, after = (shown.get(f"{name}amount") for name in ("", "pre_payment_", "post_payment_"))
    if type(minor) is not int or type(before) is not int or type(after) is not int:
        raise NotRead("a preview without its amounts")
    wanted = (amount.minor, amount.minor if settle == "reduce" else 0)
    return CreditPreview(amount.currency, minor, before, after, differs=(minor, before) != wanted)


def _name_lines(row: CreditNote, read: Reader) -> None:
    """Give the row Stripe's ids of its lines. Raises Unread and InvalidRequest."""
    loaded = LoadedOperation(row, [], "", "")
    found = READ_LINES.find(loaded, read, False)
    if found.learned is not Learned.SUCCEEDED:
        raise InvalidRequest("lines", f"are not on the invoice at Stripe: {found.why}")
    row.stripe_lines = [line["id"] for line in found.data["lines"]]
