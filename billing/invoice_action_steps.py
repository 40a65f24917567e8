"""The call of an invoice action: one for each kind of action, with a record and a key of its own.

Stripe decides which of two actions is carried out: an invoice that is paid is not voided, and one that is voided is not
paid. The one that lost finds that by a look, and says so. Sources: docs.stripe.com/invoicing/integration/
workflow-transitions, docs.stripe.com/api/invoices/pay (`paid_out_of_band`), /void, /mark_uncollectible.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from billing.differences import differences
from billing.facts import OWN, new_fact
from billing.idempotency import Rules
from billing.invoice_payments import (
    BY_OTHERS,
    PROCESSING,
    Owed,
    judge_paid,
    look_for_payment,
    read_to_end,
    shown,
    was_refused,
    why_declined,
)
from billing.learned import Learned
from billing.own_events import by_whom
from billing.provider_ids import IdKind, object_path
from billing.states import InvoiceActionState, set_state
from billing.steps import Ask, Gone, Json, Judgment, LoadedOperation, LookResult, Reader, Step, judgment, read_object
from billing.tables.facts import Fact
from billing.tables.invoice_actions import (
    MARK_PAID,
    MARK_UNCOLLECTIBLE,
    PAY,
    VOID,
    VOID_CREDIT_NOTE,
    InvoiceAction,
)

ALREADY: Mapping[object, str] = {
    "paid": "already_paid",
    "void": "already_voided",
    "uncollectible": "already_uncollectible",
}
"""By Stripe's status, the reason of an action that came too late."""


def action_of(loaded: LoadedOperation) -> InvoiceAction:
    assert isinstance(loaded.row, InvoiceAction), "the operation's own table"
    return loaded.row


def owed(loaded: LoadedOperation) -> Owed:
    row = action_of(loaded)
    return Owed(row.stripe_invoice, row.amount_minor, row.currency)


def moved(row: InvoiceAction, state: InvoiceActionState, why: str) -> list[Fact]:
    """Change its state, and return the fact that says so."""
    set_state(row, state)
    row.reason = why or None
    return [
        new_fact(
            row,
            state,
            action=row.action,
            invoice=row.invoice_id,
            stripe_invoice=row.stripe_invoice,
            minor=row.amount_minor,
            currency=row.currency,
            account=row.account or OWN,
            **({} if row.credit_note_id is None else {"credit_note": row.credit_note_id}),
            why=why,
        )
    ]


def _ask(verb: str, parameters: Callable[[InvoiceAction], Json] = lambda _row: {}) -> Callable[[LoadedOperation], Ask]:
    def ask(loaded: LoadedOperation) -> Ask:
        row = action_of(loaded)
        path = object_path(IdKind.INVOICE, row.stripe_invoice, verb)
        return Ask("POST", path, parameters(row), row.stripe_invoice)

    return ask


def _judge(status: str) -> Callable[[LoadedOperation, Json], Judgment]:
    """Of an answer that shows the invoice in this status."""

    def judge(loaded: LoadedOperation, invoice: Json) -> Judgment:
        of = owed(loaded)
        wrong = differences(invoice, object="invoice", id=of.stripe_invoice, currency=of.currency.lower())
        if wrong or invoice.get("status") != status:
            return judgment(wrong, Learned.ASK)
        return judgment(differences(invoice, total=of.minor))

    return judge


def _look(status: str, event: str, over: Sequence[str]) -> Callable[[LoadedOperation, Reader, bool], LookResult]:
    """For the effect that the invoice is in this status, which an event with our key proves to be ours. In one of
    `over` the effect is not possible any more."""

    def look(loaded: LoadedOperation, read: Reader, livemode: bool) -> LookResult:
        of = owed(loaded)
        try:
            invoice = read_to_end(of, read, livemode)
            if isinstance(invoice, LookResult):
                return invoice
            found = invoice.get("status")
            if found == status:
                whose = by_whom(loaded, read, event, of.stripe_invoice, loaded.created)
                return _by_whom(loaded, whose, invoice)
        except Gone as gone:
            return LookResult(Learned.IMPOSSIBLE if gone.sure else Learned.UNPROVABLE, why="gone")
        if found in over:
            return LookResult(Learned.IMPOSSIBLE, invoice, ALREADY[found])
        if was_refused(loaded.open_record):
            return LookResult(Learned.REFUSED, invoice, "refused_by_stripe")
        return LookResult(Learned.ABSENT, invoice)

    return look


def _by_whom(loaded: LoadedOperation, whose: Learned | None, invoice: Json) -> LookResult:
    """Of an invoice that is as this action wants it. Where no event says by whom, it counts as done."""
    if whose is not Learned.FOUND_OURS and (whose is not None or was_refused(loaded.open_record)):
        return LookResult(Learned.IMPOSSIBLE, invoice, ALREADY[invoice.get("status")])
    return LookResult(whose or Learned.FOUND_FREE, invoice)


def _look_for_charge(loaded: LoadedOperation, read: Reader, livemode: bool) -> LookResult:
    """As of the invoice's own charge; but what somebody else has paid is not paid by this action, and one that was
    given up may be charged."""
    found = look_for_payment(loaded, owed(loaded), read, livemode, chargeable=("open", "uncollectible"))
    status = found.data.get("status")
    if status == "paid" and found.learned in (Learned.FOUND_OURS, Learned.FOUND_FREE):
        nobody = found.learned is Learned.FOUND_FREE and found.why != BY_OTHERS
        return _by_whom(loaded, None if nobody else found.learned, found.data)
    if found.learned is Learned.IMPOSSIBLE and status in ALREADY:
        return LookResult(Learned.IMPOSSIBLE, found.data, ALREADY[status])
    if found.why == PROCESSING and was_refused(loaded.open_record):
        return LookResult(Learned.IMPOSSIBLE, found.data, "already_processing")
    return found


# The void of a credit note. Sources: docs.stripe.com/api/credit_notes/void; docs.stripe.com/invoicing/integration/
# programmatic-credit-notes: a note of an open invoice only.


def _ask_to_void_note(loaded: LoadedOperation) -> Ask:
    row = action_of(loaded)
    # The invoice and not the note: what changes one invoice is called one after the other.
    return Ask("POST", object_path(IdKind.CREDIT_NOTE, row.stripe_credit_note, "void"), {}, row.stripe_invoice)


def _judge_void_of_note(loaded: LoadedOperation, note: Json) -> Judgment:
    row = action_of(loaded)
    wrong = differences(note, object="credit_note", id=row.stripe_credit_note, currency=row.currency.lower())
    if wrong or note.get("status") != "void":
        return judgment(wrong, Learned.ASK)
    return judgment(differences(note, amount=row.amount_minor))


def _look_for_void_of_note(loaded: LoadedOperation, read: Reader, livemode: bool) -> LookResult:
    """First the invoice: once it is not open no note of it is voided, so what the note shows after that stays."""
    row, own = action_of(loaded), str(action_of(loaded).stripe_credit_note)
    try:
        path = object_path(IdKind.INVOICE, row.stripe_invoice)
        invoice = read_object(read, path, ("invoice", row.stripe_invoice), livemode=livemode)
        note = read_object(read, object_path(IdKind.CREDIT_NOTE, own), ("credit_note", own), livemode=livemode)
    except Gone:
        # Stripe deletes neither an invoice that was finalized nor a note of it.
        return LookResult(Learned.UNPROVABLE, why="gone")
    if note.get("status") == "void":
        return _by_whom(loaded, by_whom(loaded, read, "credit_note.voided", own, loaded.created), note)
    if (found := invoice.get("status")) != "open":
        return LookResult(Learned.IMPOSSIBLE, note, ALREADY.get(found, "invoice_not_open"))
    if was_refused(loaded.open_record):
        return LookResult(Learned.REFUSED, note, "refused_by_stripe")
    return LookResult(Learned.ABSENT, note)


_STATES = {
    Learned.SUCCEEDED: InvoiceActionState.DONE,
    Learned.DECLINED: InvoiceActionState.DECLINED,
    Learned.REFUSED: InvoiceActionState.REFUSED,
}


def _apply(loaded: LoadedOperation, outcome: Learned, data: Json, why: str) -> list[Fact]:
    # The invoice, or its note, moves with it in the same transaction: `billing.invoice_actions.carry_over`.
    loaded.shown = shown(data)
    return moved(action_of(loaded), _STATES[outcome], why_declined(data, why))


def _step(name: str, needs_a_person: bool = False, seen_as: Learned | None = None, **of: Any) -> Step:
    # Whose effect it is, is read from events, so the proof waits until the last send has settled.
    rules = Rules(proof_settles=True, needs_a_person=needs_a_person, seen_as=seen_as)
    return Step(name=name, apply=_apply, rules=rules, **of)


def _charged(row: InvoiceAction) -> dict[str, Any]:
    method = row.payment_method
    return {"off_session": True, **({"payment_method": method} if method is not None else {})}


CALLS: Mapping[str, Step] = {
    PAY: _step(
        "pay_invoice",
        ask=_ask("pay", _charged),
        judge=lambda loaded, invoice: judge_paid(owed(loaded), invoice),
        find=_look_for_charge,
        # Where somebody else has tried, too, no look can tell whether we did. A person can, by Stripe's log: an attempt
        # that took the money would have been found, so one that was made was declined.
        needs_a_person=True,
        seen_as=Learned.DECLINED,
    ),
    MARK_PAID: _step(
        "mark_invoice_paid",
        ask=_ask("pay", lambda _row: {"paid_out_of_band": True}),
        judge=_judge("paid"),
        find=_look("paid", "invoice.paid", over=("paid", "void")),
    ),
    VOID: _step(
        "void_invoice",
        ask=_ask("void"),
        judge=_judge("void"),
        find=_look("void", "invoice.voided", over=("paid", "void")),
    ),
    MARK_UNCOLLECTIBLE: _step(
        "mark_uncollectible",
        ask=_ask("mark_uncollectible"),
        judge=_judge("uncollectible"),
        find=_look("uncollectible", "invoice.marked_uncollectible", over=("paid", "void", "uncollectible")),
    ),
    VOID_CREDIT_NOTE: _step(
        "void_credit_note",
        ask=_ask_to_void_note,
        judge=_judge_void_of_note,
        find=_look_for_void_of_note,
    ),
}
"""By action, its call."""
