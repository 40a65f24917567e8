"""Refunds, voids and captures in parts: each class of differences is found where it was seeded, and ends with it."""

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
from compared import differences, open_classes, reconcile, settled
from service import Service

from billing.gateway import Budget, Request, Response, boot_clock
from billing.states import RecordState
from billing.tables.entities import Capture, Refund, Void

Seed = Callable[[Service, str], str | None]
SEVERAL = "&payment_method_options[card][request_multicapture]=if_available"
UNKNOWN = "7" * 32


def intent_of(service: Service, operation: str) -> str:
    table = {"cap": Capture, "ref": Refund, "void": Void}[operation.partition("_")[0]]
    return str(service.row(table, operation).payment_intent)


def row(table: str, change: str) -> Seed:
    """Our row of what was done says something else."""

    def seed(service: Service, operation: str) -> None:
        service.execute(f"UPDATE billing.{table} SET {change} WHERE id = :id", id=operation)

    return seed


def refunded_by_hand(service: Service, intent: str, operation: str) -> None:
    service.by_hand("/v1/refunds", f"payment_intent={intent}&amount=1&metadata[billing_operation]={operation}")


def refunded_twice(service: Service, refund: str) -> None:
    refunded_by_hand(service, intent_of(service, refund), refund)


def refunded_for_a_stranger(service: Service, refund: str) -> str:
    refunded_by_hand(service, intent_of(service, refund), f"ref_{UNKNOWN}")
    return f"ref_{UNKNOWN}"


def asked_for_a_refund(service: Service, refund: str) -> str:
    return service.ask_for_refund(service.row(Refund, refund).capture_id, 1)


def canceled_with_key_of(service: Service, void: str) -> None:
    (intent,) = service.intents()
    key = f"billing:test:{void}:void:g{uuid4().int}"
    within = Budget(boot_clock() + 5, boot_clock() + 10)
    answer = service.gateway().send(Request("POST", f"/v1/payment_intents/{intent}/cancel", "", key=key), within)
    assert isinstance(answer, Response)
    assert answer.status == 200


def canceled_for_a_stranger(service: Service, _void: str) -> str:
    canceled_with_key_of(service, f"void_{UNKNOWN}")
    return f"void_{UNKNOWN}"


REFUNDS: dict[str, Seed] = {
    "missing_there": row("refunds", "stripe_refund = 're_nowhere'"),
    "missing_here": row("refunds", "state = 'refused'"),
    "amount": row("refunds", "amount_minor = 499"),
    "currency": row("refunds", "currency = 'EUR'"),
    "state": row("refunds", "state = 'requested'"),
    "account_or_mode": row("refunds", "account = 'acct_1another'"),
    "duplicate_effect": refunded_twice,
    "unknown_metadata": refunded_for_a_stranger,
    "late": asked_for_a_refund,
}
VOIDS: dict[str, Seed] = {
    "missing_there": lambda service, _void: voided_here_alone(service),
    "missing_here": row("voids", "state = 'refused'"),
    "amount": row("voids", "held_minor = 2000"),
    "currency": row("voids", "currency = 'EUR'"),
    "state": row("voids", "state = 'requested'"),
    "account_or_mode": row("voids", "account = 'acct_1another'"),
    "duplicate_effect": canceled_with_key_of,
    "unknown_metadata": canceled_for_a_stranger,
    "late": lambda service, _void: service.ask_for_void(),
}
BY_HAND = {"duplicate_effect", "unknown_metadata"}


def voided_here_alone(service: Service) -> str:
    void = service.ask_for_void()
    service.execute("UPDATE billing.voids SET state = 'voided' WHERE id = :id", id=void)
    return void


def keep(service: Service, table: str) -> None:
    service.execute(f"CREATE TABLE billing.kept AS TABLE billing.{table}")


def put_back(service: Service, table: str, columns: str) -> None:
    changes = ", ".join(f"{name} = kept.{name}" for name in columns.split())
    service.execute(f"UPDATE billing.{table} AS o SET {changes} FROM billing.kept WHERE kept.id = o.id")


@pytest.mark.parametrize(("table", "seeds"), [("refunds", REFUNDS), ("voids", VOIDS)])
def test_each_seeded_difference_is_found_in_its_class_and_in_no_other_and_ends_when_it_is_gone(
    service: Service, table: str, seeds: dict[str, Seed]
) -> None:
    """Of as many that were done, each differs in one way; one more is as it must be."""
    if table == "refunds":
        _clean, *done = [service.ask_for_refund(each) for each in settled(service, 1 + len(seeds))]
    else:
        _clean, *done = [service.ask_for_void(each) for each in service.intents(1 + len(seeds))]
    service.settle(_clean, *done)
    reconcile(service)
    assert differences(service) == []
    keep(service, table)
    expected = {(name, seed(service, each) or each) for (name, seed), each in zip(seeds.items(), done, strict=True)}
    reconcile(service)
    found = differences(service)
    assert {(each.kind, each.subject) for each in found} == expected
    assert all(each.what for each in found)
    reconcile(service)
    assert {each.id for each in differences(service)} == {each.id for each in found}, "found again, it is the same row"

    more = " stripe_refund amount_minor" if table == "refunds" else " held_minor"
    put_back(service, table, f"state account currency{more}")
    service.execute("DELETE FROM billing.differences WHERE subject LIKE 'void%' AND class = 'missing_there'")
    (late,) = [each.subject for each in found if each.kind == "late"]
    service.settle(late)
    reconcile(service)
    assert {each.kind for each in differences(service) if each.state == "open"} <= BY_HAND | {"missing_there"}
    assert {each.kind for each in differences(service) if each.state == "gone"} >= seeds.keys() - BY_HAND - {
        "missing_there"
    }


def test_a_refund_that_failed_after_its_success_is_noticed_and_settled(service: Service) -> None:
    """[46] No webhook came."""
    capture = service.captured_one(card="pm_card_refundFail")
    refund = service.ask_for_refund(capture)
    assert service.settle(refund) == ["succeeded"]
    service.standin.advance(120)
    report = reconcile(service)
    assert (open_classes(service), report.counted.noticed) == ({"state": refund}, 1)
    service.relay.round()
    service.work_off("refunds")
    assert service.status(refund).state == "failed"
    reconcile(service)
    assert open_classes(service) == {}


def test_a_refund_that_stripe_has_not_ended_is_compared_and_is_nothing_in_doubt(service: Service) -> None:
    capture = service.captured_one(card="pm_card_pendingRefund")
    refund = service.ask_for_refund(capture)
    service.plan()
    service.work_off("refunds")
    assert service.row(Refund, refund).state == "pending"
    report = reconcile(service)
    assert (differences(service), report.in_doubt) == ([], 0)
    service.execute("UPDATE billing.refunds SET amount_minor = 499")
    reconcile(service)
    assert open_classes(service) == {"amount": refund}


@pytest.mark.parametrize("kind", ["refund", "void"])
def test_a_call_in_doubt_whose_effect_stripe_shows_is_looked_at_at_once_and_has_one_effect(
    service: Service, kind: str
) -> None:
    """[8] [69] The answer was lost; the ledger, and the event, are the proof."""
    queue = "refunds" if kind == "refund" else "captures"
    path = "/v1/refunds$" if kind == "refund" else "/cancel$"
    capture = settled(service)[0] if kind == "refund" else ""
    service.standin.add_fault("drop_after_commit", path=path, times=1)
    operation = service.ask_for_refund(capture) if kind == "refund" else service.ask_for_void()
    service.plan()
    service.work_off(queue)
    assert service.record(operation).state == RecordState.IN_DOUBT
    service.execute("UPDATE billing.idempotency_records SET look_at = now() + interval '1 hour'")
    report = reconcile(service)
    assert (differences(service), report.in_doubt, report.counted.noticed) == ([], 1, 1)
    assert service.settle(operation) == ["succeeded" if kind == "refund" else "voided"]
    assert len(service.effects("refund" if kind == "refund" else "payment_intent.canceled")) == 1
    assert reconcile(service).in_doubt == 0
    assert differences(service) == []


# Parts.


def parts_of(service: Service, *amounts: int) -> tuple[str, list[str]]:
    body = f"amount=1000&currency=usd&capture_method=manual&payment_method=pm_card_visa&confirm=true{SEVERAL}"
    intent = service.by_hand("/v1/payment_intents", body)
    more: dict[str, Any] = {"authorization": None, "remainder": "keep"}
    return intent, [service.ask_for_capture(intent, each, **more) for each in amounts]


def test_a_part_in_doubt_makes_no_difference_of_the_part_before_it(service: Service) -> None:
    """[31] Stripe's charge shows the sum already."""
    intent, (first,) = parts_of(service, 300)
    service.settle(first)
    service.standin.add_fault("drop_after_commit", path="/capture$", times=1)
    second = service.ask_for_capture(intent, 200, authorization=None, remainder="keep")
    service.plan()
    service.work_off()
    assert service.record(second).state == RecordState.IN_DOUBT
    report = reconcile(service)
    assert (differences(service), report.counted.noticed) == ([], 1)
    service.settle(second)
    reconcile(service)
    assert differences(service) == []


def test_what_is_wrong_with_several_parts_is_said_once_and_of_the_last_of_them(service: Service) -> None:
    intent, parts = parts_of(service, 300, 200, 100)
    service.settle(*parts)
    reconcile(service)
    assert differences(service) == []
    service.execute("UPDATE billing.captures SET amount_minor = 301 WHERE id = :id", id=parts[0])
    service.by_hand("/v1/refunds", f"payment_intent={intent}&amount=7")
    reconcile(service)
    assert sorted((each.kind, each.subject) for each in differences(service)) == [
        ("amount", parts[-1]),
        ("refund", parts[-1]),
    ]


def test_a_lapsed_authorization_is_a_difference_until_its_capture_has_ended(service: Service) -> None:
    """[27] Its work was held until it was too late."""
    service.pull("captures")
    capture = service.ask_for_capture()
    service.plan()
    service.work_off()
    service.execute("UPDATE billing.captures SET capture_before = now() - interval '1 minute'")
    reconcile(service)
    assert open_classes(service) == {"lapsed": capture}
    service.standin.advance(8 * 24 * 3600)
    service.release("captures")
    assert service.settle(capture) == ["expired"]
    reconcile(service)
    assert open_classes(service) == {}
