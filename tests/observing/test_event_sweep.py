"""What no webhook brought is read from Stripe's own list, page by page, into the same inbox."""

from typing import Any

import pytest
from service import Service, Through
from sqlalchemy import select

from billing import database, event_sweep, ids
from billing.gateway import Answer, Request, Response
from billing.schedules import BY_NAME
from billing.tables.entities import Capture
from billing.tables.received_events import ReceivedEvent
from billing.tables.scheduled_runs import ScheduledRun
from jobs.road import housekeeping, ticks


def run(service: Service) -> str:
    with database.transaction(service.engines["operator"]) as session:
        return ticks.ask_for(session, BY_NAME["sweep_events"], actor="anna").id


def missed(service: Service) -> None:
    """An endpoint of ours that takes nothing: every event from now on is undelivered."""
    service.standin.set_webhooks(outage=True)
    service.by_hand("/v1/webhook_endpoints", "url=http%3A%2F%2F127.0.0.1%3A9%2Fwebhooks&enabled_events%5B0%5D=*")


def inbox_of(service: Service) -> list[ReceivedEvent]:
    with database.transaction(service.engine) as session:
        return list(session.scalars(select(ReceivedEvent).order_by(ReceivedEvent.created_at, ReceivedEvent.id)))


def work_off(service: Service, **more: Any) -> Through:
    gateway = Through(service, **more)
    service.plan()
    service.work_off("invoices", gateway)
    return gateway


def test_what_was_missed_while_the_endpoint_was_down_is_read_into_the_inbox(service: Service) -> None:
    """[24] The endpoint is down for days."""
    missed(service)
    capture = service.ask_for_capture()
    service.by_hand(f"/v1/payment_intents/{service.row(Capture, capture).payment_intent}/cancel")
    done = run(service)
    asked = work_off(service).asked
    assert [request.path.partition("?")[0] for request in asked] == ["/v1/events"]
    assert "delivery_success=false" in asked[0].path
    assert service.row(ScheduledRun, done).state == "done"
    assert {event.source for event in inbox_of(service)} == {"sweep"}
    with database.transaction(service.engines["relay"]) as session:
        housekeeping.match_events(session)
    assert "noticed" in service.topics(capture)


def test_nothing_is_read_again_of_what_webhooks_brought(service: Service) -> None:
    service.settle(service.ask_for_capture())
    run(service)
    work_off(service)
    assert inbox_of(service) == []


def test_a_run_whose_worker_dies_goes_on_with_the_page_that_it_had_reached(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_sweep, "PAGE", 3)
    missed(service)
    service.intents(4)
    done = run(service)
    service.plan()
    first = service.prepared("invoices")[done]
    service.report(first)
    position = service.row(ScheduledRun, done).position
    assert len(inbox_of(service)) == 3
    assert position in {each.id for each in inbox_of(service)}
    # The next page's call was prepared in the same commit; its worker is dead.
    service.execute("UPDATE billing.idempotency_records SET lease_until = clock_timestamp() - interval '1 minute'")
    with database.transaction(service.engines["relay"]) as session:
        housekeeping.rescue_lapsed(session)
    asked = work_off(service).asked
    assert f"starting_after={position}" in asked[0].path
    assert service.row(ScheduledRun, done).state == "done"
    assert len(inbox_of(service)) > 6


def test_the_time_that_a_run_reads_reaches_back_over_all_ticks_that_were_missed(service: Service) -> None:
    with database.transaction(service.engine) as session:
        now = database.now(session)
        made = ScheduledRun(id=ids.new("run"), schedule="sweep_events", at=now, missed=5, version=1)
        session.add(made)
        session.flush()
        run_id = made.id
    service.execute(
        "INSERT INTO billing.facts (topic, entity_type, entity_id, entity_version, actor, payload)"
        " VALUES ('run.sweep_events', 'run', :id, 1, 'billing', CAST(:payload AS jsonb))",
        id=run_id,
        payload=f'{{"at": "{now.isoformat()}", "missed": 5}}',
    )
    (request,) = work_off(service).asked
    since = int((now - 6 * event_sweep.EVERY - event_sweep.OVERLAP).timestamp())
    assert f"created[gte]={since}" in request.path


# Connected accounts.


def missed_in(service: Service, account: str) -> str:
    """A capture of a connected account that somebody canceled, and no endpoint took the event."""
    (intent,) = service.intents(account=account)
    service.by_hand(
        "/v1/webhook_endpoints", "url=http%3A%2F%2F127.0.0.1%3A9%2F&enabled_events%5B0%5D=*", account=account
    )
    capture = service.ask_for_capture(intent, account=account)
    service.by_hand(f"/v1/payment_intents/{intent}/cancel", account=account)
    return capture


def test_what_was_missed_in_a_connected_account_is_read_too_and_matched_there(service: Service) -> None:
    """[24] Its events say nowhere whose they are: the list was read in that account."""
    service.standin.set_webhooks(outage=True)
    captures = [missed_in(service, account) for account in ("acct_1a", "acct_1b")]
    done = run(service)
    asked = work_off(service).asked
    assert [request.account for request in asked] == [None, "acct_1a", "acct_1b"]
    assert {event.account for event in inbox_of(service)} == {"acct_1a", "acct_1b"}
    assert service.facts(done)[-1].payload["result"] == {"looks": 1, "accounts": 3}
    with database.transaction(service.engines["relay"]) as session:
        housekeeping.match_events(session)
    assert all("noticed" in service.topics(capture) for capture in captures)


def test_an_account_that_has_shut_us_out_stops_nobody_elses(service: Service) -> None:
    service.standin.set_webhooks(outage=True)
    for account in ("acct_1a", "acct_1b"):
        missed_in(service, account)

    def refused(request: Request) -> Answer | None:
        data = {"error": {"code": "account_invalid"}}
        return Response(403, b"{}", data, None, replayed=False) if request.account == "acct_1a" else None

    done = run(service)
    work_off(service, before=refused)
    assert service.row(ScheduledRun, done).state == "done"
    assert {event.account for event in inbox_of(service)} == {"acct_1b"}


def test_pages_and_accounts_are_read_on_from_where_a_dead_worker_was(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_sweep, "PAGE", 2)
    monkeypatch.setattr(event_sweep, "ACCOUNTS_MOST", 1)
    service.standin.set_webhooks(outage=True)
    for account in ("acct_1a", "acct_1b"):
        missed_in(service, account)
        service.intents(2, account=account)
    done = run(service)
    positions = []
    for _ in range(20):
        asked = work_off(service).asked
        positions += [(each.account, "starting_after" in each.path) for each in asked]
        if service.row(ScheduledRun, done).state == "done":
            break
    assert positions == sorted(positions, key=lambda each: (each[0] or "", each[1])), "forward only"
    assert ("acct_1b", True) in positions
    read = [event.id for event in inbox_of(service)]
    assert len(read) == len(set(read)) >= 4
    assert {event.account for event in inbox_of(service)} == {"acct_1a", "acct_1b"}
