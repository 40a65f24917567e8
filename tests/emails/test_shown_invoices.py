"""The e-mail of an invoice: everything that Stripe shows of it stands there, in every language, and nothing else."""

from typing import Any

import pytest
from shown_invoices import LINK, LONG, MIXED, invoice, line, many_lines

from jobs.email.invoices import link_of, shown_of
from jobs.email.recipients import Unresolved
from jobs.email.rendering import Rendered, Templates


def render(shown: dict[str, Any], locale: str = "en") -> Rendered:
    seen = shown_of(shown, shown["lines"]["data"], more=shown["lines"]["has_more"])
    return Templates().render("invoice", data={"invoice": "in_1"}, locale=locale, sender="Shop", invoice=seen)


@pytest.mark.parametrize(
    ("locale", "amounts"),
    [
        ("en", ["€50.00", "3 × €15.00", "48,000 × €0.0125", "€12,345,678.90", "-€5.10", "€8.72", "€54.62", "-€4.62"]),
        ("de", ["50,00\xa0€", "3 × 15,00\xa0€", "48.000 × 0,0125\xa0€", "12.345.678,90\xa0€", "-5,10\xa0€"]),
        ("ar", ["50.00", "48,000", "0.0125", "12,345,678.90", "INV-2026-0042"]),
    ],
)
def test_number_dates_lines_sums_and_link_stand_in_text_and_page(locale: str, amounts: list[str]) -> None:
    made = render(invoice(), locale)
    assert "INV-2026-0042" in made.subject
    for page in (made.text, made.html):
        for each in (*amounts, "INV-2026-0042", "3 seats", "API calls", LONG, MIXED, "2026"):
            assert each in page, each
        assert page.count("in all three countries") == 1
    assert LINK in made.text
    assert f'href="{LINK}"' in made.html
    # What must be read stands before the lines: long e-mails are cut.
    assert made.html.index(LINK) < made.html.index("3 seats")


def test_250_lines_stand_there_and_one_more_is_said_to_be_elsewhere() -> None:
    made = render(invoice(*many_lines()))
    assert made.html.count('<th scope="row"><bdi>') == 250
    assert made.text.count("\n* ") == 250
    assert "more lines" not in made.text
    assert "more lines" in render(invoice(lines={"has_more": True, "data": many_lines(3)})).text


def test_the_longest_texts_fit() -> None:
    hostile = [line(n, description="<&\"'>" * 100) for n in range(250)]
    made = render(invoice(*hostile))
    assert "<&" not in made.html.partition("</style>")[2]
    assert len(made.html) > 500_000


def test_what_is_not_there_is_not_shown() -> None:
    plain = {"total_discount_amounts": [], "total_taxes": [], "amount_paid": 0, "due_date": None}
    made = render(invoice(line(quantity=None, pricing=None), **plain))
    for word in ("Discount", "Tax", "Already paid", "Due", "×"):
        assert word not in made.text
        assert word not in made.html.partition("</style>")[2]
    paid = render(invoice(line(), status="paid", amount_remaining=0))
    assert "nothing is left to pay" in paid.html
    assert '<p class="amount"><bdi>€54.62</bdi>' in paid.html, "what was paid is what a reader looks for"
    assert "See and pay" not in paid.html


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>",
        "{{ 7*7 }}{% for x in y %}",
        "%(sender)s %s",
        "</table></body>",
        "\u202eevil\u202c\u2066",
        "a\r\nSubject: b",
    ],
)
def test_a_line_is_text_whatever_stands_in_it(text: str) -> None:
    made = render(invoice(line(description=text), number=text))
    body = made.html.partition("</style>")[2]
    assert "<script>" not in body
    assert "49" not in body
    assert body.count("</table>") == 5
    assert "\u202e" not in made.html + made.text
    assert "\r" not in made.html
    assert "\n" not in made.subject


@pytest.mark.parametrize(
    "url",
    [
        None,
        5,
        "",
        "http://invoice.stripe.com/i/1",
        "https://invoice.stripe.com.evil.example/i/1",
        "https://evil.example/invoice.stripe.com",
        "https://invoice.stripe.com@evil.example/",
        "https://invoice.stripe.com:444/i/1",
        "https://evil.example\\@invoice.stripe.com/",
        'https://invoice.stripe.com/"onmouseover="x',
        "javascript:alert(1)//https://invoice.stripe.com/",
        "https://invoice.stripe.com/i/1\r\nX: y",
        "https://[",
        "https://invoice.stripe.com/" + "a" * 2000,
    ],
    ids=lambda url: str(url)[:40],
)
def test_a_link_to_anywhere_but_stripes_page_is_left_out(url: object) -> None:
    assert link_of(url) is None
    made = render(invoice(hosted_invoice_url=url))
    assert "<a " not in made.html
    assert "€50.00" in made.html


def test_the_link_to_stripes_page_is_there() -> None:
    assert link_of(LINK) == LINK


@pytest.mark.parametrize(
    "broken",
    [
        {"subtotal": None},
        {"total": "5"},
        {"amount_remaining": True},
        {"currency": None},
        {"total_taxes": [{}]},
        {"status_transitions": 5},
        {"lines": {"has_more": False, "data": [{"description": "no amount"}]}},
        {"lines": {"has_more": False, "data": [{"amount": "x"}]}},
    ],
    ids=str,
)
def test_what_is_no_invoice_is_not_sent_now(broken: dict[str, Any]) -> None:
    with pytest.raises(Unresolved):
        render(invoice(**broken))
