"""A document of the archive: one line of canonical JSON and, if it is signed, a second line with the signature.

    {"format":"billing-archive-manifest/2", … }
    {"algorithm":"ed25519","key_id":"5c9a0b1d2e3f4a5b","signature":"…"}

The signature and the digest are over the first line with its newline. So the digest does not depend on which of two
valid signatures a document has: ECDSA makes another one each time.
"""

import hashlib
import json
from dataclasses import asdict
from typing import Any

from archive.format import records
from archive.signing.signatures import Signature


def line(content: dict[str, Any]) -> bytes:
    """The first line: everybody writes the same bytes for the same content."""
    return (records.canonical(content) + "\n").encode()


def body(first: bytes, signature: Signature | None) -> bytes:
    """The whole document."""
    return first if signature is None else first + line(asdict(signature))


def digest(document: bytes) -> str:
    """The SHA-256 of its first line, with the newline."""
    return hashlib.sha256(_first(document)).hexdigest()


def read(document: bytes) -> tuple[dict[str, Any], Signature | None]:
    """Its content and its signature, which nobody has checked yet. None if there is no second line.

    Raises ValueError, TypeError, KeyError, AttributeError or RecursionError if it is no such document.
    """
    first = _first(document)
    content: dict[str, Any] = json.loads(first)
    signature = Signature(**json.loads(document[len(first) :])) if len(document) > len(first) else None
    if signature is not None and not all(type(value) is str for value in asdict(signature).values()):
        raise ValueError("a signature of other types")
    if body(line(content), signature) != document:
        raise ValueError("not in its one canonical form")
    return content, signature


def _first(document: bytes) -> bytes:
    end = document.find(b"\n")
    return document if end < 0 else document[: end + 1]
