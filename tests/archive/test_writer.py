"""One batch from claim to confirmation: whatever dies, whoever comes next; and what lies there is compared."""

import json
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import botocore.exceptions
import pytest
from dying import At, Died, Watched, watched_commits
from evidence import Archive, Lines
from objects import as_an_older_version
from outside import in_order

from archive.errors import EvidenceDiffers, StoreAway, StoreRefused
from archive.format import manifests, records
from archive.format.manifests import Source
from archive.policy.retention import Lock, Mode, Period, Policy, Rule, Unit
from archive.queries import ask, ask_sql
from archive.s3.store import Store
from archive.writing import batches
from billing import database
from jobs.process import archiving

# Looking for what is left behind and reading the facts commit nothing, and are places to die all the same.
PLACES = [
    *("commit.before", "commit.after") * 2,
    *("commit.before", "commit.after"),
    *("put.before", "put.after", "get.after") * 2,
    *("commit.before", "commit.after"),
]
NUMBERED = [f"{place}:{PLACES[: n + 1].count(place)}" for n, place in enumerate(PLACES)]


def tell_three(archive: Archive) -> None:
    archive.tell("capture.requested", minor=1999, currency="USD", payment_intent="pi_1")
    archive.tell("capture.captured", minor=1999, currency="USD", payment_intent="pi_1")
    archive.tell("capture.captured", of="cap_2", minor=500, currency="JPY", payment_intent="pi_2")


def test_a_batch_is_object_and_manifest_locked_and_confirmed(archive: Archive) -> None:
    tell_three(archive)
    assert archive.archive_all() == 3
    (batch,) = archive.known()
    bodies = archive.outside.bodies()
    day = batch.event_date
    key = f"v1/class=capture/event_date={day}/b000000000001-000000000001-000000000003.parquet"
    assert set(bodies) == {key, "manifests/v1/capture/000000000001.json"}
    manifest = manifests.read("", bodies["manifests/v1/capture/000000000001.json"])
    assert manifest.captured == {"USD": 1999, "JPY": 500}
    assert (manifest.environment, manifest.installation) == ("test", "ins_test")
    assert (batch.object_sha256, batch.object_version) == (manifest.sha256, manifest.version)
    assert batch.manifest_sha256 == manifests.digest(manifest.body())
    first = archive.outside.facts()["capture"][0]
    assert first["payload"] == '{"currency":"USD","minor":1999,"payment_intent":"pi_1"}'


def test_nothing_is_deleted_from_postgres(archive: Archive) -> None:
    tell_three(archive)
    archive.archive_all()
    assert len(archive.service.facts("cap_1")) == 2
    assert [fact.archive_seq for fact in archive.service.facts("cap_1")] == [1, 2]


def die_at(archive: Archive, where: str) -> At:
    passes = At(where)
    with watched_commits(passes):
        archive.round(Watched(archive.store, passes))  # type: ignore[arg-type]
    return passes


def test_these_are_all_the_places_to_die(archive: Archive) -> None:
    archive.tell("capture.requested")
    assert die_at(archive, "").passed == PLACES


def test_an_archiver_that_dies_anywhere_is_finished_by_the_next(archive: Archive) -> None:
    """[78] Nothing counts as archived before it was read back, and nothing is archived twice."""
    fixed, confirmed = NUMBERED.index("commit.after:2"), NUMBERED.index("commit.after:4")
    for n, where in enumerate(NUMBERED):
        archive.tell("capture.requested", "capture.captured", of=f"cap_{n}", minor=1999, currency="USD")
        with pytest.raises(Died):
            die_at(archive, where)
        unfinished = [batch for batch in archive.known() if batch.state != "archived"]
        assert bool(unfinished) == (fixed <= n < confirmed), where
        archive.tell("capture.refused", of=f"cap_{n}")
        archive.archive_all()
        assert archive.lag().waiting == 0, where
    facts = archive.outside.facts()
    in_order(facts)
    assert Counter(row["fact_id"] for row in facts["capture"]) == dict.fromkeys(range(1, 3 * len(NUMBERED) + 1), 1)


def claim(archive: Archive) -> tuple[Any, Any]:
    writer = archive.writer()
    batch = archive.claim()
    assert batch is not None
    return batch, records.table(batches.facts_of(writer.batch_size, batch))


def put_other(archive: Archive, key: str, body: bytes, until: datetime) -> None:
    archive.store.put_once(key, body, Lock(Mode.GOVERNANCE, until))


def test_the_same_rows_in_other_bytes_are_accepted(archive: Archive) -> None:
    """As another version of pyarrow would write them."""
    tell_three(archive)
    batch, rows = claim(archive)
    sink = records.BytesIO()
    records.pq.write_table(rows, sink, compression="gzip")
    put_other(archive, manifests.object_key(batch), sink.getvalue(), batch.locked_until)
    assert archive.archive_all() == 3
    in_order(archive.outside.facts())


def test_a_batch_that_another_version_began_is_finished_although_it_showed_fewer_ids(archive: Archive) -> None:
    tell_three(archive)
    archive.service.execute("UPDATE billing.facts SET correlation_id = '5123456789012'")
    batch, rows = claim(archive)
    assert rows.column("correlation_id").to_pylist() == ["5123456789012"] * 3
    at = rows.schema.get_field_index("correlation_id")
    hidden = rows.set_column(at, "correlation_id", records.pa.nulls(3, records.pa.string()))
    put_other(archive, manifests.object_key(batch), records.parquet(hidden), batch.locked_until)
    assert archive.archive_all() == 3
    in_order(archive.outside.facts())


def without(rows: records.Rows, *columns: str) -> bytes:
    """As a version wrote it that had no such columns."""
    return as_an_older_version(rows.drop_columns(list(columns)))


def test_an_older_archiver_beside_a_newer_one_may_write_its_objects_without_the_newer_columns(archive: Archive) -> None:
    archive.tell("capture.requested", "capture.refused", payment_intent="pi_1", account="acct_1")
    batch, rows = claim(archive)
    older = without(rows, "payment_intent", "account")
    put_other(archive, manifests.object_key(batch), older, batch.locked_until)
    assert archive.archive_all() == 2
    assert records.read(older).equals(rows)
    for of in ("payment_intent = 'pi_1'", "account = 'acct_1'"):
        assert ask_sql(archive.cache(), f"SELECT count(*) AS n FROM facts WHERE {of}").rows == [(2,)]
    assert len(ask(archive.cache(), "history", {"entity_id": "cap_1"}).rows) == 2


@pytest.mark.parametrize("copied", ["payment_intent", "account"])
@pytest.mark.parametrize("said", ["acct_2", None])
def test_a_column_that_says_something_else_than_the_payload_is_refused(
    archive: Archive, copied: str, said: str | None
) -> None:
    archive.tell("capture.requested", "capture.refused", payment_intent="pi_1", account="acct_1")
    batch, rows = claim(archive)
    other = rows.set_column(rows.schema.get_field_index(copied), copied, [[rows.column(copied)[0].as_py(), said]])
    put_other(archive, manifests.object_key(batch), records.parquet(other), batch.locked_until)
    (trouble,) = archive.writer().round().troubles
    assert getattr(trouble, "key", None) == manifests.object_key(batch)


@pytest.mark.parametrize("payload", ["[]", "{", "[" * 100_000, '"pi_1"', "null"])
def test_an_object_whose_payloads_are_none_is_refused(payload: str) -> None:
    row = dict.fromkeys(records.SCHEMA.names) | dict.fromkeys(("archive_seq", "fact_id", "entity_version"), 1)
    rows = records.pa.Table.from_pylist([row | {"payload": payload}])
    with pytest.raises(ValueError, match="not one of our Parquet files"):
        records.read(without(rows, "payment_intent", "account"))


@pytest.mark.parametrize("what", ["one row changed", "one row fewer", "no Parquet"])
def test_other_rows_are_refused_and_stay_an_alarm_and_the_other_classes_go_on(
    archive: Archive, lines: Lines, what: str
) -> None:
    tell_three(archive)
    archive.tell("invoice.requested", of="inv_1")
    batch, rows = claim(archive)
    if what == "one row changed":
        changed = rows.set_column(rows.schema.get_field_index("minor"), "minor", [[1, 1999, 500]])
        body = records.parquet(changed)
    else:
        body = records.parquet(rows.slice(0, 2)) if what == "one row fewer" else b"canary"
    put_other(archive, manifests.object_key(batch), body, batch.locked_until)
    logged = set[str]()
    for _ in range(3):
        troubles = archive.writer().round().troubles
        assert [getattr(trouble, "key", None) for trouble in troubles] == [manifests.object_key(batch)]
        logged = archiving._log_new(troubles, logged)
    assert len(lines.of("evidence.differs")) == 1  # an alarm each time would be none
    assert [(known.retention_class, known.state) for known in archive.known()] == [
        ("capture", "claimed"),
        ("invoice", "archived"),
    ]


def test_another_manifest_in_our_place_is_refused(archive: Archive) -> None:
    tell_three(archive)
    batch, _ = claim(archive)
    put_other(archive, manifests.key("capture", 1), b"{}", batch.manifest_locked_until)
    with pytest.raises(EvidenceDiffers, match="not a manifest"):
        archive.round()


def test_a_manifest_of_other_facts_in_our_place_is_refused(archive: Archive) -> None:
    tell_three(archive)
    batch, rows = claim(archive)
    facts = {"sha256": "0" * 64, "version": "x", "size": 1, "captured": records.captured(rows), "previous": None}
    other = manifests.of(batch, Source("test", "ins_test"), **facts)
    put_other(archive, manifests.key("capture", 1), other.body(), batch.manifest_locked_until)
    with pytest.raises(EvidenceDiffers, match="another manifest is there"):
        archive.round()


def test_an_object_that_is_locked_too_weakly_is_refused(archive: Archive) -> None:
    tell_three(archive)
    batch, rows = claim(archive)
    soon = datetime.now(UTC) + timedelta(minutes=5)
    put_other(archive, manifests.object_key(batch), records.parquet(rows), soon)
    with pytest.raises(EvidenceDiffers, match="not locked as it must be"):
        archive.round()


def test_an_archiver_with_another_history_does_not_overwrite(archive: Archive) -> None:
    """Two databases on one bucket: the second finds the first one's batch 1 in its place."""
    tell_three(archive)
    archive.archive_all()
    before = archive.outside.bodies()
    archive.service.execute("DELETE FROM billing.archive_batches")
    archive.service.execute("UPDATE billing.facts SET batch_no = NULL, archive_seq = NULL, actor = 'other'")
    with pytest.raises(EvidenceDiffers, match="its rows differ"):
        archive.round()
    assert archive.outside.bodies() == before


def test_locks_are_set_as_the_policy_says_and_hold(archive: Archive) -> None:
    rules = {**archive.policy.rules, "invoice": Rule(Mode.COMPLIANCE, Period(400, Unit.DAY))}
    archive.policy = Policy(rules)
    archive.tell("capture.requested", at="'2026-01-01 12:00+00'")
    archive.tell("invoice.requested", of="inv_1")
    archive.archive_all()
    s3, bucket = archive.outside.s3, archive.bucket
    midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    expected = {
        # Late evidence is kept as long as if it had come in time.
        "v1/class=capture": ("GOVERNANCE", midnight + timedelta(days=91)),
        "v1/class=invoice": ("COMPLIANCE", midnight + timedelta(days=401)),
        # It outlives whatever it could prove missing.
        "manifests/v1/": ("COMPLIANCE", midnight + timedelta(days=401)),
    }
    versions = archive.outside.versions()
    assert len(versions) == 4
    for version in versions:
        key, number = version["Key"], version["VersionId"]
        told = s3.get_object_retention(Bucket=bucket, Key=key)["Retention"]
        (wanted,) = [lock for prefix, lock in expected.items() if key.startswith(prefix)]
        assert (told["Mode"], told["RetainUntilDate"]) == wanted
        with pytest.raises(botocore.exceptions.ClientError, match="AccessDenied"):
            s3.delete_object(Bucket=bucket, Key=key, VersionId=number)
        if told["Mode"] == "COMPLIANCE":
            with pytest.raises(botocore.exceptions.ClientError, match="AccessDenied"):
                s3.delete_object(Bucket=bucket, Key=key, VersionId=number, BypassGovernanceRetention=True)


def test_one_of_many_writers_of_the_same_key_wins(archive: Archive) -> None:
    lock = Lock(Mode.GOVERNANCE, datetime.now(UTC) + timedelta(days=1))
    assert [archive.store.put_once("v1/x", body, lock) for body in (b"first", b"second")] == [True, False]
    assert archive.store.get("v1/x").body == b"first"


def test_a_bucket_out_of_reach_is_told_apart_from_one_that_refuses(archive: Archive) -> None:
    tell_three(archive)
    s3 = archive.s3
    keys = {"region": "us-east-1", "access_key": s3.access_key, "secret_key": s3.secret_key}
    away = Store(archive.bucket, endpoint="http://127.0.0.1:1", **keys)
    with pytest.raises(StoreAway, match="cannot be reached"):
        archive.round(away)
    refusing = Store(archive.bucket, endpoint=s3.url, **{**keys, "secret_key": "canary"})
    with pytest.raises(StoreRefused, match="403") as refusal:
        archive.round(refusing)
    assert "canary" not in str(refusal.value)
    assert archive.archive_all() == 3
    away.close()
    refusing.close()


def test_a_confirmation_that_disagrees_with_another_is_an_alarm(archive: Archive) -> None:
    tell_three(archive)
    archive.archive_all()
    (batch,) = archive.known()
    manifest = manifests.read("", archive.outside.body(manifests.key("capture", 1)))
    with database.transaction(archive.service.engine) as session:
        batches.confirm(session, batch, manifest)
        with pytest.raises(EvidenceDiffers, match="another archiver has confirmed it"):
            batches.confirm(session, batch, replace(manifest, captured={}))


def test_the_chain_notices_whatever_is_taken_out_or_changed(archive: Archive) -> None:
    for _ in range(3):
        archive.tell("capture.requested")
        archive.archive_all()
    bodies = {n: archive.outside.body(manifests.key("capture", n)) for n in (1, 2, 3)}
    assert [m.number for m in manifests.chain("capture", bodies)] == [1, 2, 3]
    second = manifests.read("", bodies[2])
    wrong = [
        {1: bodies[1], 3: bodies[3]},
        {2: bodies[2], 3: bodies[3]},
        {**bodies, 2: bodies[1]},
        {**bodies, 2: replace(second, rows=2).body()},
        {**bodies, 2: replace(second, previous=None).body()},
        {**bodies, 2: bodies[2].replace(b":", b": ")},
        {**bodies, 2: b"{}"},
        {**bodies, 2: b"\xff"},
    ]
    for tampered in wrong:
        with pytest.raises(EvidenceDiffers):
            list(manifests.chain("capture", tampered))


HOSTILE = {
    "a key that leads out of the copies' directory": {"key": "../../../../outside.parquet"},
    "an absolute key": {"key": "/tmp/outside.parquet"},  # noqa: S108
    "another batch's key": {"number": 7},
    "a day that is a path": {"event_date": "../../x"},
    "a day in another form": {"event_date": "20261125"},
    "rows that are text": {"rows": "1"},
    "a true number": {"number": True},
    "a number that is a float": {"first_seq": 1.0},
    "a version that is none": {"version": None},
    "money that is text": {"captured": {"USD": "1"}},
    "money that is a list": {"captured": [1]},
    "a lock that never ends": {"locked_until": "never"},
    "a lock without a time zone": {"locked_until": "2027-01-01T00:00:00"},
    "a digest that is a list": {"previous": []},
    "another format": {"format": "billing-archive-manifest/3"},
    "a signed format without a key": {"format": "billing-archive-manifest/2", "empty": None},
    "a key in the unsigned format": {"key_id": "0" * 16, "claimed_at": "2026-11-25T10:00:00+00:00"},
    "an object where there is none": {"rows": 0, "key": None},
    "a field too many": {"more": 1},
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_manifest_that_somebody_else_wrote_is_refused_before_anything_in_it_is_used(archive: Archive, what: str):
    """Its key is where a copy of the object would be put on the machine of whoever asks."""
    archive.tell("capture.requested", at="'2026-11-25 10:00+00'")
    archive.archive_all()
    key = manifests.key("capture", 1)
    told = json.loads(archive.outside.body(key)) | HOSTILE[what]
    archive.outside.s3.put_object(Bucket=archive.bucket, Key=key, Body=(records.canonical(told) + "\n").encode())
    with pytest.raises(EvidenceDiffers, match=key):
        archive.cache().bring()
    assert not list(archive.directory.parent.rglob("outside.parquet"))


@pytest.mark.parametrize("body", [b"[" * 100_000, b"1" * 10_000, b'{"number":' + b"1" * 10_000 + b"}", b"[]", b"null"])
def test_bytes_of_any_kind_are_told_as_no_manifest(body: bytes):
    with pytest.raises(EvidenceDiffers, match="not a manifest"):
        manifests.read("x", body)
