"""Which facts go into which batch, and with which numbers."""

from datetime import UTC, datetime, time, timedelta
from functools import partial

import pytest
import sqlalchemy.exc
from evidence import Archive
from outside import in_order
from service import Service
from sqlalchemy import event, text
from sqlalchemy.orm import Session

from archive.errors import EvidenceDiffers
from archive.writing import backlog, batches
from billing import database


def claimed(archive: Archive, most: int = 10) -> tuple[str, int, int, int] | None:
    """Claim a batch without archiving it: it stays open and keeps its class."""
    batch = archive.claim(most)
    return batch and (batch.retention_class, batch.number, batch.first_seq, batch.last_seq)


def test_a_batch_is_of_one_class_and_one_utc_day_and_numbers_have_no_gap(archive: Archive) -> None:
    archive.tell("capture.requested", at="'2026-11-24 23:59:59.999999+00'")
    archive.tell("capture.attempted", "capture.captured", at="'2026-11-25 00:00:00+00'", minor=1, currency="USD")
    archive.tell("capture.requested", of="cap_2", at="'2026-11-25 01:00:00+02'")
    archive.tell("invoice.requested", of="inv_1", at="'2026-11-25 10:00:00+00'")
    archive.tell("switch.pulled", of="swi_1", at="'2026-11-25 11:00:00+00'")
    assert archive.archive_all() == 6
    told = [(b.retention_class, b.number, str(b.event_date), b.first_seq, b.last_seq) for b in archive.known()]
    assert told == [
        ("admin", 1, "2026-11-25", 1, 1),
        ("attempt", 1, "2026-11-25", 1, 1),
        ("capture", 1, "2026-11-24", 1, 2),  # 01:00 in Helsinki is 23:00 of the day before
        ("capture", 2, "2026-11-25", 3, 3),
        ("invoice", 1, "2026-11-25", 1, 1),
    ]


@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "Pacific/Pago_Pago"])
def test_a_batch_s_day_is_utc_s_whatever_the_time_zone_of_the_session_is(archive: Archive, zone: str) -> None:
    """At least one of the two is never on UTC's day."""
    archive.in_sessions_with(TimeZone=zone)
    archive.tell("capture.requested", at="'2026-11-24 23:30+00'")
    archive.tell("capture.captured", at="'2026-11-25 00:30+00'", minor=1, currency="USD")
    archive.tell("capture.requested", of="cap_2")
    assert archive.archive_all() == 3
    with database.transaction(archive.service.engine) as session:
        (today,) = session.execute(text("SELECT CAST(now() AT TIME ZONE 'UTC' AS date)")).one()
    assert [str(batch.event_date) for batch in archive.known()] == ["2026-11-24", "2026-11-25", str(today)]
    for batch in archive.known():
        # Late evidence is kept from UTC's today on.
        assert batch.locked_until == datetime.combine(today + timedelta(days=91), time(), UTC)
    # `outside` compares each row's day with its manifest's.
    rows = archive.outside.facts()["capture"]
    assert [str(row["happened_at"]) for row in rows[:2]] == ["2026-11-24 23:30:00+00:00", "2026-11-25 00:30:00+00:00"]


def test_numbers_follow_the_order_in_which_facts_were_written_whatever_the_order_of_their_rows(
    archive: Archive,
) -> None:
    for n in range(1, 8):
        archive.tell("capture.requested", of=f"cap_{n}")
    # An update moves a row to the end of the table.
    archive.service.execute("UPDATE billing.facts SET planned_version = 2 WHERE id IN (1, 4)")
    archive.service.execute("CLUSTER billing.facts USING facts_entity_type_entity_id_entity_version_key")
    archive.service.execute("UPDATE billing.facts SET planned_version = 3 WHERE id = 2")
    for most in (2, 3, 10):
        assert archive.round(batch_size=archive.batch_size(most)) > 0
    rows = archive.outside.facts()["capture"]
    assert [row["fact_id"] for row in rows] == list(range(1, 8))
    assert [row["archive_seq"] for row in rows] == list(range(1, 8))


def test_the_class_whose_facts_have_waited_longest_comes_first(archive: Archive) -> None:
    archive.tell("invoice.requested", of="inv_1")
    archive.tell("capture.requested")
    archive.tell("invoice.sent", of="inv_1")
    archive.tell("switch.pulled", of="swi_1")
    order = []
    while archive.round(batch_size=archive.batch_size(1)):
        order.append(max((batch for batch in archive.known()), key=lambda batch: batch.claimed_at).retention_class)
    assert order == ["invoice", "capture", "invoice", "admin"]


def test_a_fact_from_a_clock_that_was_ahead_has_waited(archive: Archive) -> None:
    """After a failover to a server whose clock is behind it would otherwise wait until its time has come, and more."""
    archive.tell("capture.requested", at="now() + interval '2 hours'")
    assert archive.round(wait_s=60.0) == 1


def test_a_fact_that_waits_does_not_hold_up_more_than_its_entity(archive: Archive) -> None:
    archive.tell("capture.requested", planned_version=None)
    archive.tell("capture.captured", at="now() - interval '1 hour'", minor=1, currency="USD")
    archive.tell("capture.requested", of="cap_2")
    # Nor does it make a batch of each fact that comes: the oldest that could go is what waits.
    assert archive.round(wait_s=60.0) == 0
    archive.service.execute("UPDATE billing.facts SET happened_at = now() - interval '61 s' WHERE entity_id = 'cap_2'")
    assert archive.round(wait_s=60.0) == 1


def test_a_fact_that_waits_is_looked_past_on_every_page(archive: Archive) -> None:
    archive.tell("capture.requested", planned_version=None)
    archive.tell(*["capture.refused"] * 20)
    archive.tell("capture.requested", of="cap_2")
    assert archive.round(batch_size=archive.batch_size(2)) == 1
    archive.service.execute("UPDATE billing.facts SET planned_version = 1")
    assert archive.archive_all() == 21
    in_order(archive.outside.facts())


def test_a_fact_that_no_relay_has_planned_is_not_archived_and_neither_is_what_follows_it(archive: Archive) -> None:
    archive.tell("capture.requested", planned_version=None)
    archive.tell("capture.captured", minor=1, currency="USD")
    archive.tell("capture.requested", of="cap_2", planned_version=-1)  # planning it failed: that is a fact, too
    assert archive.archive_all() == 1
    assert archive.lag().unplanned == 1
    archive.service.execute("UPDATE billing.facts SET planned_version = 1")
    assert archive.archive_all() == 2
    assert [row["entity_id"] for row in archive.outside.facts()["capture"]] == ["cap_2", "cap_1", "cap_1"]


def test_a_clock_that_steps_back_over_midnight_does_not_change_the_order_of_an_entity(archive: Archive) -> None:
    archive.tell("capture.requested", of="cap_2", at="'2026-11-24 12:00+00'")
    archive.tell("capture.requested", at="'2026-11-25 00:00+00'")
    archive.tell("capture.captured", at="'2026-11-24 23:59+00'", minor=1, currency="USD")
    assert archive.archive_all() == 3
    rows = archive.outside.facts()["capture"]
    assert [row["entity_version"] for row in rows if row["entity_id"] == "cap_1"] == [1, 2]


def test_a_transaction_that_commits_late_is_in_a_later_batch(archive: Archive) -> None:
    with Session(archive.service.engine) as late:
        late.connection().exec_driver_sql(
            "INSERT INTO billing.facts (topic, entity_type, entity_id, entity_version, actor, payload, planned_version)"
            " VALUES ('capture.requested', 'capture', 'cap_late', 1, 'billing', '{}', 1)"
        )
        archive.tell("capture.requested")
        assert archive.archive_all() == 1
        late.commit()
    assert archive.archive_all() == 1
    rows = archive.outside.facts()["capture"]
    assert [row["entity_id"] for row in rows] == ["cap_1", "cap_late"]
    assert rows[0]["fact_id"] > rows[1]["fact_id"]  # what a watermark would have lost


def test_an_earlier_fact_that_is_committed_during_the_search_is_not_passed(archive: Archive) -> None:
    """Its id is older than what was searched already, and the later fact of its entity lies still ahead."""
    archive.in_sessions_with()
    archive.tell("capture.requested", of="cap_2")
    insert = (
        "INSERT INTO billing.facts (topic, entity_type, entity_id, entity_version, actor, payload, planned_version)"
        " VALUES ('capture.requested', 'capture', 'cap_1', {}, 'billing', '{{}}', 1)"
    )
    with Session(archive.service.engine) as late:
        late.connection().exec_driver_sql(insert.format(1))
        archive.tell("capture.requested", of="cap_3", at="now() - interval '1 day'")
        passed: list[str] = []

        @event.listens_for(archive.engine, "after_cursor_execute")
        def _(_connection: object, _cursor: object, statement: str, *_: object) -> None:
            if "AS trouble" in statement and not passed:
                passed.append(statement)
                late.commit()
                archive.service.execute(insert.format(2))

        assert archive.round(batch_size=archive.batch_size(2)) == 1
    assert passed
    archive.archive_all()
    in_order(archive.outside.facts())


def test_facts_are_gathered_until_the_oldest_has_waited(archive: Archive) -> None:
    archive.tell("capture.requested", at="now() - interval '59 s'")
    assert archive.round(wait_s=60.0) == 0
    archive.tell("capture.requested", of="cap_2", at="now() - interval '61 s'")
    archive.tell("capture.requested", of="cap_3")
    archive.service.execute("UPDATE billing.facts SET happened_at = now() - interval '61 s' WHERE entity_id = 'cap_1'")
    assert archive.round(wait_s=60.0) == 3


def test_a_class_with_many_facts_is_archived_sooner(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy class makes a batch a minute, and a quiet one does not make a thousand tiny objects a day."""
    monkeypatch.setattr(backlog, "ENOUGH", 3)
    archive.tell("capture.requested", at="now() - interval '61 s'")
    archive.tell("capture.requested", of="cap_2")
    assert archive.round(wait_s=600.0) == 0
    archive.tell("capture.requested", of="cap_3")
    assert archive.round(wait_s=600.0) == 3
    archive.tell(*["capture.refused"] * 3, of="cap_4")
    assert archive.round(wait_s=600.0) == 0, "the oldest of them is younger than a minute"


def test_a_batch_is_left_to_whoever_claimed_it_for_a_while_and_its_class_waits(archive: Archive) -> None:
    archive.tell("capture.requested")
    archive.tell("invoice.requested", of="inv_1")
    assert claimed(archive) == ("capture", 1, 1, 1)
    archive.tell("capture.requested", of="cap_2")
    assert archive.round(patience_s=60.0) == 1
    assert archive.round(patience_s=60.0) == 0
    assert archive.lag().waiting == 2
    assert archive.round(patience_s=0.0) == 2
    assert archive.lag().waiting == 0


def test_only_one_archiver_claims_at_a_time(archive: Archive) -> None:
    archive.tell("capture.requested")
    with Session(archive.service.engine) as other:
        other.connection().exec_driver_sql("SELECT pg_advisory_xact_lock(hashtextextended('billing.archive', 0))")
        assert claimed(archive) is None
    assert claimed(archive) == ("capture", 1, 1, 1)


def test_a_search_that_somebody_else_s_claim_has_overtaken_is_given_up(archive: Archive) -> None:
    """Theirs is of facts that were planned meanwhile, so nothing of ours was taken; but the class has a batch open."""
    archive.tell("capture.requested", of="cap_2", at="now() - interval '1 hour'")
    archive.service.execute("UPDATE billing.facts SET planned_version = NULL")
    archive.tell("capture.requested")
    (due,) = archive.writer().due()
    found = archive.batch_size().read(partial(backlog.search, due=due, wait_s=0.0))
    archive.service.execute("UPDATE billing.facts SET planned_version = 1")
    theirs = archive.claim(1)
    assert theirs is not None
    with database.transaction(archive.engine) as session:
        assert batches.claim(session, archive.policy, found, most=10, signs=False) is None
    assert archive.archive_all() == 2


def test_a_batch_has_at_most_so_many_facts(archive: Archive) -> None:
    archive.tell(*["capture.requested"] * 5)
    assert claimed(archive, most=3) == ("capture", 1, 1, 3)


@pytest.mark.parametrize(
    "numbers",
    [
        {"number": 2, "first_seq": 2, "last_seq": 2},  # what is number 1?
        {"number": 1, "first_seq": 2, "last_seq": 2},
        {"number": 1, "first_seq": 1, "last_seq": 2},  # and one row
        {"number": 1, "first_seq": 1, "last_seq": 1, "state": "archived"},  # without digests
    ],
)
def test_the_database_itself_refuses_gaps(service: Service, numbers: dict[str, object]) -> None:
    row = {"class": "capture", "rows": 1, "state": "claimed", **numbers}
    fixed = "event_date, first_fact, last_fact, lock_mode, locked_until, manifest_lock_mode, manifest_locked_until"
    with pytest.raises(sqlalchemy.exc.IntegrityError):
        service.execute(
            f"INSERT INTO billing.archive_batches ({', '.join(row)}, {fixed}) VALUES"
            f" ({', '.join(f':{name}' for name in row)}, now(), 1, 1, 'GOVERNANCE', now(), 'GOVERNANCE', now())",
            **row,
        )


def test_a_batch_whose_facts_are_no_longer_those_claimed_is_not_archived(archive: Archive) -> None:
    archive.tell("capture.requested", "capture.captured", minor=1, currency="USD")
    claimed(archive)
    archive.service.execute("DELETE FROM billing.facts WHERE entity_version = 2")
    with pytest.raises(EvidenceDiffers, match="capture batch 1: 2 facts were claimed"):
        archive.round()
    assert archive.outside.versions() == []
