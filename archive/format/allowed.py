"""Which values of a fact's payload are archived: an allow-list, with the shape that each must have.

No personal data is archived: a key that is not listed here is left out, and so is a value of another shape.
"""

from typing import Any

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
