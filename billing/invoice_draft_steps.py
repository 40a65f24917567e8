"""The calls that make an invoice's draft, or delete it. `billing.invoice_line_steps` fills it.

A duplicate draft is harmless: it is deleted before it could be finalized.
"""

from collections.abc import Mapping

from billing import invoice_terms, request_ids
from billing.differences import Difference, differences, reason
from billing.idempotency import Rules
from billing.invoice_row import (
    invoice_of,
    is_ours,
    move,
    named,
    path_of,
    refuse,
)
from billing.learned import Learned
from billing.own_events import key_of, object_of
from billing.provider_ids import IdKind, is_id, object_path
from billing.states import InvoiceState
from billing.steps import (
    METADATA_KEY,
    Ask,
    Gone,
    Json,
    Judgment,
    LoadedOperation,
    LookResult,
    Reader,
    Step,
    Unread,
    is_missing,
    is_right_account,
    judgment,
    read_object,
)
from billing.tables.entities import Invoice
from billing.tables.facts import Fact


def _ask_to_create(loaded: LoadedOperation) -> Ask:
    row = invoice_of(loaded)
    parameters = {
        "customer": row.customer,
        "currency": row.currency.lower(),
        # Otherwise Stripe finalizes an unfinished draft by itself after an hour.
        "auto_advance": False,
        **invoice_terms.parameters(row),
        # The customer's other pending items must not get onto this invoice.
        "pending_invoice_items_behavior": "exclude",
        "metadata": {METADATA_KEY: row.id, **request_ids.metadata(row.request_id), **invoice_terms.metadata(row)},
    }
    return Ask("POST", "/v1/invoices", parameters)


def _not_as_created(loaded: LoadedOperation, invoice: Json) -> list[Difference]:
    row = invoice_of(loaded)
    wrong = differences(invoice, object="invoice", customer=row.customer, currency=row.currency.lower())
    wrong += differences(invoice, within="metadata", **{METADATA_KEY: row.id})
    terms = row.terms or {}
    if "due_date" in terms:
        wrong += differences(invoice, due_date=terms["due_date"])
    if "automatic_tax" in terms:
        wrong += differences(invoice, within="automatic_tax", enabled=True)
    if "collect" in terms:
        wrong += differences(invoice, collection_method=invoice_terms.collection_method(row))
    if "payment_method" in terms:
        wrong += differences(invoice, default_payment_method=terms["payment_method"])
    if not is_id(IdKind.INVOICE, invoice.get("id")):
        wrong.append(Difference("id", "the id of an invoice", "none"))
    return wrong


def _look_for_draft(loaded: LoadedOperation, read: Reader, livemode: bool) -> LookResult:
    """The customer's list, by metadata: it is short, and always up to date (docs.stripe.com/api-v2-overview). Never
    search: it lags. The events of the account that carry our keys (30 days) are read only where that list leaves
    something open, because in twenty minutes of a busy account there are more of them than a look can read."""
    row = invoice_of(loaded)
    created = loaded.created
    listed = invoices_of(row, read, created)
    for invoice in listed or ():
        if is_ours(loaded, invoice) and (found := _made(loaded, read, str(invoice.get("id")), livemode)):
            return found
    if listed is not None and not any(map(_may_have_lost_our_id, listed)):
        return LookResult(Learned.ABSENT)
    for event in read.pages("/v1/events", {"types": ["invoice.created"], **created}):
        if key_of(event) in loaded.keys and (found := _made(loaded, read, object_of(event), livemode)):
            return found
    return LookResult(Learned.ABSENT)


def _may_have_lost_our_id(invoice: Json) -> bool:
    """Whether somebody may have taken our id away and finalized it. A draft without our id does no harm: nobody here
    finalizes it, nor does Stripe."""
    metadata = invoice.get("metadata")
    named = isinstance(metadata, Mapping) and METADATA_KEY in metadata
    return not named and invoice.get("status") not in ("draft", "void")


def invoices_of(row: Invoice, read: Reader, which: Json) -> list[Json] | None:
    """The customer's invoices that `which` selects; None of a customer whom Stripe does not know. Raises Unread."""
    try:
        return list(read.pages("/v1/invoices", {"customer": row.customer, **which}))
    except Unread as unread:
        if not is_missing(unread.answer, "customer"):
            raise
        if not is_right_account(read):
            raise
    return None


def _made(loaded: LoadedOperation, read: Reader, invoice_id: str, livemode: bool) -> LookResult | None:
    """The invoice that our create made, if it still exists. A draft that is not as asked counts as absent: it is
    deleted as a duplicate before lines are added. If it is open or paid, it needs a decision."""
    try:
        invoice = read_object(
            read, object_path(IdKind.INVOICE, named(invoice_id)), ("invoice", invoice_id), livemode=livemode
        )
    except Gone:
        return None
    wrong = _not_as_created(loaded, invoice)
    if not wrong:
        return LookResult(Learned.FOUND_OURS, invoice)
    if invoice.get("status") in ("draft", "void"):
        return None
    return LookResult(Learned.FOUND_DIFFERENT, invoice, reason("created_otherwise", wrong))


def _apply_create(loaded: LoadedOperation, outcome: Learned, invoice: Json, why: str) -> list[Fact]:
    row = invoice_of(loaded)
    if outcome is not Learned.SUCCEEDED:
        no_code = why == "invalid_request_error" and invoice_terms.collection_method(row) == "send_invoice"
        return refuse(loaded, _NO_CODE if no_code else why)
    row.stripe_invoice = str(invoice["id"])
    row.create_generation = loaded.generations("create")[-1].generation
    return move(loaded, InvoiceState.DRAFTED, "drafted", generation=row.create_generation)


# If the customer has no address, Stripe sends neither a code nor a parameter, and we never read its text.
_NO_CODE = (
    "refused_without_a_code: has the customer an e-mail address? An invoice that is sent needs one; "
    "Stripe's log has its reason under the request id"
)


def _apply_delete(loaded: LoadedOperation, _outcome: Learned, _data: Json, _why: str) -> list[Fact]:
    return refuse(loaded, invoice_of(loaded).reason or "total_differs")


def look_for_deleted(invoice_id: str, read: Reader, livemode: bool) -> LookResult:
    try:
        invoice = read_object(
            read, object_path(IdKind.INVOICE, named(invoice_id)), ("invoice", invoice_id), livemode=livemode
        )
    except Gone:
        return LookResult(Learned.FOUND_OURS)
    if invoice.get("status") == "void":
        # Somebody finalized and voided it, so it cannot be paid any more.
        return LookResult(Learned.FOUND_FREE, invoice)
    if wrong := differences(invoice, status="draft"):
        return LookResult(Learned.FOUND_DIFFERENT, invoice, reason("not_a_draft", wrong))
    return LookResult(Learned.ABSENT, invoice)


def judge_deleted(invoice_id: str, data: Json) -> Judgment:
    return judgment(differences(data, id=invoice_id, deleted=True))


CREATE = Step(
    name="create",
    ask=_ask_to_create,
    judge=lambda loaded, invoice: judgment(_not_as_created(loaded, invoice)),
    find=_look_for_draft,
    apply=_apply_create,
    creates=True,
    rules=Rules(proof_settles=True),
)
DELETE_DRAFT = Step(
    name="delete_draft",
    ask=lambda loaded: Ask("DELETE", path_of(loaded), {}, invoice_of(loaded).stripe_invoice),
    judge=lambda loaded, data: judge_deleted(str(invoice_of(loaded).stripe_invoice), data),
    find=lambda loaded, read, livemode: look_for_deleted(str(invoice_of(loaded).stripe_invoice), read, livemode),
    apply=_apply_delete,
    rules=Rules(replays=False),
)
