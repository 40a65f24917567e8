"""A document among the moves of `deaths.py`: a process may also die around each call to the host of its PDF, and to the
bucket. In the end there is one object, and one row that says what it is.
"""

from deaths import Move
from keeping import finalized, keeping, objects, row_of
from service import Service

from archive.s3.store import Store


def document(store: Store) -> Move:
    """The document of an invoice, which goes into this bucket."""

    def ask(service: Service) -> str:
        (document,) = finalized(service)
        return document

    def stored_once(service: Service, document: str) -> None:
        row, key = row_of(service, document), f"documents/invoice_pdf/{document}.pdf"
        there = store.get(key)
        assert (row.object_key, row.object_version, row.sha256) == (key, there.version, there.sha256)
        assert row.size_bytes == len(there.body)
        assert objects(store).count(key) == 1, "every version of an object is listed"
        told = service.topics(document)
        assert (told.count("stored"), told[-1]) == (1, "stored"), told

    return Move(
        "document",
        *("documents", ask, "stored", stored_once, ("^/files/.*",)),
        method="GET",
        gateway=lambda service: keeping(service, store),
    )
