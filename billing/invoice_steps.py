"""The provider calls of an invoice: how each is asked for, judged, looked for and applied."""

from collections.abc import Mapping
from typing import Any

from billing.facts import told
from billing.idempotency import Learned, Rules
from billing.provider_ids import Kind, is_id, object_path
from billing.steps import METADATA_KEY, Ask, Case, Finding, Gone, Json, Reader, Step, Unread, as_asked, see
from billing.tables import Fact, Invoice, InvoiceState


def invoice_of(case: Case) -> Invoice:
    assert isinstance(case.row, Invoice)
    return case.row


def _path(case: Case, *verb: str) -> str:
    return object_path(Kind.INVOICE, invoice_of(case).stripe_invoice, *verb)


def named(invoice_id: object) -> str:
    """The id by which Stripe named an invoice. Raises Unread where it is none: the look is not finished."""
    if not is_id(Kind.INVOICE, invoice_id):
        raise Unread(None, "the provider named an invoice by what is no invoice's id")
    return str(invoice_id)


def is_ours(case: Case, invoice: Json) -> bool:
    metadata = invoice.get("metadata")
    return isinstance(metadata, Mapping) and metadata.get(METADATA_KEY) == invoice_of(case).id


def _read(case: Case, read: Reader, livemode: bool) -> Json:
    return see(read, _path(case), ("invoice", str(invoice_of(case).stripe_invoice)), livemode=livemode)


def _moved(case: Case, state: InvoiceState, topic: str, **payload: Any) -> list[Fact]:
    row = invoice_of(case)
    row.state = state
    return [told(row, topic, stripe_invoice=row.stripe_invoice, **payload)]


def refuse(case: Case, why: str) -> list[Fact]:
    invoice_of(case).reason = why
    return _moved(case, InvoiceState.REFUSED, "refused", why=why)


def differ(case: Case, why: str, theirs: object = None) -> list[Fact]:
    """The draft is ours and wrong: it is deleted before the invoice counts as refused."""
    row = invoice_of(case)
    row.reason = why
    return _moved(case, InvoiceState.LINES_DIFFER, "lines_differ", minor=row.total_minor, theirs=theirs, why=why)


# Create the draft. A duplicate draft is harmless: it is deleted before it could be finalised.


def _ask_to_create(case: Case) -> Ask:
    row = invoice_of(case)
    parameters = {
        "customer": row.customer,
        "currency": row.currency.lower(),
        # Stripe would finalise a half-built draft by itself after an hour.
        "auto_advance": False,
        "collection_method": "send_invoice",
        "days_until_due": row.days_until_due,
        # Nothing that lies about at the customer may slip onto this invoice.
        "pending_invoice_items_behavior": "exclude",
        "metadata": {METADATA_KEY: row.id},
    }
    return Ask("POST", "/v1/invoices", parameters)


def _judge_create(case: Case, invoice: Json) -> Learned:
    row = invoice_of(case)
    asked = as_asked(invoice, object="invoice", customer=row.customer, currency=row.currency.lower())
    if not asked or not is_ours(case, invoice) or not is_id(Kind.INVOICE, invoice.get("id")):
        return Learned.MISMATCH
    return Learned.SUCCEEDED


def _look_for_draft(case: Case, read: Reader, livemode: bool) -> Finding:
    """First the events that carry our keys (30 days), then the customer's list by metadata. Never search: it lags."""
    row = invoice_of(case)
    created = case.created
    try:
        for event in read.pages("/v1/events", {"types": ["invoice.created"], **created}):
            if _key_of(event) in case.keys and (found := _draft(case, read, _object_of(event), livemode)):
                return Finding(Learned.FOUND_OURS, found)
        for invoice in read.pages("/v1/invoices", {"customer": row.customer, **created}):
            if is_ours(case, invoice) and (found := _draft(case, read, str(invoice.get("id")), livemode)):
                return Finding(Learned.FOUND_OURS, found)
    except Unread as unread:
        return Finding(Learned.LOOK_UNANSWERED, why=unread.why, answer=unread.answer)
    return Finding(Learned.ABSENT)


def _draft(case: Case, read: Reader, invoice_id: str, livemode: bool) -> Json | None:
    """The invoice of this id, if it still exists and is what we asked for. One that we deleted before is not."""
    try:
        invoice = see(read, object_path(Kind.INVOICE, named(invoice_id)), ("invoice", invoice_id), livemode=livemode)
    except Gone:
        return None
    return invoice if _judge_create(case, invoice) is Learned.SUCCEEDED else None


def _apply_create(case: Case, outcome: Learned, invoice: Json, why: str) -> list[Fact]:
    row = invoice_of(case)
    if outcome is not Learned.SUCCEEDED:
        return refuse(case, why)
    row.stripe_invoice = str(invoice["id"])
    row.create_generation = case.generations("create")[-1].generation
    return _moved(case, InvoiceState.DRAFTED, "drafted", generation=row.create_generation)


# Add every line in one call, and compare Stripe's invoice with ours before it can be finalised.


def _ask_to_add_lines(case: Case) -> Ask:
    row = invoice_of(case)
    lines = [
        {
            "amount": line.amount_minor,
            "description": line.description,
            "metadata": {METADATA_KEY: row.id, "billing_line": str(line.position)},
        }
        for line in case.lines
    ]
    return Ask("POST", _path(case, "add_lines"), {"lines": lines}, row.stripe_invoice)


def _carries_our_lines(case: Case, invoice: Json) -> bool:
    """Draft, our currency, exactly our lines with our amounts, and Stripe's totals are our total."""
    row = invoice_of(case)
    totals = as_asked(invoice, currency=row.currency.lower(), subtotal=row.total_minor, total=row.total_minor)
    found = {
        line["metadata"].get("billing_line"): (line.get("amount"), line["metadata"].get(METADATA_KEY))
        for line in _lines_of(invoice)
    }
    ours = {str(line.position): (line.amount_minor, row.id) for line in case.lines}
    return totals and found == ours and len(_lines_of(invoice)) == len(case.lines) and not _has_more(invoice)


def _lines_of(invoice: Json) -> list[dict[str, Any]]:
    lines = invoice.get("lines")
    data = lines.get("data") if isinstance(lines, Mapping) else None
    return [{**line, "metadata": line.get("metadata") or {}} for line in data or []]


def _has_more(invoice: Json) -> bool:
    lines = invoice.get("lines")
    return lines.get("has_more") is not False if isinstance(lines, Mapping) else True


def _judge_lines(case: Case, invoice: Json) -> Learned:
    if not as_asked(invoice, object="invoice", id=invoice_of(case).stripe_invoice):
        return Learned.MISMATCH
    if invoice.get("status") != "draft" or _has_more(invoice):
        return Learned.ASK
    # The one definite answer that is bad news: the lines are there, and they are not worth what we asked.
    return Learned.SUCCEEDED if _carries_our_lines(case, invoice) else Learned.REFUSED


def _look_for_lines(case: Case, read: Reader, livemode: bool) -> Finding:
    try:
        invoice = dict(_read(case, read, livemode))
        if _has_more(invoice):
            every = list(read.pages(_path(case, "lines"), {}))
            invoice["lines"] = {"data": every, "has_more": False}
    except Unread as unread:
        return Finding(Learned.LOOK_UNANSWERED, why=unread.why, answer=unread.answer)
    except Gone:
        return Finding(Learned.IMPOSSIBLE, why="gone")
    if _carries_our_lines(case, invoice):
        return Finding(Learned.FOUND_OURS, invoice)
    ours = any(line["metadata"].get(METADATA_KEY) == invoice_of(case).id for line in _lines_of(invoice))
    if invoice.get("status") != "draft":
        return Finding(Learned.FOUND_DIFFERENT if ours else Learned.IMPOSSIBLE, invoice, "not_a_draft")
    record = case.open
    if record is not None and record.unanswered == 0 and 200 <= (record.answer_status or 0) < 300:
        # The lines were added, and this is what became of them.
        return Finding(Learned.IMPOSSIBLE, invoice, "total_differs")
    return Finding(Learned.FOUND_DIFFERENT, invoice, "total_differs") if ours else Finding(Learned.ABSENT, invoice)


def _apply_lines(case: Case, outcome: Learned, invoice: Json, why: str) -> list[Fact]:
    row = invoice_of(case)
    if outcome is Learned.SUCCEEDED:
        return _moved(case, InvoiceState.LINES_ADDED, "lines_added", minor=row.total_minor, currency=row.currency)
    if why in ("gone", "not_a_draft"):
        return refuse(case, why)
    return differ(case, why or "total_differs", theirs=invoice.get("total"))


def _apply_delete(case: Case, _outcome: Learned, _data: Json, _why: str) -> list[Fact]:
    return refuse(case, invoice_of(case).reason or "total_differs")


def look_for_deleted(invoice_id: str, read: Reader, livemode: bool) -> Finding:
    try:
        invoice = see(read, object_path(Kind.INVOICE, named(invoice_id)), ("invoice", invoice_id), livemode=livemode)
    except Unread as unread:
        return Finding(Learned.LOOK_UNANSWERED, why=unread.why, answer=unread.answer)
    except Gone:
        return Finding(Learned.FOUND_OURS)
    return Finding(Learned.ABSENT if invoice.get("status") == "draft" else Learned.FOUND_DIFFERENT, invoice)


# Finalise and send: afterwards the amounts cannot change, and each is proven ours by an event with our key.


def _judge_open(case: Case, invoice: Json) -> Learned:
    row = invoice_of(case)
    if not as_asked(invoice, object="invoice", id=row.stripe_invoice, currency=row.currency.lower()):
        return Learned.MISMATCH
    if invoice.get("status") not in ("open", "paid"):
        return Learned.ASK
    return Learned.SUCCEEDED if as_asked(invoice, total=row.total_minor) else Learned.MISMATCH


def _refused_open(case: Case, error: Json) -> Learned:
    invoice = error.get("invoice")
    if isinstance(invoice, Mapping) and invoice.get("status") in ("void", "uncollectible"):
        return Learned.REFUSED
    return Learned.ASK


def _look_for_finalized(case: Case, read: Reader, livemode: bool) -> Finding:
    return _look_by_event(
        case, read, livemode, "invoice.finalized", absent=lambda invoice: invoice.get("status") == "draft"
    )


def _look_for_sent(case: Case, read: Reader, livemode: bool) -> Finding:
    return _look_by_event(case, read, livemode, "invoice.sent", absent=None)


def _look_by_event(case: Case, read: Reader, livemode: bool, kind: str, *, absent: Any) -> Finding:
    row = invoice_of(case)
    try:
        invoice = _read(case, read, livemode)
        status = invoice.get("status")
        if absent is not None and absent(invoice):
            return Finding(Learned.ABSENT, invoice)
        if status not in ("open", "paid"):
            return Finding(Learned.IMPOSSIBLE, invoice, f"status:{status}")
        if not as_asked(invoice, total=row.total_minor, currency=row.currency.lower()):
            return Finding(Learned.FOUND_DIFFERENT, invoice, "total_differs")
        created = case.created
        told_of = [
            e for e in read.pages("/v1/events", {"types": [kind], **created}) if _object_of(e) == row.stripe_invoice
        ]
    except Unread as unread:
        return Finding(Learned.LOOK_UNANSWERED, why=unread.why, answer=unread.answer)
    except Gone:
        return Finding(Learned.IMPOSSIBLE, why="gone")
    if any(_key_of(event) in case.keys for event in told_of):
        return Finding(Learned.FOUND_OURS, invoice)
    if told_of or absent is not None:
        # Somebody did it, or Stripe's own repair did (those events carry no request).
        return Finding(Learned.FOUND_FREE, invoice)
    return Finding(Learned.ABSENT, invoice)


def _key_of(event: Json) -> str | None:
    request = event.get("request")
    key = request.get("idempotency_key") if isinstance(request, Mapping) else None
    return key if isinstance(key, str) else None


def _object_of(event: Json) -> str:
    data = event.get("data")
    subject = data.get("object") if isinstance(data, Mapping) else None
    return str(subject.get("id")) if isinstance(subject, Mapping) else ""


def _apply_finalize(case: Case, outcome: Learned, invoice: Json, why: str) -> list[Fact]:
    row, number = invoice_of(case), invoice.get("number")
    if isinstance(number, str) and invoice.get("status") != "void":
        # Kept for a refused one, too: it may be payable, so it is never made a second time.
        row.number = number
    if outcome is not Learned.SUCCEEDED:
        return refuse(case, why)
    money = {"minor": row.total_minor, "currency": row.currency}
    return _moved(case, InvoiceState.FINALIZED, "finalized", number=number, **money)


def _apply_send(case: Case, outcome: Learned, _invoice_data: Json, why: str) -> list[Fact]:
    if outcome is not Learned.SUCCEEDED:
        return refuse(case, why)
    row = invoice_of(case)
    return _moved(case, InvoiceState.SENT, "sent", minor=row.total_minor, currency=row.currency, number=row.number)


CREATE = Step(
    name="create",
    ask=_ask_to_create,
    judge=_judge_create,
    look=_look_for_draft,
    apply=_apply_create,
    rules=Rules(proof_settles=True),
)
ADD_LINES = Step(
    name="add_lines",
    ask=_ask_to_add_lines,
    judge=_judge_lines,
    # A replayed answer is the invoice as it was then, and this is the comparison before money is asked for.
    trust_replay=False,
    look=_look_for_lines,
    apply=_apply_lines,
)
FINALIZE = Step(
    name="finalize",
    ask=lambda case: Ask("POST", _path(case, "finalize"), {"auto_advance": False}, invoice_of(case).stripe_invoice),
    judge=_judge_open,
    refusal=_refused_open,
    look=_look_for_finalized,
    apply=_apply_finalize,
)
SEND = Step(
    name="send",
    ask=lambda case: Ask("POST", _path(case, "send"), {}, invoice_of(case).stripe_invoice),
    judge=_judge_open,
    refusal=_refused_open,
    look=_look_for_sent,
    apply=_apply_send,
    rules=Rules(proof_settles=True),
)
DELETE_DRAFT = Step(
    name="delete_draft",
    ask=lambda case: Ask("DELETE", _path(case), {}, invoice_of(case).stripe_invoice),
    judge=lambda case, data: (
        Learned.SUCCEEDED if as_asked(data, id=invoice_of(case).stripe_invoice, deleted=True) else Learned.MISMATCH
    ),
    look=lambda case, read, livemode: look_for_deleted(str(invoice_of(case).stripe_invoice), read, livemode),
    apply=_apply_delete,
    rules=Rules(replays=False),
)
