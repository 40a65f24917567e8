"""What a shop asks of Stripe itself: at its checkout the card is authorized, and the customer is known there."""

import sys
from typing import Any
from urllib.parse import urlencode

import urllib3

import billing


class Checkout:
    """`stripe` is its address. In a real shop the customer's browser confirms the intent with the customer's own card;
    `pm_card_visa` is a test card, so this never works with a live key.
    """

    def __init__(self, stripe: str) -> None:
        self.stripe = stripe

    def authorize(self, amount: billing.Money) -> str:
        """In one request: nothing is captured yet, and the amount is held. `capture_method=manual` makes it a hold, and
        `request_multicapture` lets it be captured in parts, where the account and the card can do that."""
        intent = self._made(
            "payment_intents",
            {
                "amount": amount.minor,
                "currency": amount.currency.lower(),
                "capture_method": "manual",
                "payment_method": "pm_card_visa",
                "payment_method_options[card][request_multicapture]": "if_available",
                "confirm": "true",
            },
        )
        if intent.get("status") != "requires_capture":
            sys.exit(f"the card was not authorized at {self.stripe}: {intent}")
        return str(intent["id"])

    def customer(self) -> str:
        return str(self._made("customers", {"name": "Example", "email": "customer@example.com"})["id"])

    def _made(self, what: str, asked: dict[str, str | int]) -> dict[str, Any]:
        headers = {"Authorization": "Bearer sk_test_shop", "Content-Type": "application/x-www-form-urlencoded"}
        try:
            answer = urllib3.request("POST", f"{self.stripe}/v1/{what}", headers=headers, body=urlencode(asked))
        except urllib3.exceptions.HTTPError:
            sys.exit(f"STRIPE_API_BASE is set, and nothing answers at {self.stripe}; `billing up` starts a stand-in")
        made: dict[str, Any] = answer.json()
        return made
