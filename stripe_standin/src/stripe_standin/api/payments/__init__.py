"""PaymentIntents and charges: authorized, captured, released, refunded."""

from stripe_standin.call import Route, Routes

from . import captures, charges, intents, refunds

ROUTES: Routes = {
    "POST /v1/payment_intents": Route(intents.CREATE, intents.create),
    "GET /v1/payment_intents": Route(intents.LIST, intents.list_),
    "GET /v1/payment_intents/{id}": Route(intents.GET, intents.get),
    "POST /v1/payment_intents/{id}": Route(intents.UPDATE, intents.update),
    "POST /v1/payment_intents/{id}/confirm": Route(intents.CONFIRM, intents.confirm),
    "POST /v1/payment_intents/{id}/capture": Route(captures.CAPTURE, captures.capture),
    "POST /v1/payment_intents/{id}/cancel": Route(captures.CANCEL, captures.cancel),
    "GET /v1/charges": Route(charges.LIST, charges.list_),
    "GET /v1/charges/{id}": Route(charges.GET, charges.get),
    "POST /v1/refunds": Route(refunds.CREATE, refunds.create),
    "GET /v1/refunds": Route(refunds.LIST, refunds.list_),
    "GET /v1/refunds/{id}": Route(refunds.GET, refunds.get),
    "POST /v1/refunds/{id}": Route(refunds.UPDATE, refunds.update),
    "POST /v1/refunds/{id}/cancel": Route(refunds.CANCEL, refunds.cancel),
}
