"""Several captures of one authorization at Stripe: in their order, each once, and their sum is what Stripe received."""

import random

import pytest
from service import Service, Through, eventually

import billing
from billing import database
from billing.gateway import NoAnswer
from billing.tables.entities import Capture
from jobs.road import work_queue

DAY = 24 * 3600
SEVERAL = "&payment_method_options[card][request_multicapture]=if_available"


def several(service: Service, amount: int = 1000, options: str = SEVERAL) -> str:
    """An authorization that may be captured in parts."""
    body = f"amount={amount}&currency=usd&capture_method=manual&payment_method=pm_card_visa&confirm=true{options}"
    return service.by_hand("/v1/payment_intents", body)


def ask(service: Service, intent: str, amount: int, remainder: str = "keep", **more: object) -> str:
    more.setdefault("authorization", None)
    return service.ask_for_capture(intent, amount, remainder=remainder, **more)


def taken(service: Service, intent: str) -> list[int]:
    return [effect["amount"] for effect in service.effects("capture", intent)]


def test_parts_are_captured_one_after_the_other_and_the_last_one_releases_the_rest(service: Service) -> None:
    """[31] All are asked for before the first is carried out."""
    intent = several(service)
    parts = [ask(service, intent, 300), ask(service, intent, 500), ask(service, intent, 100, "release")]
    assert service.settle(*parts) == ["captured"] * 3
    assert taken(service, intent) == [300, 500, 100]
    assert [effect["amount"] for effect in service.effects("release", intent)] == [100]
    facts = [fact for part in parts for fact in service.facts(part) if fact.topic == "capture.captured"]
    assert [(fact.payload["minor"], fact.payload.get("authorized_minor")) for fact in facts] == [
        (300, None),
        (500, None),
        (100, 200),
    ]


def test_a_later_part_waits_until_the_earlier_one_is_over(service: Service) -> None:
    intent = several(service)
    known = billing.Authorization(1000, "USD", None)
    first = ask(service, intent, 300, authorization=known)
    second = ask(service, intent, 200, "release", authorization=known)
    service.plan()
    called = service.prepared(most=2)
    assert called.keys() == {first}
    waits = service.status(second)
    assert (waits.work, first in waits.next) == ("waiting", True)
    service.report(called[first])
    assert service.settle(first, second) == ["captured", "captured"]
    assert taken(service, intent) == [300, 200]


@pytest.mark.parametrize("arrived", [True, False], ids=["it arrived", "it did not"])
@pytest.mark.parametrize("remainder", ["keep", "release"])
def test_the_lost_answer_to_a_later_part_is_found_out_and_nothing_is_taken_twice(
    service: Service, arrived: bool, remainder: str
) -> None:
    """[1, 31]"""
    intent = several(service)
    first = ask(service, intent, 300)
    assert service.settle(first) == ["captured"]
    second = ask(service, intent, 200, remainder)
    fault = "500_with_effect" if arrived else "500_no_effect"
    service.standin.add_fault(fault, path="/capture$", method="POST", times=1)
    assert service.settle(second) == ["captured"]
    assert taken(service, intent) == [300, 200]


def test_an_earlier_part_that_is_refused_leaves_its_place_and_the_later_one_goes_on(service: Service) -> None:
    intent = several(service)
    first, second = ask(service, intent, 1001), ask(service, intent, 1000, "release")
    assert service.settle(first, second) == ["refused", "captured"]
    assert taken(service, intent) == [1000]


def test_more_than_is_left_is_refused_before_it_is_sent(service: Service) -> None:
    """[32]"""
    intent = several(service)
    first, second = ask(service, intent, 700), ask(service, intent, 301)
    assert service.settle(first, second) == ["captured", "refused"]
    assert (service.status(second).reason or "").startswith("more_than_authorized: amount_capturable")
    assert len(service.posts("/capture")) == 1


def test_what_somebody_else_took_is_not_taken_for_ours(service: Service) -> None:
    intent = several(service)
    first = ask(service, intent, 300)
    assert service.settle(first) == ["captured"]
    service.by_hand(f"/v1/payment_intents/{intent}/capture", "amount_to_capture=50&final_capture=false")
    second = ask(service, intent, 200)
    assert service.settle(second) == ["refused"]
    assert (service.status(second).reason or "").startswith("captured_in_part: amount_received: expected 300")
    assert taken(service, intent) == [300, 50]


@pytest.mark.parametrize("known", [True, False], ids=["authorization brought", "authorization read"])
def test_without_several_captures_the_rest_cannot_be_kept_and_the_reason_says_so(service: Service, known: bool) -> None:
    """[31]"""
    intent = several(service, options="")
    brought = billing.Authorization(1000, "USD", None) if known else None
    part = ask(service, intent, 300, authorization=brought)
    assert service.settle(part) == ["refused"]
    assert service.status(part).reason == "multicapture_unavailable"
    assert len(service.posts("/capture")) == int(known)
    assert taken(service, intent) == []
    # Its place is free again.
    assert service.settle(ask(service, intent, 300, "release")) == ["captured"]


@pytest.mark.parametrize("known", [True, False], ids=["authorization brought", "authorization read"])
def test_a_rest_that_lapsed_is_expired_and_one_that_was_released_is_canceled(service: Service, known: bool) -> None:
    """[27, 30]"""
    ended = []
    for lapses in (True, False):
        intent = several(service)
        assert service.settle(ask(service, intent, 300)) == ["captured"]
        if lapses:
            service.standin.advance(8 * DAY)
        else:
            service.by_hand(f"/v1/payment_intents/{intent}/cancel")
        brought = billing.Authorization(700, "USD", None) if known else None
        second = ask(service, intent, 700, authorization=brought)
        if lapses:
            service.execute(
                "UPDATE billing.captures SET capture_before = now() - interval '1 second' WHERE id = :id", id=second
            )
        service.settle(second)
        ended.append((service.status(second).state, service.status(second).reason))
        lost = service.facts(second)[-1].payload
        assert (lost["minor"], lost["currency"]) == (700, "USD")
    assert ended == [("expired", "rest_released"), ("canceled", "rest_released")]


def test_a_part_that_a_look_finds_is_ours_by_its_metadata(service: Service) -> None:
    """The answer never comes, and the key is spent: only a look can tell."""
    intent = several(service)
    first = ask(service, intent, 300)
    assert service.settle(first) == ["captured"]
    second = ask(service, intent, 200)

    def lost(request, answer):  # type: ignore[no-untyped-def]
        return NoAnswer("lost") if request.path.endswith("/capture") else answer

    service.plan()
    service.work_off(gateway=Through(service, change=lost))
    service.age(second, DAY)
    assert service.settle(second) == ["captured"]
    assert taken(service, intent) == [300, 200]


def test_fee_texts_and_metadata_are_sent_with_it(service: Service) -> None:
    terms = billing.CaptureTerms(
        application_fee=billing.Money(50, "USD"),
        statement_descriptor_suffix="ORDER 42",
        metadata={"parcel": "2 of 3", "order": "42"},
    )
    body = "amount=1000&currency=usd&capture_method=manual&payment_method=pm_card_visa&confirm=true"
    intent = service.by_hand("/v1/payment_intents", body + "&transfer_data[destination]=acct_2")
    part = ask(service, intent, 900, "release", terms=terms)
    assert service.settle(part) == ["captured"]
    sent = next(record.body for record in service.records(part) if record.method == "POST")
    assert sent.startswith(
        "amount_to_capture=900&application_fee_amount=50&statement_descriptor_suffix=ORDER+42"
        "&metadata[order]=42&metadata[parcel]=2+of+3&metadata[billing_operation]="
    )
    told = next(fact for fact in service.facts(part) if fact.topic == "capture.captured")
    assert told.payload["application_fee_minor"] == 50


def test_a_fee_without_a_connected_account_is_refused_by_stripe_and_named(service: Service) -> None:
    terms = billing.CaptureTerms(application_fee=billing.Money(50, "USD"))
    part = ask(service, several(service), 900, "release", terms=terms)
    assert service.settle(part) == ["refused"]
    assert (service.status(part).reason or "").endswith(": application_fee_amount")


@pytest.mark.parametrize("seed", range(3))
def test_random_parts_with_faults_never_take_more_than_was_authorized_and_their_sum_agrees(
    service: Service, seed: int
) -> None:
    chance = random.Random(seed)
    intents = [several(service, chance.randint(500, 1500)) for _ in range(3)]
    parts: dict[str, list[str]] = {intent: [] for intent in intents}
    for fault in ("500_with_effect", "drop_after_commit", "429_rate", "drop_before"):
        service.standin.add_fault(fault, path="/capture$", method="POST", times=2)
    for intent in intents:
        for _ in range(chance.randint(2, 4)):
            remainder = chance.choice(["keep", "keep", "keep", "release"])
            parts[intent].append(ask(service, intent, chance.randint(1, 700), remainder))
            if remainder == "release":
                break
    service.settle(*(part for each in parts.values() for part in each))
    for intent, asked in parts.items():
        rows = [service.row(Capture, part) for part in asked]
        ours = [row.amount_minor for row in rows if row.state == "captured"]
        assert {row.state for row in rows} <= {"captured", "refused", "canceled"}
        assert taken(service, intent) == ours
        (authorized,) = [effect["amount"] for effect in service.effects("authorization", intent)]
        assert sum(ours) <= authorized


def test_workers_of_an_older_version_leave_what_they_would_carry_out_wrongly(service: Service) -> None:
    """[74] They would release the rest, or leave out the fee."""
    intent, fee = several(service), billing.CaptureTerms(application_fee=billing.Money(1, "USD"))
    newer = [ask(service, intent, 300), ask(service, intent, 300, "release")]
    newer.append(ask(service, several(service), 300, "release", terms=fee))
    plain = ask(service, several(service), 300, "release")
    service.plan()
    assert [service.work(each).version for each in (*newer, plain)] == [2, 2, 2, 1]
    with database.transaction(service.engines["worker"]) as session:
        claimed = work_queue.claim_ready(session, "captures", ["take_capture:1"], 10)
    assert [work.entity_id for work in claimed] == [plain]


def test_a_hostile_row_with_metadata_of_another_kind_is_set_aside(service: Service) -> None:
    service.execute("ALTER TABLE billing.captures DROP CONSTRAINT captures_callers_metadata_bounded")
    for given in ('{"billing_operation": "cap_1"}', '["a"]', '{"a": 1}'):
        part = ask(service, several(service), 100, "release", authorization=billing.Authorization(1000, "USD", None))
        service.execute(
            "UPDATE billing.captures SET callers_metadata = CAST(:given AS jsonb) WHERE id = :id", given=given, id=part
        )
        eventually(lambda part=part: _turn(service) or service.status(part).needs_decision, "it is set aside")
        assert "callers_metadata" in (service.work(part).reason or "")
    assert service.effects("capture") == []


def _turn(service: Service) -> None:
    service.relay.round()
    service.work_off()
