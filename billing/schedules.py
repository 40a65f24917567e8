"""What happens at fixed times: one row for each schedule.

A relay writes a run when its time has come (`jobs.road.ticks`); `billing.runs` says how a run is carried out. A new
schedule is a row here, a function of its name (`jobs.schedules.functions`), and a file in the golden corpus (`billing
contracts check`).
"""

from dataclasses import dataclass
from datetime import UTC, tzinfo
from enum import StrEnum


class AfterDowntime(StrEnum):
    """What becomes of ticks that came while no relay ran, or while the schedule was paused."""

    SKIP = "skip"
    """They get no run: the next is at the next tick."""
    ONCE = "once"
    """One run for all of them, at once."""
    EVERY = "every"
    """A run for each of them, the oldest first."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """One function that runs at fixed times. Its name is the function's, its contract's, and that of its facts."""

    name: str
    when: str
    """Five fields of cron: minute, hour, day, month, day of the week."""
    after_downtime: AfterDowntime
    owner: str
    purpose: str
    """Why the business wants it."""
    zone: tzinfo = UTC
    """In which `when` is meant. A local time that a clock skips in spring ticks when the clock goes on; one that comes
    twice in autumn ticks the first time only. What must run every hour is meant in UTC."""
    queue: str = "maintenance"
    """Who carries it out: workers of `maintenance` run a function of ours; on another queue it is a step that only
    looks (`billing.runs`), with the limits and pauses of any call."""


SCHEDULES = (
    Schedule(
        name="snapshot_queues",
        when="0 * * * *",
        after_downtime=AfterDowntime.SKIP,
        owner="operations",
        purpose="record what waits where, so that an hour can be compared with the same hour of earlier weeks",
    ),
    Schedule(
        name="warn_of_deadlines",
        when="0 * * * *",
        after_downtime=AfterDowntime.ONCE,
        owner="payments",
        purpose="warn of captures whose authorization lapses soon, while there is time to act",
    ),
    Schedule(
        name="report_catalog",
        when="0 6 1 * *",
        after_downtime=AfterDowntime.ONCE,
        owner="operations",
        purpose="record which contracts and schedules were used, so that what is obsolete is found and removed",
    ),
    Schedule(
        name="remove_concluded",
        when="30 2 * * *",
        after_downtime=AfterDowntime.ONCE,
        owner="operations",
        purpose="remove the work and the calls of operations that ended long ago, so that the tables stay lean",
    ),
    Schedule(
        name="reconcile_stripe",
        when="0 * * * *",
        after_downtime=AfterDowntime.ONCE,
        owner="finance",
        purpose="compare what was done here with Stripe's own records, so that no difference of money stays unseen",
    ),
    Schedule(
        name="invoice_captures",
        when="*/10 * * * *",
        after_downtime=AfterDowntime.ONCE,
        owner="billing",
        purpose="put what was captured on invoices, once its period is over, so that no payment stays without one",
    ),
    Schedule(
        name="request_documents",
        when="15 3 * * *",
        after_downtime=AfterDowntime.ONCE,
        owner="billing",
        purpose="ask for the documents of invoices and notes that have none, so that each that must be kept is",
    ),
    Schedule(
        name="sweep_events",
        when="0 * * * *",
        after_downtime=AfterDowntime.ONCE,
        owner="operations",
        purpose="read the events that no webhook brought, so that an outage of the endpoint loses nothing",
        queue="invoices",
    ),
)


BY_NAME = {schedule.name: schedule for schedule in SCHEDULES}
