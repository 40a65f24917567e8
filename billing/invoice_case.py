"""An invoice in hand: its paths at Stripe, whether an object or an event there is its own, and how its row moves on."""

from collections.abc import Mapping
from typing import Any

from billing.differences import because
from billing.facts import told
from billing.provider_ids import IdKind, is_id, object_path
from billing.steps import METADATA_KEY, Case, Json, Reader, Unread, see
from billing.tables import Fact, Invoice, InvoiceState


def invoice_of(case: Case) -> Invoice:
    assert isinstance(case.row, Invoice)
    return case.row


def path_of(case: Case, *verb: str) -> str:
    return object_path(IdKind.INVOICE, invoice_of(case).stripe_invoice, *verb)


def named(invoice_id: object) -> str:
    """The id by which Stripe named an invoice. Raises Unread where it is none: the look is not finished."""
    if not is_id(IdKind.INVOICE, invoice_id):
        raise Unread(None, "the provider named an invoice by what is no invoice's id")
    return str(invoice_id)


def is_ours(case: Case, invoice: Json) -> bool:
    metadata = invoice.get("metadata")
    return isinstance(metadata, Mapping) and metadata.get(METADATA_KEY) == invoice_of(case).id


def read_invoice(case: Case, read: Reader, livemode: bool) -> Json:
    return see(read, path_of(case), ("invoice", str(invoice_of(case).stripe_invoice)), livemode=livemode)


def move(case: Case, state: InvoiceState, topic: str, **payload: Any) -> list[Fact]:
    row = invoice_of(case)
    row.state = state
    return [told(row, topic, stripe_invoice=row.stripe_invoice, **payload)]


def refuse(case: Case, why: str) -> list[Fact]:
    invoice_of(case).reason = why
    return move(case, InvoiceState.REFUSED, "refused", **because(why))


def differ(case: Case, why: str, theirs: object = None) -> list[Fact]:
    """The draft is ours and of no use: it is deleted before the invoice counts as refused."""
    row = invoice_of(case)
    row.reason = why
    money = {"minor": row.total_minor, "theirs": theirs}
    return move(case, InvoiceState.LINES_DIFFER, "lines_differ", **money, **because(why))


def key_of(event: Json) -> str | None:
    request = event.get("request")
    key = request.get("idempotency_key") if isinstance(request, Mapping) else None
    return key if isinstance(key, str) else None


def object_of(event: Json) -> str:
    data = event.get("data")
    subject = data.get("object") if isinstance(data, Mapping) else None
    return str(subject.get("id")) if isinstance(subject, Mapping) else ""
