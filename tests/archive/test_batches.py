"""Which facts go into which batch, and with which numbers."""

import pytest
import sqlalchemy.exc
from evidence import Archive
from house import House
from sqlalchemy.orm import Session

from archive import batches
from archive.errors import EvidenceDiffers
from billing import database


def claimed(archive: Archive, **more) -> list[tuple[str, int, int, int]]:
    """Claim until nothing is left, without archiving: a batch that is open keeps its class."""
    with database.transaction(archive.house.engine) as session:
        batch = batches.claim(session, archive.policy, wait_s=0, **more)
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


def test_a_fact_that_no_relay_has_planned_is_not_archived_and_neither_is_what_follows_it(archive: Archive) -> None:
    archive.tell("capture.requested", menu=None)
    archive.tell("capture.captured", minor=1, currency="USD")
    archive.tell("capture.requested", of="cap_2", menu=-1)  # planning it failed: that is a fact, too
    assert archive.archive_all() == 1
    assert archive.lag().unplanned == 1
    archive.house.execute("UPDATE billing.facts SET menu = 1")
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
    with Session(archive.house.engine) as late:
        late.connection().exec_driver_sql(
            "INSERT INTO billing.facts (topic, entity_type, entity_id, entity_version, actor, payload, menu)"
            " VALUES ('capture.requested', 'capture', 'cap_late', 1, 'billing', '{}', 1)"
        )
        archive.tell("capture.requested")
        assert archive.archive_all() == 1
        late.commit()
    assert archive.archive_all() == 1
    rows = archive.outside.facts()["capture"]
    assert [row["entity_id"] for row in rows] == ["cap_1", "cap_late"]
    assert rows[0]["fact_id"] > rows[1]["fact_id"]  # what a watermark would have lost


def test_facts_are_gathered_until_the_oldest_has_waited(archive: Archive) -> None:
    archive.tell("capture.requested", at="now() - interval '59 s'")
    assert archive.writer(wait_s=60.0).round() == 0
    archive.tell("capture.requested", of="cap_2", at="now() - interval '61 s'")
    archive.tell("capture.requested", of="cap_3")
    archive.house.execute("UPDATE billing.facts SET happened_at = now() - interval '61 s' WHERE entity_id = 'cap_1'")
    assert archive.writer(wait_s=60.0).round() == 3


def test_a_batch_is_left_to_whoever_claimed_it_for_a_while_and_its_class_waits(archive: Archive) -> None:
    archive.tell("capture.requested")
    archive.tell("invoice.requested", of="inv_1")
    assert claimed(archive) == ("capture", 1, 1, 1)
    archive.tell("capture.requested", of="cap_2")
    assert archive.writer(patience_s=60.0).round() == 1
    assert archive.writer(patience_s=60.0).round() == 0
    assert archive.lag().waiting == 2
    assert archive.writer(patience_s=0.0).round() == 2
    assert archive.lag().waiting == 0


def test_only_one_archiver_claims_at_a_time(archive: Archive) -> None:
    archive.tell("capture.requested")
    with Session(archive.house.engine) as other:
        other.connection().exec_driver_sql("SELECT pg_advisory_xact_lock(hashtextextended('billing.archive', 0))")
        assert claimed(archive) is None
    assert claimed(archive) == ("capture", 1, 1, 1)


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
def test_the_database_itself_refuses_gaps(house: House, numbers: dict[str, object]) -> None:
    row = {"class": "capture", "rows": 1, "state": "claimed", **numbers}
    fixed = "event_date, first_fact, last_fact, lock_mode, locked_until, manifest_lock_mode, manifest_locked_until"
    with pytest.raises(sqlalchemy.exc.IntegrityError):
        house.execute(
            f"INSERT INTO billing.archive_batches ({', '.join(row)}, {fixed}) VALUES"
            f" ({', '.join(f':{name}' for name in row)}, now(), 1, 1, 'GOVERNANCE', now(), 'GOVERNANCE', now())",
            **row,
        )


def test_a_batch_whose_facts_are_no_longer_those_claimed_is_not_archived(archive: Archive) -> None:
    archive.tell("capture.requested", "capture.captured", minor=1, currency="USD")
    claimed(archive)
    archive.house.execute("DELETE FROM billing.facts WHERE entity_version = 2")
    with pytest.raises(EvidenceDiffers, match="capture batch 1: 2 facts were claimed"):
        archive.writer().round()
    assert archive.outside.versions() == []
