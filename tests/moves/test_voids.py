"""A void gives an authorization back once, and says by whom it was given back if not by us."""

from typing import Any

import pytest
from long_ago import archived_without_a_bucket, happened_long_ago
from service import Service, Through
from sqlalchemy import text
from sqlalchemy.orm import Session
from test_readme import ROOT, blocks
from test_who_wins import working

import billing
from billing import database
from billing.explain import explain
from billing.finding import find
from billing.gateway import Answer, Request
from billing.tables.entities import Void
from jobs.growth.clean_up import clean_up

DAY_S = 24 * 3600


def given_back(service: Service, void: str) -> list[int]:
    """The amounts that were really given back for this void."""
    return [each["amount"] for each in service.effects("payment_intent.canceled", row(service, void).payment_intent)]


def row(service: Service, void: str) -> Any:
    return service.row(Void, void)


def test_a_void_reads_what_is_held_and_cancels_with_a_reason_and_a_key(service: Service) -> None:
    void = service.ask_for_void(reason="fraudulent")
    assert service.status(void).next == "a relay plans the work"
    assert service.settle(void) == ["voided"]
    assert given_back(service, void) == [1999]
    assert (row(service, void).held_minor, row(service, void).currency) == (1999, "USD")
    assert row(service, void).reason is None
    read, cancel = service.records(void)
    assert [each.step for each in (read, cancel)] == ["read_hold", "void"]
    assert cancel.key == f"billing:test:{void}:void:g2"
    assert cancel.body == "cancellation_reason=fraudulent"
    assert read.provider_object == cancel.provider_object == row(service, void).payment_intent
    told = service.facts(void)
    assert [fact.topic for fact in told if "attempt" not in fact.topic] == [
        *("void.requested", "void.looked", "void.hold_read", "void.voided")
    ]
    assert told[-1].payload | {"why": ""} == {
        "minor": 1999,
        "currency": "USD",
        "account": "own",
        "payment_intent": row(service, void).payment_intent,
        "why": "",
    }


def test_a_void_is_explained_by_its_payment_intent_and_beside_the_captures_of_it(service: Service) -> None:
    (intent,) = service.intents()
    service.standin.add_fault("402_declined", path="/capture$", times=1)
    declined = service.ask_for_capture(intent)
    assert service.settle(declined) == ["declined"]
    void = service.ask_for_void(intent)
    service.settle(void)
    with database.transaction(service.engine) as session:
        assert find(session, intent) == [void, declined], "the newest first"
        story = explain(session, intent).operations
    assert [each.status.id for each in story] == [void, declined]
    assert story[0].request["cancellation_reason"] == "requested_by_customer"
    assert story[0].advice.do.startswith("nothing: the authorization is canceled")
    assert [call.step for call in story[0].calls] == ["read_hold", "void"]


@pytest.mark.parametrize("fault", ["drop_before", "drop_after_commit", "500_saved", "429_rate", "409_in_use"])
def test_a_void_whose_answer_is_lost_or_refused_gives_back_once(service: Service, fault: str) -> None:
    """[1, 6, 7, 10]"""
    service.standin.add_fault(fault, path="/cancel$", method="POST", times=1)
    void = service.ask_for_void()
    assert service.settle(void) == ["voided"]
    assert given_back(service, void) == [1999]


def test_a_void_whose_answer_was_lost_a_day_ago_is_ours_by_its_event(service: Service) -> None:
    """[11, 45]"""
    service.standin.add_fault("drop_after_commit", path="/cancel$", method="POST", times=1)
    void = service.ask_for_void()
    service.plan()
    service.work_off()
    record = service.record(void)
    service.execute(
        "UPDATE billing.idempotency_records SET first_sent_at = first_sent_at - interval '1 day' WHERE id = :id",
        id=record.id,
    )
    assert service.settle(void) == ["voided"]
    assert row(service, void).reason is None
    assert service.record(void).learned == "found_ours"
    assert len(service.posts("/cancel")) == 1


@pytest.mark.parametrize("between", [False, True], ids=["before the request", "between our two calls"])
def test_an_authorization_that_somebody_else_canceled_counts_as_voided(service: Service, between: bool) -> None:
    """[30]"""
    (intent,) = service.intents()
    void = service.ask_for_void(intent)
    if between:
        service.settle(void, gateway=Through(service, before=by_hand_before(service, intent, "cancel")))
    else:
        service.by_hand(f"/v1/payment_intents/{intent}/cancel")
        service.settle(void)
    status = service.status(void)
    assert (status.state, status.reason) == ("voided", "already_done")
    assert len(given_back(service, void)) == 1


def by_hand_before(service: Service, intent: str, verb: str) -> Any:
    """What a person does just before our cancel."""
    done: list[str] = []

    def before(request: Request) -> Answer | None:
        if request.path.endswith("/cancel") and not done:
            done.append(service.by_hand(f"/v1/payment_intents/{intent}/{verb}"))
        return None

    return before


@pytest.mark.parametrize("between", [False, True], ids=["before the request", "between our two calls"])
def test_an_authorization_that_a_person_captured_is_not_voided(service: Service, between: bool) -> None:
    """[64] A capture that was taken is not given back: the caller refunds it."""
    (intent,) = service.intents()
    void = service.ask_for_void(intent)
    if between:
        service.settle(void, gateway=Through(service, before=by_hand_before(service, intent, "capture")))
    else:
        service.by_hand(f"/v1/payment_intents/{intent}/capture")
        service.settle(void)
    status = service.status(void)
    assert status.state == "refused"
    assert str(status.reason).startswith("captured_elsewhere: status: expected requires_capture, found succeeded")
    assert given_back(service, void) == []
    if not between:
        assert service.posts("/cancel") == [], "it was read first"
    assert service.ask_for_void(intent), "a refused void frees the authorization"


def test_what_a_capture_has_kept_is_not_released_by_a_cancel_that_comes_too_late(service: Service) -> None:
    """A cancel would release it, and it was kept for another capture."""
    asked = "amount=1999&currency=usd&capture_method=manual&payment_method=pm_card_visa&confirm=true"
    several = "payment_method_options[card][request_multicapture]=if_available"
    intent = service.by_hand("/v1/payment_intents", f"{asked}&{several}")
    void = service.ask_for_void(intent)
    service.by_hand(f"/v1/payment_intents/{intent}/capture", "amount_to_capture=500&final_capture=false")
    assert service.settle(void) == ["refused"]
    assert "amount_received: expected 0, found 500" in str(service.status(void).reason)
    assert service.posts("/cancel") == []
    service.by_hand(f"/v1/payment_intents/{intent}/capture", "amount_to_capture=1499")


def test_a_void_of_an_authorization_that_lapsed_ends_as_expired(service: Service) -> None:
    """[27]"""
    void = service.ask_for_void()
    service.standin.advance(8 * DAY_S)
    assert service.settle(void) == ["expired"]
    assert service.status(void).reason == "lapsed_before"
    assert service.posts("/cancel") == []


def test_a_void_of_nothing_is_refused(service: Service) -> None:
    void = service.ask_for_void("pi_nobody")
    assert service.settle(void) == ["refused"]
    assert service.status(void).reason == "no_such_payment_intent"


def test_the_switch_of_voids_holds_them_and_nothing_else(service: Service) -> None:
    service.pull("voids")
    void, capture = service.ask_for_void(), service.ask_for_capture()
    assert service.settle(capture) == ["captured"]
    assert service.work(void).state == "held"
    assert service.posts("/cancel") == []
    service.release("voids")
    assert service.settle(void) == ["voided"]


# Asking.


def ask(session: Session, payment_intent: str = "pi_1", **more: Any) -> billing.VoidReceipt:
    more = {"reason": "abandoned", "request_id": "order-1-void", **more}
    return billing.request_void(session, payment_intent=payment_intent, **more)


def test_the_same_request_returns_the_same_receipt_and_another_one_is_named(service: Service) -> None:
    with database.transaction(service.engines["application"]) as session:
        first = ask(session)
        assert first.new
        assert ask(session) == billing.VoidReceipt(first.void_id, "order-1-void", new=False)
        with pytest.raises(billing.RequestReused, match="cancellation_reason: first 'abandoned', now 'duplicate'"):
            ask(session, reason="duplicate")
        with pytest.raises(billing.AuthorizationTaken, match=f"already belongs to {first.void_id}$"):
            ask(session, request_id="order-2-void")
    assert [fact.topic for fact in service.facts(first.void_id)] == ["void.requested"]


@pytest.mark.parametrize(
    ("name", "given", "problem"),
    [
        ("reason", "changed_my_mind", "must be one of duplicate, fraudulent, requested_by_customer, abandoned"),
        ("reason", None, "must be one of .*, not NoneType"),
        ("payment_intent", "ch_1", "must be the id of a payment intent"),
        ("request_id", "", "must be 1 to 255"),
        ("account", "pi_1", "must be the id of an account"),
    ],
)
def test_bad_input_is_named_and_nothing_is_written(service: Service, name: str, given: Any, problem: str) -> None:
    with database.transaction(service.engines["application"]) as session:
        with pytest.raises(billing.InvalidText, match=problem) as refused:
            ask(session, **{name: given})
        assert refused.value.subject == name
        assert ask(session).new, "the transaction is usable"


def test_work_calls_and_facts_of_a_void_go_when_those_of_a_capture_do(service: Service) -> None:
    void = service.ask_for_void()
    service.settle(void)
    service.plan()
    happened_long_ago(service)
    archived_without_a_bucket(service)
    assert clean_up(service.engines["worker"]).operations == 1
    assert service.records(void) == []
    purge = "SELECT count(*) FROM billing.purge_facts(:class, 1, '90 days', 0, 100, 'grace')"
    for each in ("capture", "attempt"):
        service.execute(purge, **{"class": each})
    assert service.facts(void) == []
    assert row(service, void).state == "voided", "a request id that was used stays"


def test_what_people_said_about_a_void_is_erased_once_it_is_over(service: Service) -> None:
    void = service.ask_for_void(actor="Anna Kay")
    assert erased(service, void) == ([void], 1)
    service.settle(void)
    service.plan()
    happened_long_ago(service)
    assert erased(service, void) == ([], 1)
    assert service.facts(void)[0].actor == "erased"


def erased(service: Service, void: str) -> tuple[list[str], int]:
    """Those that are not over, and how many facts were or would be erased."""
    with database.transaction(service.engines["operator"]) as session:
        asked = text("SELECT not_over, facts FROM billing.erase_texts(CAST(:ids AS text[]), 'cus_1', false)")
        not_over, facts = session.execute(asked, {"ids": [void]}).one()
    return not_over, facts


def test_the_page_for_voids_runs_from_its_first_block_to_its_last(
    service: Service, capsys: pytest.CaptureFixture[str]
) -> None:
    names: dict[str, Any] = {"engine": service.engine, "payment_intent": service.intents()[0]}
    first, second = blocks(ROOT / "docs" / "moves" / "voids.md", "python")
    with working(service):
        exec(compile(first, "voids.md", "exec"), names)  # noqa: S102 - our own page
    exec(compile(second, "voids.md", "exec"), names)  # noqa: S102
    assert capsys.readouterr().out == "voided\nTrue\n"
