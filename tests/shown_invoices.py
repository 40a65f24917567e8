"""Invoices as Stripe's API shows them, for e-mails that show them: plain ones, long ones, and hostile ones."""

from typing import Any

LINK = "https://invoice.stripe.com/i/acct_1/test_YWNjdF8x?s=ap"
LONG = "Support for the " + "unbelievablylongproductnamewithoutanyblank" * 6 + " in all three countries"
MIXED = "خدمة الدعم Premium Plus للعميل رقم 42 (3 × 12)"


def line(number: int = 1, **more: Any) -> dict[str, Any]:
    return {
        "id": f"il_{number}",
        "object": "line_item",
        "amount": 4500,
        "currency": "eur",
        "description": "3 seats",
        "quantity": 3,
        "pricing": {"unit_amount_decimal": "1500"},
        "discount_amounts": [],
        **more,
    }


def invoice(*lines: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "id": "in_1",
        "object": "invoice",
        "livemode": False,
        "customer": "cus_1",
        "status": "open",
        "number": "INV-2026-0042",
        "currency": "eur",
        "created": 1796000000,
        "due_date": 1797206400,
        "status_transitions": {"finalized_at": 1796000400},
        "subtotal": 5100,
        "total_discount_amounts": [{"amount": 510, "discount": "di_1"}],
        "total_taxes": [{"amount": 872, "tax_behavior": "exclusive"}],
        "total": 5462,
        "amount_paid": 462,
        "amount_remaining": 5000,
        "hosted_invoice_url": LINK,
        "lines": {"object": "list", "has_more": False, "data": list(lines) or some_lines()},
        **more,
    }


def some_lines() -> list[dict[str, Any]]:
    return [
        line(1),
        line(2, description="API calls", quantity=48_000, amount=60_000, pricing={"unit_amount_decimal": "1.25"}),
        line(3, description=LONG, discount_amounts=[{"amount": 450, "discount": "di_1"}]),
        line(4, description=MIXED, amount=1_234_567_890),
        line(5, description="Outage in October", amount=-500, quantity=1, pricing={"unit_amount_decimal": "-500"}),
        line(6, description=None, quantity=None, pricing=None),
    ]


def many_lines(count: int = 250) -> list[dict[str, Any]]:
    return [line(n, description=f"{n}: {LONG if n % 10 == 0 else 'Seats in November'}") for n in range(1, count + 1)]
