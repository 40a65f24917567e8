"""Every route is asked for what its own table names, in sane and insane ways; whatever it refuses has changed nothing.

`BILLING_TEST_EXAMPLES=2000 BILLING_TEST_SEED=7` asks more often.
"""

import inspect
import os
from collections import defaultdict
from urllib.parse import urlencode

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from quiet import Quiet

from billing.standin.errors import StripeError
from billing.standin.routes import ROUTES

EXAMPLES = int(os.environ.get("BILLING_TEST_EXAMPLES", "20"))
SEED = int(os.environ.get("BILLING_TEST_SEED", "20261125"))

# What a value may be; a parameter's own reader says which of them it takes.
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
ODD = st.sampled_from([{}, [], {"zz": "1"}, ["1", {"a": "b"}], {"0": {"1": "2"}}, {"": ""}])
OBJECTS = {
    *("customer", "payment_intent", "charge", "invoice", "payment_method", "credit_note", "payout", "refund"),
    *KIND,
    *OF_THE_ROUTE,
}
now_and_then = st.integers(0, 9).map(lambda n: n == 9)


def values(name, reader):
    """What a parameter could be, found in what its reader was made of."""
    made_of = inspect.getclosurevars(reader).nonlocals
    if "table" in made_of:
        return hashes(made_of["table"])
    if "item" in made_of:
        return st.lists(values(name, made_of["item"]), min_size=1, max_size=3)
    for choices in ("choices", "fields"):
        if made_of.get(choices):
            return mostly(made_of[choices])
    if name.endswith("metadata"):
        return st.dictionaries(st.sampled_from(["a", "b", "", "k" * 41]), mostly(["1", ""]), max_size=2)
    if name in OBJECTS and name not in NAMED:
        return mostly(["@"])
    return mostly(NAMED.get(name) or [value for value in SANE if takes(reader, value)] or SANE)


def mostly(sane):
    return st.integers(0, 9).flatmap(
        lambda n: st.sampled_from(sane) if n < 8 else st.sampled_from(HOSTILE) if n < 9 else ODD | st.text(max_size=9)
    )


def takes(reader, value):
    try:
        reader(value, "x")
    except StripeError:
        return False
    return True


@st.composite
def hashes(draw, table):
    """A hash with what the table requires, mostly, and a little of what it may have."""
    names = sorted(set(table.readers) - set(table.required))
    chosen = draw(st.lists(st.sampled_from(names), max_size=3, unique=True)) if names else []
    required = [] if draw(now_and_then) else table.required
    return {name: draw(values(name, table.readers[name])) for name in (*required, *chosen)}


def flat(value, name):
    """The pairs that a tree is written as in a form."""
    if isinstance(value, dict):
        return [pair for key, each in value.items() for pair in flat(each, f"{name}[{key}]")]
    if isinstance(value, list):
        return [pair for n, each in enumerate(value) for pair in flat(each, f"{name}[{n}]")]
    return [(name, value)]


def flat_form(form):
    return dict(pair for name, value in form.items() for pair in flat(value, name))


@pytest.fixture
def world(raw, customer):
    """Ids of objects in several states, by the kind of object."""
    found = defaultdict(list)

    def look(told):
        for each in told.values() if isinstance(told, dict) else told if isinstance(told, list) else ():
            look(each)
        if isinstance(told, dict) and isinstance(told.get("id"), str) and "object" in told:
            found[told["object"]].append(told["id"])

    def post(path, **form):
        answer = raw("POST", f"/v1/{path}", flat_form(form))
        look(answer.json())
        return answer.json().get("id", "none")

    paying = {"amount": "1000", "currency": "usd", "payment_method": "pm_card_visa", "confirm": "true"}
    post("payment_intents", amount="1000", currency="usd", customer=customer)
    _, taken, kept = (post("payment_intents", **paying, capture_method="manual") for _ in range(3))
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
        look(raw("GET", f"/v1/{things}?limit=100").json())
    found["customer"].append(customer)
    return {kind: sorted(set(ids), key=ids.index) for kind, ids in found.items()}


def about(path):
    """The kind of object that a route's last things are."""
    things = [part for part in path.split("/")[2:] if part.endswith("s")][-1]
    if path.startswith("/v1/customers/") and things == "balance_transactions":
        return "customer_balance_transaction"
    return ABOUT.get(things, things.removesuffix("s"))


@pytest.mark.parametrize("name", ROUTES)
def test_whatever_a_route_is_asked_it_answers_and_a_refusal_changes_nothing(raw, control, world, name):
    method, path = name.split()
    quiet = Quiet(control)
    asked = 0

    def an(kind, choice):
        ids = world.get(kind) or ["x_1"]
        return ids[choice % len(ids)]

    @seed(SEED)
    @settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(hashes(ROUTES[name].table), st.integers(0, 9), st.sampled_from(["@"] * 7 + ["x_1", "%00", "%F0", "é%2F"]))
    def ask(form, choice, thing):
        nonlocal asked
        asked += 1
        pairs = []
        for field, value in flat_form(form).items():
            last = field.rstrip("]").rpartition("[")[2]
            kind = about(path) if last in OF_THE_ROUTE else KIND.get(last, last)
            pairs.append((field, an(kind, choice) if value == "@" else value))
        above, _, rest = path.partition("/{id}")
        where = path
        if "{id}" in path:
            where = above + "/" + (an(about(above), choice) if thing == "@" else thing) + rest
            where = where.replace("{id}", an(about(path), choice))
        if method == "POST":
            quiet.judge(raw(method, where, urlencode(pairs).encode(), key=f"fuzz-{asked}"))
        else:
            quiet.judge(raw(method, where + ("?" + urlencode(pairs) if pairs else "")))

    ask()
