"""The heads of one day, as they are published: which manifest of each class was the newest, and its digest.

    {"date":"2026-11-29","environment":"production","format":"billing-archive-heads/1","heads":{"capture":[12,"5f…"]},…}
    {"algorithm":"ed25519","key_id":"5c9a0b1d2e3f4a5b","signature":"…"}

Kept where the archive cannot write, they show that a chain was cut off or written anew, even by somebody with the key.
"""

import re
from dataclasses import asdict, dataclass, field, replace
from datetime import date
from typing import Any

from archive.errors import EvidenceDiffers
from archive.format import sealed
from archive.format.manifests import Source
from archive.policy.retention import CLASSES
from archive.signing.signatures import Signature, Signer

FORMAT = "billing-archive-heads/1"
PREFIX = "heads/"


@dataclass(frozen=True, slots=True)
class HeadsOfDay:
    """`heads`: the number and the digest of the newest manifest, by class. It is made on `date` (UTC)."""

    date: str
    environment: str
    installation: str
    heads: dict[str, list[Any]]
    key_id: str | None = None
    """The key that signed it; None if no key was set."""
    signature: Signature | None = field(default=None, compare=False)

    @property
    def source(self) -> Source:
        return Source(self.environment, self.installation)

    def line(self) -> bytes:
        content = asdict(self)
        del content["signature"]
        return sealed.line({"format": FORMAT, **content})

    def body(self) -> bytes:
        """The document."""
        return sealed.body(self.line(), self.signature)

    def signed(self, signer: Signer) -> "HeadsOfDay":
        """Raises what `Signer.sign` raises."""
        mine = replace(self, key_id=signer.key_id)
        return replace(mine, signature=signer.sign(mine.line()))


def key(document: HeadsOfDay) -> str:
    """Where it lies in a bucket that several installations may share."""
    return f"{prefix(document.source)}{document.date}.json"


def prefix(source: Source) -> str:
    return f"{PREFIX}{source.environment}/{source.installation}/"


def file_name(document: HeadsOfDay) -> str:
    return f"billing-heads-{document.environment}-{document.installation}-{document.date}.json"


def read(where: str, body: bytes) -> HeadsOfDay:
    """Parse a document. Raises EvidenceDiffers if it is none. The signature is not checked here."""
    try:
        values, signature = sealed.read(body)
        shaped = values.pop("format") == FORMAT
        document = HeadsOfDay(**values, signature=signature)
        shaped = shaped and _has_its_shape(document)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise EvidenceDiffers(where, "not a document of heads") from None
    if not shaped:
        raise EvidenceDiffers(where, "not a document of heads: another format, or a field of another type or form")
    return document


def _has_its_shape(document: HeadsOfDay) -> bool:
    """May raise any of the errors that `read` catches, if a field has another type."""
    return (
        date.fromisoformat(document.date).isoformat() == document.date
        and type(document.environment) is type(document.installation) is str
        and (document.key_id is None or type(document.key_id) is str)
        and document.heads.keys() <= CLASSES.keys()
        and all(
            type(number) is int and type(digest) is str and re.fullmatch("[0-9a-f]{64}", digest)
            for number, digest in document.heads.values()
        )
    )
