"""Payouts: every day what has become available goes to the bank, one payout for each currency."""

from stripe_standin.call import Call
from stripe_standin.expansion import paths
from stripe_standin.lists import bounds, page
from stripe_standin.objects import BalanceTransaction, Json, Payout, shown
from stripe_standin.parameters import PAGE, Table, expand, moment, one_of

DAY = 86_400
ARRIVES_AFTER = DAY  # decided here: a bank takes one to three business days

GET = Table({"expand": expand(*paths("payout"))})
LIST = Table(
    {
        **PAGE,
        "arrival_date": moment,
        "created": moment,
        "status": one_of("pending", "in_transit", "paid", "failed", "canceled"),
        "expand": expand(*paths("payout", data=True)),
    }
)


def pay_out(call: Call) -> None:
    """At midnight, entries that are due become available and are paid out, if their sum is positive."""
    books = call.books
    entries = books.balance_transactions
    for currency, unpaid in books.unpaid.items():
        due: list[BalanceTransaction] = []
        later: list[str] = []
        for entry_id in unpaid:
            entry = entries.get(entry_id)
            if entry is not None and entry.available_on <= call.now:
                due.append(entry)
            else:
                later.append(entry_id)
        total = sum(entry.net for entry in due)
        payout = _sent(call, currency, total) if total > 0 else None
        for entry in due:
            entries.put(entry._replace(status="available", payout=payout.id if payout else None))
        if payout is not None:
            books.unpaid[currency] = later


def arrive(call: Call) -> None:
    """The payout has arrived at the bank."""
    payout = call.books.payouts.get(call.ids[0])
    if payout is not None:
        call.event("payout.paid", call.books.payouts.put(payout._replace(status="paid")))


def get(call: Call) -> Json:
    return shown(call.books.find(call.books.payouts, call.ids[0], "payout"))


def list_(call: Call) -> Json:
    first, last = bounds(call.params.get("arrival_date"))
    return page(
        call.books.payouts,
        call.params,
        "/v1/payouts",
        "status",
        where=lambda payout: first <= payout.arrival_date <= last,
    )


def _sent(call: Call, currency: str, amount: int) -> Payout:
    books = call.books
    payout = Payout(
        id=call.world.new_id("po"),
        created=call.now,
        livemode=books.livemode,
        amount=amount,
        currency=currency,
        arrival_date=call.now + ARRIVES_AFTER,
        balance_transaction=call.world.new_id("txn"),
    )
    books.balance_transactions.put(
        BalanceTransaction(
            payout.balance_transaction,
            call.now,
            books.livemode,
            "payout",
            -amount,
            0,
            currency,
            payout.id,
            call.now,
            status="available",
            payout=payout.id,
            description="STRIPE PAYOUT",
        )
    )
    books.payouts.put(payout)
    call.world.agenda.note(payout.arrival_date, arrive, books, payout.id)
    call.event("payout.created", payout)
    call.event("payout.reconciliation_completed", payout)
    call.effect("payout", payout, amount)
    return payout
