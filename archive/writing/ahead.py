"""Whether the bucket holds manifests that Postgres does not know: then Postgres was set back."""

from typing import TypeVar

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from archive.errors import EvidenceDiffers
from archive.format import manifests
from archive.policy.retention import CLASSES
from archive.s3.store import Store
from billing.database import Transact
from billing.tables.facts import ArchiveBatch

T = TypeVar("T")


def of_postgres(store: Store, installation: str, ask: Transact) -> bool:
    """Whether this installation wrote the next manifest of a class, and the batch is not in Postgres.

    One request for each class. Postgres is asked again after it: another archiver may just have claimed and written
    that batch. A manifest is only written after the claim of its batch is committed. One of another installation is no
    sign of a restore: the bucket is another database's, and the archiver stops when it comes to that key.
    """
    following = {name: number + 1 for name, number in ask(newest).items()}
    found = {name: number for name, number in following.items() if _is_ours(store, installation, name, number)}
    return bool(found) and any(ask(newest)[name] < number for name, number in found.items())


def newest(session: Session) -> dict[str, int]:
    """The number of the newest batch of each class that Postgres knows, claimed or archived; 0 if there is none."""
    number = select(func.max(ArchiveBatch.number))
    # One class per statement: Postgres then reads one end of an index, and does not scan a million batches.
    return {name: session.scalar(number.where(ArchiveBatch.retention_class == name)) or 0 for name in CLASSES}


def _is_ours(store: Store, installation: str, retention_class: str, number: int) -> bool:
    key = manifests.key(retention_class, number)
    if not store.keys(key):
        return False
    try:
        return manifests.read(key, store.get(key).body).installation == installation
    except EvidenceDiffers:
        return False  # the archiver stops there and says so
