"""Whatever is refunded and credited of an invoice, in any order: never more than it came to, and to the last unit."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from service import Service
from sqlalchemy import select
from sqlalchemy.orm import Session

import billing
from billing import ids
from billing.currencies import CURRENCIES
from billing.states import CreditNoteState, InvoiceState, RefundState
from billing.tables.credit_notes import CreditNote
from billing.tables.entities import Invoice, Refund

SEED = 20261130
CODES = sorted(CURRENCIES)


def invoice_of(session: Session, state: str, total: int, currency: str) -> str:
    row = Invoice(
        id=ids.new("inv"),
        request_id=ids.new("req"),
        customer="cus_1",
        currency=currency,
        total_minor=total,
        days_until_due=14,
        state=state,
        stripe_invoice="in_1",
        number="A-1",
    )
    session.add(row)
    session.commit()
    return row.id


WAYS = st.sampled_from(("reduce", "balance", "out_of_band", "refund", "plain refund"))
ASKS = st.lists(st.tuples(WAYS, st.floats(0.01, 1.2), st.booleans()), min_size=1, max_size=12)


@seed(SEED)
@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(code=st.sampled_from(CODES), units=st.integers(1, 5_000), asks=ASKS, paid_after=st.integers(0, 12))
def test_no_sequence_of_refunds_and_notes_takes_more_than_the_total_or_loses_a_unit(
    sessions: Any, code: str, units: int, asks: list[tuple[str, float, bool]], paid_after: int
) -> None:
    """Each is asked for while the invoice is open or paid; some end without an effect, and free what they took."""
    step = CURRENCIES[code].step
    total = units * step
    with sessions() as session:
        invoice = invoice_of(session, InvoiceState.SENT, total, code)
        model: dict[str, tuple[str, int]] = {}
        for number, (way, share, comes_to_nothing) in enumerate(asks):
            if number == paid_after:
                session.get_one(Invoice, invoice).state = InvoiceState.PAID
                session.commit()
            amount = max(step, int(total * share) // step * step)
            reduced, returned, credited = sums(model)
            left_to_credit, left_to_return = total - credited, total - reduced - returned
            fits = amount <= left_to_return and (way == "plain refund" or amount <= left_to_credit)
            right_state = (number < paid_after) == (way == "reduce")
            wanted = billing.Money(amount, code)
            if not right_state:
                with pytest.raises((billing.NotOpen, billing.NotPaid)):
                    ask(session, invoice, way, wanted)
                continue
            if not fits:
                with pytest.raises(billing.MoreThanInvoiced) as too_much:
                    ask(session, invoice, way, wanted)
                left = (left_to_return, min(left_to_return, left_to_credit))
                assert too_much.value.left in (left[:1] if way == "plain refund" else left)
                continue
            made = ask(session, invoice, way, wanted)
            model |= made
            session.commit()
            if comes_to_nothing:
                end(session, made)
                model = {key: value for key, value in model.items() if key not in made}
            compare(session, invoice, model)
        compare(session, invoice, model)
        # What is left can be asked for to the last unit, and then nothing.
        reduced, returned, _ = sums(model)
        session.get_one(Invoice, invoice).state = InvoiceState.PAID
        session.commit()
        if rest := total - reduced - returned:
            assert ask(session, invoice, "plain refund", None) != {}
            session.commit()
            assert session.get_one(Invoice, invoice, populate_existing=True).returned_minor == returned + rest
        with pytest.raises(billing.MoreThanInvoiced) as refused:
            ask(session, invoice, "plain refund", None)
        assert refused.value.left == 0


def sums(model: dict[str, tuple[str, int]]) -> tuple[int, int, int]:
    """Not due any more, given back, credited."""

    def of(*ways: str) -> int:
        return sum(amount for way, amount in model.values() if way in ways)

    back = of("balance", "out_of_band", "plain refund", "the refund of a note")
    return of("reduce"), back, of("reduce", "balance", "out_of_band", "refund")


def ask(session: Session, invoice: str, way: str, amount: billing.Money | None) -> dict[str, tuple[str, int]]:
    request = ids.new("req")
    if way == "plain refund":
        refund = billing.request_refund(session, invoice=invoice, amount=amount, request_id=request)
        return {refund.refund_id: (way, refund.amount.minor)}
    assert amount is not None
    note = billing.issue_credit_note(
        session,
        invoice=invoice,
        amount=amount,
        settle=way,  # type: ignore[arg-type]
        request_id=request,
    )
    refunds = {note.refund_id: ("the refund of a note", amount.minor)} if note.refund_id else {}
    return {note.credit_note_id: (way, amount.minor), **refunds}


def end(session: Session, made: dict[str, tuple[str, int]]) -> None:
    """All of them end without an effect."""
    for each in made:
        if each.startswith("ref_"):
            session.get_one(Refund, each).state = RefundState.REFUSED
        else:
            session.get_one(CreditNote, each).state = CreditNoteState.REFUSED
    session.commit()


def compare(session: Session, invoice: str, model: dict[str, tuple[str, int]]) -> None:
    row = session.execute(
        select(Invoice.reduced_minor, Invoice.returned_minor, Invoice.credited_minor).where(Invoice.id == invoice)
    ).one()
    assert tuple(row) == sums(model)


@pytest.fixture
def sessions(service: Service) -> Any:
    return lambda: Session(service.engine, expire_on_commit=False)
