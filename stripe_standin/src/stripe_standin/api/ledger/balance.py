"""The ledger: an entry, with Stripe's fee, for every movement of money.

Sources: docs.stripe.com/payments/balances (pending, then available), stripe.com/pricing (the fee).
"""

from stripe_standin.call import Call
from stripe_standin.expansion import paths
from stripe_standin.lists import page
from stripe_standin.objects import BalanceTransaction, Json, shown
from stripe_standin.objects.balance import balance as balance_shown
from stripe_standin.parameters import PAGE, Table, currency, expand, moment, text

from .payouts import pay_out

DAY = 86_400
# Two days later at midnight UTC, weekends like any other day. Stripe counts business days, in some countries more.
SETTLES_AFTER_DAYS = 2
# Cards in the US, at Stripe's public price: 2.9 % and 30 cents for each capture, half a cent rounded up. For
# other currencies the smallest unit counts as the cent.
FEE_PER_MILLE, FEE_FIXED = 29, 30

BALANCE = Table({"expand": expand()})
GET = Table({"expand": expand(*paths("balance_transaction"))})
LIST = Table(
    {
        **PAGE,
        "created": moment,
        "currency": currency,
        "payout": text,
        "source": text,
        "type": text,
        "expand": expand(*paths("balance_transaction", data=True)),
    }
)


def fee_of(amount: int) -> int:
    """Stripe's fee for a capture, in minor units. A refund does not give it back (docs: refunds)."""
    return (amount * FEE_PER_MILLE + 500) // 1000 + FEE_FIXED


def enter(
    call: Call, kind: str, amount: int, currency: str, source: str, *, fee: int = 0, entry_id: str, why: str | None
) -> BalanceTransaction:
    """Note that `amount` (minor units, signed) moved. It becomes available in two days, and goes out with a payout."""
    books = call.books
    available_on = (call.now // DAY + SETTLES_AFTER_DAYS) * DAY
    entry = BalanceTransaction(
        entry_id, call.now, books.livemode, kind, amount, fee, currency, source, available_on, description=why
    )
    books.balance_transactions.put(entry)
    books.unpaid.setdefault(currency, []).append(entry_id)
    if available_on > books.payday:
        books.payday = available_on
        call.world.agenda.note(available_on, pay_out, books, "")
    return entry


def balance(call: Call) -> Json:
    """The balance: always computed from the entries that have not been paid out."""
    books = call.books
    # The account's own currency is shown even if its balance is zero.
    sums = {"available": {"usd": 0}, "pending": {"usd": 0}}
    for entries in books.unpaid.values():
        for entry_id in entries:
            entry = books.balance_transactions.get(entry_id)
            if entry is not None:
                amounts = sums[entry.status]
                amounts[entry.currency] = amounts.get(entry.currency, 0) + entry.net
    return balance_shown(books.livemode, sums)


def get(call: Call) -> Json:
    return shown(call.books.find(call.books.balance_transactions, call.ids[0], "id"))


def list_(call: Call) -> Json:
    """With `payout`: the entries that went out in it, and the payout's own, whose amount is their negative sum.

    Source: a reply of Stripe quoted at github.com/airbytehq/airbyte/pull/46499.
    """
    filters = ("currency", "payout", "source", "type")
    return page(call.books.balance_transactions, call.params, "/v1/balance_transactions", *filters)
