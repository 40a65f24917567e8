"""The provider calls of a credit note: reading the ids of the lines that it names, issuing it, and reading it again.

Whether it was issued, the list of the invoice's credit notes shows, by our metadata. That it is not listed proves
nothing, as with a refund: Stripe may still carry out what it answered with a 500, and a second note of the same amount
would be credited, too. So a call whose outcome is unknown is never repeated under a new key by a machine
(`Learned.UNPROVABLE`); it is refused by a look only if Stripe has so little left of the invoice that there cannot be a
note of ours any more.
Sources: docs.stripe.com/api/credit_notes/create; docs.stripe.com/error-low-level.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from billing import request_ids
from billing.credit_note_refunds import Linked
from billing.differences import Difference, below, differences, reason
from billing.facts import OWN, new_fact
from billing.gateway import Response
from billing.idempotency import BAD_REQUEST, Rules
from billing.learned import Learned
from billing.provider_ids import IdKind, is_id, object_path
from billing.states import CreditNoteState, set_state
from billing.steps import (
    INVOICE_KEY,
    METADATA_KEY,
    Ask,
    Gone,
    Json,
    LoadedOperation,
    LookResult,
    Reader,
    Step,
    body_of,
    judgment,
    read_object,
)
from billing.tables.credit_notes import CreditNote
from billing.tables.facts import Fact


def note_of(loaded: LoadedOperation) -> CreditNote:
    assert isinstance(loaded.row, CreditNote)
    return loaded.row


# The lines of the invoice, by whose ids Stripe wants them named; and what Stripe reckons that they come to. There may
# be taxes and discounts on them; how an amount of a line is meant then, Stripe documents for automatic tax only. So
# nothing is issued that comes to something else than was asked for. Source: docs.stripe.com/api/credit_notes/preview.


def ids_of_lines(row: CreditNote, read: Reader) -> dict[str, str | None]:
    """By position, Stripe's ids of the lines that it names; None for one that is not there. Raises Unread."""
    found: dict[str, str | None] = dict.fromkeys(_positions(row))
    if not found:
        return found
    for line in read.pages(object_path(IdKind.INVOICE, row.stripe_invoice, "lines"), {}):
        metadata = line.get("metadata") or {}
        position = str(metadata.get("billing_line"))
        ours = metadata.get(METADATA_KEY) == row.invoice_id and str(line.get("id", "")).startswith("il_")
        if ours and position in found:
            found[position] = str(line["id"])
    return found


def _read_lines(loaded: LoadedOperation, read: Reader, _livemode: bool) -> LookResult:
    row = note_of(loaded)
    found = ids_of_lines(row, read)
    if missing := [position for position, own in found.items() if own is None]:
        return LookResult(Learned.REFUSED, why=f"no_such_line: {', '.join(missing)}")
    ids = [str(own) for own in found.values()]
    shown = read.get("/v1/credit_notes/preview", asked_of(row, _refund_of(loaded), ids))
    if isinstance(shown, Response) and shown.status == BAD_REQUEST:
        return LookResult(Learned.REFUSED, why=refused_by_stripe(shown))
    before = row.amount_minor if row.settle == "reduce" else 0
    if wrong := differences(body_of(shown), amount=row.amount_minor, pre_payment_amount=before):
        return LookResult(Learned.REFUSED, why=reason("reckoned_otherwise", wrong))
    return LookResult(Learned.SUCCEEDED, {"lines": [{"id": each} for each in ids]})


def refused_by_stripe(answer: Response) -> str:
    """By the code of the error, and the parameter that it names."""
    code = answer.error_code or answer.error_type or "no code"
    return f"{code}: {answer.error_param}" if answer.error_param else code


def _positions(row: CreditNote) -> list[str]:
    return sorted(row.lines or {}, key=int)


def _apply_lines(loaded: LoadedOperation, outcome: Learned, shown: Json, why: str) -> list[Fact]:
    row = note_of(loaded)
    if outcome is not Learned.SUCCEEDED:
        return moved(row, CreditNoteState.REFUSED, why)
    row.stripe_lines = [line["id"] for line in shown["lines"]]
    return []


# Issue it.


def asked_of(row: CreditNote, stripe_refund: str | None, stripe_lines: Sequence[str]) -> dict[str, Any]:
    """The parameters of the note, for Stripe's call and for its preview. `stripe_refund`: None in a preview, before
    there is one. `stripe_lines`: Stripe's ids of its lines, in the order of their positions."""
    asked: dict[str, Any] = {"invoice": row.stripe_invoice}
    if row.lines is None:
        asked["amount"] = row.amount_minor
    else:
        asked["lines"] = [
            {"type": "invoice_line_item", "invoice_line_item": line, **_part(row.lines[position])}
            for position, line in zip(_positions(row), stripe_lines, strict=True)
        ]
    if row.credit_reason is not None:
        asked["reason"] = row.credit_reason
    if row.memo is not None:
        asked["memo"] = row.memo
    match row.settle:
        case "balance":
            asked["credit_amount"] = row.amount_minor
        case "out_of_band":
            asked["out_of_band_amount"] = row.amount_minor
        case "refund" if stripe_refund is None:
            asked["refund_amount"] = row.amount_minor
        case "refund":
            asked["refunds"] = [{"refund": stripe_refund, "amount_refunded": row.amount_minor}]
    return asked


def _part(line: Mapping[str, Any]) -> dict[str, Any]:
    return {"quantity": line["quantity"]} if "quantity" in line else {"amount": line["minor"]}


def _ask_to_issue(loaded: LoadedOperation) -> Ask:
    row = note_of(loaded)
    ours = {METADATA_KEY: row.id, INVOICE_KEY: row.invoice_id, **request_ids.metadata(row.request_id)}
    # The invoice and not the note: what changes one invoice is called one after the other.
    asked = asked_of(row, _refund_of(loaded), row.stripe_lines or ())
    return Ask("POST", "/v1/credit_notes", {**asked, "metadata": ours}, row.stripe_invoice)


def _refund_of(loaded: LoadedOperation) -> str | None:
    return next((part.stripe_refund for part in loaded.parts if isinstance(part, Linked)), None)


def _not_as_asked(loaded: LoadedOperation, note: Json) -> list[Difference]:
    """In what it differs from what was asked for: its amount, and each of the parts that the amount consists of."""
    row = note_of(loaded)
    before = row.amount_minor if row.settle == "reduce" else 0
    wrong = differences(
        note,
        object="credit_note",
        invoice=row.stripe_invoice,
        currency=row.currency.lower(),
        amount=row.amount_minor,
        pre_payment_amount=before,
        post_payment_amount=row.amount_minor - before,
    )
    wrong += differences(note, within="metadata", **{METADATA_KEY: row.id})
    if row.settle == "out_of_band":
        wrong += differences(note, out_of_band_amount=row.amount_minor)
    if row.settle == "balance" and not note.get("customer_balance_transaction"):
        wrong.append(Difference("customer_balance_transaction", "one", "none"))
    given = [(each.get("refund"), each.get("amount_refunded")) for each in note.get("refunds") or ()]
    if given != ([(_refund_of(loaded), row.amount_minor)] if row.settle == "refund" else []):
        wrong.append(Difference("refunds", _refund_of(loaded) or "none", f"{len(given)}, or another"))
    if not is_id(IdKind.CREDIT_NOTE, note.get("id")):
        wrong.append(Difference("id", "the id of a credit note", "none"))
    return wrong


def _look_for_note(loaded: LoadedOperation, read: Reader, livemode: bool) -> LookResult:
    """First what is left of the invoice, then all its notes: one that was issued between the two is in the list."""
    row = note_of(loaded)
    try:
        path = object_path(IdKind.INVOICE, row.stripe_invoice)
        invoice = read_object(read, path, ("invoice", row.stripe_invoice), livemode=livemode)
    except Gone:
        # Stripe deletes no invoice that was finalized.
        return LookResult(Learned.UNPROVABLE, why="no_such_invoice")
    notes = read.pages("/v1/credit_notes", {"invoice": row.stripe_invoice})
    ours = [note for note in notes if _names(row, note)]
    if len(ours) > 1:
        # Each has an id of its own, so there is no key of ours under which both were issued.
        twice = Difference("credit_notes", "one", str(len(ours)))
        return LookResult(Learned.FOUND_DIFFERENT, ours[0], reason("credited_more_than_once", [twice]))
    if ours:
        if wrong := _not_as_asked(loaded, ours[0]):
            return LookResult(Learned.FOUND_DIFFERENT, ours[0], reason("credited_otherwise", wrong))
        return LookResult(Learned.FOUND_OURS, ours[0])
    if too_little := _too_little(row, invoice):
        return LookResult(Learned.IMPOSSIBLE, why=reason("too_little_left", too_little))
    return LookResult(Learned.UNPROVABLE, why="no_credit_note_of_ours")


def _names(row: CreditNote, note: Json) -> bool:
    metadata = note.get("metadata")
    return isinstance(metadata, Mapping) and metadata.get(METADATA_KEY) == row.id


def _too_little(row: CreditNote, invoice: Json) -> list[Difference]:
    """Why Stripe can issue no such note any more: neither what is due nor what was paid and not yet credited grows
    again. Empty if it can, or does not say."""
    if row.settle == "reduce":
        if invoice.get("status") != "open":
            return differences(invoice, status="open")
        return below(invoice, "amount_remaining", row.amount_minor)
    paid, credited = invoice.get("amount_paid"), invoice.get("post_payment_credit_notes_amount")
    if invoice.get("status") != "paid" or type(paid) is not int or type(credited) is not int:
        return []
    return below({"left": paid - credited}, "left", row.amount_minor)


def _apply_note(loaded: LoadedOperation, outcome: Learned, note: Json, why: str) -> list[Fact]:
    row = note_of(loaded)
    if outcome is not Learned.SUCCEEDED:
        return moved(row, CreditNoteState.REFUSED, why)
    row.stripe_credit_note = str(note["id"])
    number = note.get("number")
    row.number = number if isinstance(number, str) else None
    issued = moved(row, CreditNoteState.ISSUED, why)
    return issued if note.get("status") != "void" else [*issued, *moved(row, CreditNoteState.VOIDED, "")]


# Observe it: somebody may void it at Stripe.


def _observe(loaded: LoadedOperation, read: Reader, livemode: bool) -> LookResult:
    row = note_of(loaded)
    path = object_path(IdKind.CREDIT_NOTE, row.stripe_credit_note)
    try:
        return LookResult(
            Learned.SUCCEEDED,
            read_object(read, path, ("credit_note", str(row.stripe_credit_note)), livemode=livemode),
        )
    except Gone:
        return LookResult(Learned.SUCCEEDED, why="gone")


def _apply_observed(loaded: LoadedOperation, _outcome: Learned, note: Json, _why: str) -> list[Fact]:
    row = note_of(loaded)
    voided = note.get("status") == "void" and row.state == CreditNoteState.ISSUED
    return moved(row, CreditNoteState.VOIDED, "") if voided else []


def moved(row: CreditNote, state: CreditNoteState, why: str) -> list[Fact]:
    """Change its state, and return the fact that says so."""
    set_state(row, state)
    row.reason = why or None
    return [
        new_fact(
            row,
            state,
            minor=row.amount_minor,
            currency=row.currency,
            account=row.account or OWN,
            invoice=row.invoice_id,
            stripe_invoice=row.stripe_invoice,
            stripe_credit_note=row.stripe_credit_note,
            number=row.number,
            settle=row.settle,
            credit_reason=row.credit_reason,
            refund=row.refund_id,
            why=why,
        )
    ]


READ_LINES = Step(
    # As all that only reads: the archive counts no doubt of it.
    name="read_lines",
    ask=lambda loaded: Ask("GET", object_path(IdKind.INVOICE, note_of(loaded).stripe_invoice, "lines")),
    find=_read_lines,
    apply=_apply_lines,
    rules=Rules(replays=False),
)
ISSUE = Step(
    name="issue",
    ask=_ask_to_issue,
    judge=lambda loaded, note: judgment(_not_as_asked(loaded, note)),
    find=_look_for_note,
    apply=_apply_note,
    creates=True,
    rules=Rules(needs_a_person=True),
)
OBSERVE = Step(
    name="read_credit_note",
    ask=lambda loaded: Ask("GET", object_path(IdKind.CREDIT_NOTE, note_of(loaded).stripe_credit_note)),
    find=_observe,
    apply=_apply_observed,
    # The next event, or reconciliation, has it looked at again.
    rules=Rules(replays=False, alarms=False),
)
