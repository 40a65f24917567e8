"""A fact that cannot be archived harms only itself: it is set aside and named, and everything else is archived once."""

import json
import os
import random
from typing import Any

import pytest
from evidence import Archive, Lines
from outside import in_order
from sqlalchemy import text

from archive.writing import set_aside
from billing import database

SEED = int(os.environ.get("BILLING_TEST_SEED", "20261129"))
CANARY = "Canary Caruso"

DEEP = "[" * 2000 + "]" * 2000
PAYLOADS = {
    "a list": ("[]", "payload_not_an_object"),
    "null": ("null", "payload_not_an_object"),
    "a text": (f'"{CANARY}"', "payload_not_an_object"),
    "a number": ("1", "payload_not_an_object"),
    "a deep list": (DEEP, "payload_not_an_object"),
    "nested 2,000 deep": (f'{{"minor": {DEEP}}}', "payload_too_deep"),
    "nested 2,000 deep in objects": ('{"a":' * 2000 + "1" + "}" * 2000, "payload_too_deep"),
    "a number of 5,000 digits": (f'{{"minor": {"9" * 5000}}}', "payload_number_too_long"),
    "5,000 digits after the point": (f'{{"minor": 1e-{5000}}}', "payload_number_too_long"),
    "few bytes, gigabytes of digits": (f'{{"x": [{",".join(["1e131000"] * 9000)}]}}', "payload_number_too_long"),
    "megabytes": (json.dumps({"x": [f"{n} {CANARY}" for n in range(100_000)]}), "payload_too_large"),
    "megabytes that compress well": (json.dumps({"x": "a" * 1_000_000}), "payload_too_large"),
}


def without_checks(archive: Archive) -> None:
    """As in a database whose rows are older than the constraints that would refuse them."""
    for name in archive.service.checks_of("facts"):
        archive.service.execute(f'ALTER TABLE billing.facts DROP CONSTRAINT "{name}"')


def insert(archive: Archive, version: int, payload: str = "{}", of: str = "cap_1", **more: Any) -> int:
    """A fact as an application writes it, past the face, that a relay has stamped. Returns its number."""
    columns = {
        "topic": "capture.attempted",
        "entity_type": "capture",
        "entity_id": of,
        "entity_version": version,
        "actor": "application",
        "correlation_id": None,
        "payload": payload,
        **more,
    }
    with database.transaction(archive.service.engines["application"]) as session:
        session.execute(
            text(
                f"INSERT INTO billing.facts ({', '.join(columns)}) VALUES"
                f" ({', '.join(f'CAST(:{name} AS jsonb)' if name == 'payload' else f':{name}' for name in columns)})"
            ),
            columns,
        )
    with database.transaction(archive.service.engine) as session:
        fact_id: int = session.scalars(text("SELECT max(id) FROM billing.facts")).one()
        session.execute(text("UPDATE billing.facts SET planned_version = 1 WHERE id = :id"), {"id": fact_id})
    return fact_id


def named(archive: Archive) -> dict[int, str | None]:
    with database.transaction(archive.service.engines["archiver"]) as session:
        found = set_aside.named(session)
    assert found.count == len(found.facts)
    return {fact.fact_id: fact.why for fact in found.facts}


@pytest.mark.parametrize(("payload", "why"), PAYLOADS.values(), ids=PAYLOADS)
def test_a_payload_that_cannot_be_archived_is_set_aside_and_what_follows_it_goes_on(
    archive: Archive, lines: Lines, payload: str, why: str
) -> None:
    without_checks(archive)
    bad = insert(archive, 1, payload)
    good = [insert(archive, 2, '{"minor": 1}'), insert(archive, 1, of="cap_2")]
    assert archive.archive_all() == 2
    archive.tell("capture.looked", of="cap_3")
    assert archive.archive_all() == 1
    assert lines.of("fact.set_aside") == [{"event": "fact.set_aside", "level": "error", "fact_id": bad, "why": why}]
    assert named(archive) == {bad: why}
    rows = archive.outside.facts()["attempt"]
    assert [row["archive_seq"] for row in rows] == [1, 2, 3]
    assert [row["fact_id"] for row in rows][:2] == good
    assert archive.lag().waiting == 0


@pytest.mark.parametrize(
    ("happened_at", "fits"),
    [
        ("infinity", False),
        ("-infinity", False),
        ("0044-03-15 12:00+00 BC", False),
        ("0001-01-01 00:00+00", False),
        ("1969-12-31 23:59:59.999999+00", False),
        ("1970-01-01 00:00+00", True),  # what a clock shows that was never set
        ("9999-12-31 23:00+00", False),
        ("294276-12-31 23:00+00", False),
    ],
)
@pytest.mark.parametrize("zone", ["UTC", "America/Los_Angeles", "Pacific/Kiritimati"])
def test_a_time_that_no_clock_shows_is_set_aside_in_every_time_zone(
    archive: Archive, happened_at: str, fits: bool, zone: str
) -> None:
    bad, good = insert(archive, 1), insert(archive, 1, of="cap_2")
    archive.service.execute(
        "UPDATE billing.facts SET happened_at = CAST(:at AS timestamptz) WHERE id = :id", at=happened_at, id=bad
    )
    archive.in_sessions_with(TimeZone=zone)
    assert archive.archive_all() == 1 + fits
    assert archive.lag().oldest_age_s == 0
    assert named(archive) == ({} if fits else {bad: "time_out_of_range"})
    assert good in [row["fact_id"] for row in archive.outside.facts()["attempt"]]


@pytest.mark.parametrize(
    "names",
    [
        {"of": CANARY},
        {"of": "canary@example.com"},
        {"of": "cap_4242424242424242"},
        {"of": "4242-4242-4242-4242"},
        {"of": ""},
        {"of": "cap_1\n"},
        {"of": "cap_é"},
        {"entity_type": CANARY},
        {"entity_type": "capture\x1b[2J"},
    ],
)
def test_an_entity_that_is_no_id_does_not_reach_the_bucket(archive: Archive, names: dict[str, str]) -> None:
    without_checks(archive)
    bad = insert(archive, 1, **names)
    insert(archive, 1, of="cap_0198f0c21234567890123456789abcde"[:36])
    assert archive.archive_all() == 1
    assert named(archive) == {bad: "name_not_an_id"}
    assert all("canary" not in key.lower() for key in archive.outside.bodies())


def test_a_fact_that_was_mended_is_archived_when_an_archiver_starts(archive: Archive, lines: Lines) -> None:
    without_checks(archive)
    bad, worse = insert(archive, 1, "[]"), insert(archive, 2, "null")
    insert(archive, 3)
    assert archive.archive_all() == 1
    writer = archive.writer()
    assert writer.put_back() == 0
    archive.service.execute("UPDATE billing.facts SET payload = '{}' WHERE id = :id", id=bad)
    assert named(archive) == {bad: None, worse: "payload_not_an_object"}
    assert writer.put_back() == 1
    assert archive.archive_all() == 1
    assert len(lines.of("fact.set_aside")) == 2
    assert named(archive) == {worse: "payload_not_an_object"}
    # It comes late, and says so itself: its entity's order is in entity_version.
    assert [row["entity_version"] for row in archive.outside.facts()["attempt"]] == [3, 1]


def test_a_batch_that_was_claimed_with_such_a_fact_is_finished_without_its_payload(
    archive: Archive, lines: Lines
) -> None:
    """An older version looked at no payload before it claimed; and what is claimed cannot be taken out again."""
    without_checks(archive)
    for n, (payload, _) in enumerate(PAYLOADS.values()):
        if len(payload) < 100_000:
            insert(archive, n, '{"minor": 1}')
    batch = archive.claim()
    assert batch is not None
    for n, (payload, _) in enumerate(PAYLOADS.values()):
        archive.service.execute(
            "UPDATE billing.facts SET payload = CAST(:payload AS jsonb) WHERE entity_version = :n", payload=payload, n=n
        )
    assert archive.archive_all() == batch.rows
    assert {row["payload"] for row in archive.outside.facts()["attempt"]} == {"{}"}
    assert len(lines.of("fact.unreadable")) == batch.rows


def hostile(rng: random.Random) -> tuple[dict[str, Any], bool]:
    """A fact as anybody may write it, and whether it can be archived; by rules that the archiver does not share."""
    fact: dict[str, Any] = {
        "payload": rng.choice(["{}", '{"minor": 5, "currency": "EUR"}', '{"who": "Canary Caruso", "minor": true}']),
        "of": f"cap_{rng.randint(1, 4)}",
        "topic": rng.choice(["capture.attempted", "capture.captured", "invoice.sent", "switch.pulled"]),
        "actor": rng.choice(["billing", CANARY, "\u202e", "x" * 255]),
        "correlation_id": rng.choice([None, "order-1", CANARY, "4242424242424242", "a\nb", "😀" * 100]),
    }
    good = True
    match rng.randint(0, 9):
        case 0 | 1 | 2:
            fact["payload"], good = rng.choice(list(PAYLOADS.values())[:10])[0], False
        case 3:
            fact["of"], good = rng.choice([CANARY, " ", "cap_4242 4242 4242 4242", "💳", "-- '; \\"]), False
        case 4:
            fact["entity_type"], good = rng.choice(["Capture", "ca pture", ""]), False
        case 5:
            fact["version_of_it"] = rng.choice([-(2**63), 2**63 - 1, -1])
        case _:
            pass
    return fact, good


def test_whatever_is_committed_is_in_the_bucket_once_or_is_named(archive: Archive, lines: Lines) -> None:
    """The checker reads the bucket by `outside`, and knows from the generator which facts are good."""
    print(f"seed {SEED}")
    without_checks(archive)
    rng = random.Random(SEED)
    good, bad = set[int](), set[int]()
    for n in range(150):
        fact, fits = hostile(rng)
        version = fact.pop("version_of_it", 0) or n
        try:
            fact_id = insert(archive, version, **fact)
        except Exception as error:
            if "UniqueViolation" not in str(error):
                raise
            continue
        (good if fits else bad).add(fact_id)
        if rng.random() < 0.1:
            archive.round(batch_size=archive.batch_size(most=rng.choice([1, 2, 7, 50])))
    archive.archive_all()
    facts = archive.outside.facts()
    archived = [row["fact_id"] for rows in facts.values() for row in rows]
    assert sorted(archived) == sorted(good)
    aside = named(archive)
    assert set(aside) == bad
    assert sorted(line["fact_id"] for line in lines.of("fact.set_aside")) == sorted(bad)
    assert None not in aside.values()
    assert CANARY not in json.dumps(facts, default=str)
    assert archive.lag().waiting == 0


def test_facts_of_an_entity_stay_in_order_beside_one_that_is_set_aside(archive: Archive) -> None:
    without_checks(archive)
    for version in range(1, 10):
        insert(archive, version, "[]" if version in (1, 5) else "{}")
        archive.round()
    archive.archive_all()
    rows = archive.outside.facts()["attempt"]
    assert [row["entity_version"] for row in rows] == [2, 3, 4, 6, 7, 8, 9]
    with pytest.raises(AssertionError):
        in_order(archive.outside.facts())  # its life has gaps here, and `named` says which
