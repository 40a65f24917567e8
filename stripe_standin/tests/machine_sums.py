"""What has to add up after every run: lists, the ledger, payouts, the balance, and events."""

import sys
from collections import defaultdict

from machine_asking import CALLERS, Asking, books_of
from model_payments import BACKGROUND


class AddingUp(Asking):
    def teardown(self):
        try:
            if sys.exc_info()[0] is None:  # after a failure, these checks would only hide it
                self.everything_adds_up()
        finally:
            self.http.clear()

    def everything_adds_up(self):
        self.advance(BACKGROUND)
        for books in {books_of(caller) for caller in CALLERS}:
            self.lists_are_complete(books)
            entries = self.all(books, "balance_transactions")
            by_source = defaultdict(list)
            for entry in entries:
                assert entry["net"] == entry["amount"] - entry["fee"]
                by_source[entry["source"]].append(entry)
            self.captures_and_refunds_are_entered(books, by_source)
            for payout in self.all(books, "payouts"):
                (out,) = by_source.pop(payout["id"])
                parts = self.all(books, "balance_transactions", payout=payout["id"])
                paid_out = sum(each["net"] for each in parts if each["id"] != out["id"])
                assert paid_out == payout["amount"] == -out["net"] > 0
            assert not by_source, "entries of nothing"
            balance = self.get(books, "balance")
            left = sum(each["amount"] for kind in ("available", "pending") for each in balance[kind])
            assert left == sum(each["net"] for each in entries)
            requests = {each["request"]["id"] for each in self.all(books, "events")} - {None}
            assert requests <= self.executed

    def lists_are_complete(self, books):
        for things, ours in (
            ("payment_intents", self.payments),
            ("customers", self.clients),
            ("invoices", [bill for bill in self.bills if not bill.gone]),
        ):
            expected = [(each.id, getattr(each, "status", None)) for each in reversed(ours) if each.books == books]
            assert [(each["id"], each.get("status")) for each in self.all(books, things)] == expected
        for client in self.clients:
            if client.books == books:
                moved = self.all(books, f"customers/{client.id}/balance_transactions")
                assert sum(each["amount"] for each in moved) == client.balance

    def captures_and_refunds_are_entered(self, books, by_source):
        refunds = self.all(books, "refunds")
        for payment in self.payments:
            if payment.books != books:
                continue
            charge = self.get(books, f"payment_intents/{payment.id}")["latest_charge"]
            taken = by_source.pop(charge, [])
            assert sum(each["amount"] for each in taken) == payment.captured
            assert len(taken) == payment.captures
            # 2.9 % and 30 cents for each capture, half a cent rounded up (stripe.com/pricing).
            assert all(each["fee"] == (each["amount"] * 29 + 500) // 1000 + 30 for each in taken)
            given = [each for each in refunds if each["payment_intent"] == payment.id and each["status"] != "failed"]
            assert sum(each["amount"] for each in given) == payment.refunded
        for refund in refunds:
            entered = sum(each["amount"] for each in by_source.pop(refund["id"]))
            assert entered == (0 if refund["status"] == "failed" else -refund["amount"])

    def all(self, books, things, **query):
        """Every object of a list, page by page."""
        found, more = [], True
        while more:
            after = f"&starting_after={found[-1]['id']}" if found else ""
            asked = "".join(f"&{name}={value}" for name, value in query.items())
            page = self.get(books, f"{things}?limit=7{after}{asked}")
            found += page["data"]
            more = page["has_more"]
        return found
