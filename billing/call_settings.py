"""With what a process calls the provider, and what it begins beside the calls."""

from collections.abc import Callable
from dataclasses import dataclass

from billing.timing import Timing


@dataclass(frozen=True, slots=True)
class CallSettings:
    """The name, mode and timing with which this process calls the provider."""

    service: str
    environment: str
    livemode: bool
    api_version: str
    timing: Timing
    own_account: str | None = None
    """The provider's id of our own account: a key of another one gets 404 for everything that is ours."""
    mails_invoices: Callable[[str | None], bool] = lambda _account: False
    """Whether this service e-mails the invoices of this account, and not Stripe (`billing.invoice_emails`)."""
    mails_receipts: Callable[[str | None], bool] = lambda _account: False
    """Whether this service sends receipts for captures and refunds of this account (`billing.receipts`)."""
    keeps_documents: bool = False
    """Whether the documents of invoices are kept (`billing.documents`)."""
