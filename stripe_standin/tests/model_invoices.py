"""What the documentation promises about invoices, credit notes and balances, written down a second time.

Source: docs.stripe.com/invoicing/integration/workflow-transitions, api/credit_notes, billing/customer/balance.
"""

from dataclasses import dataclass

from model_keys import Books, Effects, Verdict
from model_payments import UNKNOWN_CARD, Payment, done, refused


@dataclass(eq=False)
class Client:
    """A customer. Below zero the balance is credit."""

    books: Books
    id: str = ""
    balance: int = 0


@dataclass(eq=False)
class Bill:
    """An invoice with its payment. `gone`: a draft that was deleted."""

    client: Client
    sends: bool  # collection_method
    payments: list[Payment]  # all payments of the machine: the invoice adds its own
    id: str = ""
    status: str = "draft"
    total: int = 0
    due: int = 0
    paid: int = 0
    pre: int = 0
    post: int = 0
    applied: int = 0
    by_notes: int = 0  # refunded by credit notes
    payment: Payment | None = None
    gone: bool = False

    @property
    def books(self) -> Books:
        return self.client.books

    @property
    def remaining(self) -> int:
        return 0 if self.status == "paid" else self.due - self.paid

    def add(self, amount: int) -> Verdict:
        if self.gone:
            return refused("resource_missing")
        if self.status != "draft":
            return refused("invoice_not_editable")
        self.total += amount
        self.due = max(self.total, 0)
        return done(("invoiceitem.created", amount))

    def finalize(self) -> Verdict:
        return refused() if self.status != "draft" else done(*self._final())

    def pay(self, card: str | None, out_of_band: bool, now: float) -> Verdict:
        if self.status in ("paid", "void"):
            return refused()
        if card and not out_of_band and self.books.livemode:
            return UNKNOWN_CARD
        draft = self.status == "draft"
        to_pay = max(self.total + self.client.balance, 0) if draft else self.remaining
        if to_pay and not card and not out_of_band:
            return refused()
        before = self._final() if draft else ()
        if self.status == "paid":
            return done(*before)
        assert self.payment is not None
        if out_of_band:
            self.status, self.paid = "paid", self.due
            return done(*before, ("invoice.paid_out_of_band", self.due), *self._no_payment())
        self.payment.card = card
        verdict = self.payment.ask_the_bank(now)
        return verdict._replace(effects=(*before, *verdict.effects))

    def send(self) -> Verdict:
        if self.status not in ("draft", "open") or not self.sends:
            return refused()
        before = self._final() if self.status == "draft" else ()
        return done(*before, *([("invoice.sent", self.total)] if self.status == "open" else []))

    def void(self) -> Verdict:
        if self.status not in ("open", "uncollectible"):
            return refused()
        self.status = "void"
        back, self.applied = self.applied, 0
        self.client.balance += back
        moved = [("customer_balance", back)] if back else []
        return done(("invoice.voided", self.total), *self._no_payment(), *moved)

    def give_up(self) -> Verdict:
        if self.status != "open":
            return refused()
        self.status = "uncollectible"
        return done(("invoice.marked_uncollectible", self.total))

    def delete(self) -> Verdict:
        if self.status != "draft":
            return refused()
        self.gone = True
        return done(("invoice.deleted", self.total))

    def credit(self, amount: int, refund: int, credit: int, out_of_band: int, now: float) -> Verdict:
        """A credit note: it reduces what remains to be paid first; the ways to give back the rest must add up to it."""
        if self.gone:
            return refused("resource_missing")
        if self.status not in ("open", "paid"):
            return refused()
        taken = self.payment.captured if self.payment else 0
        direct = self.payment.refunded - self.by_notes if self.payment else 0
        pre = min(amount, self.remaining)
        rest = amount - pre
        if amount > self.remaining + self.paid - self.post - direct or refund + credit + out_of_band != rest:
            return refused()
        if refund and not taken:
            return refused()
        effects: list[tuple[str, int | None]] = [("credit_note.created", amount)]
        if refund and self.payment:
            effects += self.payment.refund(refund, now).effects
            self.by_notes += refund
        if credit:
            self.client.balance -= credit
            effects.append(("customer_balance", -credit))
        self.pre, self.post, self.due = self.pre + pre, self.post + rest, self.due - pre
        if self.payment and self.payment.status not in ("succeeded", "canceled"):
            self.payment.amount = self.due or self.payment.amount
        if self.status == "open" and not self.remaining:
            self.status = "paid"
            effects += [("invoice.paid", self.paid), *self._no_payment()]
        return done(*effects)

    def _final(self) -> Effects:
        """Finalize: apply the customer's balance first. If nothing remains to be paid, the invoice is paid."""
        before = self.client.balance
        owed = self.total + before
        self.status, self.due, self.client.balance = "open", max(owed, 0), min(owed, 0)
        effects: list[tuple[str, int | None]] = [("invoice.finalized", self.total)]
        self.applied = before - self.client.balance
        if self.applied:
            effects.append(("customer_balance", -self.applied))
        if self.due:
            self.payment = Payment(self.books, self.due, paid=self._paid)
            self.payments.append(self.payment)
            effects.append(("payment_intent.created", self.due))
        else:
            self.status = "paid"
            effects.append(("invoice.paid", 0))
        return tuple(effects)

    def _paid(self) -> Effects:
        assert self.payment is not None
        self.status, self.paid = "paid", self.payment.captured
        return (("invoice.paid", self.paid),)

    def _no_payment(self) -> Effects:
        """Cancel its payment."""
        if self.payment is None or self.payment.status in ("succeeded", "canceled"):
            return ()
        return tuple(self.payment.end("payment_intent.canceled"))
