"""Heads that were published earlier: read them, check who signed them, and expect the chain to contain them."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from archive.errors import BadHeads, EvidenceDiffers
from archive.format import heads
from archive.format.manifests import Source
from archive.signing.keyring import Keyring
from archive.verifying.findings import Finding, Heads

Documents = Iterable[tuple[str, bytes]]
"""Each document, with where it is."""


def from_files(paths: Iterable[Path], source: Source) -> list[tuple[str, bytes]]:
    """The documents in these files, and in the `.json` files of these directories.

    A directory may also hold those of other installations, which are left out. Raises BadHeads if a file cannot be
    read or holds no document of this installation, or a directory holds none.
    """
    found: list[tuple[str, bytes]] = []
    for path in paths:
        try:
            files = sorted(path.glob("*.json")) if path.is_dir() else [path]
            documents = [(str(file), file.read_bytes()) for file in files]
            ours = [(where, body) for where, body in documents if heads.read(where, body).source == source]
        except OSError as error:
            raise BadHeads(f"{path}: {error.strerror}; name a file or a directory of published heads") from None
        except EvidenceDiffers as error:
            raise BadHeads(f"{error}; name a file or a directory of published heads") from None
        if not ours:
            raise BadHeads(f"{path}: no heads of {source.environment}, installation {source.installation}")
        found += ours
    return found


def expect(kept: Heads, documents: Documents, source: Source, keys: Keyring, *, elsewhere: bool) -> Iterator[Finding]:
    """Keep every head of these documents; a finding for a document that is none, or that nobody known has signed.

    `elsewhere`: whether they come from where the archive cannot write.
    """
    for where, body in documents:
        try:
            document = heads.read(where, body)
        except EvidenceDiffers as error:
            yield Finding(where, None, "a document of heads", error.what)
            continue
        if document.source != source:
            yield Finding(where, None, "heads of this installation", f"those of {document.source.installation}")
            continue
        if document.key_id is not None and (
            trouble := keys.trouble(document.key_id, document.signature, document.line())
        ):
            yield Finding(where, None, f"a signature by key {document.key_id}", trouble)
        for name, (_, digest) in document.heads.items():
            kept.keep(name, digest, f"the head of {document.date} in {where}", elsewhere=elsewhere)
