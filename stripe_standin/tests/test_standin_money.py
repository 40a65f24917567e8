"""Money is conserved, whatever is done in whatever order: nothing appears, nothing is lost, all of it is entered."""

import random

import pytest

DAY = 86_400
STEPS = 200
CARDS = ["pm_card_visa", "pm_card_amex", "pm_card_refundFail", "pm_card_pendingRefund", "pm_card_chargeDeclined"]
RELEASES = ("release", "payment_intent.canceled", "authorization.expired")


class Shop:
    """Does something at random, such as a shop with many clumsy hands would."""

    def __init__(self, raw, control, seed):
        self.raw, self.control, self.random = raw, control, random.Random(seed)
        self.intents = []

    def act(self):
        step = self.random.choices(
            [self.pay, self.capture, self.refund, self.cancel, self.wait], weights=[30, 35, 22, 5, 8]
        )[0]
        step()

    def pay(self):
        form = {
            "amount": self.random.randint(1, 5000),
            "currency": self.random.choice(["usd", "eur"]),
            "payment_method": self.random.choice(CARDS),
            "capture_method": self.random.choice(["manual", "manual", "automatic", "automatic_async"]),
            "payment_method_options[card][request_multicapture]": self.random.choice(["if_available", "never"]),
            "confirm": "true",
        }
        answer = self.raw("POST", "/v1/payment_intents", form)
        assert answer.status in (200, 402)
        self.intents.append((answer.json().get("error") or {"payment_intent": answer.json()})["payment_intent"]["id"])

    def capture(self):
        form = {
            "amount_to_capture": self.random.randint(0, 3000),
            "final_capture": self.random.choice(["true", "false"]),
        }
        self.ask("capture", form)

    def cancel(self):
        self.ask("cancel", {})

    def ask(self, verb, form):
        if self.intents:
            intent = self.random.choice(self.intents)
            assert self.raw("POST", f"/v1/payment_intents/{intent}/{verb}", form).status in (200, 400)

    def refund(self):
        if self.intents:
            form = {"payment_intent": self.random.choice(self.intents), "amount": self.random.randint(1, 3000)}
            assert self.raw("POST", "/v1/refunds", form).status in (200, 400)

    def wait(self):
        self.control.advance(self.random.choice([1, 60, DAY, 4 * DAY, 4 * DAY]))

    def everything(self, things):
        """All of these objects, the newest first."""
        after, found = "", []
        while True:
            page = self.raw("GET", f"/v1/{things}?limit=100{after}").json()
            found += page["data"]
            if not page["has_more"]:
                return found
            after = f"&starting_after={found[-1]['id']}"


@pytest.fixture(params=range(2))
def shop(raw, control, request):
    shop = Shop(raw, control, request.param)
    for _ in range(STEPS):
        shop.act()
    # What is captured in the background has been by now.
    control.advance(5)
    return shop


def test_what_was_authorized_was_captured_released_or_is_still_held(shop):
    sums = {}
    for effect in shop.control.effects():
        sums.setdefault(effect["id"], {}).setdefault(effect["kind"], []).append(effect["amount"])
    held = 0
    for intent in shop.everything("payment_intents"):
        did = {kind: sum(amounts) for kind, amounts in sums[intent["id"]].items()}
        assert did.get("capture", 0) == intent["amount_received"]
        if "authorization" in did:
            ended = did.get("capture", 0) + sum(did.get(kind, 0) for kind in RELEASES)
            assert did["authorization"] == ended + intent["amount_capturable"]
            held += intent["amount_capturable"]
    # The seeds are such that something of everything happened.
    assert held
    assert {"authorization", "capture", "decline", "refund", *RELEASES} <= {
        effect["kind"] for effect in shop.control.effects()
    }


def test_no_more_is_refunded_than_was_captured_and_no_more_captured_than_authorized(shop):
    refunded = {}
    for refund in shop.everything("refunds"):
        if refund["status"] != "failed":
            refunded[refund["charge"]] = refunded.get(refund["charge"], 0) + refund["amount"]
    for charge in shop.everything("charges"):
        assert 0 <= charge["amount_refunded"] <= charge["amount_captured"] <= charge["amount"]
        assert charge["amount_refunded"] == refunded.get(charge["id"], 0)
        assert charge["refunded"] is (charge["captured"] and charge["amount_refunded"] == charge["amount_captured"])


def test_the_ledger_says_what_the_objects_say(shop):
    entries = shop.everything("balance_transactions")
    by_source = {}
    for entry in entries:
        assert entry["net"] == entry["amount"] - entry["fee"]
        assert entry["fee"] == sum(each["amount"] for each in entry["fee_details"])
        by_source[entry["source"]] = by_source.get(entry["source"], 0) + entry["amount"]
    for charge in shop.everything("charges"):
        assert by_source.pop(charge["id"], 0) == charge["amount_captured"]
    for refund in shop.everything("refunds"):
        assert by_source.pop(refund["id"]) == (0 if refund["status"] == "failed" else -refund["amount"])
    for payout in shop.everything("payouts"):
        assert by_source.pop(payout["id"]) == -payout["amount"]
    assert by_source == {}


def test_the_balance_is_the_sum_of_the_ledger(shop):
    sums = {}
    for entry in shop.everything("balance_transactions"):
        sums[entry["currency"]] = sums.get(entry["currency"], 0) + entry["net"]
    balances = {}
    balance = shop.raw("GET", "/v1/balance").json()
    for each in balance["available"] + balance["pending"]:
        balances[each["currency"]] = balances.get(each["currency"], 0) + each["amount"]
    assert {currency: balances.get(currency, 0) for currency in sums} == sums


def test_every_payout_can_be_reconciled_to_the_cent(shop):
    shop.control.advance(3 * DAY)
    payouts = shop.everything("payouts")
    assert payouts
    seen = []
    for payout in payouts:
        entries = shop.raw("GET", f"/v1/balance_transactions?limit=100&payout={payout['id']}").json()["data"]
        within = [entry for entry in entries if entry["type"] != "payout"]
        assert sum(entry["net"] for entry in within) == payout["amount"] > 0
        assert {entry["currency"] for entry in entries} == {payout["currency"]}
        seen += [entry["id"] for entry in entries]
    assert len(seen) == len(set(seen))
