"""The rows of an object that was read from the bucket, after the checks that everybody who reads one needs."""

from archive.errors import EvidenceDiffers
from archive.format import records
from archive.format.records import Rows
from archive.s3.store import Stored


def rows_of(key: str, found: Stored, *, sha256: str | None, first_seq: int, last_seq: int) -> Rows:
    """Its rows in the order of their numbers. Raises EvidenceDiffers if its bytes have another digest, or if it is not
    one of our files with the facts `first_seq` to `last_seq`."""
    if found.sha256 != sha256:
        raise EvidenceDiffers(key, "its bytes are not those that were archived")
    try:
        rows = records.read(found.body)
    except ValueError as error:
        raise EvidenceDiffers(key, str(error)) from None
    if rows.column("archive_seq").to_pylist() != list(range(first_seq, last_seq + 1)):
        raise EvidenceDiffers(key, f"it has other rows than facts {first_seq} to {last_seq}")
    return rows
