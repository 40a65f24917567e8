"""`billing invoice credit`: the same function as an application calls, with errors that name what was typed."""

import pytest
from command import Run
from service import Service

import billing
from billing.tables.credit_notes import CreditNote
from billing.tables.entities import Invoice


def test_a_note_is_asked_for_and_asked_again_it_is_the_same(run: Run, service: Service) -> None:
    invoice = service.sent_invoice()
    words = ("invoice", "credit", invoice, "--amount", "501", "--settle", "reduce", "--request-id", "less-1")
    first, again = run(*words), run(*words)
    assert (first.status, again.status) == (0, 0), first.err
    assert f": 5.01 EUR off {invoice}" in first.out
    assert "asked for before" in again.out
    shown = run(*words, "--json")
    assert shown.json["state"] == "requested"
    assert service.row(CreditNote, shown.json["id"]).amount_minor == 501
    other = run(*words[:4], "502", *words[5:])
    assert (other.status, "amount_minor: first 501, now 502" in other.err) == (2, True)


def test_lines_are_named_by_their_positions(run: Run, service: Service) -> None:
    seats = billing.Line("3 seats", unit_amount=billing.UnitAmount(1500, "EUR"), quantity=3)
    invoice = service.sent_invoice(lines=[seats, billing.Line("setup", billing.Money(1000, "EUR"))])
    told = run(
        *("invoice", "credit", invoice, "--line", "0x2", "--line", "1=300", "--settle", "reduce"),
        *("--credit-reason", "order_change", "--memo", "sorry", "--request-id", "less-1", "--json"),
    )
    assert told.status == 0, told.err
    row = service.row(CreditNote, told.json["id"])
    assert (row.amount_minor, row.credit_reason, row.memo) == (3300, "order_change", "sorry")
    assert row.lines == {"0": {"minor": 3000, "quantity": 2}, "1": {"minor": 300}}


def test_a_preview_creates_nothing(run: Run, service: Service) -> None:
    invoice = service.paid_invoice()
    words = ("invoice", "credit", invoice, "--line", "0=500", "--settle", "refund", "--preview")
    told = run(*words, "--json")
    assert told.status == 0, told.err
    assert told.json == {
        "currency": "EUR",
        "minor": 500,
        "reduces_due_minor": 0,
        "of_what_was_paid_minor": 500,
        "differs": False,
    }
    shown = run(*words)
    assert shown.out.splitlines() == [
        "credit note: 5.00 EUR",
        "less is due: 0.00 EUR",
        "of what was paid: 5.00 EUR",
        "Nothing was created.",
    ]
    assert service.effects("credit_note.created") == service.effects("refund") == []
    assert service.row(Invoice, invoice).credited_minor == 0


def test_a_preview_shows_what_lines_with_taxes_come_to_and_that_is_asked_for(run: Run, service: Service) -> None:
    vat = service.by_hand("/v1/tax_rates", "display_name=VAT&percentage=19&inclusive=false")
    invoice = service.sent_invoice(terms=billing.InvoiceTerms(tax_rates=[vat]))
    words = ("invoice", "credit", invoice, "--line", "0=1000", "--settle", "reduce")
    told = run(*words, "--preview", "--json")
    assert (told.status, told.json["minor"], told.json["differs"]) == (0, 1190, False), told.err
    other = run(*words, "--amount", "1189", "--preview")
    assert (other.status, "Stripe reckons otherwise" in other.err) == (1, True)
    assert "amount must be given with lines of an invoice" in run(*words, "--request-id", "less-1").err
    asked = run(*words, "--amount", "1190", "--request-id", "less-1", "--json")
    assert service.settle(asked.json["id"]) == ["issued"]


def test_a_preview_that_stripe_refuses_says_what_stripe_says(run: Run, service: Service) -> None:
    """Somebody has credited it in the dashboard meanwhile."""
    invoice = service.paid_invoice()
    at_stripe = service.row(Invoice, invoice).stripe_invoice
    service.by_hand("/v1/credit_notes", f"invoice={at_stripe}&amount=4500&out_of_band_amount=4500")
    told = run("invoice", "credit", invoice, "--amount", "500", "--settle", "balance", "--preview")
    assert told.status == 2
    assert told.err.startswith("billing: Stripe refuses it: invalid_request_error: amount")


@pytest.mark.parametrize(
    ("asked", "problem"),
    [
        (("--settle", "reduce"), "give --amount or --line"),
        (("--settle", "reduce", "--amount", "6", "--line", "0=5"), "is 6 minor units, and the lines add up to 5"),
        (("--settle", "gift", "--amount", "5"), "--settle must be one of reduce, balance, out_of_band, refund"),
        (("--settle", "reduce", "--amount", "0"), "--amount must be positive"),
        (("--settle", "reduce", "--amount", "-5"), "--amount must be positive"),
        (("--settle", "reduce", "--amount", "9999"), "4501 EUR are left of it, not 9999"),
        (("--settle", "balance", "--amount", "5"), "is sent, not paid"),
        (("--settle", "reduce", "--line", "0:5"), "--line 1 is not POSITION=MINOR_UNITS or POSITIONxQUANTITY"),
        (("--settle", "reduce", "--line", "9=5"), "position 9 is no line of this invoice"),
        (("--settle", "reduce", "--amount", "5", "--credit-reason", "regret"), "must be one of duplicate, fraudulent"),
    ],
    ids=lambda each: " ".join(each) if isinstance(each, tuple) else "",
)
def test_what_cannot_be_credited_is_refused_in_one_line(
    run: Run, service: Service, asked: tuple[str, ...], problem: str
) -> None:
    invoice = service.sent_invoice()
    ran = run("invoice", "credit", invoice, *asked, "--request-id", "less-1")
    assert (ran.status, problem in ran.err, ran.err.count("\n")) == (2, True, 1), ran.err
    assert service.row(Invoice, invoice).credited_minor == 0


def test_what_is_no_invoice_is_not_credited(run: Run, service: Service) -> None:
    capture = service.ask_for_capture()
    told = run("invoice", "credit", capture, "--amount", "5", "--settle", "reduce", "--request-id", "less-1")
    assert (told.status, f"{capture} leads to {capture}; only an invoice is credited" in told.err) == (2, True)
