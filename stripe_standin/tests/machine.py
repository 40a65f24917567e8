"""What the machine does: requests, keys, faults and moves of the clock, each with what the model expects."""

import threading

from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule
from machine_asking import CALLERS, books_of, only_for
from machine_sums import AddingUp
from model_invoices import Bill, Client
from model_keys import DAY, FAULTS, Sent
from model_payments import ASKS, DECLINED, MISSING, REFUND_FAILS, UNKNOWN_CARD, VISA, Payment, done

callers = st.sampled_from([CALLERS[0], *CALLERS])
faults = st.none() | st.none() | st.sampled_from(FAULTS)
# A new key, none, or the one that any caller used last, for any request.
keys = st.sampled_from(["new", "new", "new", "none", "used"])
parts = st.sampled_from([None, "all", "some", "some", "one", "too much", "0", "-1", "1.5", "lots"])
which = st.integers(0, 30)
MOVES = [10, 3600, DAY - 100, DAY, 7 * DAY - 100, 8 * DAY, 31 * DAY]


def sum_of(part, left):
    """Which amount of the rest to ask for (None: the parameter is left out), and whether it is a malformed amount."""
    amounts = {"all": left, "some": max(left // 2, 1), "one": 1, "too much": left + 1}
    asked = str(amounts[part]) if part in amounts else "100000000" if part == "lots" else part
    return asked, part in ("-1", "1.5", "lots")


class Machine(AddingUp):
    @initialize()
    def begin(self):
        """Something for every rule to act on."""
        for caller in (CALLERS[0], CALLERS[2]):
            self.authorize(caller, 1, 1000)
            self.customer(caller, "new", None)
            self.invoice(-1, True, "none", None)
            self.line(-1, 500, "none", None)

    # PaymentIntents and refunds.

    @rule(
        caller=callers,
        amount=st.integers(1, 5000),
        method=st.sampled_from(["manual", "manual", "automatic", None]),
        several=st.booleans(),
        card=st.sampled_from([None, VISA, VISA, DECLINED, ASKS, REFUND_FAILS]),
        bad=st.sampled_from([None] * 8 + ["amount", "zz"]),
        key=keys,
        fault=faults,
    )
    def create(self, caller, amount, method, several, card, bad, key, fault):
        form = {"amount": str(amount), "currency": "usd"}
        form |= {"capture_method": method} if method else {}
        form |= {"payment_method_options[card][request_multicapture]": "if_available"} if several else {}
        form |= {"confirm": "true", "payment_method": card} if card else {}
        form |= {bad: "-1"} if bad else {}

        def run(books, now):
            if card and books.livemode:
                return UNKNOWN_CARD
            payment = Payment(books, amount, method or "automatic_async", several and method == "manual")
            self.payments.append(payment)
            made = payment.confirm(card, now) if card else done()
            return made._replace(effects=(("payment_intent.created", amount), *made.effects))

        self.ask(caller, "/v1/payment_intents", form, run, key, fault, malformed=bool(bad))

    @rule(caller=callers, n=st.integers(1, 2), amount=st.integers(1, 5000))
    def authorize(self, caller, n, amount):
        books = books_of(caller)
        for intent in self.control.authorizations(n, amount=amount, livemode=books.livemode, account=books.account):
            payment = Payment(books, amount, "manual", id=intent, card=VISA)
            self.payments.append(payment)
            payment.ask_the_bank(self.clock())
            self.due.update([("payment_intent.created", intent, amount), ("authorization", intent, amount)])
        self.settle()

    @rule(i=which, card=st.sampled_from([None, VISA, DECLINED, ASKS, REFUND_FAILS]), key=keys, fault=faults)
    def confirm(self, i, card, key, fault):
        payment = self.one_of(self.payments, i)
        if payment.paid and card == REFUND_FAILS:
            card = VISA  # such a refund of a credit note is not modeled here
        form = {"payment_method": card} if card else {}
        self.act(payment, "confirm", form, lambda now: payment.confirm(card, now), key, fault)

    @precondition(lambda self: any(payment.status == "requires_action" for payment in self.payments))
    @rule(i=which, proved=st.booleans())
    def authenticate(self, i, proved):
        payment = self.one_of([each for each in self.payments if each.status == "requires_action"], i)
        outcome = "succeeded" if proved else "failed"
        place = {"account": payment.books.account} if payment.books.account else {}
        asked = {"payment_intent": payment.id, "outcome": outcome, "livemode": payment.books.livemode, **place}
        self.control._ask("POST", "authentications", asked)
        for kind, amount in payment.authenticated(proved, self.clock()).effects:
            named = next((bill.id for bill in self.bills if bill.payment is payment), "")
            self.due[kind, named if kind.startswith("invoice") else payment.id, amount] += 1
        self.settle()
        self.look(payment)

    @rule(i=which, part=parts, final=st.sampled_from([None, None, "true", "false"]), key=keys, fault=faults)
    def capture(self, i, part, final, key, fault):
        payment = self.one_of(self.payments, i)
        amount, malformed = sum_of(part, payment.held)
        form = ({"amount_to_capture": amount} if amount else {}) | ({"final_capture": final} if final else {})
        taken = None if amount is None or malformed else int(amount)
        self.act(payment, "capture", form, lambda now: payment.capture(taken, final != "false"), key, fault, malformed)

    @rule(i=which, key=keys, fault=faults)
    def cancel(self, i, key, fault):
        payment = self.one_of(self.payments, i)
        self.act(payment, "cancel", {}, lambda now: payment.cancel(), key, fault)

    @rule(i=which, part=parts, key=keys, fault=faults)
    def refund(self, i, part, key, fault):
        payment = self.one_of(self.payments, i)
        amount, malformed = sum_of(part, payment.captured - payment.refunded)
        malformed = malformed or amount == "0"
        given = None if amount is None or malformed else int(amount)
        form = {"payment_intent": payment.id} | ({"amount": amount} if amount else {})
        run = only_for(payment, lambda now: payment.refund(given, now))
        self.ask(self.caller(payment.books), "/v1/refunds", form, run, key, fault, malformed=malformed, about=payment)

    # Invoices.

    @rule(caller=callers, key=keys, fault=faults)
    def customer(self, caller, key, fault):
        def run(books, now):
            self.clients.append(Client(books))
            return done(("customer.created", None))

        self.ask(caller, "/v1/customers", {"name": "Ann", "email": "ann@example.com"}, run, key, fault)

    @rule(i=which, sends=st.booleans(), key=keys, fault=faults)
    def invoice(self, i, sends, key, fault):
        client = self.one_of(self.clients, i)
        form = {"customer": client.id} | ({"collection_method": "send_invoice", "days_until_due": "3"} if sends else {})

        def run(books, now):
            if books != client.books:
                return MISSING._replace(status=400)
            self.bills.append(Bill(client, sends, self.payments))
            return done(("invoice.created", 0))

        self.ask(self.caller(client.books), "/v1/invoices", form, run, key, fault)
        self.look(self.bills[-1] if self.bills else None)

    @rule(i=which, amount=st.integers(-300, 2000), key=keys, fault=faults)
    def line(self, i, amount, key, fault):
        bill = self.one_of(self.bills, i)
        form = {"customer": bill.client.id, "invoice": bill.id, "amount": str(amount)}

        def run(books, now):
            return bill.add(amount) if books == bill.books else MISSING._replace(status=400)

        self.ask(self.caller(bill.books), "/v1/invoiceitems", form, run, key, fault, about=bill)

    @rule(
        i=which,
        verb=st.sampled_from(["finalize", "finalize", "send", "void", "mark_uncollectible", "delete"]),
        key=keys,
        fault=faults,
    )
    def invoice_does(self, i, verb, key, fault):
        bill = self.one_of(self.bills, i)
        does = {"mark_uncollectible": bill.give_up}.get(verb) or getattr(bill, verb)
        self.act_on_bill(bill, verb, {}, lambda now: does(), key, fault)

    @rule(
        i=which, card=st.sampled_from([None, VISA, VISA, DECLINED]), out_of_band=st.booleans(), key=keys, fault=faults
    )
    def pay(self, i, card, out_of_band, key, fault):
        bill = self.one_of(self.bills, i)
        form = ({"payment_method": card} if card else {}) | ({"paid_out_of_band": "true"} if out_of_band else {})
        self.act_on_bill(bill, "pay", form, lambda now: bill.pay(card, out_of_band, now), key, fault)

    @rule(i=which, part=parts, how=st.sampled_from(["", "refund", "credit", "out_of_band"]), key=keys, fault=faults)
    def credit_note(self, i, part, how, key, fault):
        bill = self.one_of(self.bills, i)
        amount, malformed = sum_of(part or "some", bill.remaining or bill.paid - bill.post)
        malformed = malformed or amount == "0"
        rest = 0 if malformed else max(int(amount) - bill.remaining, 0)
        ways = {"refund": 0, "credit": 0, "out_of_band": 0} | ({how: rest} if how else {})
        form = {"invoice": bill.id, "amount": amount} | {
            f"{each}_amount": str(ways[each]) for each in ways if ways[each]
        }

        def run(books, now):
            return bill.credit(int(amount), **ways, now=now) if books == bill.books else MISSING._replace(status=400)

        caller = self.caller(bill.books)
        self.ask(caller, "/v1/credit_notes", form, run, key, fault, malformed=malformed, about=bill)

    # The same again, at once, and later.

    @rule(
        i=st.integers(0, 5),
        change=st.sampled_from(["nothing"] * 4 + ["form", "order", "caller"]),
        caller=callers,
        fault=faults,
    )
    def repeat(self, i, change, caller, fault):
        """An earlier request, repeated as it was or with one change."""
        asked, path, form, run, key, malformed, about, method = self.past[-1 - i % len(self.past)]
        if change == "form" and method == "POST":
            form = {**form, "zz": "1"}
            malformed = True
        if change == "order":
            form = dict(reversed(form.items()))
        caller = caller if change == "caller" else asked
        self.ask(caller, path, form, run, key, fault, malformed=malformed, about=about, method=method)

    @rule(i=st.integers(0, 3), slept=st.sampled_from([0, 0, DAY - 100, DAY]))
    def again(self, i, slept):
        """A client had no answer and repeats its request, at once or the next day."""
        self.advance(slept)
        self.repeat(i, "nothing", None, None)

    @rule(i=which, late=st.booleans(), then=st.sampled_from(["proceed", "forget"]))
    def in_flight(self, i, late, then):
        """A capture that is held; meanwhile its key is used, and a day may pass."""
        payment = self.one_of(self.payments, i)
        caller, path, key = (
            self.caller(payment.books),
            f"/v1/payment_intents/{payment.id}/capture",
            f"held {len(self.used)}",
        )
        answers, before = [], self.requests
        first = threading.Thread(target=lambda: answers.append(self.send(caller, path, {}, key, "hold_before")))
        first.start()
        self.control.wait_held()
        self.requests += 1
        if late:
            self.advance(DAY + 100)
        meanwhile = [self.send(caller, path, form, key, None) for form in ({}, {"metadata[a]": "b"})]
        assert [answer.status for answer in meanwhile] == [409, 400]
        self.requests += 2
        self.control.release(then=then)
        first.join()
        (record, *_) = self.control.requests(after=before)
        self.used.append(key)
        if then == "proceed":
            self.executed.add(record["request_id"])
            sent = Sent(payment.books, "POST", path, {}, key)
            run = lambda: payment.capture(None, True)  # noqa: E731
            # If a request was in flight for longer than a key lives, the key's day begins with the answer.
            at = self.control.clock()["now"] if late else record["time"]
            expected = self.keys.expect(sent, None, at, record["request_id"], run)
            self.judge(answers[0], expected, record, key)
        else:
            assert answers == [None]
            self.settle()
        run = only_for(payment, lambda now: payment.capture(None, True))
        self.past.append((caller, path, {}, run, key, False, payment, "POST"))
        self.look(payment)

    @rule(seconds=st.sampled_from(MOVES))
    def move(self, seconds):
        self.advance(seconds)

    @staticmethod
    def one_of(things, i):
        return things[i % len(things)]

    def act(self, payment, verb, form, run, key, fault, malformed=False):
        path = f"/v1/payment_intents/{payment.id}/{verb}"
        run = only_for(payment, run)
        self.ask(self.caller(payment.books), path, form, run, key, fault, malformed=malformed, about=payment)

    def act_on_bill(self, bill, verb, form, run, key, fault):
        path, method = (
            (f"/v1/invoices/{bill.id}", "DELETE") if verb == "delete" else (f"/v1/invoices/{bill.id}/{verb}", "POST")
        )
        self.ask(self.caller(bill.books), path, form, only_for(bill, run), key, fault, about=bill, method=method)
        self.look(bill.payment)
