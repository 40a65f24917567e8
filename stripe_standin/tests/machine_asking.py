"""How the machine asks the stand-in and the model, and what it compares."""

from collections import Counter, defaultdict

import urllib3
from hypothesis.stateful import RuleBasedStateMachine, invariant
from model_invoices import Bill
from model_keys import DAY, INSTEAD, Books, Keys, Sent
from model_payments import MALFORMED, MISSING, Payment

from stripe_standin.control import Control

TEST, ROTATED, LIVE, THEIRS = "sk_test_ours", "rk_test_ours", "sk_live_ours", "acct_theirs"
# An API key and an account; the first two are one and the same to the stand-in.
CALLERS = [(TEST, None), (ROTATED, None), (TEST, THEIRS), (LIVE, None)]
MARGIN = 60  # nothing may be due within this time, because real time passes as well
MADE = {"payment_intent.created": "payments", "customer.created": "clients", "invoice.created": "bills"}


def books_of(caller):
    return Books(caller[1], caller[0].startswith("sk_live"))


class Asking(RuleBasedStateMachine):
    url = ""

    def __init__(self):
        super().__init__()
        self.control = Control(self.url)
        self.control.reset()
        self.http = urllib3.PoolManager(retries=False, maxsize=2)  # one for the capture that is held
        self.keys = Keys()
        self.payments, self.clients, self.bills = [], [], []
        self.past, self.used = [], []  # earlier requests, and the keys that were used
        self.requests = self.effects = 0  # how many have been seen
        self.executed = set()
        self.ledger = defaultdict(Counter)  # by PaymentIntent: what its effects add up to
        self.first_under = {}  # by account, mode and key: the time and the request of its effects
        self.due, self.came = Counter(), Counter()  # what happens without a request: expected, and seen

    def ask(self, caller, path, form, run, key, fault=None, *, malformed=False, about=None, method="POST"):
        """Send it, ask the model what should come of it, and compare. `run` is the model's own execution."""
        if key in ("new", "none", "used"):
            key = None if key == "none" else self.used[-1] if key == "used" and self.used else f"k{len(self.used)}"
        if key is not None:
            self.used.append(key)
        books = books_of(caller)

        def executed():
            if malformed:
                return MALFORMED
            if fault in INSTEAD:
                return INSTEAD[fault]
            self.executed.add(record["request_id"])
            return run(books, record["time"])

        answer = self.send(caller, path, form, key, fault, method)
        (record,) = self.control.requests(after=self.requests)
        self.requests += 1
        self.pass_time(record["time"])
        sent = Sent(books, method, path, form, key if method == "POST" else None)
        expected = self.keys.expect(sent, fault, record["time"], record["request_id"], executed)
        self.judge(answer, expected, record, sent.key)
        self.past.append((caller, path, form, run, key, malformed, about, method))
        self.look(about)
        self.look(self.payments[-1])

    def send(self, caller, path, form, key, fault, method="POST"):
        """The answer, or None if there was no whole one."""
        headers = self.headers(caller)
        if key is not None:
            headers["Idempotency-Key"] = key
        if fault is not None:
            headers["X-Standin-Fault"] = fault
        sent = {"fields": form, "encode_multipart": False} if method == "POST" else {}
        try:
            return self.http.request(method, self.url + path, **sent, headers=headers, redirect=False, timeout=60)
        except urllib3.exceptions.HTTPError:
            return None

    def judge(self, answer, expected, record, key):
        self.settle(record, key, expected.effects)
        seen = None if answer is None else answer.status
        assert seen == expected.status, (answer and answer.data, expected)
        if answer is None or expected.page:
            return
        assert answer.headers["Request-Id"] == record["request_id"]
        replay = expected.replay_of
        assert answer.headers.get("Idempotent-Replayed") == ("true" if replay else None)
        known = replay or expected.saved
        assert answer.headers.get("Original-Request") == (known.request_id if known else None)
        assert answer.headers.get("Idempotency-Key") == (key if known else None)
        if not expected.lie:
            if expected.code is not None:
                assert answer.json()["error"]["code"] == expected.code
            if known is not None:
                # Taken from the first whole answer: every other must be the same.
                known.body = known.body or answer.data
                assert known.body == answer.data

    def settle(self, record=None, key=None, effects=()):
        """Check the effects since the last call: this request's are `effects`, and the others were due."""
        mine = Counter()
        for effect in self.control.effects(after=self.effects):
            self.effects = effect["n"]
            kind, named, amount = effect["kind"], effect["id"], effect["amount"]
            if effect["request_id"] is None:
                # Payouts are checked at the end. A refund that fails has its own id.
                if kind != "payout":
                    self.came[kind, None if kind == "refund.failed" else named, amount] += 1
            else:
                assert record is not None
                assert (effect["request_id"], effect["idempotency_key"]) == (record["request_id"], key)
                mine[kind, amount] += 1
                self.once(effect, record["time"])
                if kind in MADE:
                    getattr(self, MADE[kind])[-1].id = named
            if effect["object"] == "payment_intent":
                self.ledger[named][kind] += amount
        assert mine == Counter(effects)
        if self.came != self.due:
            self.pass_time(self.clock())
        assert self.came == self.due

    def once(self, effect, arrived):
        """The promise itself, without the model: the effects of one key within its day are those of one request."""
        if effect["idempotency_key"] is not None:
            place = effect["account"], effect["livemode"], effect["idempotency_key"]
            at, request_id = self.first_under.setdefault(place, (arrived, effect["request_id"]))
            if request_id != effect["request_id"]:
                assert arrived - at >= DAY - 1
                self.first_under[place] = arrived, effect["request_id"]

    def pass_time(self, now):
        for payment in self.payments:
            for kind, amount in payment.pass_time(now):
                self.due[kind, None if kind == "refund.failed" else payment.id, amount] += 1

    def advance(self, seconds):
        """Move the clock, and further if something would be due within MARGIN."""
        now = self.control.advance(seconds)["now"]
        borders = [*self.keys.borders(), *(at for payment in self.payments for at in payment.borders())]
        while any(now - 3 < at < now + MARGIN for at in borders):
            now = self.control.advance(2 * MARGIN)["now"]
        self.pass_time(now)
        self.settle()

    # The API must show everything as the model has it.

    def look(self, thing):
        if isinstance(thing, Payment) and thing.id:
            self.look_at_payment(thing)
        elif isinstance(thing, Bill) and thing.id and not thing.gone:
            self.look_at_bill(thing)

    def look_at_payment(self, payment):
        shown = self.get(payment.books, f"payment_intents/{payment.id}?expand[]=latest_charge")
        assert (shown["status"], shown["amount"]) == (payment.status, payment.amount)
        assert (shown["amount_capturable"], shown["amount_received"]) == (payment.held, payment.captured)
        assert shown["livemode"] == payment.books.livemode
        charge = shown["latest_charge"]
        assert (charge is not None) == payment.asked
        if charge:
            assert (charge["amount_captured"], charge["amount_refunded"]) == (payment.captured, payment.refunded)
            assert charge["captured"] == (payment.captured > 0 and payment.status == "succeeded")

    def look_at_bill(self, bill):
        shown = self.get(bill.books, f"invoices/{bill.id}")
        assert (shown["status"], shown["total"], shown["amount_due"]) == (bill.status, bill.total, bill.due)
        assert (shown["amount_paid"], shown["amount_remaining"]) == (bill.paid, bill.remaining)
        credited = shown["pre_payment_credit_notes_amount"], shown["post_payment_credit_notes_amount"]
        assert credited == (bill.pre, bill.post)
        if bill.status != "draft":
            # The invoice's total is what came from the balance, what was credited, and what was to be paid.
            applied = shown["ending_balance"] - shown["starting_balance"]
            assert shown["total"] == applied + shown["amount_due"] + bill.pre
        assert self.get(bill.books, f"customers/{bill.client.id}")["balance"] == bill.client.balance

    @invariant()
    def money_is_conserved(self):
        for payment in self.payments:
            sums = self.ledger[payment.id]
            ended = sums["release"] + sums["payment_intent.canceled"] + sums["authorization.expired"]
            if sums["authorization"]:
                assert sums["authorization"] == sums["capture"] + ended + payment.held
            assert sums["capture"] == payment.captured >= payment.refunded >= 0
        for bill in self.bills:
            assert bill.status != "paid" or bill.due == bill.paid >= bill.post

    def get(self, books, path):
        headers = self.headers(self.caller(books))
        answer = self.http.request("GET", f"{self.url}/v1/{path}", headers=headers, timeout=60)
        self.requests += 1
        assert answer.status == 200, answer.data
        return answer.json()

    def clock(self):
        return self.control.clock()["now"]

    @staticmethod
    def caller(books):
        return (LIVE if books.livemode else TEST), books.account

    @staticmethod
    def headers(caller):
        account = {"Stripe-Account": caller[1]} if caller[1] else {}
        return {"Authorization": f"Bearer {caller[0]}", **account}


def only_for(thing, run):
    """The model's execution of an action on `thing`. In other books, or once it is deleted, there is no such object."""
    return lambda books, now: MISSING if books != thing.books or getattr(thing, "gone", False) else run(now)
