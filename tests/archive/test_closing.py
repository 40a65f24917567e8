"""A closed month stays as it was: no fact can be dated into it, and its books are always the same bytes."""

import threading
from collections.abc import Iterator

import pytest
import sqlalchemy.exc
from evidence import Archive
from service import PATIENCE_S, Service, eventually
from sqlalchemy import text

from archive.closing import periods
from archive.closing.periods import Period
from archive.closing.reconciliation import Reconciliation, reconcile
from archive.errors import BadQuestion, NotClosable
from billing import database
from billing.tables.closed_periods import ClosedPeriod

OCTOBER = periods.period("2026-10")
IN_OCTOBER = "'2026-10-15 12:00+00'"


@pytest.fixture(autouse=True)
def open_again(service: Service) -> Iterator[None]:
    """The database is shared, and emptied before each test; a constraint is not."""
    yield
    service.execute("ALTER TABLE billing.facts DROP CONSTRAINT IF EXISTS facts_period_open")


def row(month: Period) -> ClosedPeriod:
    return ClosedPeriod(period=month.name, actor="marie", heads={}, observed={})


def close(service: Service, month: Period = OCTOBER, kind: str = "operator") -> None:
    with database.transaction(service.engines[kind]) as session:
        periods.close(session, closing=row(month))


def obstacles(service: Service, month: Period = OCTOBER) -> list[str]:
    with database.transaction(service.engines["operator"]) as session:
        return periods.standing(session, month=month).obstacles


def compared(archive: Archive) -> Reconciliation:
    def ask(step):  # type: ignore[no-untyped-def]
        with database.transaction(archive.service.engines["operator"]) as session:
            return step(session)

    chains = {part.retention_class: part.manifests for part in archive.cache().bring()}
    return reconcile(ask, OCTOBER, chains, lambda _done, _of: None)


def test_no_new_fact_can_be_dated_into_a_closed_month_or_before_it(archive: Archive) -> None:
    archive.tell("capture.requested", at=IN_OCTOBER)
    archive.archive_all()
    close(archive.service)
    for moment in (IN_OCTOBER, "'2026-10-31 23:59:59.999+00'", "'2026-03-01 00:00+00'"):
        with pytest.raises(sqlalchemy.exc.IntegrityError, match="facts_period_open"):
            archive.tell("capture.captured", at=moment)
    archive.tell("capture.captured", at="'2026-11-01 00:00+00'", minor=1, currency="USD")
    assert archive.archive_all() == 1


def test_what_is_archived_already_stays_as_it_is_and_may_be_changed_by_the_service(archive: Archive) -> None:
    archive.tell("capture.requested", at=IN_OCTOBER)
    archive.archive_all()
    close(archive.service)
    archive.service.execute("UPDATE billing.facts SET planned_version = 2")
    archive.service.execute("DELETE FROM billing.facts")


@pytest.mark.parametrize(
    ("planned_version", "change", "says"),
    [
        (None, "SELECT 1", "wait for a relay"),
        (1, "SELECT 1", "are not archived"),
        (1, "UPDATE billing.facts SET batch_no = 0", "cannot be archived"),
    ],
)
def test_a_month_with_a_fact_that_is_not_archived_is_not_closed(
    archive: Archive, planned_version: int | None, change: str, says: str
) -> None:
    archive.tell("capture.requested", at=IN_OCTOBER, planned_version=planned_version)
    archive.service.execute(change)
    assert [line for line in obstacles(archive.service) if says in line]
    # Whoever does not ask first is refused by Postgres.
    with pytest.raises(NotClosable, match="not archived"):
        close(archive.service)
    archive.tell("capture.requested", of="cap_2", at=IN_OCTOBER)


def test_a_month_whose_batch_is_being_written_is_not_closed(archive: Archive) -> None:
    archive.tell("capture.requested", at=IN_OCTOBER)
    assert archive.claim() is not None
    assert obstacles(archive.service) == ["an archiver is writing a batch of it: wait, or billing archive run --once"]
    with pytest.raises(NotClosable):
        close(archive.service)
    archive.archive_all()
    assert obstacles(archive.service) == []
    close(archive.service)


def test_a_month_that_is_not_over_or_was_closed_is_not_closed(service: Service) -> None:
    assert obstacles(service, periods.period("2150-01")) == ["the month is not over"]
    with pytest.raises(NotClosable, match="not over"):
        close(service, periods.period("2150-01"))
    close(service)
    for month in ("2026-09", "2026-10"):
        with pytest.raises(NotClosable, match="closed"):
            close(service, periods.period(month))
    assert obstacles(service, periods.period("2026-09")) == ["2026-10 is closed already, and with it everything before"]


def test_a_fact_that_is_being_written_is_waited_for_or_seen(archive: Archive) -> None:
    """Its transaction began before the month was closed, and commits at any time: there is no gap between both."""
    with archive.service.engine.connect() as writer, writer.begin():
        writer.execute(
            text(
                "INSERT INTO billing.facts (topic, entity_type, entity_id, entity_version, actor, payload, happened_at)"
                f" VALUES ('capture.requested', 'capture', 'cap_1', 1, 'billing', '{{}}', {IN_OCTOBER})"
            )
        )
        with pytest.raises(sqlalchemy.exc.OperationalError, match="lock timeout"):
            close(archive.service)
    assert obstacles(archive.service)


def test_whoever_writes_while_a_month_is_closed_waits_a_moment(archive: Archive) -> None:
    with database.transaction(archive.service.engines["operator"]) as session:
        periods.close(session, closing=row(OCTOBER))
        writer = threading.Thread(target=archive.tell, args=("capture.requested",))
        writer.start()
        waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
        eventually(lambda: session.execute(text(waiting)).scalar_one(), "the writer waits")
    writer.join(PATIENCE_S)
    assert archive.archive_all() == 1


@pytest.mark.parametrize("kind", ["application", "relay", "worker", "archiver"])
def test_only_an_operator_closes_a_month(service: Service, kind: str) -> None:
    with pytest.raises(sqlalchemy.exc.ProgrammingError, match="permission denied"):
        close(service, kind=kind)


def test_both_sides_of_a_month_are_compared_batch_by_batch(archive: Archive) -> None:
    for number, (currency, at) in enumerate(
        [
            ("USD", IN_OCTOBER),
            ("USD", IN_OCTOBER),
            ("JPY", "'2026-10-31 23:59:59+00'"),
            ("EUR", "'2026-11-01 00:00+00'"),
        ]
    ):
        of = f"cap_{number}"
        archive.tell("capture.requested", of=of, at=at, minor=5, currency=currency)
        archive.tell("capture.attempted", of=of, at=at)
        archive.tell("capture.captured", of=of, at=at, minor=1000 + number, currency=currency)
    archive.archive_all()
    found = compared(archive)
    assert found.differences == []
    assert found.postgres == found.archive
    assert found.archive.facts == {"capture": 6, "attempt": 3}
    assert found.archive.captured == {"USD": 2001, "JPY": 1002}
    archive.service.execute("UPDATE billing.facts SET payload = payload || '{\"minor\": 7}' WHERE entity_id = 'cap_2'")
    archive.service.execute("DELETE FROM billing.facts WHERE entity_id = 'cap_1' AND topic = 'capture.attempted'")
    differences = compared(archive).differences
    assert len(differences) == 2
    assert any("7 JPY in Postgres, 2 and 1002 JPY" in line for line in differences)
    assert any("attempt batch 1: 1 facts and no money in Postgres, 2 and" in line for line in differences)


@pytest.mark.parametrize("name", ["2026-13", "2026-1", "october", "2026-10-01", "1999-10", ""])
def test_what_is_no_month_is_refused(name: str) -> None:
    with pytest.raises(BadQuestion, match="write it as 2026-10"):
        periods.period(name)


def test_a_month_ends_where_the_next_begins() -> None:
    month = periods.period("2027-12")
    assert (month.next.name, month.until) == ("2028-01", month.next.since)
    assert periods.period("2028-02").next_first_day.isoformat() == "2028-03-01"
