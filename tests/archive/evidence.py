"""An archive in a bucket of its own: what tests say happened, archive, and look at."""

import json
from copy import copy
from functools import partialmethod
from pathlib import Path
from typing import Any
from uuid import uuid4

from outside import Outside
from service import Service, acting_as
from sqlalchemy import Engine, select

from archive.copies.cache import Cache
from archive.format.manifests import Source
from archive.policy import retention_file
from archive.s3.store import Store
from archive.signing.signatures import Signer
from archive.writing import batches
from archive.writing.batch_size import MOST_ROWS, BatchSize, limited_to
from archive.writing.writer import Writer
from billing import database
from billing.tables.facts import ArchiveBatch
from jobs.local.seaweed import SeaweedFS


class Lines(list[dict[str, Any]]):
    """A log that keeps what it is told, whatever level is shown."""

    def _keep(self, level: str, event: str, **fields: Any) -> None:
        self.append({"event": event, "level": level, **fields})

    info = partialmethod(_keep, "info")
    warning = partialmethod(_keep, "warning")
    error = partialmethod(_keep, "error")

    def of(self, event: str) -> list[dict[str, Any]]:
        return [line for line in self if line["event"] == event]


class Archive:
    """What a test of the archive says and looks at."""

    def __init__(self, service: Service, s3: SeaweedFS, store: Store, directory: Path) -> None:
        self.service, self.s3, self.directory = service, s3, directory
        self.bucket = f"test-{uuid4().hex}"
        # The same client, for another bucket.
        self.store = copy(store)
        self.store.bucket = self.bucket
        self.store.set_up("test")
        self.policy = retention_file.load()
        self.outside = Outside(s3.url, s3.access_key, s3.secret_key, self.bucket)
        self.signer: Signer | None = None
        self._caches = 0
        self.engine = service.engines["archiver"]
        self._engines: list[Engine] = []

    def writer(self, store: Store | None = None, **changed: Any) -> Writer:
        terms = {"policy": self.policy, "wait_s": 0.0, "patience_s": 0.0, "signer": self.signer, **changed}
        terms.setdefault("batch_size", self.batch_size())
        return Writer(store=store or self.store, source=Source("test", "ins_test"), **terms)

    def cache(self, fresh: bool = True) -> Cache:
        self._caches += fresh
        return Cache(self.store, self.directory / str(self._caches))

    def tell(
        self, *topics: str, of: str = "cap_1", at: str = "now()", planned_version: int | None = 1, **payload: Any
    ) -> None:
        """Facts of one entity, as if they had happened and a relay had planned them."""
        for topic in topics:
            self.service.execute(
                "INSERT INTO billing.facts (topic, entity_type, entity_id, entity_version, actor, payload, happened_at,"
                " planned_version)"
                " SELECT :topic, :kind, CAST(:of AS text), 1 + count(*), 'billing', CAST(:payload AS jsonb),"
                f" {at}, :planned_version FROM billing.facts WHERE entity_id = :of",
                kind=topic.partition(".")[0],
                topic=topic,
                of=of,
                payload=json.dumps(payload),
                planned_version=planned_version,
            )

    def batch_size(self, most: int = MOST_ROWS) -> BatchSize:
        return BatchSize(self.engine, limited_to(most))

    def in_sessions_with(self, **settings: str) -> None:
        """From now on the archiver's sessions have these settings of Postgres, as a role or a database may."""
        self.engine = acting_as("archiver", self.service.url, **settings)
        self._engines.append(self.engine)

    def close(self) -> None:
        for engine in self._engines:
            engine.dispose()

    def round(self, store: Store | None = None, **changed: Any) -> int:
        """One round of a writer. Raises the first difference that it met."""
        done = self.writer(store, **changed).round()
        for trouble in done.troubles:
            raise trouble
        return done.archived

    def claim(self, most: int = MOST_ROWS) -> ArchiveBatch | None:
        """Claim a batch without archiving it: it stays open and keeps its class."""
        writer = self.writer(batch_size=self.batch_size(most))
        claimed = (writer.claim(due) for due in writer.due())
        return next((batch for batch in claimed if batch is not None), None)

    def archive_all(self) -> int:
        writer, archived = self.writer(), 0
        while moved := writer.round().archived:
            archived += moved
        return archived

    def known(self) -> list[ArchiveBatch]:
        with database.transaction(self.service.engine) as session:
            order = (ArchiveBatch.retention_class, ArchiveBatch.number)
            return list(session.scalars(select(ArchiveBatch).order_by(*order)))

    def lag(self) -> batches.Lag:
        with database.transaction(self.engine) as session:
            return batches.lag(session)
