"""Every class of differences is found where it was seeded, and nothing is found on clean payments."""

import dataclasses
import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from compared import differences, open_classes, reconcile, settled
from service import Service, Through

from billing.gateway import Answer, Request, Response
from billing.tables.entities import Capture
from jobs.reconciliation.classes import BY_NAME, CLASSES
from jobs.reconciliation.classes import SQL as FINDING

Seed = Callable[[Service, str], str | None]
UNKNOWN = "cap_" + "7" * 32


def row(change: str) -> Seed:
    """Our row of a capture that was taken says something else."""

    def seed(service: Service, capture: str) -> None:
        service.execute(f"UPDATE billing.captures SET {change} WHERE id = :id", id=capture)

    return seed


def captured_by_hand(service: Service, operation: str) -> None:
    (intent,) = service.intents()
    service.by_hand(f"/v1/payment_intents/{intent}/capture", f"metadata[billing_operation]={operation}")


def never_taken(change: str) -> Seed:
    """One that no worker took, with something said of it."""

    def seed(service: Service, _capture: str) -> str:
        capture = service.ask_for_capture()
        service.execute(f"UPDATE billing.captures SET {change} WHERE id = :id", id=capture)
        return capture

    return seed


def refunded(service: Service, capture: str) -> None:
    service.by_hand("/v1/refunds", f"payment_intent={service.row(Capture, capture).payment_intent}")


def named_by_a_stranger(service: Service, _capture: str) -> str:
    captured_by_hand(service, UNKNOWN)
    return UNKNOWN


SEEDS: dict[str, Seed] = {
    "missing_there": never_taken("state = 'captured'"),
    "missing_here": row("state = 'refused'"),
    "amount": row("amount_minor = 1500"),
    "currency": row("currency = 'EUR'"),
    "state": row("state = 'requested'"),
    "account_or_mode": row("account = 'acct_1another'"),
    "duplicate_effect": captured_by_hand,
    "refund": refunded,
    "lapsed": never_taken("capture_before = now() - interval '3 hours'"),
    "unknown_metadata": named_by_a_stranger,
    "late": never_taken("reason = NULL"),
}


def test_each_seeded_difference_is_found_in_its_class_and_in_no_other(service: Service) -> None:
    """[182] Of as many captures, each differs in one way; one more is as it must be."""
    _clean, *captures = settled(service, 1 + len(SEEDS))
    expected = {
        (name, seed(service, capture) or capture) for (name, seed), capture in zip(SEEDS.items(), captures, strict=True)
    }
    reconcile(service)
    found = differences(service)
    assert {(each.kind, each.subject) for each in found} == expected
    assert all(each.what for each in found)
    reconcile(service)
    assert {each.id for each in differences(service)} == {each.id for each in found}, "found again, it is the same row"


def changed(answer: Answer, name: str, value: int) -> Answer:
    """Stripe's answer about the ledger, with another value in every entry."""
    if not isinstance(answer, Response) or answer.data is None or "data" not in answer.data:
        return answer
    data = json.loads(json.dumps(answer.data))
    for each in data["data"]:
        if each.get("object") == "balance_transaction":
            each[name] = value
    return dataclasses.replace(answer, data=data)


@pytest.mark.parametrize(("name", "value"), [("net", 1), ("amount", 2000)])
def test_figures_of_stripes_that_do_not_add_up_are_found(service: Service, name: str, value: int) -> None:
    (capture,) = settled(service)
    reconcile(service, Through(service, lambda _request, answer: changed(answer, name, value)))
    assert open_classes(service) == {"fee_or_net": capture}
    reconcile(service)
    assert [each.state for each in differences(service)] == ["gone"]


def test_a_payout_that_is_not_the_sum_of_its_entries_is_found(service: Service) -> None:
    settled(service)
    service.standin.advance(3 * 24 * 3600)

    def less(request: Request, answer: Answer) -> Answer:
        if "payout=" in request.path or not isinstance(answer, Response) or answer.data is None:
            return answer
        data = json.loads(json.dumps(answer.data))
        for each in data.get("data", []):
            if each.get("source", {}).get("object") == "payout":
                each["source"]["amount"] -= 1
        return dataclasses.replace(answer, data=data)

    late = Through(service, less)
    reconcile_later(service, late)
    assert list(open_classes(service)) == ["fee_or_net"]
    assert open_classes(service)["fee_or_net"].startswith("po_")


def reconcile_later(service: Service, gateway: Any = None) -> None:
    """By the clock of the stand-in, which was moved."""
    reconcile(service, gateway, ahead=timedelta(days=4))


INVOICES = {
    "missing_there": "stripe_invoice = 'in_nowhere'",
    "missing_here": "state = 'refused'",
    "amount": "total_minor = 1",
    "currency": "currency = 'USD'",
    "account_or_mode": "account = 'acct_1another'",
    "late": "state = 'finalized'",
}


def test_each_invoice_that_differs_is_found_in_its_class_and_in_no_other(service: Service) -> None:
    invoices = [service.ask_for_invoice() for _ in INVOICES]
    service.settle(*invoices)
    for change, invoice in zip(INVOICES.values(), invoices, strict=True):
        service.execute(f"UPDATE billing.invoices SET {change} WHERE id = :id", id=invoice)
    reconcile(service)
    expected = set(zip(INVOICES, invoices, strict=True))
    assert {(each.kind, each.subject) for each in differences(service)} == expected


def test_a_second_invoice_in_the_name_of_the_first_is_a_duplicate_effect(service: Service) -> None:
    customer = service.customer()
    invoice = service.ask_for_invoice(customer)
    service.settle(invoice)
    body = f"customer={customer}&collection_method=send_invoice&days_until_due=14&metadata[billing_operation]={invoice}"
    second = service.by_hand("/v1/invoices", body)
    reconcile(service)
    assert open_classes(service) == {}, "a draft asks nobody for money"
    service.by_hand(f"/v1/invoices/{second}/add_lines", "lines[0][amount]=4501&lines[0][description]=seats")
    service.by_hand(f"/v1/invoices/{second}/finalize")
    reconcile(service)
    assert open_classes(service) == {"duplicate_effect": invoice}


def test_nothing_is_found_on_clean_payments_of_every_end(service: Service) -> None:
    """A hundred that were taken, in whole and in part, one that was canceled, and invoices."""
    intents = service.intents(100)
    captures = [service.ask_for_capture(each, 1999 - number % 3) for number, each in enumerate(intents)]
    (canceled,) = service.intents()
    service.by_hand(f"/v1/payment_intents/{canceled}/cancel")
    captures.append(service.ask_for_capture(canceled))
    invoices = [service.ask_for_invoice() for _ in range(2)]
    # What others do at Stripe is none of ours.
    (others,) = service.intents()
    service.by_hand(f"/v1/payment_intents/{others}/capture")
    service.by_hand("/v1/refunds", f"payment_intent={others}")
    service.settle(*captures, *invoices)
    report = reconcile(service)
    assert differences(service) == []
    assert (report.counted.compared, report.in_doubt, report.unread) == (103, 0, [])
    service.standin.advance(3 * 24 * 3600)
    reconcile_later(service)
    assert differences(service) == []


def test_every_class_has_a_statement_and_is_seeded() -> None:
    assert list(FINDING) == [each.name for each in CLASSES]
    # `credit` is seeded in test_credit_notes_compared.py, `payment` in test_payments_of_invoices_compared.py.
    assert {*SEEDS, "fee_or_net", "credit", "payment"} == {each.name for each in CLASSES}
    for each in BY_NAME.values():
        assert {each.meaning[-1], each.next_step[-1]} & {"."} == set()
