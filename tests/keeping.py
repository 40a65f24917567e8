"""What tests of documents share: a bucket, the gateway to it, and finalized invoices."""

from collections.abc import Iterator
from dataclasses import replace
from uuid import uuid4

import pytest
from service import Service
from sqlalchemy import select

from archive.policy import retention_file
from archive.s3.store import Store
from bench.stored import every_version
from billing import database
from billing.tables.documents import Document
from jobs.documents.fetching import Fetcher
from jobs.documents.keeping import Keeping
from jobs.local.seaweed import SeaweedFS

MOST = 1_000_000
"""Bytes of a document in these tests."""
HOSTS = ("pay.stripe.com", "files.stripe.com")


def opened(s3: SeaweedFS, bucket: str) -> Store:
    """This bucket, with a login that may do everything."""
    return Store(bucket, endpoint=s3.url, region="us-east-1", access_key=s3.access_key, secret_key=s3.secret_key)


@pytest.fixture
def archive_bucket(s3: SeaweedFS) -> str:
    name = f"test-{uuid4().hex}"
    store = opened(s3, name)
    store.set_up("test")
    store.close()
    return name


@pytest.fixture
def store(s3: SeaweedFS, archive_bucket: str) -> Iterator[Store]:
    store = opened(s3, archive_bucket)
    yield store
    store.close()


@pytest.fixture
def keeps(service: Service) -> Service:
    """A service whose installation keeps the documents of invoices."""
    service.call_settings = replace(service.call_settings, keeps_documents=True)
    return service


def fetcher(service: Service, most: int = MOST) -> Fetcher:
    return Fetcher(HOSTS, service.stripe_api_base, most)


def keeping(service: Service, store: Store, most: int = MOST) -> Keeping:
    return Keeping(service.gateway(), fetcher(service, most), store, retention_file.load(retention_file.SHIPPED))


def document_of(service: Service, invoice: str) -> str:
    """The id of the document of this invoice."""
    with database.transaction(service.engine) as session:
        return session.scalars(select(Document.id).where(Document.invoice_id == invoice)).one()


def row_of(service: Service, document: str) -> Document:
    row: Document = service.row(Document, document)
    return row


def finalized(service: Service, count: int = 1) -> list[str]:
    """The documents, which nobody has fetched yet, of so many invoices that were sent."""
    service.call_settings = replace(service.call_settings, keeps_documents=True)
    customer = service.customer()
    invoices = [service.ask_for_invoice(customer) for _ in range(count)]
    assert service.settle(*invoices) == ["sent"] * count
    return [document_of(service, invoice) for invoice in invoices]


def objects(store: Store) -> list[str]:
    """Every version of every document in the bucket, by its key."""
    return [each.key for each in every_version(store) if each.key.startswith("documents/")]
