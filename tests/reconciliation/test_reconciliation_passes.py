"""A pass goes on where the last one ended, whatever ended it, and what it finds ends by itself or by a person."""

import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from compared import AHEAD, differences, open_classes, reconcile, settled, transact
from service import Service, Through
from sqlalchemy import select

from billing import database
from billing.gateway import Answer, Budget, NoAnswer, NotSent, Request, Response, boot_clock
from billing.runs import QUEUE
from billing.schedules import BY_NAME
from billing.states import RecordState
from billing.tables.entities import Capture
from billing.tables.stripe_records import StripeRecord
from jobs.config.secrets import SecretError
from jobs.limits.bucket import Terms
from jobs.limits.pace import Pace
from jobs.reconciliation import differences as by_hand
from jobs.reconciliation import mirror
from jobs.reconciliation.paced import Paced
from jobs.reconciliation.passes import Reconciliation
from jobs.road import ticks
from jobs.schedules.functions import Functions


def lists_read(gateway: Through) -> list[str]:
    return [each.path for each in gateway.asked]


def mirrored(service: Service, what: str) -> list[StripeRecord]:
    with database.transaction(service.engine) as session:
        query = select(StripeRecord).where(StripeRecord.object == what).order_by(StripeRecord.created_at)
        return list(session.scalars(query))


# Reading.


def test_of_stripes_records_ids_amounts_and_states_are_kept(service: Service) -> None:
    (capture,) = settled(service, amount=1500)
    reconcile(service)
    (charge,), (entry,) = mirrored(service, "charge"), mirrored(service, "balance_transaction")
    assert (charge.operation_id, charge.amount_minor, charge.currency, charge.account) == (capture, 1500, "USD", "own")
    assert (entry.source, entry.type, entry.amount_minor) == (charge.id, "charge", 1500)
    assert entry.fee_minor is not None
    assert entry.net_minor == 1500 - entry.fee_minor


def test_a_pass_that_dies_at_any_page_is_gone_on_with_and_reads_no_page_twice(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """[183] Stripe falls silent after each page once; in the end everything is there, and was read once."""
    monkeypatch.setattr(mirror, "PAGE", 2)
    captures = settled(service, 5)
    with database.transaction(service.engine) as session:
        until = database.now(session) + AHEAD
    answered: list[str] = []

    def once_then_away(request: Request) -> Answer | None:
        if request.path in answered or len(answered) > len(passes):
            return NoAnswer("gone")
        answered.append(request.path)
        return None

    passes: list[Any] = []
    for _ in range(12):
        pass_ = Reconciliation(Through(service, before=once_then_away), transact(service), timedelta(seconds=10))
        report = pass_.run(lambda: float("inf"), until=until)
        passes.append(report)
        if not report.unread:
            break
        assert report.unread[0].why == "gone"
    ledger = [path for path in answered if path.startswith("/v1/balance_transactions")]
    assert len(ledger) == len(set(ledger)) == 3
    assert {each.operation_id for each in mirrored(service, "charge")} == set(captures)
    assert open_classes(service) == {}


def test_a_pass_without_time_does_nothing_and_says_so_and_the_next_goes_on(service: Service) -> None:
    settled(service)
    asked = Through(service)
    report = Reconciliation(asked, transact(service)).run(lambda: 0.0)
    assert (report.complete, report.pages, asked.asked) == (False, 0, [])
    assert reconcile(service).complete


def test_the_next_window_begins_before_the_last_one_ended(service: Service) -> None:
    """[46] Stripe may show an entry later than it is dated: it is found, and what was missed until then is gone."""
    (capture,) = settled(service)

    def not_yet(_request: Request, answer: Answer) -> Answer:
        assert isinstance(answer, Response)
        empty = {"object": "list", "data": [], "has_more": False}
        return Response(answer.status, json.dumps(empty).encode(), empty, None, replayed=False)

    reconcile(service, Through(service, not_yet))
    assert open_classes(service) == {"missing_there": capture}
    reconcile(service, ahead=2 * AHEAD, going_on=True)
    assert open_classes(service) == {}


def test_an_older_page_changes_nothing(service: Service) -> None:
    (capture,) = settled(service)
    reconcile(service)
    service.execute("UPDATE billing.stripe_records SET seen_at = now() + interval '1 hour', amount_minor = 7")
    reconcile(service)
    assert {each.amount_minor for each in mirrored(service, "charge")} == {7}
    assert open_classes(service)["amount"] == capture


def test_a_payout_leads_to_the_captures_that_went_out_in_it(service: Service) -> None:
    captures = settled(service, 3)
    service.standin.advance(3 * 24 * 3600)
    reconcile(service, ahead=timedelta(days=4))
    (payout,) = mirrored(service, "payout")
    entries = [each for each in mirrored(service, "balance_transaction") if each.type == "charge"]
    assert {each.payout for each in entries} == {payout.id}
    assert sum(each.net_minor or 0 for each in entries) == payout.amount_minor
    assert len(entries) == len(captures)
    again = Through(service)
    reconcile(service, again, ahead=timedelta(days=4))
    assert [path for path in lists_read(again) if "payout=" in path] == [], "it is read once"


def test_an_account_that_cannot_be_read_stops_nobody_else_s(service: Service) -> None:
    (capture,) = settled(service)
    service.execute("UPDATE billing.captures SET state = 'refused' WHERE id = :id", id=capture)
    stranger = service.ask_for_capture(account="acct_1stranger")

    def closed(request: Request) -> Answer | None:
        return NotSent("no such account") if request.account == "acct_1stranger" else None

    report = reconcile(service, Through(service, before=closed))
    assert [(each.account, each.why) for each in report.unread] == [("acct_1stranger", "no such account")]
    assert open_classes(service) == {"missing_here": capture}
    assert stranger not in open_classes(service).values()


def test_a_page_that_is_no_list_is_not_believed(service: Service) -> None:
    settled(service)

    def nonsense(_request: Request, answer: Answer) -> Answer:
        return Response(200, b"{}", {"data": [{}], "has_more": False}, None, replayed=False)

    report = reconcile(service, Through(service, nonsense))
    assert [each.why for each in report.unread] == ["/v1/balance_transactions listed an object without an id"]
    assert differences(service) == []


# Comparing.


def test_what_is_younger_than_the_settle_window_is_not_compared(service: Service) -> None:
    """Neither a request, nor the last change of a row."""
    (capture,) = settled(service)
    service.execute("UPDATE billing.captures SET amount_minor = 1")
    reconcile(service, settle=timedelta(hours=1))
    assert differences(service) == []
    service.execute("UPDATE billing.captures SET state_since = now() + interval '1 minute'")
    reconcile(service)
    assert differences(service) == []
    service.execute("UPDATE billing.captures SET state_since = now() - interval '1 minute'")
    reconcile(service)
    assert open_classes(service) == {"amount": capture}


def test_each_change_of_an_operation_is_compared_by_the_pass_after_it(service: Service) -> None:
    """One that took days, because a switch held it, is compared when it ends, and not with the day of its request."""
    capture = service.ask_for_capture()
    reconcile(service)
    assert open_classes(service) == {"late": capture}
    service.settle(capture)
    service.execute("UPDATE billing.captures SET amount_minor = 1")
    # Both were compared until later than now: the next pass begins where that one has ended.
    service.execute("UPDATE billing.facts SET happened_at = now() + interval '25 s' WHERE topic <> 'capture.requested'")
    service.execute("UPDATE billing.differences SET state = 'gone'")
    reconcile(service, ahead=2 * AHEAD, going_on=True)
    assert open_classes(service) == {"amount": capture}


def test_what_is_in_doubt_is_named_and_not_compared_and_looked_at_at_once_if_stripe_shows_it(service: Service) -> None:
    """The answer was lost after the money was taken."""
    service.standin.add_fault("drop_after_commit", path="/capture$", times=1)
    capture = service.ask_for_capture()
    service.plan()
    service.work_off()
    assert service.record(capture).state == RecordState.IN_DOUBT
    service.execute("UPDATE billing.idempotency_records SET look_at = now() + interval '1 hour'")
    report = reconcile(service)
    assert (differences(service), report.in_doubt, report.counted.noticed) == ([], 1, 1)
    assert service.settle(capture) == ["captured"]
    assert "noticed" in service.topics(capture)
    assert reconcile(service).in_doubt == 0
    assert differences(service) == []


def test_captures_of_one_authorization_are_added_up(service: Service) -> None:
    """Stripe's charge shows the sum of what was captured of it."""
    (capture,) = settled(service)
    service.execute("UPDATE billing.captures SET capture_no = 2")
    service.execute(
        "INSERT INTO billing.captures (id, request_id, payment_intent, amount_minor, currency, capture_no, state,"
        " version)"
        " SELECT :first, 'first', payment_intent, 999, currency, 1, 'captured', 1 FROM billing.captures",
        first="cap_" + "0" * 31 + "1",
    )
    reconcile(service)
    assert open_classes(service) == {"amount": capture}
    service.execute("UPDATE billing.captures SET amount_minor = 1000 WHERE capture_no = 2")
    reconcile(service)
    assert open_classes(service) == {}


def test_a_refund_that_was_asked_for_here_is_no_difference_and_one_beside_it_is(service: Service) -> None:
    (capture,) = settled(service)
    assert service.settle(service.ask_for_refund(capture, 300)) == ["succeeded"]
    reconcile(service)
    assert differences(service) == []
    service.by_hand("/v1/refunds", f"payment_intent={service.row(Capture, capture).payment_intent}&amount=500")
    reconcile(service)
    (found,) = differences(service)
    assert found.what == "500 USD refunded at Stripe, not asked for here"


# Its end.


def closed(service: Service, difference: str) -> None:
    change = transact(service, "operator")
    assert change(lambda session: by_hand.close(session, difference, actor="grace", reason="refunded by hand"))


def test_what_a_person_has_closed_opens_again_only_if_a_side_changes(service: Service) -> None:
    (capture,) = settled(service)
    service.by_hand("/v1/refunds", f"payment_intent={service.row(Capture, capture).payment_intent}&amount=500")
    reconcile(service)
    (found,) = differences(service)
    closed(service, found.id)
    reconcile(service)
    (found,) = differences(service)
    assert (found.state, found.closed_by, found.closed_because) == ("closed", "grace", "refunded by hand")
    assert transact(service, "operator")(
        lambda session: not by_hand.close(session, found.id, actor="eve", reason="again")
    )
    service.by_hand("/v1/refunds", f"payment_intent={service.row(Capture, capture).payment_intent}&amount=1")
    reconcile(service)
    (found,) = differences(service)
    assert (found.state, found.what) == ("open", "501 USD refunded at Stripe, not asked for here")


def test_a_capture_that_a_switch_holds_and_stripe_shows_as_taken_is_settled_and_not_sent_again(
    service: Service,
) -> None:
    """[8] [21] Its answer was lost before the switch was pulled: a webhook, or a pass, has it looked at."""
    service.standin.add_fault("drop_after_commit", path="/capture$", times=1)
    capture = service.ask_for_capture()
    service.plan()
    service.work_off()
    service.pull("captures")
    service.execute("UPDATE billing.idempotency_records SET look_at = now() + interval '1 hour'")
    service.notice(capture)
    assert service.settle(capture) == ["captured"]
    assert service.captured(capture) == {1999: 1}
    reconcile(service)
    assert differences(service) == []


def test_two_passes_at_once_find_each_difference_once(service: Service) -> None:
    (capture,) = settled(service)
    service.execute("UPDATE billing.captures SET state = 'refused' WHERE id = :id", id=capture)
    inner: list[Any] = []

    def meanwhile(request: Request) -> Answer | None:
        if not inner:
            inner.append(None)
            inner.append(reconcile(service))
        return None

    reconcile(service, Through(service, before=meanwhile))
    assert len(differences(service)) == 1


# By schedule.


def run_by_schedule(service: Service, **more: Any) -> dict[str, Any]:
    with database.transaction(service.engines["operator"]) as session:
        run = ticks.ask_for(session, BY_NAME["reconcile_stripe"], actor="anna").id
    service.plan()
    service.work_off(QUEUE, Functions(service.engines["worker"], livemode=False, **more))
    *_, done = service.facts(run)
    assert done.topic == "run.done"
    result: dict[str, Any] = done.payload["result"]
    return result


def test_the_schedule_s_function_makes_a_pass_with_a_worker_s_rights(service: Service) -> None:
    class Opened:
        def __enter__(self) -> Reconciliation:
            return Reconciliation(service.gateway(), transact(service), timedelta(seconds=2))

        def __exit__(self, *_: object) -> None: ...

    settled(service)
    result = run_by_schedule(service, reconciliation=Opened)
    assert result["pages"] >= 2
    assert (result["complete"], result["open"], result["unread"]) == (True, {}, [])


def test_without_a_key_the_run_is_skipped_and_says_why(service: Service) -> None:
    def no_key() -> Any:
        raise SecretError("BILLING_STRIPE_KEY", "is not set")

    assert "skipped" in run_by_schedule(service)
    assert run_by_schedule(service, reconciliation=no_key)["skipped"].startswith("no key to read Stripe with")


# At a pace.


class Answers:
    livemode = False

    def __init__(self, *statuses: int) -> None:
        self.coming: Iterator[int] = iter(statuses)
        self.asked = 0

    def send(self, request: Request, budget: Budget) -> Answer:
        self.asked += 1
        return Response(next(self.coming), b"{}", {}, None, replayed=False)


def in_a_moment() -> Budget:
    return Budget(boot_clock() + 5, boot_clock() + 5)


def test_a_read_that_stripe_refuses_for_its_rate_is_tried_again_more_slowly() -> None:
    stripe, naps = Answers(429, 429, 200), list[float]()
    pace = Pace(Terms(100.0, 5.0))
    answer = Paced(stripe, pace, naps.append).send(Request("GET", "/v1/x"), in_a_moment())
    assert isinstance(answer, Response)
    assert (answer.status, stripe.asked) == (200, 3)


def test_nothing_but_reads_goes_out_and_none_without_a_token() -> None:
    stripe = Answers(200)
    # Two tokens, and the next in a quarter of an hour.
    paced = Paced(stripe, Pace(Terms(0.001, 5.0)))
    for _ in range(2):
        assert paced.send(Request("POST", "/v1/x", key="k"), in_a_moment()) == NotSent("this is a dry run")
    assert paced.send(Request("GET", "/v1/x"), Budget(0.0, 0.0)) == NotSent("too late to start")
    assert stripe.asked == 0
