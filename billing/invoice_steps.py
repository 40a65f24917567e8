"""The provider calls of an invoice: how each is asked for, judged, looked for and applied."""

from collections.abc import Iterator, Mapping
from typing import Any

from billing.differences import Difference, because, differences, reason
from billing.facts import told
from billing.idempotency import Learned, Rules
from billing.provider_ids import IdKind, is_id, object_path
from billing.steps import (
    METADATA_KEY,
    Ask,
    Case,
    Finding,
    Gone,
    Json,
    Judgement,
    Reader,
    Step,
    Unread,
    is_missing,
    judgement,
    see,
    sure_of_the_account,
)
from billing.tables import Fact, Invoice, InvoiceState


def invoice_of(case: Case) -> Invoice:
    assert isinstance(case.row, Invoice)
    return case.row


def _path(case: Case, *verb: str) -> str:
    return object_path(IdKind.INVOICE, invoice_of(case).stripe_invoice, *verb)


def named(invoice_id: object) -> str:
    """The id by which Stripe named an invoice. Raises Unread where it is none: the look is not finished."""
    if not is_id(IdKind.INVOICE, invoice_id):
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
    return _moved(case, InvoiceState.REFUSED, "refused", **because(why))


def differ(case: Case, why: str, theirs: object = None) -> list[Fact]:
    """The draft is ours and of no use: it is deleted before the invoice counts as refused."""
    row = invoice_of(case)
    row.reason = why
    money = {"minor": row.total_minor, "theirs": theirs}
    return _moved(case, InvoiceState.LINES_DIFFER, "lines_differ", **money, **because(why))


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


def _not_as_created(case: Case, invoice: Json) -> list[Difference]:
    row = invoice_of(case)
    wrong = differences(invoice, object="invoice", customer=row.customer, currency=row.currency.lower())
    wrong += differences(invoice, within="metadata", **{METADATA_KEY: row.id})
    if not is_id(IdKind.INVOICE, invoice.get("id")):
        wrong.append(Difference("id", "the id of an invoice", "none"))
    return wrong


def _look_for_draft(case: Case, read: Reader, livemode: bool) -> Finding:
    """First the events that carry our keys (30 days), then the customer's list by metadata. Never search: it lags."""
    row = invoice_of(case)
    created = case.created
    try:
        for event in read.pages("/v1/events", {"types": ["invoice.created"], **created}):
            if _key_of(event) in case.keys and (found := _made(case, read, _object_of(event), livemode)):
                return found
        for invoice in invoices_of(row, read, created):
            if is_ours(case, invoice) and (found := _made(case, read, str(invoice.get("id")), livemode)):
                return found
    except Unread as unread:
        return Finding(Learned.LOOK_UNANSWERED, why=unread.why, answer=unread.answer)
    return Finding(Learned.ABSENT)


def invoices_of(row: Invoice, read: Reader, which: Json) -> Iterator[Json]:
    """The customer's invoices that `which` selects; none of a customer whom Stripe does not know. Raises Unread."""
    try:
        yield from read.pages("/v1/invoices", {"customer": row.customer, **which})
    except Unread as unread:
        if not is_missing(unread.answer, "customer"):
            raise
        if not sure_of_the_account(read):
            raise


def _made(case: Case, read: Reader, invoice_id: str, livemode: bool) -> Finding | None:
    """What our create made, if it still exists; a draft that we deleted before is none. One that is not as it was asked
    for is a stray, and goes before lines are added; if it is not even a draft any more, a person decides."""
    try:
        invoice = see(read, object_path(IdKind.INVOICE, named(invoice_id)), ("invoice", invoice_id), livemode=livemode)
    except Gone:
        return None
    wrong = _not_as_created(case, invoice)
    if not wrong:
        return Finding(Learned.FOUND_OURS, invoice)
    if invoice.get("status") in ("draft", "void"):
        return None
    return Finding(Learned.FOUND_DIFFERENT, invoice, reason("created_otherwise", wrong))


def _apply_create(case: Case, outcome: Learned, invoice: Json, why: str) -> list[Fact]:
    row = invoice_of(case)
    if outcome is not Learned.SUCCEEDED:
        return refuse(case, _NO_CODE if why == "invalid_request_error" else why)
    row.stripe_invoice = str(invoice["id"])
    row.create_generation = case.generations("create")[-1].generation
    return _moved(case, InvoiceState.DRAFTED, "drafted", generation=row.create_generation)


# Stripe names neither a code nor a parameter when the customer has no address; its text is never read.
_NO_CODE = (
    "refused_without_a_code: has the customer an e-mail address? An invoice that is sent needs one; "
    "Stripe's log has its reason under the request id"
)


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


def _not_our_lines(case: Case, invoice: Json) -> list[Difference]:
    """In which way it is not: our currency, exactly our lines with our amounts, and Stripe's totals are our total."""
    row, lines = invoice_of(case), _lines_of(invoice)
    wrong = differences(invoice, currency=row.currency.lower(), subtotal=row.total_minor, total=row.total_minor)
    if len(lines) != len(case.lines) or _has_more(invoice):
        more = " and more" if _has_more(invoice) else ""
        wrong.append(Difference("lines", str(len(case.lines)), f"{len(lines)}{more}"))
    found = {line["metadata"].get("billing_line"): line for line in lines}
    for line in case.lines:
        position = str(line.position)
        shown = {"amount": None, "metadata": {}, **found.get(position, {})}
        owner = differences(shown, within="metadata", **{METADATA_KEY: row.id})
        wrong += [
            Difference(f"lines.{position}.{each.field}", each.expected, each.found)
            for each in (*differences(shown, amount=line.amount_minor), *owner)
        ]
    return wrong


def _lines_of(invoice: Json) -> list[dict[str, Any]]:
    lines = invoice.get("lines")
    data = lines.get("data") if isinstance(lines, Mapping) else None
    return [{**line, "metadata": line.get("metadata") or {}} for line in data or []]


def _has_more(invoice: Json) -> bool:
    lines = invoice.get("lines")
    return lines.get("has_more") is not False if isinstance(lines, Mapping) else True


def _judge_lines(case: Case, invoice: Json) -> Judgement:
    if wrong := differences(invoice, object="invoice", id=invoice_of(case).stripe_invoice):
        return judgement(wrong)
    if invoice.get("status") != "draft" or _has_more(invoice):
        return Judgement(Learned.ASK)
    if wrong := _not_our_lines(case, invoice):
        # The one definite answer that is bad news: the lines are there, and they are not worth what we asked.
        return Judgement(Learned.REFUSED, reason("total_differs", wrong))
    return Judgement(Learned.SUCCEEDED)


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
    wrong = _not_our_lines(case, invoice)
    if not wrong:
        return Finding(Learned.FOUND_OURS, invoice)
    ours = any(line["metadata"].get(METADATA_KEY) == invoice_of(case).id for line in _lines_of(invoice))
    differing = reason("total_differs", wrong)
    if not_a_draft := differences(invoice, status="draft"):
        if ours:
            return Finding(Learned.FOUND_DIFFERENT, invoice, reason("total_differs", [*not_a_draft, *wrong]))
        return Finding(Learned.IMPOSSIBLE, invoice, reason("not_a_draft", not_a_draft))
    record = case.open
    if record is not None and record.unanswered == 0 and 200 <= (record.answer_status or 0) < 300:
        # The lines were added, and this is what became of them.
        return Finding(Learned.IMPOSSIBLE, invoice, differing)
    return Finding(Learned.FOUND_DIFFERENT, invoice, differing) if ours else Finding(Learned.ABSENT, invoice)


def _apply_lines(case: Case, outcome: Learned, invoice: Json, why: str) -> list[Fact]:
    row = invoice_of(case)
    if outcome is Learned.SUCCEEDED:
        return _moved(case, InvoiceState.LINES_ADDED, "lines_added", minor=row.total_minor, currency=row.currency)
    if why == "gone" or why.startswith("not_a_draft"):
        return refuse(case, why)
    return differ(case, why or "total_differs", theirs=invoice.get("total"))


def _apply_delete(case: Case, _outcome: Learned, _data: Json, _why: str) -> list[Fact]:
    return refuse(case, invoice_of(case).reason or "total_differs")


def look_for_deleted(invoice_id: str, read: Reader, livemode: bool) -> Finding:
    try:
        invoice = see(read, object_path(IdKind.INVOICE, named(invoice_id)), ("invoice", invoice_id), livemode=livemode)
    except Unread as unread:
        return Finding(Learned.LOOK_UNANSWERED, why=unread.why, answer=unread.answer)
    except Gone:
        return Finding(Learned.FOUND_OURS)
    if invoice.get("status") == "void":
        # Somebody finalised it and took it back: nothing of it can be paid any more.
        return Finding(Learned.FOUND_FREE, invoice)
    if wrong := differences(invoice, status="draft"):
        return Finding(Learned.FOUND_DIFFERENT, invoice, reason("not_a_draft", wrong))
    return Finding(Learned.ABSENT, invoice)


def judge_deleted(invoice_id: str, data: Json) -> Judgement:
    return judgement(differences(data, id=invoice_id, deleted=True))


# Finalise and send: afterwards the amounts cannot change, and each is proven ours by an event with our key.


def _judge_open(case: Case, invoice: Json) -> Judgement:
    row = invoice_of(case)
    wrong = differences(invoice, object="invoice", id=row.stripe_invoice, currency=row.currency.lower())
    if wrong or invoice.get("status") not in _FINALISED:
        return judgement(wrong, Learned.ASK)
    return judgement(differences(invoice, total=row.total_minor))


_FINALISED = ("open", "paid")


def _refused_open(case: Case, error: Json) -> Learned:
    invoice = error.get("invoice")
    if isinstance(invoice, Mapping) and invoice.get("status") in ("void", "uncollectible"):
        return Learned.REFUSED
    return Learned.ASK


def _look_for_finalized(case: Case, read: Reader, livemode: bool) -> Finding:
    try:
        invoice = _read(case, read, livemode)
        if invoice.get("status") == "draft":
            return Finding(Learned.ABSENT, invoice)
        if ended := _no_longer_open(case, invoice):
            return ended
        whose = _whose(case, read, "invoice.finalized")
    except Unread as unread:
        return Finding(Learned.LOOK_UNANSWERED, why=unread.why, answer=unread.answer)
    except Gone:
        return Finding(Learned.IMPOSSIBLE, why="gone")
    # It is finalised. Without an event that tells whose doing it was, it was somebody's.
    return Finding(whose or Learned.FOUND_FREE, invoice)


def _look_for_sent(case: Case, read: Reader, livemode: bool) -> Finding:
    try:
        invoice = _read(case, read, livemode)
        if invoice.get("status") == "draft":
            # It was finalised, and no finalised invoice becomes a draft.
            return Finding(Learned.FOUND_DIFFERENT, invoice, _not_open(invoice))
        if ended := _no_longer_open(case, invoice):
            return ended
        whose = _whose(case, read, "invoice.sent")
    except Unread as unread:
        return Finding(Learned.LOOK_UNANSWERED, why=unread.why, answer=unread.answer)
    except Gone:
        return Finding(Learned.IMPOSSIBLE, why="gone")
    if whose is not Learned.FOUND_OURS and invoice.get("status") == "paid":
        # Whoever has paid needs no letter that asks for it.
        return Finding(Learned.FOUND_FREE, invoice, PAID)
    return Finding(whose or Learned.ABSENT, invoice)


def _no_longer_open(case: Case, invoice: Json) -> Finding | None:
    """What ends finalising and sending alike: somebody took it back or gave it up, or it is not what we asked for."""
    row = invoice_of(case)
    if invoice.get("status") not in _FINALISED:
        return Finding(Learned.IMPOSSIBLE, invoice, _not_open(invoice))
    if wrong := differences(invoice, total=row.total_minor, currency=row.currency.lower()):
        return Finding(Learned.FOUND_DIFFERENT, invoice, reason("total_differs", wrong))
    return None


def _not_open(invoice: Json) -> str:
    return reason("not_open", differences(invoice, status="open"))


def _whose(case: Case, read: Reader, kind: str) -> Learned | None:
    """Whether events of this kind say that we did it, or somebody; None where there is none. Raises Unread."""
    events = read.pages("/v1/events", {"types": [kind], **case.created})
    about_it = [event for event in events if _object_of(event) == invoice_of(case).stripe_invoice]
    if any(_key_of(event) in case.keys for event in about_it):
        return Learned.FOUND_OURS
    # Somebody did it, or Stripe's own repair did (those events carry no request).
    return Learned.FOUND_FREE if about_it else None


def _key_of(event: Json) -> str | None:
    request = event.get("request")
    key = request.get("idempotency_key") if isinstance(request, Mapping) else None
    return key if isinstance(key, str) else None


def _object_of(event: Json) -> str:
    data = event.get("data")
    subject = data.get("object") if isinstance(data, Mapping) else None
    return str(subject.get("id")) if isinstance(subject, Mapping) else ""


def _apply_finalize(case: Case, outcome: Learned, invoice: Json, why: str) -> list[Fact]:
    row, shown = invoice_of(case), _shown(invoice)
    status, number = shown.get("status"), shown.get("number")
    if isinstance(number, str) and status != "void":
        # Kept for a refused one, too: it may be payable, so it is never made a second time.
        row.number = number
    if outcome is not Learned.SUCCEEDED:
        # A draft that lies about could be finalised by mistake: it goes first.
        return differ(case, why) if status in (None, "draft") and why != "gone" else refuse(case, why)
    money = {"minor": row.total_minor, "currency": row.currency}
    finalized = _moved(case, InvoiceState.FINALIZED, "finalized", number=number, **money)
    # A credit balance, or a total below the least that can be charged, leaves nothing to pay.
    return [*finalized, *_paid(case)] if status == "paid" else finalized


def _shown(data: Json) -> Json:
    """The invoice that an answer is, or that is attached to its error."""
    error = data.get("error")
    attached = error.get("invoice") if isinstance(error, Mapping) else None
    return attached if isinstance(attached, Mapping) else data


def _apply_send(case: Case, outcome: Learned, invoice: Json, why: str) -> list[Fact]:
    if outcome is not Learned.SUCCEEDED:
        return refuse(case, why)
    if why == PAID:
        return _paid(case)
    row = invoice_of(case)
    return _moved(case, InvoiceState.SENT, "sent", minor=row.total_minor, currency=row.currency, number=row.number)


def _paid(case: Case) -> list[Fact]:
    row = invoice_of(case)
    return _moved(case, InvoiceState.PAID, "paid", minor=row.total_minor, currency=row.currency, number=row.number)


PAID = "paid"
"""Why a send is as good as done although nobody sent it."""

CREATE = Step(
    name="create",
    ask=_ask_to_create,
    judge=lambda case, invoice: judgement(_not_as_created(case, invoice)),
    look=_look_for_draft,
    apply=_apply_create,
    creates=True,
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
    judge=lambda case, data: judge_deleted(str(invoice_of(case).stripe_invoice), data),
    look=lambda case, read, livemode: look_for_deleted(str(invoice_of(case).stripe_invoice), read, livemode),
    apply=_apply_delete,
    rules=Rules(replays=False),
)
