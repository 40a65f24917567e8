"""Every route gets right and wrong values for the parameters in its table; a refused request has changed nothing.

BILLING_TEST_EXAMPLES=2000 BILLING_TEST_SEED=7 makes more requests, and others.
"""

import inspect
import os
import random
import sys
from collections import defaultdict
from pathlib import Path
from urllib.parse import urlencode

import pytest
from mutants import BREAKS_UNDER_NONSENSE
from quiet import Quiet

from stripe_standin.control import Control
from stripe_standin.errors import StripeError
from stripe_standin.routes import ROUTES

REQUESTS = int(os.environ.get("BILLING_TEST_EXAMPLES", "30"))  # to each route
SEED = int(os.environ.get("BILLING_TEST_SEED", "20261125"))

# Possible values. The reader of a parameter says which of them it takes.
SANE = "1 2 10 300 usd true false who@example.com words 2026-10-28.endive 1795600000".split()
NAMED = {
    "currency": ["usd"],
    "enabled_events": ["*", "invoice.paid"],
    "number": ["4242424242424242", "F-7"],
    "payment_method": ["@", "@", "pm_card_visa", "pm_card_chargeDeclined", "pm_card_authenticationRequired"],
    "query": ["amount>5", "currency:'usd'", "metadata['a']:'b' -created<5", "status:'open' OR total=5", "email~'who'"],
    "token": ["tok_visa"],
    "url": ["http://127.0.0.1:9/hook"],
}
# "@" stands for an object of the kind that the parameter names, or that the route is about.
KIND = {"default_payment_method": "payment_method", "invoice_line_item": "line_item", "source": "charge"}
OF_THE_ROUTE = {"starting_after", "ending_before", "id"}
ABOUT = {"lines": "line_item"}
HOSTILE = [
    *("", " ", "0", "-1", "-0", "+5", "1.5", "1e3", "NaN", "Infinity", "0x10", "1_000", "true ", "null", "None", "[]"),
    *("999999999999", "9" * 13, "9" * 400, "\0", "\r\n", "é", "💸", "\u202e", "٣", "１", "'", '"', "{}", "%", "&"),
    *("x" * 501, "x" * 5001, "pm_none", "a:'" * 20),
]
ODD = [{}, [], {"zz": "1"}, ["1", {"a": "b"}], {"0": {"1": "2"}}, {"": ""}]
OBJECTS = {
    *("customer", "payment_intent", "charge", "invoice", "payment_method", "credit_note", "payout", "refund"),
    *KIND,
    *OF_THE_ROUTE,
}


class Nonsense:
    """Makes forms from a route's table: nine of ten values are such as the reader takes."""

    def __init__(self, chance):
        self._chance = chance

    def form(self, table):
        """Most of the required parameters, and a few of the others."""
        may = sorted(set(table.readers) - set(table.required))
        names = [*table.required, *self._chance.sample(may, self._chance.randint(0, min(3, len(may))))]
        if names and self._rarely():
            names.remove(self._chance.choice(names))
        return {name: self.value(name, table.readers[name]) for name in names}

    def value(self, name, reader):
        """Values for a parameter, found in the parts of its reader."""
        if self._rarely():
            return self._chance.choice(self._chance.choice([HOSTILE, HOSTILE, ODD]))
        made_of = inspect.getclosurevars(reader).nonlocals
        if "table" in made_of:
            return self.form(made_of["table"])
        if "item" in made_of:
            return [self.value(name, made_of["item"]) for _ in range(self._chance.randint(1, 3))]
        choices = made_of.get("choices") or made_of.get("fields") or NAMED.get(name)
        if choices:
            return self._chance.choice(choices)
        if name.endswith("metadata"):
            return {self._chance.choice(["a", "b", "", "k" * 41]): self._chance.choice(["1", ""])}
        if name in OBJECTS:
            return "@"
        return self._chance.choice([value for value in SANE if takes(reader, value)] or SANE)

    def _rarely(self):
        return self._chance.random() < 0.1


def takes(reader, value):
    try:
        reader(value, "x")
    except StripeError:
        return False
    return True


def flat(value, name):
    """The pairs of a form for this tree."""
    if isinstance(value, dict):
        return [pair for key, each in value.items() for pair in flat(each, f"{name}[{key}]")]
    if isinstance(value, list):
        return [pair for n, each in enumerate(value) for pair in flat(each, f"{name}[{n}]")]
    return [(name, value)]


def flat_form(form):
    return dict(pair for name, value in form.items() for pair in flat(value, name))


def furnished(raw):
    """Makes objects in several states, and returns their ids by the kind of object."""
    found = defaultdict(list)

    def post(path, **form):
        answer = raw("POST", f"/v1/{path}", flat_form(form))
        look(found, answer.json())
        return answer.json().get("id", "none")

    customer = post("customers", email="who@example.com")
    paying = {"amount": "1000", "currency": "usd", "payment_method": "pm_card_visa", "confirm": "true"}
    post("payment_intents", amount="1000", currency="usd", customer=customer)
    *_, taken, kept = [post("payment_intents", **paying, capture_method="manual") for _ in range(6)]
    post(f"payment_intents/{taken}/capture", amount_to_capture="700")
    post(f"payment_intents/{kept}/capture")
    post("refunds", payment_intent=taken, amount="100")
    post("payment_methods", type="card", card={"token": "tok_visa"})
    post("payment_methods/pm_card_visa/attach", customer=customer)
    post("webhook_endpoints", url="http://127.0.0.1:9/hook", enabled_events=["customer.deleted"])
    post(f"customers/{customer}/balance_transactions", amount="-5", currency="usd")
    sending = {"customer": customer, "collection_method": "send_invoice", "days_until_due": "3"}
    for end in (None, None, "finalize", "void", "pay"):
        invoice = post("invoices", **sending)
        post("invoiceitems", customer=customer, invoice=invoice, amount="500")
        post(f"invoices/{invoice}/add_lines", lines=[{"amount": "7"}])
        if end == "void":
            post(f"invoices/{invoice}/finalize")
        if end:
            post(f"invoices/{invoice}/{end}", **({"payment_method": "pm_card_visa"} if end == "pay" else {}))
        if end == "finalize":
            post("credit_notes", invoice=invoice, amount="100")
    post("invoiceitems", customer=customer, amount="50", currency="usd")
    for things in {operation.split("/")[2] for operation in ROUTES}:
        look(found, raw("GET", f"/v1/{things}?limit=100").json())
    return found


def look(found, body):
    """Keep the ids of everything in an answer."""
    for each in body.values() if isinstance(body, dict) else body if isinstance(body, list) else ():
        look(found, each)
    if (
        isinstance(body, dict)
        and isinstance(body.get("id"), str)
        and body.get("object")
        and body["id"] not in found[body["object"]]
    ):
        found[body["object"]].append(body["id"])


def about(path):
    """The kind of object that the last part of a route names."""
    things = [part for part in path.split("/")[2:] if part.endswith("s")][-1]
    if path.startswith("/v1/customers/") and things == "balance_transactions":
        return "customer_balance_transaction"
    return ABOUT.get(things, things.removesuffix("s"))


class Attacker:
    """Calls routes with everything that their tables name, and checks each answer."""

    def __init__(self, raw, control, chance):
        self._raw, self._control, self._chance = raw, control, chance
        self._world, self._quiet = furnished(raw), Quiet(control)
        self._nonsense = Nonsense(chance)
        self._asked = 0

    def ask(self, name):
        method, path = name.split()
        above, _, rest = path.partition("/{id}")
        pairs = []
        for field, value in flat_form(self._nonsense.form(ROUTES[name].table)).items():
            last = field.rstrip("]").rpartition("[")[2]
            kind = about(path) if last in OF_THE_ROUTE else KIND.get(last, last)
            pairs.append((field, self._an(kind) if value == "@" else value))
        where = path
        if "{id}" in path:
            known = self._chance.random() < 0.9
            thing = self._an(about(above)) if known else self._chance.choice(["x_1", "%00", "%F0", "é%2F"])
            where = f"{above}/{thing}{rest}".replace("{id}", self._an(about(path)))
        self._asked += 1
        if method == "POST":
            answer = self._raw(method, where, urlencode(pairs).encode(), key=f"fuzz-{self._asked}")
        else:
            answer = self._raw(method, where + ("?" + urlencode(pairs) if pairs else ""))
        try:
            self._quiet.judge(answer)
        except AssertionError as error:
            error.add_note(f"{method} {where} {pairs}: {answer.status} {answer.data[:500]!r}")
            raise
        if answer.status == 200:
            look(self._world, answer.json())

    def advance(self, seconds):
        self._control.advance(seconds)
        # Old keys are forgotten when the next one is used.
        self._raw("POST", "/v1/customers", b"", key=f"after-{self._asked}")
        self._quiet = Quiet(self._control)

    def _an(self, kind):
        return self._chance.choice(self._world.get(kind) or ["x_1"])


def attack(raw, control, name):
    attacker = Attacker(raw, control, random.Random(f"{SEED} {name}"))
    for _ in range(REQUESTS):
        attacker.ask(name)


@pytest.mark.parametrize("name", ROUTES)
def test_whatever_a_route_is_asked_it_answers_and_a_refusal_changes_nothing(raw, control, name):
    attack(raw, control, name)


def test_a_walk_through_all_routes_is_answered_at_every_step(raw, control):
    """The objects may be deleted, void or refunded meanwhile, and the clock is moved from time to time."""
    chance = random.Random(SEED)
    attacker = Attacker(raw, control, chance)
    for _ in range(REQUESTS * 40):
        attacker.ask(chance.choice(sorted(ROUTES)))
        if chance.random() < 0.02:
            attacker.advance(chance.choice([10, 3700, 90_000, 8 * 86_400]))


@pytest.mark.parametrize("mutant", BREAKS_UNDER_NONSENSE)
def test_nonsense_finds_what_is_broken(start, raw, mutant):
    program = [sys.executable, str(Path(__file__).with_name("mutants.py")), mutant]
    with start(program=program) as (url, _), pytest.raises(AssertionError):
        attack(type(raw)(url), Control(url), "POST /v1/payment_intents/{id}/capture")
