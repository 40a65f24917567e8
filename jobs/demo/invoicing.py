"""Act 2: one invoice, from the capture that it is for to the e-mail that its customer would get. Its document is shown
in the fifth act, with the other evidence.

The document and the e-mail's page are left in the temporary directory, to be looked at.
"""

import os
import tempfile
from importlib.util import find_spec
from pathlib import Path

from sqlalchemy.orm import Session

import billing
from billing import database
from billing.errors import UnknownEntity
from billing.states import CaptureState, DocumentState, InvoiceState
from billing.tables.entities import Invoice
from jobs.demo.shopping import Shop
from jobs.demo.stage import Stage
from jobs.process.patience import patiently


def left_behind(what: str) -> Path:
    """Where a file of the demo stays, such as `email.html`: one for each user of this machine."""
    return Path(tempfile.gettempdir()) / f"billing-demo-{os.getuid()}-{what}"


def play(stage: Stage, shop: Shop) -> str:
    """Returns the invoice."""
    stage.title("2. One invoice, from its capture to its e-mail")
    paid = f"{stage.tag}-paid"
    asked = ("--amount", "4500", "--currency", "USD", "--request-id", paid, "--wait")
    taken = stage.begin("capture", "--payment-intent", shop.card(4500), *asked)
    capture = stage.ends(taken, CaptureState.CAPTURED, "a customer has paid")
    words = ("--customer", shop.customer(), "--description", "Order 42, 3 seats", "--at-once", "--wait")
    issued = stage.begin("invoice", "capture", capture, *words)
    invoice = stage.ends(issued, InvoiceState.PAID, "the invoice for it: finalized, and paid already by the capture")
    if find_spec("jinja2") is None:
        stage.say("no e-mail is shown, because the extra `email` is not installed")
    else:
        page = str(left_behind("email.html"))
        preview = ("email", "preview", "invoice", "--of", at_stripe(stage, invoice), "--to-file", page)
        stage.operate(*preview, kind="worker", why="what the customer would get by e-mail, as a page to look at")
    return invoice


def show_document(stage: Stage, invoice: str) -> None:
    """A worker has fetched it by itself meanwhile."""

    def stored(session: Session) -> bool:
        try:
            return billing.document(session, invoice).state == DocumentState.STORED
        except UnknownEntity:
            return False

    stage.until(lambda: patiently(stage.runtime, stored), "the document to be stored")
    kept = left_behind("invoice.pdf")
    kept.unlink(missing_ok=True)  # of an earlier demo; the command replaces no file
    fetch = ("document", "get", invoice, "--to-file", str(kept))
    stage.operate(*fetch, kind="reader", why="the invoice's document: fetched from Stripe, and locked here for years")


def at_stripe(stage: Stage, invoice: str) -> str:
    """Stripe's id of it."""
    with database.transaction(stage.runtime.engine) as session:
        return str(session.get_one(Invoice, invoice).stripe_invoice)
