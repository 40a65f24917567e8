"""Splitting into lines and calls, and rounding, never lose a minor unit, in any currency that Stripe takes."""

from decimal import Decimal, localcontext
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

import billing
from billing.currencies import CURRENCIES
from billing.invoice_line_steps import LINES_OF_A_CALL, next_batch
from billing.invoice_requests import WantedInvoice, wanted_invoice
from billing.states import RecordState
from billing.steps import LoadedOperation
from billing.tables.entities import MAX_LINES, Invoice, InvoiceLine
from billing.tables.idempotency_records import Record

DUE = billing.SendInvoice(14)
codes = st.sampled_from(sorted(CURRENCIES))
units = st.decimals(min_value=0, max_value=10**6, places=12, allow_nan=False, allow_infinity=False)
quantities = st.integers(1, 10**5)


@given(code=codes, unit=units, quantity=quantities, precision=st.integers(1, 40))
def test_a_line_is_the_exact_product_rounded_half_up_once(
    code: str, unit: Decimal, quantity: int, precision: int
) -> None:
    """Whatever precision the application has set for its decimals."""
    exact = Fraction(unit) * quantity
    with localcontext() as context:
        context.prec = precision
        try:
            minor = billing.Line("a", unit_amount=billing.UnitAmount(unit, code), quantity=quantity).minor
        except billing.InvalidAmount:
            # Only what the currency does not have: too much of it, or no part so small.
            rounded = int(exact + Fraction(1, 2))
            assert rounded > CURRENCIES[code].most_minor or rounded % CURRENCIES[code].step
            return
    assert minor is not None
    assert -Fraction(1, 2) < minor - exact <= Fraction(1, 2)
    assert minor % CURRENCIES[code].step == 0


@given(code=codes, amounts=st.lists(st.tuples(st.integers(1, 10**6), st.booleans()), min_size=1, max_size=MAX_LINES))
def test_the_total_is_the_sum_of_the_lines_credits_taken_off(code: str, amounts: list[tuple[int, bool]]) -> None:
    step = CURRENCIES[code].step
    lines = [billing.Line("a", billing.Money(minor * step, code), credit=credit) for minor, credit in amounts]
    total = sum(-minor * step if credit else minor * step for minor, credit in amounts)
    if total < 0:
        with pytest.raises(billing.InvalidAmount, match="not negative"):
            wanted_invoice(lines, DUE)
        return
    assert wanted_invoice(lines, DUE).known_minor == total


def loaded(wanted: WantedInvoice) -> LoadedOperation:
    row = Invoice(id="inv_1", currency=wanted.currency, stripe_invoice="in_1", state="drafted")
    return LoadedOperation(
        row, [], "wrk_1", "invoices", [InvoiceLine(invoice_id="inv_1", **each) for each in wanted.rows()]
    )


@given(count=st.integers(1, MAX_LINES))
def test_the_calls_carry_each_line_once_whatever_their_number(count: int) -> None:
    operation = loaded(wanted_invoice([billing.Line("a", billing.Money(n + 1, "EUR")) for n in range(count)], DUE))
    sent: list[dict[str, object]] = []
    while True:
        step = next_batch(operation)
        lines = step.ask(operation).parameters["lines"]
        assert 0 < len(lines) <= LINES_OF_A_CALL
        # What is added later stands first.
        sent = [*lines, *sent]
        operation.records.append(Record(step=step.name, state=RecordState.ANSWERED, provider_object="in_1"))
        if step.name == "add_lines":
            break
    assert [line["amount"] for line in sent] == list(range(1, count + 1))
    assert next_batch(operation).name == "add_lines", "nothing is left to add"
