"""A pass of reconciliation as tests run it, and what it has found."""

from datetime import timedelta
from typing import Any

import pytest
from service import Service
from sqlalchemy import select

from billing import database
from billing.gateway import Gateway
from billing.tables.differences import MoneyDifference
from jobs.reconciliation import comparing, mirror
from jobs.reconciliation.passes import Reconciliation, Report

AHEAD, SETTLE = timedelta(seconds=20), timedelta(seconds=10)
"""A test's pass reads until a moment that is still to come, and so compares everything that was done."""


def transact(service: Service, kind: str = "worker") -> Any:
    """With the rights of this kind of process, and no more."""

    def run(step: Any) -> Any:
        with database.transaction(service.engines[kind]) as session:
            return step(session)

    return run


def reconcile(
    service: Service,
    gateway: Gateway | None = None,
    *,
    settle: timedelta = SETTLE,
    ahead: timedelta = AHEAD,
    going_on: bool = False,
) -> Report:
    """Everything is read and compared again, because tests change rows without a fact; with `going_on` what is new."""
    with database.transaction(service.engine) as session:
        now = database.now(session)
    pass_ = Reconciliation(gateway or service.gateway(), transact(service), settle)
    with pytest.MonkeyPatch.context() as here:
        if ahead > timedelta(days=1):
            for room, length in ((mirror, "WINDOW"), (comparing, "SLICE")):
                here.setattr(room, length, 2 * ahead)
        since = None if going_on else now - timedelta(minutes=30)
        return pass_.run(lambda: float("inf"), since=since, until=now + ahead)


def differences(service: Service) -> list[MoneyDifference]:
    with database.transaction(service.engine) as session:
        return list(session.scalars(select(MoneyDifference).order_by(MoneyDifference.id)))


def open_classes(service: Service) -> dict[str, str]:
    """By class, the subject of what is open."""
    return {each.kind: each.subject for each in differences(service) if each.state == "open"}


def settled(service: Service, count: int = 1, **more: Any) -> list[str]:
    """So many captures that were taken."""
    captures = [service.ask_for_capture(intent, **more) for intent in service.intents(count)]
    service.settle(*captures)
    return captures
