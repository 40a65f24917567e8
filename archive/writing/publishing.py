"""Publish the heads of each day where the archive cannot write: in another bucket, and in a directory for mail.

Once per UTC day one archiver makes the document and stores it in Postgres; from then on it never changes. Each place
is tried again until it has it, and one that is away holds up nothing else. Any number of archivers may do this.
"""

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Protocol

import structlog
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

from archive.errors import ArchiveError, EvidenceDiffers
from archive.format import heads
from archive.format.heads import HeadsOfDay
from archive.format.manifests import Source
from archive.policy.retention import CLASSES, Policy
from archive.s3.store import Store
from archive.signing.signatures import Signer
from billing import database

log = structlog.get_logger()

MOST_AT_ONCE = 31
"""So many days are published to a place at once, the oldest first; the next round takes the others."""


class Place(Protocol):
    """Somewhere outside. `put` raises ArchiveError or OSError if it does not have the document afterwards."""

    @property
    def name(self) -> str: ...

    def put(self, document: HeadsOfDay) -> None: ...


@dataclass(frozen=True, slots=True)
class OtherBucket:
    """A bucket with Object Lock, best of another account. Documents are locked as long as manifests."""

    store: Store
    policy: Policy
    name: str = "bucket"

    def put(self, document: HeadsOfDay) -> None:
        key, day = heads.key(document), date.fromisoformat(document.date)
        lock = self.policy.manifest_lock(day, day)
        self.store.put_once(key, document.body(), lock)
        found = self.store.get(key)
        if found.body != document.body():
            raise EvidenceDiffers(key, "another document is there")
        found.must_be_locked(key, lock)


@dataclass(frozen=True, slots=True)
class Directory:
    """A directory of this machine, or of a file server: one file per day, which a mail can carry."""

    path: Path
    name: str = "directory"

    def put(self, document: HeadsOfDay) -> None:
        file = self.path / heads.file_name(document)
        if file.exists():
            if file.read_bytes() != document.body():
                raise EvidenceDiffers(str(file), "another document is there")
            return
        handle, unfinished = tempfile.mkstemp(dir=self.path, prefix=".heads-")
        try:
            with os.fdopen(handle, "wb") as written:
                written.write(document.body())
                written.flush()
                os.fsync(written.fileno())
                os.fchmod(written.fileno(), 0o644)
            Path(unfinished).replace(file)
        finally:
            # It is tried again every minute: where the disk is full, none may be left each time.
            Path(unfinished).unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class Publisher:
    """`places`: where the documents of each day go, beside Postgres."""

    engine: Engine
    source: Source
    signer: Signer | None
    places: Sequence[Place]

    def publish(self) -> None:
        """Make the document of today unless it exists, and bring every place what it does not have.

        Raises what the signer raises, and Postgres's errors.
        """
        self._make()
        for place in self.places:
            for day, body in self._missing(place):
                if not self._put(place, day, body):
                    break

    def _make(self) -> None:
        with database.transaction(self.engine) as session:
            today, made = session.execute(_TODAY).one()
            found = () if made else session.execute(_NEWEST, {"classes": list(CLASSES)})
            newest = {name: [number, digest] for name, number, digest in found}
        if newest:
            document = HeadsOfDay(today.isoformat(), self.source.environment, self.source.installation, newest)
            if self.signer is not None:
                document = document.signed(self.signer)
            with database.transaction(self.engine) as session:
                session.execute(_INSERT, {"date": today, "document": document.body().decode()})

    def _missing(self, place: Place) -> list[tuple[date, bytes]]:
        with database.transaction(self.engine) as session:
            session.execute(_ASK, {"place": place.name})
            rows = session.execute(_MISSING, {"place": place.name, "most": MOST_AT_ONCE})
            return [(day, document.encode()) for day, document in rows]

    def _put(self, place: Place, day: date, body: bytes) -> bool:
        problem = None
        try:
            place.put(heads.read(f"the heads of {day}", body))
        except (ArchiveError, OSError) as error:
            problem = str(error)[:500]
        with database.transaction(self.engine) as session:
            changed = session.execute(_TRIED, {"place": place.name, "date": day, "problem": problem}).scalar_one()
        if problem is None:
            log.info("heads.published", place=place.name, date=day.isoformat())
        elif changed:
            log.warning("heads.not_published", place=place.name, date=day.isoformat(), why=problem)
        return problem is None


@dataclass(frozen=True, slots=True)
class Published:
    """How far a place is. `newest`: the newest day that it has. `behind`: how many days it does not have yet.

    `problem`: why the last attempt failed. Postgres itself is the place `postgres`.
    """

    place: str
    newest: date | None
    behind: int
    problem: str | None


def standing(session: Session) -> list[Published]:
    """One for each place that the newest document is meant for, and Postgres; none if there is no document."""
    return [Published(*row) for row in session.execute(_STANDING)]


def documents(session: Session) -> list[tuple[str, bytes]]:
    """Every document in Postgres with where it is, the oldest first. A year has 365, of less than 1 kB."""
    rows = session.execute(text("SELECT date, document FROM billing.archive_heads ORDER BY date"))
    return [(f"billing.archive_heads, {day}", document.encode()) for day, document in rows]


def in_bucket(store: Store, source: Source) -> list[tuple[str, bytes]]:
    """The same in the other bucket."""
    return [(f"{store.bucket}/{key}", store.get(key).body) for key in store.keys(heads.prefix(source))]


_TODAY = text(
    "SELECT today.date, EXISTS (SELECT FROM billing.archive_heads AS h WHERE h.date = today.date)"
    "  FROM (SELECT CAST(clock_timestamp() AT TIME ZONE 'UTC' AS date) AS date) AS today"
)
_NEWEST = text(
    "SELECT c.class, newest.number, newest.manifest_sha256 FROM unnest(CAST(:classes AS text[])) AS c (class),"
    "       LATERAL (SELECT number, manifest_sha256 FROM billing.archive_batches AS b"
    "                 WHERE b.class = c.class AND b.state = 'archived' ORDER BY number DESC LIMIT 1) AS newest"
)
_INSERT = text(
    "INSERT INTO billing.archive_heads (date, document) VALUES (:date, :document) ON CONFLICT (date) DO NOTHING"
)
# The newest only: a place that is added today is not asked for the days before.
_ASK = text(
    "INSERT INTO billing.archive_head_copies (date, place) SELECT max(date), :place FROM billing.archive_heads"
    " HAVING max(date) IS NOT NULL ON CONFLICT (date, place) DO NOTHING"
)
_MISSING = text(
    "SELECT h.date, h.document FROM billing.archive_head_copies AS c JOIN billing.archive_heads AS h ON h.date = c.date"
    " WHERE c.place = :place AND c.published_at IS NULL ORDER BY h.date LIMIT :most"
)
_TRIED = text(
    "UPDATE billing.archive_head_copies AS c SET tried_at = clock_timestamp(), problem = CAST(:problem AS text),"
    "       published_at = CASE WHEN CAST(:problem AS text) IS NULL THEN clock_timestamp() END"
    "  FROM billing.archive_head_copies AS before"
    " WHERE c.place = :place AND c.date = :date AND before.place = c.place AND before.date = c.date"
    " RETURNING before.problem IS DISTINCT FROM c.problem"
)
_STANDING = text(
    "WITH newest AS (SELECT max(date) AS date FROM billing.archive_heads)"
    " SELECT 'postgres', date, 0, CAST(NULL AS text) FROM newest WHERE date IS NOT NULL"
    " UNION ALL"
    " SELECT c.place, max(c.date) FILTER (WHERE c.published_at IS NOT NULL),"
    "        count(*) FILTER (WHERE c.published_at IS NULL),"
    "        (array_agg(c.problem ORDER BY c.date) FILTER (WHERE c.published_at IS NULL))[1]"
    "   FROM billing.archive_head_copies AS c GROUP BY c.place"
    " HAVING max(c.date) = (SELECT date FROM newest)"
)
