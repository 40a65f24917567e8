"""Credit notes on real servers: each is issued once, in one of four ways, and never for more than is left."""

import threading
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
from service import Service, eventually
from sqlalchemy.orm import Session

import billing
from billing import database, erasure
from billing.states import RecordState
from billing.tables.credit_notes import CreditNote
from billing.tables.entities import Invoice, Refund
from jobs.road import concluding, quarantine

PATH = "/v1/credit_notes$"
TOTAL = 4501


def sums(service: Service, invoice: str) -> tuple[int, int, int]:
    """Credited, not due any more, given back."""
    row = service.row(Invoice, invoice)
    return row.credited_minor, row.reduced_minor, row.returned_minor


def at_stripe(service: Service, invoice: str) -> dict[str, object]:
    return service.standin_object(f"/v1/invoices/{service.row(Invoice, invoice).stripe_invoice}")


def notes_of(service: Service, invoice: str) -> list[dict[str, object]]:
    return service.read_list("/v1/credit_notes", invoice=service.row(Invoice, invoice).stripe_invoice)


def turn(service: Service) -> None:
    service.relay.round()
    for queue in ("refunds", "invoices"):
        service.work_off(queue)


def settle(service: Service, note: str) -> str:
    """Relay and workers of both queues, until the note is final."""
    eventually(lambda: turn(service) or service.status(note).final, f"{note} is final")
    return service.status(note).state


def undecided(service: Service) -> list[str]:
    with database.transaction(service.engine) as session:
        return [each.entity_id for each in quarantine.undecided(session)]


def test_a_note_of_an_open_invoice_costs_one_call_and_reduces_what_is_due(service: Service) -> None:
    invoice = service.sent_invoice()
    note = service.credit(invoice, 501, reason="order_change")
    assert sums(service, invoice) == (501, 501, 0)
    before = len(service.standin.requests())
    assert service.settle(note) == ["issued"]
    assert len(service.standin.requests()) - before == 1
    row = service.row(CreditNote, note)
    assert (row.number or "").endswith("-CN-01")
    assert (service.credited(note), row.stripe_credit_note) == ([501], notes_of(service, invoice)[0]["id"])
    assert at_stripe(service, invoice)["amount_due"] == TOTAL - 501
    assert service.topics(note) == ["requested", "attempted", "issued"]
    assert service.facts(note)[-1].payload | {"minor": 501, "invoice": invoice} == service.facts(note)[-1].payload


@pytest.mark.parametrize("settle_by", ["balance", "out_of_band"])
def test_a_note_of_a_paid_invoice_credits_the_balance_or_what_is_given_back_elsewhere(
    service: Service, settle_by: str
) -> None:
    invoice = service.paid_invoice()
    note = service.credit(invoice, 500, settle_by)
    assert service.settle(note) == ["issued"]
    assert (service.credited(note), sums(service, invoice)) == ([500], (500, 0, 500))
    (shown,) = notes_of(service, invoice)
    assert (shown["pre_payment_amount"], shown["post_payment_amount"]) == (0, 500)
    assert (shown.get("out_of_band_amount") == 500) is (settle_by == "out_of_band")
    assert bool(shown.get("customer_balance_transaction")) is (settle_by == "balance")
    assert service.effects("refund") == []


def test_a_note_with_a_refund_comes_after_it_and_names_it(service: Service) -> None:
    invoice = service.paid_invoice()
    note = service.credit(invoice, 500, "refund", reason="duplicate")
    refund = str(service.row(CreditNote, note).refund_id)
    assert sums(service, invoice) == (500, 0, 500)
    service.plan()
    service.work_off("invoices")
    assert (service.posts("/v1/credit_notes"), service.status(note).state) == ([], "requested")
    assert refund in service.status(note).next
    assert settle(service, note) == "issued"
    assert (service.refunded(refund), service.credited(note)) == ([500], [500])
    (shown,) = notes_of(service, invoice)
    assert [each["refund"] for each in shown["refunds"]] == [service.row(Refund, refund).stripe_refund]
    assert sums(service, invoice) == (500, 0, 500)
    assert [post["key"].split(":")[2][:3] for post in service.posts("s") if "by-hand" not in post["key"]][-2:] == [
        "ref",
        "crn",
    ]


def test_a_note_whose_refund_gives_nothing_back_is_refused_and_both_free_the_amount(service: Service) -> None:
    invoice = service.paid_invoice("paid_out_of_band=true")
    note = service.credit(invoice, 500, "refund")
    assert settle(service, note) == "refused"
    assert service.status(note).reason == "not_given_back: refused"
    assert (service.posts("/v1/credit_notes"), sums(service, invoice)) == ([], (0, 0, 0))


def test_a_refund_that_the_bank_has_not_ended_is_enough_for_the_note(service: Service) -> None:
    invoice = service.paid_invoice("payment_method=pm_card_pendingRefund")
    note = service.credit(invoice, 500, "refund")
    assert settle(service, note) == "issued"
    assert service.row(Refund, str(service.row(CreditNote, note).refund_id)).state == "pending"


def test_a_note_waits_while_nobody_knows_whether_its_refund_was_made(service: Service) -> None:
    invoice = service.paid_invoice()
    note = service.credit(invoice, 500, "refund")
    refund = str(service.row(CreditNote, note).refund_id)
    service.standin.add_fault("500_saved", path="/v1/refunds$", method="POST", times=1)
    eventually(lambda: turn(service) or undecided(service) == [refund], "the refund is undecided")
    turn(service)
    assert (service.posts("/v1/credit_notes"), service.status(note).final) == ([], False)
    made = (
        f"payment_intent={service.row(Refund, refund).payment_intent}&amount=500&metadata[billing_operation]={refund}"
    )
    service.by_hand("/v1/refunds", made)
    service.age(refund, 3600)
    assert settle(service, note) == "issued"
    assert (service.refunded(refund), service.credited(note)) == ([500], [500])


def test_lines_are_credited_by_amount_and_by_quantity(service: Service) -> None:
    seats = billing.Line("3 seats", unit_amount=billing.UnitAmount("1500.5", "EUR"), quantity=3)
    invoice = service.sent_invoice(lines=[seats, billing.Line("setup", billing.Money(1000, "EUR"))])
    lines = [billing.CreditLine(1, billing.Money(300, "EUR")), billing.CreditLine(0, quantity=1)]
    note = service.credit(invoice, None, lines=lines)
    assert service.row(CreditNote, note).amount_minor == 1501 + 300
    assert service.settle(note) == ["issued"]
    assert service.credited(note) == [1801]
    (shown,) = notes_of(service, invoice)
    assert [line["amount"] for line in shown["lines"]["data"]] == [1501, 300]
    assert service.topics(note) == ["requested", "looked", "attempted", "issued"]


def taxed(service: Service) -> str:
    """An invoice of 3 units of 10.00 EUR and a setup of 5.00 EUR, with 10 % off and 19 % VAT."""
    vat = service.by_hand("/v1/tax_rates", "display_name=VAT&percentage=19&inclusive=false")
    coupon = service.by_hand("/v1/coupons", "id=co_1&percent_off=10&duration=once")
    seats = billing.Line("3 seats", unit_amount=billing.UnitAmount("1000", "EUR"), quantity=3)
    invoice = service.sent_invoice(
        lines=[seats, billing.Line("setup", billing.Money(500, "EUR"))],
        terms=billing.InvoiceTerms(tax_rates=[vat], discounts=[coupon]),
    )
    assert service.row(Invoice, invoice).final_minor == 3150 + 599
    return invoice


def test_lines_with_taxes_and_discounts_are_credited_for_what_stripe_reckons(service: Service) -> None:
    invoice = taxed(service)
    lines = [billing.CreditLine(0, quantity=2), billing.CreditLine(1, billing.Money(100, "EUR"))]
    with pytest.raises(billing.InvalidRequest, match="must be given with lines of an invoice that has taxes"):
        service.credit(invoice, None, lines=lines)
    total = 1800 + 342 + 90 + 17
    note = service.credit(invoice, total, lines=lines)
    assert sums(service, invoice) == (total, total, 0), "the bound counts the tax"
    assert service.settle(note) == ["issued"]
    assert service.credited(note) == [total]
    (shown,) = notes_of(service, invoice)
    assert shown["subtotal"] == 2100
    assert sum(tax["amount"] for tax in shown["total_taxes"]) == 342 + 17
    with pytest.raises(billing.MoreThanInvoiced):
        service.credit(invoice, 3749 - total + 1, lines=[billing.CreditLine(0, quantity=1)])


@pytest.mark.parametrize("by", [-1, 1])
def test_lines_that_come_to_something_else_at_stripe_are_refused_before_anything_is_issued(
    service: Service, by: int
) -> None:
    invoice = taxed(service)
    note = service.credit(invoice, 1800 + 342 + by, lines=[billing.CreditLine(0, quantity=2)])
    assert service.settle(note) == ["refused"]
    assert (service.status(note).reason or "").startswith("reckoned_otherwise: amount")
    assert (service.posts("/v1/credit_notes"), sums(service, invoice)) == ([], (0, 0, 0))


def test_taxed_lines_of_a_paid_invoice_are_refunded_with_their_tax(service: Service) -> None:
    invoice = taxed(service)
    service.by_hand(f"/v1/invoices/{service.row(Invoice, invoice).stripe_invoice}/pay", "payment_method=pm_card_visa")
    service.notice(invoice)
    eventually(lambda: service.settle(invoice) == ["paid"], "it is paid")
    note = service.credit(invoice, 900 + 171, "refund", lines=[billing.CreditLine(0, quantity=1)])
    assert settle(service, note) == "issued"
    assert service.refunded(str(service.row(CreditNote, note).refund_id)) == service.credited(note) == [1071]


def test_an_amount_beside_lines_without_taxes_is_what_they_add_up_to(service: Service) -> None:
    invoice = service.sent_invoice()
    lines = [billing.CreditLine(0, billing.Money(500, "EUR"))]
    with pytest.raises(billing.InvalidAmount, match="is 501 minor units, and the lines add up to 500"):
        service.credit(invoice, 501, lines=lines)
    assert service.settle(service.credit(invoice, 500, lines=lines)) == ["issued"]


@pytest.mark.parametrize("fault", ["drop_before", "drop_after_commit", "truncate_body", "502_html", "200_html"])
def test_a_lost_answer_is_asked_for_again_with_the_same_key(service: Service, fault: str) -> None:
    note = service.credit(service.sent_invoice(), 500)
    service.standin.add_fault(fault, path=PATH, method="POST", times=1)
    assert service.settle(note) == ["issued"]
    assert service.credited(note) == [500]
    assert len({post["key"] for post in service.posts("/v1/credit_notes")}) == 1


def test_a_note_whose_500_had_its_effect_is_found_by_its_metadata(service: Service) -> None:
    invoice = service.sent_invoice()
    for _ in range(3):
        service.by_hand("/v1/credit_notes", f"invoice={service.row(Invoice, invoice).stripe_invoice}&amount=1")
    note = service.credit(invoice, 500)
    service.standin.add_fault("500_with_effect", path=PATH, method="POST", times=1)
    assert service.settle(note) == ["issued"]
    assert service.credited(note) == [500]


def test_a_note_whose_outcome_is_unknown_is_never_repeated_under_a_new_key_by_a_machine(service: Service) -> None:
    """Stripe saved a 500 and lists no note. That proves nothing: a second one of the same amount would count, too."""
    invoice = service.sent_invoice()
    note = service.credit(invoice, 500)
    service.standin.add_fault("500_saved", path=PATH, method="POST", times=1)
    eventually(lambda: turn(service) or undecided(service) == [note], "it is undecided")
    for _ in range(3):
        service.age(note, 30 * 3600)
        turn(service)
    assert {post["key"] for post in service.posts("/v1/credit_notes")} == {service.records(note)[0].key}
    assert [record.state for record in service.records(note)] == [RecordState.IN_DOUBT]
    assert (service.credited(note), service.status(note).state, sums(service, invoice)[0]) == ([], "in_doubt", 500)
    with database.transaction(service.engines["operator"]) as session:
        concluding.conclude(session, note, actor="anna", reason="nothing at Stripe")
    assert (service.status(note).state, sums(service, invoice)) == ("refused", (0, 0, 0))


def test_an_undecided_note_ends_when_somebody_issues_it_at_stripe_under_our_id(service: Service) -> None:
    invoice = service.sent_invoice()
    note = service.credit(invoice, 500)
    service.standin.add_fault("500_saved", path=PATH, method="POST", times=1)
    eventually(lambda: turn(service) or undecided(service) == [note], "it is undecided")
    by_hand = f"invoice={service.row(Invoice, invoice).stripe_invoice}&amount=500&metadata[billing_operation]={note}"
    made = service.by_hand("/v1/credit_notes", by_hand)
    service.age(note, 3600)
    assert service.settle(note) == ["issued"]
    assert service.row(CreditNote, note).stripe_credit_note == made


@pytest.mark.parametrize(
    ("before", "reason"),
    [("reduce", "too_little_left: amount_remaining"), ("paid", "too_little_left: status"), ("balance", "too_little")],
)
def test_a_lost_note_that_stripe_cannot_issue_any_more_is_refused_by_a_look(
    service: Service, before: str, reason: str
) -> None:
    invoice = service.paid_invoice() if before == "balance" else service.sent_invoice()
    note = service.credit(invoice, 500, "balance" if before == "balance" else "reduce")
    service.standin.add_fault("500_saved", path=PATH, method="POST", times=1)
    eventually(lambda: turn(service) or undecided(service) == [note], "it is undecided")
    of = f"invoice={service.row(Invoice, invoice).stripe_invoice}&amount=4002"
    if before == "paid":
        service.by_hand(f"/v1/invoices/{service.row(Invoice, invoice).stripe_invoice}/pay", "paid_out_of_band=true")
    else:
        service.by_hand("/v1/credit_notes", of + "&out_of_band_amount=4002" * (before == "balance"))
    service.age(note, 3600)
    assert service.settle(note) == ["refused"]
    assert (service.status(note).reason or "").startswith(reason)
    assert sums(service, invoice)[0] == 0


def test_two_notes_of_ours_at_stripe_need_a_decision(service: Service) -> None:
    invoice = service.sent_invoice()
    note = service.credit(invoice, 500)
    by_hand = f"invoice={service.row(Invoice, invoice).stripe_invoice}&amount=500&metadata[billing_operation]={note}"
    for _ in range(2):
        service.by_hand("/v1/credit_notes", by_hand)
    service.standin.add_fault("500_saved", path=PATH, method="POST", times=1)
    eventually(lambda: turn(service) or service.status(note).needs_decision, "it is in conflict")
    assert "credited_more_than_once" in (service.status(note).reason or "")


def test_an_answer_of_another_amount_needs_a_decision(service: Service) -> None:
    note = service.credit(service.sent_invoice(), 500)
    service.standin.add_fault("other_amount", path=PATH, method="POST", times=1)
    eventually(lambda: turn(service) or service.status(note).needs_decision, "it is in conflict")
    assert service.status(note).state == "conflict"


def test_a_note_that_stripe_refuses_frees_its_amount(service: Service) -> None:
    """The customer paid meanwhile, so nothing is due that could be reduced."""
    invoice = service.sent_invoice()
    note = service.credit(invoice, 500)
    service.by_hand(f"/v1/invoices/{service.row(Invoice, invoice).stripe_invoice}/pay", "payment_method=pm_card_visa")
    assert service.settle(note) == ["refused"]
    assert (service.credited(note), sums(service, invoice)) == ([], (0, 0, 0))


def test_a_note_that_somebody_voids_at_stripe_is_seen_and_its_amount_counts_again(service: Service) -> None:
    invoice = service.sent_invoice()
    note = service.credit(invoice, 500)
    assert service.settle(note) == ["issued"]
    service.by_hand(f"/v1/credit_notes/{service.row(CreditNote, note).stripe_credit_note}/void")
    service.notice(note)
    eventually(lambda: turn(service) or service.status(note).state == "voided", "it is seen")
    assert sums(service, invoice) == (0, 0, 0)
    assert service.topics(note)[-1] == "voided"
    service.notice(note)
    turn(service)
    assert service.topics(note).count("voided") == 1


@pytest.mark.parametrize("settle_by", ["reduce", "balance", "refund"])
def test_of_two_asked_for_at_once_that_are_too_much_together_one_is_refused(service: Service, settle_by: str) -> None:
    """[70] Each in a transaction of its own; the constraint in Postgres decides."""
    invoice = service.sent_invoice() if settle_by == "reduce" else service.paid_invoice()
    ended: list[object] = []
    together = threading.Barrier(2)

    def ask() -> None:
        together.wait()
        try:
            ended.append(service.credit(invoice, TOTAL // 2 + 1, settle_by, request_id=str(uuid4())))
        except billing.MoreThanInvoiced as error:
            ended.append(error.left)

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    (note,) = [each for each in ended if isinstance(each, str)]
    assert [each for each in ended if not isinstance(each, str)] == [TOTAL // 2]
    assert settle(service, note) == "issued"
    assert service.credited(note) == [TOTAL // 2 + 1]
    assert sums(service, invoice)[0] == TOTAL // 2 + 1


def test_an_invoice_that_was_credited_whole_is_paid_and_nothing_more_is_given_back(service: Service) -> None:
    invoice = service.sent_invoice()
    note = service.credit(invoice, TOTAL)
    assert service.settle(note) == ["issued"]
    service.notice(invoice)
    eventually(lambda: turn(service) or service.status(invoice).state == "paid", "Stripe has marked it paid")
    for ask in (lambda: service.refund_invoice(invoice, None), lambda: service.credit(invoice, 1, "balance")):
        with pytest.raises(billing.MoreThanInvoiced) as refused:
            ask()
        assert refused.value.left == 0


def test_a_note_is_stopped_by_the_switch_of_invoices(service: Service) -> None:
    note = service.credit(service.sent_invoice(), 500)
    service.pull("invoices")
    turn(service)
    assert (service.work(note).state, service.posts("/v1/credit_notes")) == ("held", [])
    service.release("invoices")
    assert service.settle(note) == ["issued"]


def test_a_memo_is_on_the_note_at_stripe_and_in_no_fact(service: Service) -> None:
    invoice = service.sent_invoice()
    with pytest.raises(billing.InvalidText, match="memo"):
        service.credit(invoice, 500, memo="x" * 1501)
    with pytest.raises(billing.InvalidText, match="memo"):
        service.credit(invoice, 500, memo="a\x00b")
    note = service.credit(invoice, 500, memo="For the late delivery, dear Erika.", request_id="late")
    assert service.settle(note) == ["issued"]
    shown = service.standin_object(f"/v1/credit_notes/{service.row(CreditNote, note).stripe_credit_note}")
    assert shown["memo"] == "For the late delivery, dear Erika."
    assert "Erika" not in str([fact.payload for fact in service.facts(note)])
    assert service.facts(note)[0].payload["memo"] is True
    assert service.credit(invoice, 500, memo="For the late delivery, dear Erika.", request_id="late") == note
    with pytest.raises(billing.RequestReused) as reused:
        service.credit(invoice, 500, memo="For Erika.", request_id="late")
    assert "Erika" not in str(reused.value)


def test_the_memo_of_a_note_is_erased_with_the_texts_of_its_customer_once_it_is_over(service: Service) -> None:
    invoice = service.sent_invoice()
    customer = service.row(Invoice, invoice).customer
    note = service.credit(invoice, 500, memo="dear Erika", request_id="late")
    assert service.settle(note) == ["issued"]

    def ask(step: Callable[[Session], Any]) -> Any:
        with database.transaction(service.engines["operator"]) as session:
            return step(session)

    long_ago = "UPDATE billing.{} SET {} = {} - interval '2 days'"
    service.execute(long_ago.format("invoices", "state_since", "state_since"))
    service.execute(
        "UPDATE billing.idempotency_records SET concluded_at = concluded_at - interval '2 days'"
        " WHERE operation_id = :id",
        id=invoice,
    )
    ids = erasure.operations_of(ask, customer)
    assert erasure.count(ask, ids, customer).not_over == (note,)
    with pytest.raises(billing.InvalidRequest, match=note):
        erasure.erase(ask, ids, customer)
    assert service.row(CreditNote, note).memo == "dear Erika"
    service.execute(long_ago.format("credit_notes", "state_since", "state_since"))
    service.execute(
        "UPDATE billing.idempotency_records SET concluded_at = concluded_at - interval '2 days'"
        " WHERE operation_id = :id",
        id=note,
    )
    counted = erasure.count(ask, ids, customer)
    assert erasure.erase(ask, ids, customer) == counted
    assert service.row(CreditNote, note).memo is None
    assert {record.body for record in service.records(note)} == {""}
    assert not erasure.count(ask, ids, customer).anything
    assert service.credit(invoice, 500, memo="dear Erika", request_id="late") == note
