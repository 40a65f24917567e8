"""Waiting for an end: it holds nothing while it waits, it never hangs, and asynchronous code goes on beside it."""

import asyncio
import gc
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from cases import case
from service import Service, eventually
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import Session, sessionmaker

import billing
from billing import waiting


@pytest.fixture
def application(service: Service) -> Engine:
    return service.engines["application"]


@asynccontextmanager
async def asynchronous(service: Service) -> AsyncIterator[AsyncEngine]:
    url = service.url.replace("postgresql://", "postgresql+psycopg://")
    engine = create_async_engine(url, connect_args={"application_name": "waits"})
    try:
        yield engine
    finally:
        await engine.dispose()


def test_it_returns_the_final_status(service: Service, application: Engine):
    capture_id = service.ask_for_capture()
    service.settle(capture_id)
    status = billing.wait(application, capture_id, timeout_s=0)
    assert (status.id, status.state, status.final) == (capture_id, "captured", True)


def test_it_waits_until_that_is_so(service: Service, application: Engine, monkeypatch: Any):
    """Between two looks the work goes on, and no transaction of who waits is open."""
    capture_id = service.ask_for_capture()
    open_meanwhile, pauses = [], []
    open_now = text("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'waits' AND xact_start IS NOT NULL")

    def meanwhile(pause_s: float) -> None:
        pauses.append(pause_s)
        with service.engine.connect() as connection:
            open_meanwhile.append(connection.scalar(open_now))
        if len(pauses) == 12:
            service.settle(capture_id)

    monkeypatch.setattr(waiting, "time", SimpleNamespace(sleep=meanwhile, monotonic=time.monotonic))
    engine = create_engine(service.url, connect_args={"application_name": "waits"})
    assert billing.wait(engine, capture_id, timeout_s=80_000).state == "captured"
    engine.dispose()
    assert open_meanwhile == [0] * 12
    assert pauses == sorted(pauses)
    assert (pauses[0], pauses[-1]) == (waiting.FIRST_PAUSE_S, waiting.LONGEST_PAUSE_S)


def test_a_time_that_is_over_is_an_error_with_the_last_status(service: Service, application: Engine):
    capture_id = service.ask_for_capture()
    with pytest.raises(billing.NotFinal, match="is not final: requested; a relay plans the work") as raised:
        billing.wait(application, capture_id, timeout_s=0.1)
    assert (raised.value.status.id, raised.value.status.state) == (capture_id, "requested")


def test_what_a_switch_holds_ends_with_the_time_and_names_the_switch(service: Service, application: Engine):
    from billing import switches

    with Session(service.engine) as session, session.begin():
        switches.pull(session, "captures", actor="grace", reason="INC-1")
    capture_id = service.ask_for_capture()
    service.relay.round()
    service.work_off()
    service.relay.round()
    with pytest.raises(billing.NotFinal, match=r"nothing until the switch is released .*INC-1"):
        billing.wait(application, capture_id, timeout_s=0.1)


@pytest.mark.parametrize("asynchronously", [False, True])
def test_what_needs_a_decision_is_not_waited_for(service: Service, application: Engine, asynchronously: bool):
    capture_id = service.ask_for_capture()
    service.standin.add_fault("other_amount", path="/capture$", times=1)
    service.plan()
    service.work_off()

    async def wait() -> None:
        async with asynchronous(service) as engine:
            await billing.wait_async(engine, capture_id, timeout_s=80_000)

    with pytest.raises(billing.NotFinal, match="conflict; needs a decision"):
        asyncio.run(wait()) if asynchronously else billing.wait(application, capture_id, timeout_s=80_000)


def test_an_event_loop_goes_on_while_it_waits(service: Service):
    capture_id = service.ask_for_capture()

    async def main() -> billing.Status:
        async with asynchronous(service) as engine:
            waiting = asyncio.create_task(billing.wait_async(engine, capture_id, timeout_s=300))
            turns = 0
            while not waiting.done():
                await asyncio.sleep(0.01)
                turns += 1
                if turns == 20:  # which would never be, if it held the loop
                    await asyncio.to_thread(service.settle, capture_id)
            return await waiting

    assert asyncio.run(main()).state == "captured"


def test_a_task_that_waits_is_canceled_at_any_time_and_leaves_no_connection_behind(service: Service):
    capture_id = service.ask_for_capture()
    left = text("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'waits' AND xact_start IS NOT NULL")

    async def main() -> None:
        async with asynchronous(service) as engine:
            for turns in range(40):
                task = asyncio.create_task(billing.wait_async(engine, capture_id, timeout_s=300))
                for _ in range(turns):  # so far it comes, between any two of its awaits
                    await asyncio.sleep(0)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            # The driver closes a connection that was being opened when it is collected. Until then Postgres waits for
            # its password, and no database can be dropped.
            gc.collect()
            assert engine.pool.checkedout() == 0  # type: ignore[attr-defined]
            with service.engine.connect() as connection:
                await asyncio.to_thread(eventually, lambda: connection.scalar(left) == 0, "none is in a transaction")
            with pytest.raises(billing.NotFinal):
                await billing.wait_async(engine, capture_id, timeout_s=0)

    asyncio.run(main())


def test_asynchronous_code_follows_the_changes_through_its_session(service: Service):
    capture_id = service.ask_for_capture()

    async def main() -> billing.Changes:
        async with asynchronous(service) as engine, AsyncSession(engine) as session:
            return await session.run_sync(billing.changes, 0, limit=10)

    assert [change.id for change in asyncio.run(main()).changes] == [capture_id]


def test_an_id_of_nobody_and_an_uncommitted_one_are_unknown_at_once(service: Service, application: Engine):
    with pytest.raises(billing.UnknownEntity):
        billing.wait(application, "cap_1", timeout_s=80_000)
    with Session(application) as session:
        receipt = billing.request_capture(
            session, payment_intent="pi_1", amount=billing.Money(1, "USD"), request_id="order-1"
        )
        with pytest.raises(billing.UnknownEntity):
            billing.wait(application, receipt.capture_id, timeout_s=80_000)


def test_what_is_no_time_is_refused_by_name(application: Engine):
    wrong: list[Any] = [-1, float("nan"), float("inf"), "1", None, True]
    for timeout_s in wrong:
        with case(timeout_s), pytest.raises(billing.InvalidRequest, match="timeout_s"):
            billing.wait(application, "cap_1", timeout_s=timeout_s)


def test_whatever_is_no_engine_is_refused_by_name(application: Engine):
    """A session would stay in its transaction, and an engine of the other kind would block the loop, or need one."""
    wrong: list[Any] = [Session(application), sessionmaker(application), application.url, None]
    for each in wrong:
        with pytest.raises(billing.WrongEngine, match=f"not {type(each).__name__}"):
            billing.wait(each, "cap_1")
    for each in (*wrong, application):
        with pytest.raises(TypeError, match=r"billing-reference\[asyncio\]"):
            asyncio.run(billing.wait_async(each, "cap_1"))
    with pytest.raises(billing.WrongEngine, match=r"billing\.wait_async"):
        billing.wait(create_async_engine(application.url), "cap_1")  # type: ignore[arg-type]
