"""What an application asks for while everything fails, and how each of it must end."""

import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from itertools import cycle, repeat

from deaths import ENDS
from mailing import ask_for_email
from service import IN_PARTS, Service
from sqlalchemy import ColumnElement, func, select

import billing
from billing import database
from billing.schedules import SCHEDULES, Schedule
from billing.states import InvoiceState
from billing.tables.credit_notes import CreditNote
from billing.tables.entities import Capture, Invoice
from jobs.road import ticks

INVOICES_EACH = 20
"""As many invoices has a customer; all of one customer's are listed in a look for one of them."""
SCHEDULED = 0.1
"""So often a step of the test also asks for a schedule to run."""
NOTES = ("reduce", "balance", "out_of_band", "refund")
EARLY = (InvoiceState.REQUESTED, InvoiceState.DRAFTED, InvoiceState.LINES_ADDED, InvoiceState.FINALIZED)
FEW = 5
GIVEN_BACK, CREDITED = 500, 500
"""In minor units, of the 45.01 EUR of an invoice, which may be paid in part by what was credited on another one."""


class Asking:
    """All moves, and what became of each by then is asked of Postgres: so an invoice that was sent may be voided."""

    def __init__(self, service: Service, rng: random.Random) -> None:
        self._service, self._rng = service, rng
        self._customers = self._customer(service.customer_despite_faults)
        self._payers = self._customer(service.payer_despite_faults)
        self._actions, self._notes = cycle(ENDS), cycle(NOTES)
        self.ends: dict[str, str] = {}
        self.parts: dict[str, list[int]] = {}
        """By payment intent, the parts that are captured of it."""
        self.runs: list[str] = []
        self.of_captures: list[str] = []
        """Invoices of what was captured: they are paid already."""
        self.to_send: list[str] = []
        """Invoices that their customers are sent; these may be charged, too."""
        self.acted: dict[str, list[str]] = defaultdict(list)
        """By what was asked to be done with them, the invoices."""
        self.emails: list[str] = []
        """They end as sent, or it is known that nobody knows. Those of invoices are not among them."""
        self.notes: Counter[str] = Counter()
        """How many credit notes of each kind."""
        self.voided_notes: list[str] = []

    @staticmethod
    def _customer(make: Callable[[], str]) -> Iterator[str]:
        while True:
            yield from repeat(make(), INVOICES_EACH)

    def all_moves(self) -> None:
        service = self._service
        intents = service.intents(self._rng.randint(1, 8))
        self.ends |= {service.ask_for_capture(intent): "captured" for intent in intents}
        self._invoices()
        self._invoice_of_capture(service.ask_for_capture(service.intents()[0]))
        self._refund_of_invoice()
        self._act_on_invoice()
        self._credit()
        self._void_note()
        self.ends[service.ask_for_void(*service.intents())] = "voided"
        self._two_parts()
        self._refund()
        self.emails.append(ask_for_email(service, next(self._customers)))
        if not self.runs or self._rng.random() < SCHEDULED:
            self.run(self._rng.choice(SCHEDULES))

    def what_is_missing(self) -> set[str]:
        """Ask for what was not possible before, as there was no invoice for it. Returns what is still not asked for."""
        missing = {*(ENDS.keys() - self.acted.keys()), *(set(NOTES) - self.notes.keys())}
        if missing & ENDS.keys():
            self._act_on_invoice()
        if missing & {*NOTES}:
            self._credit()
        if not self.voided_notes:
            self._void_note()
            missing.add("void of a credit note")
        if missing and self._under_way() < FEW:
            self._invoices()  # a busy machine asked for few, and all of them may be used
        return missing

    def _invoices(self) -> None:
        """One that its customer is sent, and one that is charged."""
        self.to_send.append(self._service.ask_for_invoice(next(self._payers)))
        charged = self._service.ask_for_invoice(next(self._payers), collect=billing.ChargeAutomatically())
        self.ends |= {self.to_send[-1]: "sent", charged: "paid"}

    def _under_way(self) -> int:
        """How many invoices are not yet sent or charged. Some may wait for a person, who comes in the end."""
        with database.transaction(self._service.engine) as session:
            return session.scalars(select(func.count()).where(Invoice.state.in_(EARLY))).one()

    def _invoice_of_capture(self, capture: str) -> None:
        """It waits until the capture is over, and asks nobody for money."""
        invoice = self._service.ask_for_invoice_of_capture(capture, next(self._customers))
        self.of_captures.append(invoice)
        self.ends |= {capture: "captured", invoice: "paid"}

    def run(self, schedule: Schedule) -> None:
        with database.transaction(self._service.engines["operator"]) as session:
            self.runs.append(ticks.ask_for(session, schedule, actor="chaos").id)

    def _two_parts(self) -> None:
        intent = self._service.by_hand_despite_faults("/v1/payment_intents", f"amount=1999&{IN_PARTS}")
        self.parts[intent] = [700, 1000]
        self.ends[self._service.ask_for_capture(intent, 700, remainder="keep")] = "captured"
        self.ends[self._service.ask_for_capture(intent, 1000)] = "captured"

    def _refund(self) -> None:
        """Of a capture that is over, if there is one of which nothing was given back yet."""
        left = select(Capture.id).where(Capture.state == "captured", Capture.refunds_minor == 0)
        with database.transaction(self._service.engine) as session:
            captures = session.scalars(left.order_by(Capture.id).limit(20)).all()
        if captures:
            self.ends[self._service.ask_for_refund(self._rng.choice(captures))] = "succeeded"

    def _refund_of_invoice(self) -> None:
        if invoice := self._untouched(Invoice.state == "paid", Invoice.id.in_(self.charged())):
            self.ends[self._service.refund_invoice(invoice, GIVEN_BACK)] = "succeeded"

    def _act_on_invoice(self) -> None:
        """The next of the things that may be done with an invoice that was sent, if there is one to which none was."""
        if invoice := self._sent():
            action = next(self._actions)
            self.acted[action].append(invoice)
            self.ends |= {self._service.act_on(invoice, action): "done", invoice: ENDS[action][1]}

    def _credit(self) -> None:
        """The next kind of a credit note, of an invoice that was sent or charged, if there is one left for it."""
        kind = next(self._notes)
        charged = Invoice.state == "paid", Invoice.id.in_(self.charged())
        if (invoice := self._sent() if kind == "reduce" else self._untouched(*charged)) is None:
            return
        note = self._service.credit(invoice, CREDITED, kind)
        self.notes[kind] += 1
        self.ends[note] = "issued"
        if (refund := self._service.row(CreditNote, note).refund_id) is not None:
            self.ends[refund] = "succeeded"

    def _void_note(self) -> None:
        """Of an open invoice. It may be credited, or something else be done with it, once more."""
        mine = CreditNote.id.in_(self.of("crn")), CreditNote.state == "issued", CreditNote.settle == "reduce"
        with database.transaction(self._service.engine) as session:
            notes = session.scalars(select(CreditNote.id).where(*mine).order_by(CreditNote.id)).all()
        if note := next((each for each in notes if each not in self.voided_notes), None):
            self.voided_notes.append(note)
            self.ends |= {self._service.void_note(note): "done", note: "voided"}

    def _sent(self) -> str | None:
        left = [invoice for invoice in self.to_send if self.ends[invoice] == "sent"]
        return self._untouched(Invoice.state == "sent", Invoice.id.in_(left))

    def _untouched(self, *which: ColumnElement[bool]) -> str | None:
        """One of these invoices of which nothing was credited or given back yet."""
        wanted = select(Invoice.id).where(Invoice.credited_minor == 0, Invoice.returned_minor == 0, *which)
        with database.transaction(self._service.engine) as session:
            return session.scalars(wanted.order_by(Invoice.id).limit(1)).one_or_none()

    def of(self, kind: str) -> list[str]:
        return [each for each in self.ends if each.startswith(f"{kind}_")]

    def charged(self) -> list[str]:
        """Invoices that are paid by a charge, on request or by themselves."""
        otherwise = {*self.of_captures, *self.acted["mark_invoice_paid"]}
        return [each for each in self.of("inv") if self.ends[each] == "paid" and each not in otherwise]
