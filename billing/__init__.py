"""Payment capture and invoicing that cannot take money twice, and can prove it.

    with Session(engine) as session, session.begin():
        receipt = billing.request_capture(session, payment_intent="pi_…", amount=billing.Money(1999, "USD"),
                                          request_id="order-42")

A request is a row in the caller's own transaction; workers carry it out later. This is the whole public API for
applications; operators use the `billing` command.
"""

# `import X as X` tells a type checker that X is public.
#
# `billing.status` and `billing.changes` are the functions. Python binds a module to its name in the package only when
# the module is loaded, and that has happened by the time the function is bound here: `import billing.status` later on
# changes nothing.
from billing.admission import admit as admit
from billing.capture_requests import Authorization as Authorization
from billing.capture_requests import CaptureReceipt as CaptureReceipt
from billing.capture_requests import request_capture as request_capture
from billing.capture_terms import CaptureTerms as CaptureTerms
from billing.changes import Change as Change
from billing.changes import Changes as Changes
from billing.changes import changes as changes
from billing.credit_note_requests import CreditNoteReceipt as CreditNoteReceipt
from billing.credit_note_requests import issue_credit_note as issue_credit_note
from billing.creditable import CreditLine as CreditLine
from billing.documents import DocumentStatus as DocumentStatus
from billing.documents import document as document
from billing.emails import EmailReceipt as EmailReceipt
from billing.emails import request_email as request_email
from billing.errors import AuthorizationTaken as AuthorizationTaken
from billing.errors import BillingError as BillingError
from billing.errors import InvalidAmount as InvalidAmount
from billing.errors import InvalidCurrency as InvalidCurrency
from billing.errors import InvalidRequest as InvalidRequest
from billing.errors import InvalidText as InvalidText
from billing.errors import InvoicedOtherwise as InvoicedOtherwise
from billing.errors import MoreThanCaptured as MoreThanCaptured
from billing.errors import MoreThanInvoiced as MoreThanInvoiced
from billing.errors import NoLongerOpen as NoLongerOpen
from billing.errors import NotCaptured as NotCaptured
from billing.errors import NotFinalized as NotFinalized
from billing.errors import NotIssued as NotIssued
from billing.errors import NotOpen as NotOpen
from billing.errors import NotOurPayment as NotOurPayment
from billing.errors import NotPaid as NotPaid
from billing.errors import PossibleCardNumber as PossibleCardNumber
from billing.errors import RequestReused as RequestReused
from billing.errors import TooBusy as TooBusy
from billing.errors import UnknownCursor as UnknownCursor
from billing.errors import UnknownEntity as UnknownEntity
from billing.errors import WrongDatabase as WrongDatabase
from billing.errors import WrongEngine as WrongEngine
from billing.errors import WrongSession as WrongSession
from billing.invoice_action_requests import InvoiceActionReceipt as InvoiceActionReceipt
from billing.invoice_action_requests import mark_invoice_paid as mark_invoice_paid
from billing.invoice_action_requests import mark_invoice_uncollectible as mark_invoice_uncollectible
from billing.invoice_action_requests import pay_invoice as pay_invoice
from billing.invoice_action_requests import void_credit_note as void_credit_note
from billing.invoice_action_requests import void_invoice as void_invoice
from billing.invoice_captures import InvoicedCaptureReceipt as InvoicedCaptureReceipt
from billing.invoice_captures import invoice_capture as invoice_capture
from billing.invoice_lines import Line as Line
from billing.invoice_lines import UnitAmount as UnitAmount
from billing.invoice_requests import InvoiceReceipt as InvoiceReceipt
from billing.invoice_requests import issue_invoice as issue_invoice
from billing.invoice_terms import AlreadyPaid as AlreadyPaid
from billing.invoice_terms import ChargeAutomatically as ChargeAutomatically
from billing.invoice_terms import InvoiceTerms as InvoiceTerms
from billing.invoice_terms import SendInvoice as SendInvoice
from billing.many import request_many as request_many
from billing.money import Money as Money
from billing.refund_requests import RefundReceipt as RefundReceipt
from billing.refund_requests import compensate as compensate
from billing.refund_requests import request_refund as request_refund
from billing.status import Status as Status
from billing.status import status as status
from billing.voids import VoidReceipt as VoidReceipt
from billing.voids import request_void as request_void
from billing.waiting import NotFinal as NotFinal
from billing.waiting import wait as wait
from billing.waiting import wait_async as wait_async
