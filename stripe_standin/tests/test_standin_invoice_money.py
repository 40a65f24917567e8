"""Random actions on invoices, in any order, neither create nor lose money."""

import random

import pytest

WALKS, STEPS = 8, 100
CARDS = ("pm_card_visa", "pm_card_visa_chargeDeclined")


class Walk:
    """Random steps, some of them wrong. The same seed makes the same steps."""

    def __init__(self, raw, control, seed):
        self.raw, self.control = raw, control
        self.random = random.Random(seed)
        self.customer = self.post("customers", {"balance": "-500"})["id"]
        self.invoices = []

    def post(self, path, form=None):
        answer = self.raw("POST", f"/v1/{path}", form or {})
        assert answer.status in (200, 400, 402), (path, answer.data)
        return answer.json()

    def get(self, path):
        return self.raw("GET", f"/v1/{path}").json()

    def step(self):
        if not self.invoices or self.random.random() < 0.1:
            self.invoices.append(self.post("invoices", {"customer": self.customer})["id"])
            self.post(f"invoices/{self.invoices[-1]}/add_lines", {"lines[0][amount]": "5000"})
        one = self.random.choice(self.invoices[-3:])
        amount = str(self.random.randint(1, 900))
        step = self.random.choice(
            (
                lambda: self.post(f"invoices/{one}/add_lines", {"lines[0][amount]": f"{amount}0"}),
                lambda: self.post(f"invoices/{one}/add_lines", {"lines[0][amount]": f"-{amount}"}),
                *[lambda: self.post(f"invoices/{one}/finalize")] * 3,
                lambda: self.post(f"invoices/{one}/pay", {"payment_method": self.random.choice(CARDS)}),
                lambda: self.post(f"invoices/{one}/pay", {"paid_out_of_band": "true"}),
                lambda: self.post(f"invoices/{one}/void"),
                *[lambda: self.post(f"invoices/{one}/mark_uncollectible")] * 2,
                *[lambda: self.confirm(one)] * 2,
                *[lambda: self.credit(one, int(amount))] * 3,
                *[lambda: self.uncredit(one)] * 2,
                *[lambda: self.refund(one, amount)] * 2,
                lambda: self.post(f"customers/{self.customer}", {"balance": f"-{int(amount) // 9}"}),
                lambda: self.control.advance(self.random.choice((10, 4000))),
            )
        )
        step()

    def confirm(self, invoice):
        for payment in self.get(f"invoice_payments?invoice={invoice}&status=open")["data"]:
            intent = payment["payment"]["payment_intent"]
            self.post(f"payment_intents/{intent}/confirm", {"payment_method": self.random.choice(CARDS)})

    def credit(self, invoice, amount):
        remaining = self.get(f"invoices/{invoice}")["amount_remaining"]
        post = max(amount - remaining, 0)
        refund = self.random.randint(0, post)
        credit = self.random.randint(0, post - refund)
        form = {"refund_amount": refund, "credit_amount": credit, "out_of_band_amount": post - refund - credit}
        self.post("credit_notes", {"invoice": invoice, "amount": amount, **form})

    def uncredit(self, invoice):
        for note in self.get(f"credit_notes?invoice={invoice}")["data"]:
            self.post(f"credit_notes/{note['id']}/void")

    def refund(self, invoice, amount):
        for payment in self.get(f"invoice_payments?invoice={invoice}&status=paid")["data"]:
            self.post("refunds", {"payment_intent": payment["payment"]["payment_intent"], "amount": amount})


@pytest.mark.parametrize("seed", range(WALKS))
def test_money_is_conserved(raw, control, seed):
    walk = Walk(raw, control, seed)
    for _ in range(STEPS):
        walk.step()
    invoices = [walk.get(f"invoices/{each}?expand[]=amount_paid_off_stripe") for each in walk.invoices]
    notes = walk.get("credit_notes?limit=100")["data"]
    for invoice in invoices:
        final = invoice["ending_balance"] is not None
        applied = invoice["starting_balance"] - invoice["ending_balance"] if final else max(-invoice["total"], 0)
        parts = [invoice[name] for name in ("amount_paid", "amount_remaining", "pre_payment_credit_notes_amount")]
        assert invoice["total"] + applied == sum(parts)
        assert min(parts) >= 0
        assert (invoice["status"] == "paid") == (
            final and invoice["status"] != "void" and not invoice["amount_remaining"]
        )
        paid = walk.get(f"invoice_payments?invoice={invoice['id']}&status=paid&limit=100")["data"]
        assert invoice["amount_paid"] == sum(p["amount_paid"] for p in paid) + invoice["amount_paid_off_stripe"]
        waiting = walk.get(f"invoice_payments?invoice={invoice['id']}&status=open")["data"]
        assert [p["amount_requested"] for p in waiting] == (
            [invoice["amount_remaining"]] if invoice["status"] in ("open", "uncollectible") else []
        )
        post = sum(n["post_payment_amount"] for n in notes if (n["invoice"], n["status"]) == (invoice["id"], "issued"))
        assert post == invoice["post_payment_credit_notes_amount"] <= invoice["amount_paid"]
    # The money that invoices show as paid by Stripe was captured, and no more than that was refunded.
    captured = sum(each["amount"] for each in control.effects("capture"))
    assert captured == sum(each["amount_paid"] - each["amount_paid_off_stripe"] for each in invoices)
    assert sum(each["amount"] for each in control.effects("refund")) <= captured
    ledger = walk.get(f"customers/{walk.customer}/balance_transactions?limit=100")["data"]
    assert sum(each["amount"] for each in ledger) == walk.get(f"customers/{walk.customer}")["balance"]


def test_the_walk_gets_everywhere(raw, control):
    """Without this, the test above would show little."""
    kinds = set()
    for seed in range(WALKS):
        control.reset()
        walk = Walk(raw, control, seed)
        for _ in range(STEPS):
            walk.step()
        kinds |= {each["kind"] for each in control.effects()}
    assert kinds >= {
        "capture",
        "credit_note.created",
        "credit_note.voided",
        "customer_balance",
        "decline",
        "invoice.marked_uncollectible",
        "invoice.paid",
        "invoice.paid_out_of_band",
        "invoice.voided",
        "refund",
    }
