"""The ledger: every movement of money, and the payouts to the bank."""

from stripe_standin.call import Route, Routes

from . import balance, payouts

ROUTES: Routes = {
    "GET /v1/balance": Route(balance.BALANCE, balance.balance),
    "GET /v1/balance_transactions": Route(balance.LIST, balance.list_),
    "GET /v1/balance_transactions/{id}": Route(balance.GET, balance.get),
    "GET /v1/payouts": Route(payouts.LIST, payouts.list_),
    "GET /v1/payouts/{id}": Route(payouts.GET, payouts.get),
}
