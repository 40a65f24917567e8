"""Where the documents of invoices lie in the archive's bucket, and how one is put there: once, locked, and read back.

An object has the name of its document, not of its bytes: Stripe may draw a document anew for each download, and a
worker that dies between writing and telling would then leave two. What is there already is taken as it is.
"""

from dataclasses import dataclass
from datetime import date

from archive.documents import pdf
from archive.errors import EvidenceDiffers
from archive.format.layout import DOCUMENTS
from archive.policy.retention import Lock, Policy
from archive.s3.store import Store

RETENTION_CLASS = "invoice"
"""Documents are kept as long as the facts about their invoices."""


@dataclass(frozen=True, slots=True)
class Kept:
    """One stored document, as it was read back. `new`: this call wrote it."""

    key: str
    version: str
    sha256: str
    size_bytes: int
    lock: Lock
    new: bool


def key(kind: str, document_id: str) -> str:
    return f"{DOCUMENTS}{kind}/{document_id}.pdf"


def keep(store: Store, policy: Policy, kind: str, document_id: str, body: bytes, *, day: date, today: date) -> Kept:
    """Store this document, unless it is stored, and read back what is there. `day`: from which its lock counts.

    Raises EvidenceDiffers if what is there is no document, and StoreAway and StoreRefused.
    """
    rule, name = policy.rules[RETENTION_CLASS], key(kind, document_id)
    wanted = Lock(rule.mode, rule.until(day))
    lock = Lock(rule.mode, rule.until(max(day, today)))
    new = store.put_once(name, body, lock, rule.storage, content_type="application/pdf")
    stored = store.get(name)
    if (problem := pdf.problem(stored.body)) is not None or (new and stored.body != body):
        raise EvidenceDiffers(name, f"it is not what was stored ({problem or 'other bytes'})")
    has = stored.lock or store.lock(name, stored.version)
    if has is None or not has.holds(wanted):
        # Written under an older policy, with a shorter lock. S3 makes a lock longer, and never shorter.
        store.extend(name, stored.version, lock)
        has = store.lock(name, stored.version)
    if has is None or not has.holds(wanted):
        raise EvidenceDiffers(name, f"it is not locked as it must be ({wanted.mode} until {wanted.until:%Y-%m-%d})")
    return Kept(name, stored.version, stored.sha256, len(stored.body), has, new)


def read(store: Store, key: str, version: str, *, sha256: str) -> bytes:
    """This version, checked. Raises EvidenceDiffers if its bytes are others, or it is gone."""
    found = store.get(key, version)
    if found.sha256 != sha256:
        raise EvidenceDiffers(key, f"its bytes have SHA-256 {found.sha256}, and not {sha256}, as Postgres says")
    return found.body
