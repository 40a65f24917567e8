"""What the whole verification finds, what the quick one finds, and that neither raises a false alarm."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from dying import Died
from evidence import Archive
from test_writer import NUMBERED, die_at

from archive.copies.cache import Cache
from archive.errors import StoreAway, StoreRefused
from archive.format import manifests
from archive.format.manifests import Manifest
from archive.policy.retention import Lock
from archive.s3 import abilities
from archive.s3.store import Page, Store, Stored
from archive.verifying import agreement, verification
from archive.verifying.agreement import Counts
from archive.verifying.findings import Finding, Heads
from billing import database

OBJECTS = "v1/class=capture/"
USD = {"minor": 1999, "currency": "USD"}


def a_history(archive: Archive) -> None:
    """Three batches of captures on two days, and one of attempts."""
    archive.tell("capture.requested", at="'2026-11-01 10:00+00'", **USD)
    archive.archive_all()
    archive.tell("capture.attempted", "capture.captured", at="'2026-11-02 10:00+00'", **USD)
    archive.archive_all()
    archive.tell("capture.requested", "capture.declined", of="cap_2", at="'2026-11-02 11:00+00'", **USD)
    archive.archive_all()
    assert [(batch.retention_class, batch.number) for batch in archive.known()] == [
        ("attempt", 1),
        ("capture", 1),
        ("capture", 2),
        ("capture", 3),
    ]


@dataclass
class Verified:
    findings: list[Finding]
    counts: Counts
    heads: Heads

    @property
    def told(self) -> list[str]:
        return [str(finding) for finding in self.findings]


def ask_of(archive: Archive) -> database.Transact:
    """In a transaction each, as the command does."""

    def ask(step: Callable[[Any], Any]) -> Any:
        with database.transaction(archive.service.engine) as session:
            return step(session)

    return ask


def verify(archive: Archive, *kept: tuple[str, str], store: Any = None, **how: Any) -> Verified:
    counts, heads = Counts(), Heads(kept)
    how = {"pauses_s": (0.0,) * 3, **how}
    found = verification.from_bucket(store or archive.store, ask_of(archive), counts, heads, **how)
    return Verified(list(found), counts, heads)


def verify_copies(archive: Archive, *kept: tuple[str, str], fresh: bool = False) -> Verified:
    counts, heads = Counts(), Heads(kept)
    found = list(agreement.from_copies(archive.cache(fresh), ask_of(archive), counts, heads))
    return Verified(found, counts, heads)


# What an attacker with an administrator's keys can do.


class Attacker:
    def __init__(self, archive: Archive) -> None:
        self.archive, self.s3, self.here = archive, archive.outside.s3, {"Bucket": archive.bucket}
        self.until = datetime.now(UTC).replace(microsecond=0) + timedelta(days=400)

    def key(self, number: int, name: str = "capture") -> str:
        return next(
            manifests.object_key(batch)
            for batch in self.archive.known()
            if (batch.retention_class, batch.number) == (name, number)
        )

    def version(self, key: str) -> str:
        version: str = self.s3.head_object(**self.here, Key=key)["VersionId"]
        return version

    def put(self, key: str, body: bytes) -> str:
        """Locked for long, so that nothing but the new version is wrong."""
        lock = {"ObjectLockMode": "GOVERNANCE", "ObjectLockRetainUntilDate": self.until}
        version: str = self.s3.put_object(**self.here, Key=key, Body=body, **lock)["VersionId"]
        return version

    def destroy(self, key: str) -> None:
        self.s3.delete_object(**self.here, Key=key, VersionId=self.version(key), BypassGovernanceRetention=True)

    def replace(self, key: str, body: bytes) -> str:
        self.destroy(key)
        return self.put(key, body)

    def hide(self, key: str) -> None:
        self.s3.delete_object(**self.here, Key=key)

    def unlock(self, key: str) -> None:
        """The same bytes without a lock. (SeaweedFS lets nobody take one away, Amazon's S3 does.)"""
        body = self.archive.outside.body(key)
        self.destroy(key)
        self.s3.put_object(**self.here, Key=key, Body=body)

    def lock(self, key: str, **retention: Any) -> None:
        self.s3.put_object_retention(**self.here, Key=key, Retention=retention, BypassGovernanceRetention=True)

    def sql(self, changes: str, number: int = 2) -> None:
        self.archive.service.execute(
            f"UPDATE billing.archive_batches SET {changes} WHERE class = 'capture' AND number = {number}"
        )

    def forget(self, number: int) -> None:
        self.archive.service.execute(
            f"DELETE FROM billing.archive_batches WHERE class = 'capture' AND number >= {number}"
        )

    def manifest(self, number: int) -> Manifest:
        key = manifests.key("capture", number)
        return manifests.read(key, self.archive.outside.body(key))

    def forge(self, number: int, **changed: Any) -> None:
        self.replace(manifests.key("capture", number), replace(self.manifest(number), **changed).body())

    def skip_a_fact(self) -> None:
        """Postgres knows none of the class, so that the chain alone can say that a number is left out."""
        self.forget(1)
        last = self.manifest(3)
        moved = replace(last, first_seq=last.first_seq + 1, last_seq=last.last_seq + 1)
        self.replace(m(3), replace(moved, key=manifests.object_key(moved)).body())

    def swap(self, one: str, other: str) -> None:
        first, second = self.archive.outside.body(one), self.archive.outside.body(other)
        self.replace(one, second)
        self.replace(other, first)

    def flip(self, key: str) -> None:
        body = bytearray(self.archive.outside.body(key))
        body[len(body) // 2] ^= 1
        self.replace(key, bytes(body))

    def cut_the_tail(self) -> None:
        self.destroy(self.key(3))
        self.destroy(manifests.key("capture", 3))

    def rewrite(self, number: int, to: int = 3) -> None:
        """Other money in these batches, in the bucket and in Postgres."""
        previous = manifests.digest(self.archive.outside.body(manifests.key("capture", number - 1)))
        for n in range(number, to + 1):
            body = b"other rows"
            version = self.replace(self.key(n), body)
            sha256 = manifests.digest(body)
            self.forge(n, sha256=sha256, version=version, size=len(body), captured={"USD": 1}, previous=previous)
            previous = manifests.digest(self.archive.outside.body(manifests.key("capture", n)))
            self.sql(f"object_sha256 = '{sha256}', object_version = '{version}', manifest_sha256 = '{previous}'", n)


def m(number: int) -> str:
    return manifests.key("capture", number)


@dataclass(frozen=True)
class Attack:
    """`key` is part of the key that must be named, and `told` of what is told of it. `alone`: nothing else is found.

    `quick`: the quick form finds it, too, when copies of everything are here.
    """

    what: str
    do: Callable[[Attacker], Any]
    key: str
    told: str
    alone: bool = True
    quick: bool = False


ATTACKS = [
    Attack("a version over an object", lambda a: a.put(a.key(2), b"forged"), OBJECTS, "with other bytes"),
    Attack(
        "the same bytes over an object",
        lambda a: a.put(a.key(2), a.archive.outside.body(a.key(2))),
        OBJECTS,
        "with the same bytes",
    ),
    Attack("a version over a manifest", lambda a: a.put(m(2), b"forged"), m(2), "with other bytes"),
    Attack("a version over the newest manifest", lambda a: a.put(m(3), b"{}"), m(3), "with other bytes", quick=True),
    Attack("a large version over a manifest", lambda a: a.put(m(2), b"x" * 1_100_000), m(2), "with other bytes"),
    Attack("a marker over an object", lambda a: a.hide(a.key(2)), OBJECTS, "found a delete marker of 20"),
    Attack("a marker over a manifest", lambda a: a.hide(m(2)), m(2), "found a delete marker of 20", quick=True),
    Attack("a marker over the newest", lambda a: a.hide(m(3)), m(3), "found a delete marker of 20", quick=True),
    Attack("an object without a manifest", lambda a: a.put(f"{OBJECTS}x.parquet", b"x"), "x.parquet", "no manifest"),
    Attack("an object elsewhere", lambda a: a.put("v2/x", b"x"), "v2/x", "found a version of 20"),
    Attack("a marker on nothing", lambda a: a.hide("v2/x"), "v2/x", "found a delete marker of 20"),
    Attack(
        "a manifest beside the chain", lambda a: a.put(f"{manifests.PREFIX}capture/2.json", b"x"), "/2.json", "no b"
    ),
    Attack(
        "a manifest of no class", lambda a: a.put(f"{manifests.PREFIX}x/000000000001.json", b"x"), "v1/x/", "no batch"
    ),
    Attack(
        "a next manifest",
        lambda a: a.put(m(4), replace(a.manifest(3), number=4, key=a.key(3)).body()),
        m(4),
        "no manifest of this batch",
        quick=True,
    ),
    Attack("a manifest far ahead", lambda a: a.put(m(999_999_999_999), b"x"), m(999_999_999_999), "", False, True),
    Attack(
        "a lock lifted",
        lambda a: a.lock(a.key(2), Mode="GOVERNANCE", RetainUntilDate=datetime.now(UTC) + timedelta(seconds=2)),
        OBJECTS,
        "expected a lock in GOVERNANCE until",
    ),
    Attack(
        "a lock shortened",
        lambda a: a.lock(a.key(2), Mode="GOVERNANCE", RetainUntilDate=datetime.now(UTC) + timedelta(days=1)),
        OBJECTS,
        "expected a lock in GOVERNANCE until",
    ),
    Attack("a manifest without a lock", lambda a: a.unlock(m(3)), m(3), "found no lock"),
    Attack("an object's version deleted", lambda a: a.destroy(a.key(2)), OBJECTS, "no such version"),
    Attack("a manifest deleted", lambda a: a.destroy(m(2)), m(2), "as Postgres says; found none", quick=True),
    Attack("a byte flipped", lambda a: a.flip(a.key(2)), OBJECTS, "no such version", False),
    Attack("two objects swapped", lambda a: a.swap(a.key(2), a.key(3)), OBJECTS, "no such version", False),
    Attack("two manifests swapped", lambda a: a.swap(m(1), m(2)), m(2), "no manifest of this batch", False),
    Attack("a manifest replaced", lambda a: a.forge(2, captured={"USD": 1}), m(2), "found digest"),
    Attack("the newest replaced", lambda a: a.forge(3, captured={"USD": 1}), m(3), "found digest", quick=True),
    Attack("a manifest of other numbers", lambda a: a.forge(3, first_seq=4, rows=1), m(3), "no manifest", quick=True),
    Attack("another version in Postgres", lambda a: a.sql("object_version = 'x'"), m(2), "says version x", False, True),
    Attack("another digest", lambda a: a.sql("object_sha256 = 'x'"), m(2), "says sha256 x", False, True),
    Attack("another manifest", lambda a: a.sql("manifest_sha256 = 'x'"), m(2), "says digest x", quick=True),
    Attack("another lock", lambda a: a.sql("lock_mode = 'COMPLIANCE'"), m(2), "lock_mode COMPLIANCE", False, True),
    Attack("another end", lambda a: a.sql("locked_until = now()"), m(2), "says locked_until", quick=True),
    Attack("another day", lambda a: a.sql("event_date = '2026-11-03'"), m(2), "event_date 2026-11-03", False, True),
    Attack("a manifest's lock", lambda a: a.sql("manifest_locked_until = '2099-01-01'"), m(2), "until 2099-01-01"),
    Attack(
        "a stricter lock of a manifest", lambda a: a.sql("manifest_lock_mode = 'COMPLIANCE'"), m(2), "in COMPLIANCE"
    ),
    Attack(
        "one batch written anew in both", lambda a: a.rewrite(2, to=2), m(3), "to follow from manifest 2", quick=True
    ),
    Attack(
        "a gap where Postgres has forgotten", lambda a: a.skip_a_fact(), m(3), "to follow from manifest 2", False, True
    ),
    Attack("the tail cut off the bucket", lambda a: a.cut_the_tail(), m(3), "found none", False, True),
    Attack("the tail cut off Postgres", lambda a: a.forget(3), m(3), "expected a batch 3 of capture", quick=True),
    Attack("a class cut off Postgres", lambda a: a.forget(1), m(1), "expected a batch 1 of capture", False, True),
]


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.what)
def test_what_was_done_to_the_bucket_or_to_postgres_is_found_and_named(archive: Archive, attack: Attack) -> None:
    """By the whole verification; and by the quick one, which has copies of everything from before, where it says so."""
    a_history(archive)
    archive.cache()
    assert verify_copies(archive).told == []
    attack.do(Attacker(archive))
    told = verify(archive).told
    assert [line for line in told if attack.key in line and attack.told in line], told
    assert not attack.alone or len(told) == 1, told
    assert bool(verify_copies(archive).findings) is attack.quick


def test_where_postgres_knows_no_digest_the_version_that_was_there_first_is_taken_for_ours(archive: Archive) -> None:
    a_history(archive)
    attacker = Attacker(archive)
    ours = attacker.version(m(2))
    attacker.forget(1)
    forged = attacker.put(m(2), b"forged")
    told = [line for line in verify(archive).told if m(2) in line]
    assert len(told) == 2
    assert told[0].startswith(f"{m(2)} (version {forged}): expected version {ours} alone")
    assert told[1].startswith(f"{m(2)} (version {ours}): expected a batch 2 of capture in Postgres")


# What no verification of bucket and Postgres alone can see.

TOGETHER = {
    "the tail cut off both": lambda a: (a.cut_the_tail(), a.forget(3)),
    "a suffix written anew in both": lambda a: a.rewrite(2),
}


def heads_of(archive: Archive) -> dict[str, str]:
    return {head.retention_class: head.head for head in verify(archive).heads.newest()}


@pytest.mark.parametrize("what", TOGETHER)
@pytest.mark.parametrize("form", [verify, verify_copies])
def test_what_was_done_to_bucket_and_postgres_together_is_found_by_a_head_that_was_kept(
    archive: Archive, what: str, form: Callable[..., Verified]
) -> None:
    a_history(archive)
    kept = heads_of(archive)
    TOGETHER[what](Attacker(archive))
    blind = form(archive)
    assert blind.told == []
    assert "were cut off or rewritten, in the bucket and in Postgres together" in blind.heads.cannot_see()
    seen = form(archive, *kept.items()).told
    assert len(seen) == 1
    assert f"expected a manifest with digest {kept['capture']}, the head that was stored" in seen[0]
    # A class that has nothing left is told apart from one that has another head.
    assert "found no manifest" in form(archive, ("invoice", "0" * 64)).told[0]


def test_a_head_that_was_kept_earlier_stays_good_as_the_chain_grows(archive: Archive) -> None:
    archive.tell("capture.requested")
    archive.archive_all()
    earlier = heads_of(archive)["capture"]
    a_later = ("capture", earlier)
    archive.tell("capture.captured", **USD)
    archive.archive_all()
    later = ("capture", heads_of(archive)["capture"])
    for form in (verify, verify_copies):
        assert form(archive, later, a_later).told == []
        assert "(capture 1)" in form(archive, a_later).heads.cannot_see()
        assert "(capture 2)" in form(archive, later, a_later).heads.cannot_see()


# No false alarm.


def test_an_archive_that_nobody_touched_is_as_it_was(archive: Archive) -> None:
    assert verify(archive).told == []
    a_history(archive)
    abilities.all_of_them(archive.store)
    verified = verify(archive)
    assert verified.told == []
    assert (verified.counts.facts, verified.counts.objects, verified.counts.unfinished) == (5, 4, 0)
    heads = {batch.retention_class: (batch.number, batch.manifest_sha256) for batch in archive.known()}
    assert {head.retention_class: (head.number, head.head) for head in verified.heads.newest()} == heads
    copies = verify_copies(archive)
    assert (copies.told, copies.counts.facts, copies.counts.objects) == ([], 5, 4)
    assert copies.heads.newest() == verified.heads.newest()


def test_an_archiver_that_died_anywhere_left_nothing_that_is_taken_for_an_attack(archive: Archive) -> None:
    a_history(archive)
    for n, where in enumerate(NUMBERED):
        archive.tell("capture.requested", "capture.captured", of=f"cap_x{n}", **USD)
        with pytest.raises(Died):
            die_at(archive, where)
        for form in (verify, verify_copies):
            verified = form(archive)
            assert (where, verified.told) == (where, [])
            assert verified.counts.unfinished == sum(batch.state == "claimed" for batch in archive.known()) - (
                # Its manifest lies there: it is checked like any other.
                where in ("put.after:2", "get.after:2", "commit.before:4")
            )
        archive.archive_all()


class Between:
    """The real store; something happens before each of its answers."""

    def __init__(self, store: Store, happens: Callable[[int], None]) -> None:
        self._store, self._happens, self.calls = store, happens, 0
        self.endpoint, self.bucket = store.endpoint, store.bucket
        self._alone = threading.Lock()

    def _passed(self) -> Store:
        with self._alone:
            self._happens(self.calls)
            self.calls += 1
        return self._store

    def versions(self, page: Any = None, most: int = 3) -> Page:
        return self._passed().versions(page, most=most)

    def keys(self, prefix: str, *, after: str | None = None) -> list[str]:
        return self._passed().keys(prefix, after=after)

    def get(self, key: str, version: str | None = None) -> Stored:
        return self._passed().get(key, version)

    def download(self, *given: Any, **more: Any) -> Any:
        return self._passed().download(*given, **more)

    def lock(self, key: str, version: str) -> Lock | None:
        return self._passed().lock(key, version)


def batches_meanwhile(archive: Archive) -> Iterator[None]:
    """One step of an archiver at a time: claims, dies, and finishes what was left."""
    for n in range(1000):
        archive.tell("capture.requested", of=f"cap_m{n}", at=f"'2026-11-0{1 + n % 5} 10:00+00'")
        with pytest.raises(Died):
            die_at(archive, ("commit.after:2", "put.after:1", "put.after:2")[n % 3])
        yield
        archive.archive_all()
        yield


def test_batches_that_are_written_meanwhile_raise_no_alarm(archive: Archive) -> None:
    """Between any two answers of the bucket, and after Postgres was asked first."""
    a_history(archive)
    steps = batches_meanwhile(archive)

    def happens(_: int) -> None:
        with lock:
            next(steps)

    lock = threading.Lock()
    store = Between(archive.store, happens)
    assert verify(archive, store=store).told == []
    assert store.calls > 10
    caches = Cache(Between(archive.store, happens), archive.directory / "meanwhile")  # type: ignore[arg-type]
    assert list(agreement.from_copies(caches, ask_of(archive), Counts(), Heads())) == []


def test_a_lock_that_has_ended_need_not_be_there(archive: Archive) -> None:
    """Two and a half years later, in an archive whose locks ended after 91 days and were taken away since."""
    a_history(archive)
    archive.service.execute(
        "UPDATE billing.archive_batches SET manifest_locked_until = now() - interval '1 s' WHERE class = 'capture'"
    )
    Attacker(archive).unlock(m(3))
    told = verify(archive).told
    # The lock of its object has not ended, and a manifest must outlive that.
    assert len(told) == 1
    assert "found no lock" in told[0]


# Long runs.


def test_a_long_listing_is_read_page_by_page_and_batches_are_held_a_page_at_a_time(archive, monkeypatch) -> None:
    for n in range(7):
        archive.tell("capture.requested", of=f"cap_{n}")
        archive.archive_all()
    attacker = Attacker(archive)
    attacker.hide(attacker.key(5))
    attacker.put(attacker.key(5), b"x")
    attacker.put(m(5), b"x")
    attacker.put("zz", b"x")
    attacker.forget(7)
    expected = verify(archive)
    assert len(expected.told) == 5
    for most in (1, 2, 3):
        monkeypatch.setattr(verification, "PAGE", most)
        monkeypatch.setattr(agreement, "PAGE", most)
        store = Paged(archive.store, most)
        verified = verify(archive, store=store)
        assert sorted(verified.told) == sorted(expected.told)
        assert verified.counts.facts == expected.counts.facts
        assert max(store.sizes) == most
        with database.transaction(archive.service.engine) as session:
            assert len(agreement.batches_after(session, "capture", 2)) == most
        assert sum(store.sizes) == 18


class Paged(Between):
    """The real store with small pages."""

    def __init__(self, store: Store, most: int) -> None:
        super().__init__(store, lambda _: None)
        self._most, self.sizes = most, list[int]()

    def versions(self, page: Any = None, most: int = 0) -> Page:
        answer = super().versions(page, self._most)
        self.sizes.append(len(answer.entries))
        return answer


def test_a_store_that_is_away_for_a_moment_is_asked_again_and_one_that_stays_away_ends_it(archive: Archive) -> None:
    a_history(archive)
    mine = threading.local()

    def sometimes(_: int) -> None:
        mine.tries = getattr(mine, "tries", 0) + 1
        if mine.tries % 3:
            raise StoreAway("not now")

    assert verify(archive, store=Between(archive.store, sometimes)).told == []

    def away(_: int) -> None:
        raise StoreAway("gone")

    with pytest.raises(StoreAway):
        verify(archive, store=Between(archive.store, away))


def test_a_bucket_that_names_no_next_page_is_not_read_for_ever(archive: Archive, monkeypatch) -> None:
    a_history(archive)
    client = archive.store._s3
    honest = client.list_object_versions
    monkeypatch.setattr(archive.store, "_s3", Lame(client, honest))
    with pytest.raises(StoreRefused, match="does not say where its next page begins"):
        verify(archive)


class Lame:
    def __init__(self, client: Any, honest: Any) -> None:
        self._client, self._honest = client, honest

    def list_object_versions(self, **arguments: Any) -> Any:
        return {**self._honest(**arguments), "IsTruncated": True, "NextKeyMarker": "x", "NextVersionIdMarker": "y"}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)


def test_a_key_cannot_steer_a_terminal(archive: Archive) -> None:
    Attacker(archive).put("v1/\u202eevil", b"x")
    (line,) = verify(archive).told
    assert line.isprintable()
    assert "\\u202eevil" in line
