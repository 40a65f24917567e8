"""The rules of an invoice that a tired engineer could break, each seen in what is sent, or in what is compared.

Amounts are reckoned a second time here, with fractions alone: a draft that is off by one minor unit anywhere is never
finalized, in any currency that Stripe takes.
"""

import copy
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Any
from urllib.parse import parse_qs

import pytest
from hypothesis import given
from hypothesis import strategies as st
from protocol_model import NOON, loaded_with, response
from test_answers import INVOICE, invoice, invoice_row, line, loaded_invoice, read, sent
from test_steps import looked, page

import billing
from billing import invoice_actions, invoices
from billing.currencies import CURRENCIES
from billing.duplicate_drafts import list_duplicates
from billing.gateway import encode
from billing.idempotency import Look, Rotate, next_move
from billing.invoice_charge_steps import PAY
from billing.invoice_draft_steps import CREATE
from billing.invoice_final_steps import FINALIZE
from billing.invoice_line_steps import ADD_LINES, LINES_OF_A_CALL, batch_named
from billing.invoice_lines import parameters
from billing.invoice_requests import WantedInvoice, wanted_invoice
from billing.invoice_totals import not_our_totals, record
from billing.learned import Learned
from billing.states import InvoiceState
from billing.steps import LoadedOperation
from billing.tables.entities import MAX_LINES, Invoice, InvoiceLine
from billing.tables.invoice_actions import InvoiceAction
from billing.timing import PRODUCTION

DUE = billing.SendInvoice(days_until_due=14)


def asked(**changes: Any) -> dict[str, Any]:
    """The parameters of the draft of such a row."""
    return dict(CREATE.ask(loaded_with(invoice_row(state=InvoiceState.REQUESTED, **changes))).parameters)


# What proves that nothing was charged.


def test_that_nobody_has_tried_to_charge_it_proves_nothing_before_the_last_send_has_settled() -> None:
    """Whatever was answered: Stripe may still be working on it."""
    loaded = loaded_invoice(state=InvoiceState.FINALIZED, number="A-1")
    record = sent(loaded, PAY)
    record.lease_until = record.lease_s = None
    record.unreported, record.last_reported_at, record.replayed, record.look_only = 0, NOON, True, True
    never = invoice(status="open", attempted=False, attempt_count=0)
    found = looked(PAY, loaded, {"/v1/invoices/in_1": response(200, never)})
    record.learned, record.looked_at = found.learned, NOON
    soon, settled = (NOON + timedelta(seconds=seconds) for seconds in (1, PRODUCTION.settle_s))
    assert next_move(record, soon, PRODUCTION, PAY.rules) == Look(settled)
    record.looked_at = settled
    assert next_move(record, settled, PRODUCTION, PAY.rules) == Rotate()


# What is sent.


def test_a_draft_is_due_after_as_many_days_as_were_asked_for_or_at_the_date() -> None:
    assert asked(days_until_due=7)["days_until_due"] == 7
    due = asked(days_until_due=None, terms={"due_date": 1_800_000_000})
    assert (due["due_date"], "days_until_due" in due) == (1_800_000_000, False)


def test_no_draft_is_finalized_by_stripe_alone_or_gets_what_else_the_customer_has_pending() -> None:
    sends = asked()
    assert (sends["auto_advance"], sends["pending_invoice_items_behavior"]) == (False, "exclude")
    assert sends["metadata"]["billing_operation"] == INVOICE
    assert FINALIZE.ask(loaded_invoice(state=InvoiceState.LINES_ADDED)).parameters == {"auto_advance": False}


def test_a_draft_that_stripe_reckons_has_the_coupons_that_were_asked_for_and_never_its_customers_own() -> None:
    assert asked(terms={"computed": True})["discounts"] == ""
    assert asked(terms={"computed": True, "discounts": ["A", "B"]})["discounts"] == [{"coupon": "A"}, {"coupon": "B"}]


def test_every_term_is_sent_under_stripes_name_for_it() -> None:
    terms = {
        "memo": "m",
        "footer": "f",
        "custom_fields": [["PO number", "4711"]],
        "tax_rates": ["txr_1"],
        "automatic_tax": True,
    }
    sends = asked(terms=terms)
    assert {name: sends[name] for name in ("description", "footer", "default_tax_rates")} == {
        "description": "m",
        "footer": "f",
        "default_tax_rates": ["txr_1"],
    }
    assert sends["custom_fields"] == [{"name": "PO number", "value": "4711"}]
    assert sends["automatic_tax"] == {"enabled": True}


codes = st.sampled_from(sorted(CURRENCIES))
units = st.decimals(min_value=0, max_value=10**6, places=12, allow_nan=False, allow_infinity=False)


@given(code=codes, unit=units, quantity=st.integers(1, 10**5))
def test_what_one_unit_costs_reaches_stripe_exactly(code: str, unit: Any, quantity: int) -> None:
    """Through the row, its JSON and the form encoding."""
    try:
        asked_line = billing.Line("a", unit_amount=billing.UnitAmount(unit, code), quantity=quantity)
    except billing.InvalidAmount:
        return
    (row,) = wanted_invoice([asked_line], DUE).rows()
    form = encode(parameters(invoice_row(currency=code), InvoiceLine(invoice_id=INVOICE, **row)))
    sends = {name: value for name, (value,) in parse_qs(form).items()}
    assert Fraction(sends["price_data[unit_amount_decimal]"]) == Fraction(unit)
    assert int(sends["quantity"]) == quantity
    assert "amount" not in sends, "Stripe reckons the product, and it is compared with ours"


@given(count=st.integers(1, MAX_LINES))
def test_every_line_is_sent_by_one_call_under_its_own_position(count: int) -> None:
    loaded = with_lines(wanted_invoice([billing.Line("a", billing.Money(n + 1, "EUR")) for n in range(count)], DUE))
    positions: list[str] = []
    for start in range(0, count, LINES_OF_A_CALL):
        step = batch_named("add_lines" if start == 0 else f"add_lines_{start}")
        assert step is not None
        positions += [each["metadata"]["billing_line"] for each in step.ask(loaded).parameters["lines"]]
    assert positions == [str(number) for number in range(count)]


def with_lines(wanted: WantedInvoice, **changes: Any) -> LoadedOperation:
    """A row that was asked for, as a worker loads it, with its draft."""
    loaded = loaded_with(
        invoice_row(
            currency=wanted.currency, total_minor=wanted.known_minor, terms=wanted.terms, days_until_due=14, **changes
        )
    )
    loaded.parts = [InvoiceLine(invoice_id=INVOICE, **each) for each in wanted.rows()]
    return loaded


# What is compared before anything is finalized. Stripe's side is reckoned here, with fractions.


def half_up(value: Fraction) -> int:
    """Away from zero where it is half."""
    size = int(abs(value) + Fraction(1, 2))
    return size if value >= 0 else -size


@st.composite
def shown_by_stripe(draw: st.DrawFn) -> tuple[LoadedOperation, dict[str, Any]]:
    """An invoice of ours with taxes and discounts, and its draft as Stripe should show it."""
    code = draw(codes)
    step = CURRENCIES[code].step
    amounts = draw(st.lists(st.integers(1, 10**6).map(lambda each: each * step), min_size=1, max_size=12))
    credited = draw(st.integers(0, sum(amounts) // step // 4)) * step
    percent = draw(st.sampled_from([Fraction(19), Fraction(71, 8), Fraction(0)]))
    off = draw(st.sampled_from([Fraction(25, 2), Fraction(0), Fraction(100), None]))
    lines = [billing.Line("a", billing.Money(each, code)) for each in amounts]
    if credited:
        lines.append(billing.Line("back", billing.Money(credited, code), credit=True))
        amounts.append(-credited)
    off = None if off is not None and credited else off
    terms = billing.InvoiceTerms(tax_rates=["txr_1"], discounts=["HALF"] if off is not None else [])
    loaded = with_lines(wanted_invoice(lines, DUE, terms=terms))
    discount = half_up(off / 100 * sum(amounts)) if off is not None else 0
    tax = half_up(percent / 100 * (sum(amounts) - discount))
    shown = invoice(
        currency=code.lower(),
        subtotal=sum(amounts),
        total=sum(amounts) - discount + tax,
        total_discount_amounts=[{"amount": discount, "discount": "di_1"}] if off is not None else [],
        total_taxes=[
            {"amount": tax, "tax_behavior": "exclusive"},
            # It is a part of the lines already.
            {"amount": draw(st.integers(1, 10**6)), "tax_behavior": "inclusive"},
        ],
        lines={"data": [line(position, amount) for position, amount in enumerate(amounts)], "has_more": False},
    )
    return loaded, shown


@given(pair=shown_by_stripe())
def test_a_draft_as_asked_is_accepted_and_its_parts_are_recorded(pair: tuple[LoadedOperation, dict[str, Any]]) -> None:
    loaded, shown = pair
    assert read(ADD_LINES, response(200, shown), loaded=loaded).learned is Learned.SUCCEEDED
    row = loaded.row
    assert isinstance(row, Invoice)
    told = record(row, shown)
    assert (row.subtotal_minor, row.reckoned_minor) == (shown["subtotal"], shown["total"])
    assert row.reckoned_minor == told["subtotal_minor"] - told["discount_minor"] + told["tax_minor"]
    assert row.final_minor == shown["total"], "what the customer owes"


PLACES: dict[str, Callable[[dict[str, Any], int], None]] = {
    "a line": lambda shown, by: _add(shown["lines"]["data"][0], by),
    "the subtotal": lambda shown, by: _add(shown, by, "subtotal"),
    "the total": lambda shown, by: _add(shown, by, "total"),
    "the discount": lambda shown, by: _add((shown["total_discount_amounts"] or [{}])[0], by),
    "the tax": lambda shown, by: _add(shown["total_taxes"][0], by),
}


def _add(of: dict[str, Any], by: int, name: str = "amount") -> None:
    of[name] = of.get(name, 0) + by


@given(pair=shown_by_stripe(), place=st.sampled_from(sorted(PLACES)), by=st.sampled_from([-1, 1]))
def test_a_draft_that_is_off_by_one_minor_unit_anywhere_is_never_finalized(
    pair: tuple[LoadedOperation, dict[str, Any]], place: str, by: int
) -> None:
    """[33, 62]"""
    loaded, right = pair
    shown = copy.deepcopy(right)
    PLACES[place](shown, by)
    if shown == right:
        return  # it has no discount
    reading = read(ADD_LINES, response(200, shown), loaded=loaded)
    assert reading.learned is Learned.REFUSED
    assert reading.why.startswith("total_differs")


@given(pair=shown_by_stripe(), lost=st.integers(0, 12), twice=st.booleans())
def test_a_line_that_is_lost_or_there_twice_is_found_although_the_sums_agree(
    pair: tuple[LoadedOperation, dict[str, Any]], lost: int, twice: bool
) -> None:
    """[48, 62]"""
    loaded, right = pair
    shown = copy.deepcopy(right)
    data = shown["lines"]["data"]
    if twice:
        data.append(data[lost % len(data)])
    else:
        del data[lost % len(data)]
    shown["subtotal"] = sum(each["amount"] for each in data)
    shown["total"] = (
        shown["subtotal"]
        - sum(each["amount"] for each in shown["total_discount_amounts"])
        + shown["total_taxes"][0]["amount"]
    )
    assert read(ADD_LINES, response(200, shown), loaded=loaded).learned is Learned.REFUSED


COMPUTED: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "a tax that nobody asked for": (
        {},
        {"total": 305, "total_taxes": [{"amount": 5, "tax_behavior": "exclusive"}]},
        "tax: expected none, found 5",
    ),
    "a discount too many": (
        {},
        {"total": 295, "total_discount_amounts": [{"amount": 5}]},
        "discounts: expected 0, found 1",
    ),
    "a discount too few": ({"discounts": ["A"]}, {}, "discounts: expected 1, found 0"),
    "another total than was expected": (
        {"total_minor": 300, "discounts": ["A"]},
        {"total": 295, "total_discount_amounts": [{"amount": 5}]},
        "total: expected 300 (total_minor), found 295",
    ),
    "lines that do not add up": ({}, {"subtotal": 301, "total": 301}, "subtotal: expected 300, found 301"),
    "a total below zero": (
        {"discounts": ["A"]},
        {"total": -5, "total_discount_amounts": [{"amount": 305}]},
        "total: expected at least 0, found -5",
    ),
}


@pytest.mark.parametrize("case", COMPUTED)
def test_what_stripe_reckons_must_be_what_was_asked_for(case: str) -> None:
    """[33]"""
    terms, changes, why = COMPUTED[case]
    row = invoice_row(terms={"computed": True, **terms})
    shown = invoice(**changes)
    assert [str(each) for each in not_our_totals(row, shown, shown["lines"]["data"])] == [why]


# What is there already.


def test_lines_of_ours_are_known_by_their_id_and_position_and_nobody_elses() -> None:
    """[48]"""
    loaded = with_lines(wanted_invoice([billing.Line("a", billing.Money(1, "EUR")) for _ in range(150)], DUE))
    loaded.row.state = InvoiceState.DRAFTED
    later = batch_named("add_lines_100")
    assert later is not None
    sent(loaded, later)

    def found(*lines: dict[str, Any]) -> Learned:
        total = sum(each["amount"] for each in lines)
        shown = invoice(currency="eur", subtotal=total, total=total, lines={"data": list(lines), "has_more": False})
        return looked(later, loaded, {"/v1/invoices/in_1": response(200, shown)}).learned

    assert found(*(line(position, 1) for position in range(100, 150))) is Learned.FOUND_OURS
    assert found(line(7, 1)) is Learned.ABSENT, "another call adds this one"
    assert found(line(120, 1, "inv_9")) is Learned.ABSENT
    assert found() is Learned.ABSENT


def test_duplicates_are_drafts_of_this_invoice_but_for_its_own_one() -> None:
    """[48]"""
    loaded = loaded_invoice()
    sent(loaded, CREATE)
    strangers = invoice(id="in_8", metadata={"billing_operation": "inv_9"})
    listed = {"/v1/invoices": page(invoice(id="in_1"), invoice(id="in_7"), strangers)}
    finding = looked(list_duplicates("before_lines"), loaded, listed)
    assert (finding.learned, finding.found_objects) == (Learned.SUCCEEDED, ["in_7"])


def test_an_invoice_that_has_its_number_is_never_made_anew() -> None:
    """[49]"""
    numbered = invoice_row(state=InvoiceState.REFUSED, number="A-1", reason="not_open")
    invoices.reopen(numbered, actor="anna", reason="mended")
    assert (numbered.state, numbered.stripe_invoice) == (InvoiceState.FINALIZED, "in_1")
    unnumbered = invoice_row(state=InvoiceState.REFUSED, reason="total_differs")
    invoices.reopen(unnumbered, actor="anna", reason="mended")
    assert (unnumbered.state, unnumbered.stripe_invoice) == (InvoiceState.REQUESTED, None)


def test_what_older_workers_would_send_otherwise_is_of_the_second_version() -> None:
    lines = [billing.Line("a", billing.Money(1, "EUR"))]
    assert not wanted_invoice(lines * LINES_OF_A_CALL, DUE).needs_newer_workers
    assert wanted_invoice(lines * (LINES_OF_A_CALL + 1), DUE).needs_newer_workers
    assert wanted_invoice([billing.Line("a", billing.Money(1, "EUR"), tax_rates=["txr_1"])], DUE).needs_newer_workers
    due = billing.SendInvoice(due_date=datetime(2027, 1, 1, tzinfo=UTC))
    assert wanted_invoice(lines, due).needs_newer_workers


# What is done with an invoice on request.


@pytest.mark.parametrize(
    ("state", "disputed", "earlier", "waits_for"),
    [
        (InvoiceState.SENT, False, None, None),
        (InvoiceState.SENT, True, None, "inv_1"),
        (InvoiceState.FINALIZED, False, None, "inv_1"),
        (InvoiceState.FINALIZED, True, "iac_1", "inv_1"),
        (InvoiceState.SENT, False, "iac_1", "iac_1"),
    ],
)
def test_an_action_waits_for_each_open_call_of_its_invoice_and_for_each_state_that_is_not_over(
    state: InvoiceState, disputed: bool, earlier: str | None, waits_for: str | None
) -> None:
    of = invoice_actions.InvoiceOfAction("inv_1", state, disputed, earlier)
    loaded = LoadedOperation(InvoiceAction(id="iac_2", state="requested"), [], "wrk_1", "invoices", [of])
    assert invoice_actions.comes_after(loaded) == waits_for


def test_a_void_of_a_note_waits_until_it_is_known_whether_the_note_was_issued() -> None:
    row = InvoiceAction(id="iac_2", action="void_credit_note", credit_note_id="crn_1", state="requested")
    for note, waits_for, why in (
        ("requested", "crn_1", None),
        ("issued", None, None),
        ("voided", None, "already_voided"),
        ("refused", None, "credit_note_refused"),
    ):
        of = invoice_actions.InvoiceOfAction("inv_1", InvoiceState.SENT, disputed=False, earlier=None, note=note)
        row.state = "requested"
        loaded = LoadedOperation(row, [], "wrk_1", "invoices", [of])
        assert invoice_actions.comes_after(loaded) == waits_for
        assert bool(invoice_actions.rule_out(loaded)) is bool(why)
        assert row.reason == why
        row.reason = None
