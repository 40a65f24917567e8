"""Objects have the fields, and the plain types, that the installed SDK declares for them."""

import typing

import pytest
import stripe

PLAIN = {str, int, bool}
NONE = type(None)


def kinds(annotation):
    """The classes an annotation allows, as far as it is a plain one or a choice of them."""
    return set(typing.get_args(annotation)) if typing.get_origin(annotation) is typing.Union else {annotation}


def strange(shown, declared):
    """The fields of `shown` that the SDK's class does not declare, or declares with another plain type."""
    found = []
    for name, value in shown.items():
        inner = getattr(declared, "_inner_class_types", {}).get(name)
        if name not in declared.__annotations__:
            found.append(name)
            continue
        allowed = kinds(declared.__annotations__[name])
        if inner is not None and isinstance(value, dict):
            found += [f"{name}.{each}" for each in strange(value, inner)]
        elif allowed <= PLAIN | {NONE} and type(value) not in allowed:
            found.append(f"{name}={value!r}")
    return found


@pytest.fixture
def shown(raw, control, customer):
    """One of each object, as the stand-in shows it."""
    post = lambda path, form=None: raw("POST", f"/v1/{path}", form).json()  # noqa: E731
    intent = post(
        "payment_intents",
        {
            "amount": "1000",
            "currency": "usd",
            "payment_method": "pm_card_visa",
            "confirm": "true",
            "automatic_payment_methods[enabled]": "true",
        },
    )
    declined = post(
        "payment_intents",
        {"amount": "1", "currency": "usd", "payment_method": "pm_card_visa_chargeDeclined", "confirm": "true"},
    )["error"]
    draft = post("invoices", {"customer": customer, "metadata[a]": "b"})
    post(f"invoices/{draft['id']}/add_lines", {"lines[0][amount]": "5"})
    invoice = post(f"invoices/{draft['id']}/finalize")
    return {
        stripe.PaymentIntent: [intent, declined["payment_intent"]],
        stripe.Charge: [
            raw("GET", f"/v1/charges/{each}").json() for each in (intent["latest_charge"], declined["charge"])
        ],
        stripe.Invoice: [draft, invoice],
        stripe.InvoiceLineItem: invoice["lines"]["data"],
        stripe.Customer: [raw("GET", f"/v1/customers/{customer}").json()],
        stripe.PaymentMethod: [declined["payment_method"]],
        stripe.Event: raw("GET", "/v1/events").json()["data"],
        stripe.Account: [raw("GET", "/v1/account").json()],
    }


def test_every_field_is_one_the_sdk_knows(shown):
    for cls, objects in shown.items():
        for each in objects:
            assert strange(each, cls) == [], cls


def test_every_required_field_is_there(shown):
    """The SDK declares optional what Stripe may leave out; everything else must be there."""
    for cls, objects in shown.items():
        required = {
            name
            for name, kind in cls.__annotations__.items()
            if NONE not in kinds(kind) and typing.get_origin(kind) is not typing.ClassVar and not name.startswith("_")
        }
        for each in objects:
            assert required <= set(each), cls


def test_the_check_bites(shown):
    intent = {**shown[stripe.PaymentIntent][0], "amount": "1000", "bogus": 1}
    assert strange(intent, stripe.PaymentIntent) == ["amount='1000'", "bogus"]
