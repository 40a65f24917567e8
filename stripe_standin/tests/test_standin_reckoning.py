"""Prices, tax rates, coupons and previews: what an invoice comes to, and what is refused."""

import pytest

from stripe_standin.sums import shared


@pytest.fixture
def made(raw):
    def make(path, form, status=200):
        answer = raw("POST", f"/v1/{path}", form)
        assert answer.status == status, answer.data
        return answer.json()

    return make


@pytest.fixture
def rate(made):
    return lambda of, inclusive="false": made(
        "tax_rates", {"display_name": "VAT", "percentage": of, "inclusive": inclusive}
    )["id"]


@pytest.fixture
def draft(made, customer):
    def make(lines=(), **more):
        form = {"customer": customer, "currency": "eur", **more}
        invoice = made("invoices", form)["id"]
        given = {f"lines[{n}]{name}": value for n, line in enumerate(lines) for name, value in line.items()}
        return made(f"invoices/{invoice}/add_lines", given)

    return make


def sums(invoice):
    discount = sum(each["amount"] for each in invoice["total_discount_amounts"])
    return invoice["subtotal"], discount, [each["amount"] for each in invoice["total_taxes"]], invoice["total"]


def unit(of, quantity):
    return {
        "[price_data][currency]": "eur",
        "[price_data][unit_amount_decimal]": of,
        "[price_data][product_data][name]": "units",
        "[quantity]": quantity,
    }


@pytest.mark.parametrize(
    ("of", "quantity", "amount"), [("0.5", "1", 1), ("0.4999", "1", 0), ("12.3456", "7", 86), ("0", "9", 0)]
)
def test_units_cost_their_exact_product_rounded_half_up(draft, of, quantity, amount):
    (line,) = draft([unit(of, quantity)])["lines"]["data"]
    assert (line["amount"], line["quantity"], line["pricing"]["unit_amount_decimal"]) == (amount, int(quantity), of)


def test_a_price_is_made_once_and_named_by_lines(made, raw, draft):
    price = made("prices", {"currency": "eur", "unit_amount_decimal": "2.5", "product_data[name]": "seat"})
    assert (price["unit_amount"], price["unit_amount_decimal"]) == (None, "2.5")
    assert raw("GET", f"/v1/prices/{price['id']}").json() == price
    (line,) = draft([{"[pricing][price]": price["id"], "[quantity]": "3"}])["lines"]["data"]
    assert (line["amount"], line["pricing"]["price_details"]["price"]) == (8, price["id"])


def test_exclusive_tax_is_added_and_inclusive_tax_is_a_part(draft, rate):
    outside, inside = rate("19"), rate("7", "true")
    lines = [{"[amount]": "1000"}, {"[amount]": "1070", "[tax_rates][0]": inside}]
    invoice = draft(lines, **{"default_tax_rates[0]": outside})
    assert sums(invoice) == (2070, 0, [190, 70], 2260)
    assert (invoice["subtotal_excluding_tax"], invoice["total_excluding_tax"]) == (2000, 2000)
    assert [tax["tax_behavior"] for tax in invoice["total_taxes"]] == ["exclusive", "inclusive"]


def test_discounts_come_off_before_tax_and_never_off_credits(made, draft, rate):
    half = made("coupons", {"percent_off": "50"})["id"]
    ten = made("coupons", {"amount_off": "10", "currency": "eur"})["id"]
    off = {"discounts[0][coupon]": half, "discounts[1][coupon]": ten, "default_tax_rates[0]": rate("10")}
    assert sums(draft([{"[amount]": "333"}, {"[amount]": "-100"}], **off)) == (233, 177, [6], 62)


def test_what_is_changed_later_is_reckoned_anew(made, draft, rate):
    invoice = draft([{"[amount]": "1000"}])
    taxed = made(f"invoices/{invoice['id']}", {"default_tax_rates[0]": rate("10")})
    assert sums(taxed) == (1000, 0, [100], 1100)
    line = taxed["lines"]["data"][0]["id"]
    changed = made(f"invoices/{invoice['id']}/lines/{line}", {"amount": "2000"})
    assert [tax["amount"] for tax in changed["taxes"]] == [200]
    final = made(f"invoices/{invoice['id']}/finalize", {})
    assert (final["total"], final["amount_due"]) == (2200, 2200)


def test_a_coupon_that_takes_all_leaves_an_invoice_that_is_paid_at_once(made, draft):
    all_of_it = made("coupons", {"percent_off": "100"})["id"]
    invoice = draft([{"[amount]": "1000"}], **{"discounts[0][coupon]": all_of_it})
    assert made(f"invoices/{invoice['id']}/finalize", {})["status"] == "paid"


def test_stripe_tax_follows_the_customer_and_does_not_finalize_without_a_place(made, raw, draft, customer):
    invoice = draft([{"[amount]": "1000"}], **{"automatic_tax[enabled]": "true"})
    assert (sums(invoice), invoice["automatic_tax"]["status"]) == ((1000, 0, [], 1000), "requires_location_inputs")
    refused = made(f"invoices/{invoice['id']}/finalize", {}, 400)["error"]
    assert refused["code"] == "customer_tax_location_invalid"
    made(f"customers/{customer}", {"address[country]": "DE"})
    final = made(f"invoices/{invoice['id']}/finalize", {})
    assert (sums(final), final["automatic_tax"]["status"]) == ((1000, 0, [190], 1190), "complete")
    assert final["total_taxes"][0]["taxability_reason"] == "standard_rated"


def test_a_preview_is_what_the_invoice_comes_to_and_creates_nothing(made, raw, draft, rate, customer, control):
    before = len(control.effects()), len(raw("GET", "/v1/events").json()["data"])
    named = {"customer": customer, "currency": "eur"}
    items = {f"invoice_items[{n}][amount]": str(n + 1) for n in range(12)}
    preview = made("invoices/create_preview", {**named, **items, "invoice_items[0][tax_rates][0]": rate("50")})
    assert (sums(preview), preview["lines"]["has_more"]) == ((78, 0, [1], 79), True)
    lines = raw("GET", f"/v1/invoices/{preview['id']}/lines?limit=100").json()["data"]
    assert [line["amount"] for line in lines] == list(range(1, 13))
    assert raw("GET", f"/v1/invoices/{preview['id']}").status == 404
    assert (len(control.effects()), len(raw("GET", "/v1/events").json()["data"])) == before


REFUSED = [
    ("prices", {"currency": "eur", "product_data[name]": "a"}, None, "unit_amount"),
    ("prices", {"currency": "eur", "unit_amount": "-1", "product_data[name]": "a"}, None, "unit_amount"),
    ("tax_rates", {"display_name": "a", "percentage": "101", "inclusive": "true"}, None, "percentage"),
    ("tax_rates", {"display_name": "a", "percentage": "1.23456", "inclusive": "true"}, None, "percentage"),
    ("coupons", {}, None, "percent_off"),
    ("coupons", {"percent_off": "0"}, None, "percent_off"),
    ("coupons", {"amount_off": "5"}, None, "currency"),
    ("invoices/create_preview", {"customer": "CUSTOMER"}, "invoice_upcoming_none", None),
    (
        "invoices/create_preview",
        {"customer": "CUSTOMER", "invoice_items[0][price]": "price_none"},
        "resource_missing",
        "invoice_items[0][pricing][price]",
    ),
    ("invoices", {"customer": "CUSTOMER", "discounts[0][coupon]": "NONE"}, "resource_missing", "discounts[0][coupon]"),
    ("invoices", {"customer": "CUSTOMER", "default_tax_rates[0]": "txr_0"}, "resource_missing", "default_tax_rates[0]"),
]


@pytest.mark.parametrize(("path", "form", "code", "param"), REFUSED)
def test_what_is_wrong_is_refused_by_its_name(made, customer, path, form, code, param):
    given = {name: customer if value == "CUSTOMER" else value for name, value in form.items()}
    error = made(path, given, 400)["error"]
    assert (error.get("code"), error.get("param")) == (code, param)


WRONG_LINES = [
    {"[amount]": "5", "[pricing][price]": "price_1"},
    {"[price_data][currency]": "usd", "[price_data][unit_amount]": "5", "[price_data][product_data][name]": "a"},
    {"[price_data][currency]": "eur", "[price_data][unit_amount]": "5"},
    {"[price_data][currency]": "eur", "[price_data][product_data][name]": "a"},
    {"[amount]": "5", "[tax_rates][0]": "txr_0"},
    {"[amount]": "5", "[unit_amount_decimal]": "5"},
]


@pytest.mark.parametrize("line", WRONG_LINES, ids=str)
def test_a_wrong_line_leaves_the_draft_as_it_was(made, raw, draft, line):
    invoice = draft([{"[amount]": "100"}])["id"]
    given = {
        f"lines[{n}]{name}": value for n, each in enumerate(({"[amount]": "7"}, line)) for name, value in each.items()
    }
    made(f"invoices/{invoice}/add_lines", given, 400)
    assert raw("GET", f"/v1/invoices/{invoice}").json()["total"] == 100


@pytest.mark.parametrize(
    "line", [{"[amount]": "-5"}, unit("5", "1"), {"[amount]": "5", "[tax_rates][0]": "RATE"}], ids=str
)
def test_stripe_tax_takes_no_credits_no_rates_and_no_price_without_a_behavior(made, draft, rate, line):
    invoice = draft([{"[amount]": "100"}], **{"automatic_tax[enabled]": "true"})["id"]
    given = {f"lines[0]{name}": rate("5") if value == "RATE" else value for name, value in line.items()}
    made(f"invoices/{invoice}/add_lines", given, 400)


@pytest.mark.parametrize("amount", range(0, 40, 3))
def test_what_is_shared_adds_up_and_no_part_is_more_than_its_own(amount):
    among = [1, 0, 7, 13, 19]
    parts = shared(amount, among)
    assert sum(parts) == amount
    assert all(0 <= part <= own for part, own in zip(parts, among, strict=True))
    assert shared(0, [0, 0]) == [0, 0]


def test_a_line_is_credited_with_its_part_of_discounts_and_taxes(made, draft, rate):
    coupon = made("coupons", {"percent_off": "10", "duration": "once"})["id"]
    lines = [
        {"[amount]": "1000", "[tax_rates][0]": rate("19")},
        {"[amount]": "1070", "[tax_rates][0]": rate("7", "true")},
    ]
    invoice = draft(lines, **{"discounts[0][coupon]": coupon})
    made(f"invoices/{invoice['id']}/finalize", {})
    first, second = (line["id"] for line in invoice["lines"]["data"])

    def of(line, **part):
        named = {"lines[0][type]": "invoice_line_item", "lines[0][invoice_line_item]": line}
        return {"invoice": invoice["id"], **named, **{f"lines[0][{name}]": value for name, value in part.items()}}

    note = made("credit_notes", of(first, amount="500"))
    assert (note["subtotal"], note["discount_amount"], note["amount"]) == (500, 50, 450 + 86)
    assert [(each["amount"], each["taxable_amount"]) for each in note["total_taxes"]] == [(86, 450)]
    assert note["total_excluding_tax"] == 450
    note = made("credit_notes", of(second, amount="1070"))
    assert (note["subtotal"], note["amount"], note["total_taxes"][0]["amount"]) == (1070, 963, 63)
    (line,) = note["lines"]["data"]
    assert (line["discount_amount"], line["taxes"][0]["tax_behavior"]) == (107, "inclusive")
    note = made("credit_notes", of(first, amount="500"))
    assert note["amount"] == 450 + 85, "all parts add up to the line"
