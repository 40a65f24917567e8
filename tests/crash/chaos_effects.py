"""What really happened in a chaos: each thing that was asked for has one effect, and nothing else has any."""

from collections import Counter
from pathlib import Path

from chaos_asking import CREDITED, Asking
from chaos_ends import documents_of, emails_of_invoices
from command import in_a_process
from keeping import objects
from service import Service
from sqlalchemy import select

from archive.s3.store import Store
from billing import database
from billing.tables.credit_notes import CreditNote
from billing.tables.documents import Document
from billing.tables.entities import Capture, Invoice, Void

EXPORTS = ("archive", "stripe", "ours")


def compare_payments(service: Service, asking: Asking) -> None:
    """Captures, voids, refunds, and charges of invoices."""
    taken = Counter((effect["id"], effect["amount"]) for effect in service.effects("capture"))
    with database.transaction(service.engine) as session:
        intents = session.scalars(select(Capture.payment_intent).where(Capture.id.in_(asking.of("cap")))).all()
        voided = session.scalars(select(Void.payment_intent).where(Void.id.in_(asking.of("void")))).all()
    in_full = [(intent, 1999) for intent in intents if intent not in asking.parts]
    in_parts = [(intent, amount) for intent, amounts in asking.parts.items() for amount in amounts]
    charged = _charged(service)
    assert len(charged) == len(asking.charged())
    assert taken == Counter([*in_full, *in_parts, *charged])
    canceled = Counter(effect["id"] for effect in service.effects("payment_intent.canceled"))
    # Stripe itself cancels the intent of an invoice that is paid otherwise.
    assert {each: canceled[each] for each in (*intents, *voided) if each in canceled} == dict.fromkeys(voided, 1)
    given_back = Counter(effect["metadata"].get("billing_operation") for effect in service.effects("refund"))
    assert given_back == Counter(asking.of("ref"))


def _charged(service: Service) -> list[tuple[str, int]]:
    """What was charged for invoices: each payment intent, and its amount."""
    payments = service.read_list("/v1/invoice_payments", status="paid")
    paid = [(each["payment"].get("payment_intent"), each["amount_paid"]) for each in payments]
    return [(str(intent), amount) for intent, amount in paid if intent is not None]


def compare_invoices(service: Service, asking: Asking) -> None:
    """Each is finalized once and sent once, by Stripe or by us; and what was asked to be done with it was done once."""
    invoices = asking.of("inv")
    at_stripe = {each: str(service.row(Invoice, each).stripe_invoice) for each in invoices}

    def once(effect: str, *of: str) -> None:
        found = Counter(each["id"] for each in service.effects(effect))
        assert found == Counter(at_stripe[each] for each in of), effect

    once("invoice.finalized", *invoices)
    by_us = emails_of_invoices(service)
    assert by_us.keys() <= set(asking.to_send)
    once("invoice.sent", *(set(asking.to_send) - by_us.keys()))
    once("invoice.voided", *asking.acted["void_invoice"])
    once("invoice.marked_uncollectible", *asking.acted["mark_invoice_uncollectible"])
    by_customers = [each for each in asking.to_send if asking.ends[each] == "sent"]
    once("invoice.paid_out_of_band", *asking.acted["mark_invoice_paid"], *asking.of_captures, *by_customers)
    credited = service.effects("credit_note.created")
    assert Counter(each["metadata"].get("billing_operation") for each in credited) == Counter(asking.of("crn"))
    assert {each["amount"] for each in credited} == {CREDITED}
    voided = Counter(each["id"] for each in service.effects("credit_note.voided"))
    assert voided == Counter(service.row(CreditNote, each).stripe_credit_note for each in asking.voided_notes)
    print(f"{len(by_us)} of {len(asking.to_send)} invoices were e-mailed by us")


def compare_documents(service: Service, asking: Asking, store: Store) -> None:
    """Each finalized invoice and each credit note has one, which is one object in the bucket."""
    documents: list[Document] = [service.row(Document, each) for each in documents_of(service)]
    of_invoices = Counter(each.invoice_id for each in documents if each.kind == "invoice_pdf")
    assert of_invoices == Counter(asking.of("inv"))
    notes = [service.row(CreditNote, each).stripe_credit_note for each in asking.of("crn")]
    assert Counter(each.stripe_object for each in documents if each.kind == "credit_note_pdf") == Counter(notes)
    assert sorted(objects(store)) == sorted(str(each.object_key) for each in documents)
    for each in documents:
        there = store.get(str(each.object_key))
        assert (there.version, there.sha256) == (each.object_version, each.sha256)


def prove(service: Service, directory: Path) -> None:
    for table in ("captures", "invoices", "refunds", "credit_notes"):
        # What has just ended would be too young to be compared.
        service.execute(f"UPDATE billing.{table} SET state_since = state_since - interval '10 minutes'")
    assert in_a_process(["archive", "run", "--once"]).status == 0
    files = [str(directory / f"{name}.jsonl") for name in EXPORTS]
    for name, file in zip(EXPORTS, files, strict=True):
        assert in_a_process(["export", name, file]).status == 0
    proof = in_a_process(["prove", *files])
    assert proof.status == 0, proof.out
    print(proof.out)
