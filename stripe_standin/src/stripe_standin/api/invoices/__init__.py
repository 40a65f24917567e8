"""Invoices: drafts and their lines, collection, payments, credit notes."""

from stripe_standin.call import Route, Routes

from . import attaching, collection, credit_notes, drafts, items, lines, payments, previews

ROUTES: Routes = {
    "POST /v1/invoices": Route(drafts.CREATE, drafts.create),
    "GET /v1/invoices": Route(drafts.LIST, drafts.list_),
    "POST /v1/invoices/create_preview": Route(previews.CREATE, previews.create),
    "GET /v1/invoices/{id}": Route(drafts.GET, drafts.get),
    "POST /v1/invoices/{id}": Route(drafts.UPDATE, drafts.update),
    "DELETE /v1/invoices/{id}": Route(drafts.DELETE, drafts.delete),
    "GET /v1/invoices/{id}/lines": Route(lines.LINES, lines.lines),
    "POST /v1/invoices/{id}/lines/{id}": Route(lines.UPDATE_LINE, lines.update_line),
    "POST /v1/invoices/{id}/add_lines": Route(lines.ADD_LINES, lines.add_lines),
    "POST /v1/invoices/{id}/update_lines": Route(lines.UPDATE_LINES, lines.update_lines),
    "POST /v1/invoices/{id}/remove_lines": Route(lines.REMOVE_LINES, lines.remove_lines),
    "POST /v1/invoices/{id}/finalize": Route(collection.FINALIZE, collection.finalize),
    "POST /v1/invoices/{id}/pay": Route(collection.PAY, collection.pay),
    "POST /v1/invoices/{id}/attach_payment": Route(attaching.ATTACH, attaching.attach),
    "POST /v1/invoices/{id}/send": Route(collection.SEND, collection.send),
    "POST /v1/invoices/{id}/void": Route(collection.VOID, collection.void),
    "POST /v1/invoices/{id}/mark_uncollectible": Route(collection.MARK_UNCOLLECTIBLE, collection.mark_uncollectible),
    "POST /v1/invoiceitems": Route(items.CREATE, items.create),
    "GET /v1/invoiceitems": Route(items.LIST, items.list_),
    "GET /v1/invoiceitems/{id}": Route(items.GET, items.get),
    "POST /v1/invoiceitems/{id}": Route(items.UPDATE, items.update),
    "DELETE /v1/invoiceitems/{id}": Route(items.DELETE, items.delete),
    "GET /v1/invoice_payments": Route(payments.LIST, payments.list_),
    "GET /v1/invoice_payments/{id}": Route(payments.GET, payments.get),
    "POST /v1/credit_notes": Route(credit_notes.CREATE, credit_notes.create),
    "GET /v1/credit_notes": Route(credit_notes.LIST, credit_notes.list_),
    "GET /v1/credit_notes/preview": Route(credit_notes.CREATE, credit_notes.preview),
    "GET /v1/credit_notes/{id}": Route(credit_notes.GET, credit_notes.get),
    "POST /v1/credit_notes/{id}": Route(credit_notes.UPDATE, credit_notes.update),
    "GET /v1/credit_notes/{id}/lines": Route(credit_notes.LINES, credit_notes.lines),
    "POST /v1/credit_notes/{id}/void": Route(credit_notes.VOID, credit_notes.void),
}
