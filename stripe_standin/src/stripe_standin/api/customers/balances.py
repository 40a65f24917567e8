"""A customer's balance: the credit or debt until the next invoice, and the ledger that adds up to it.

Below zero it is the customer's credit (docs.stripe.com/billing/customer/balance). Decided here: a customer has a
balance in one currency, that of its first change.
"""

from stripe_standin import errors
from stripe_standin.call import Call
from stripe_standin.expansion import paths
from stripe_standin.lists import page
from stripe_standin.objects import NO_METADATA, BalanceChange, Customer, Json, shown
from stripe_standin.parameters import PAGE, Table, currency, expand, line_amount, merged, metadata, moment, text

_expand = expand(*paths("customer_balance_transaction"))
CREATE = Table(
    {"amount": line_amount, "currency": currency, "description": text, "metadata": metadata, "expand": _expand},
    required=("amount", "currency"),
)
GET = Table({"expand": _expand})
LIST = Table(
    {
        **PAGE,
        "created": moment,
        "invoice": text,
        "expand": expand(*paths("customer_balance_transaction", data=True)),
    }
)


def move(
    call: Call,
    customer_id: str,
    amount: int,
    money: str,
    kind: str,
    *,
    invoice: str | None = None,
    credit_note: str | None = None,
    description: str | None = None,
    labels: dict[str, str] = NO_METADATA,
) -> BalanceChange:
    """Add `amount` (minor units; a credit is below zero) to the balance, and to its ledger."""
    books = call.books
    customer = books.find(books.customers, customer_id, "customer", status=400)
    if not holds(customer, money):
        raise errors.wrong_state(f"The balance of this customer is in {customer.currency}.", param="currency")
    customer = books.customers.put(customer._replace(balance=customer.balance + amount, currency=money))
    change = books.balance_changes.put(
        BalanceChange(
            id=call.world.new_id("cbtxn"),
            created=call.now,
            livemode=books.livemode,
            customer=customer_id,
            amount=amount,
            currency=money,
            ending_balance=customer.balance,
            type=kind,
            invoice=invoice,
            credit_note=credit_note,
            description=description,
            metadata=labels,
        )
    )
    call.event("customer.updated", customer)
    call.effect("customer_balance", change, amount)
    return change


def holds(customer: Customer, money: str) -> bool:
    """Whether the customer's balance is in this currency, or has none yet."""
    return customer.currency in (None, money)


def create(call: Call) -> Json:
    asked = call.params
    customer = call.books.find(call.books.customers, call.ids[0], "customer")
    labels = merged(NO_METADATA, asked.get("metadata"))
    change = move(
        call,
        customer.id,
        asked["amount"],
        asked["currency"],
        "adjustment",
        description=asked.get("description"),
        labels=labels,
    )
    return shown(change)


def get(call: Call) -> Json:
    customer_id, change_id = call.ids
    change = call.books.find(call.books.balance_changes, change_id, "transaction")
    if change.customer != customer_id:
        raise errors.no_such("customer balance transaction", change_id, "transaction")
    return shown(change)


def list_(call: Call) -> Json:
    customer = call.books.find(call.books.customers, call.ids[0], "customer")
    return page(
        call.books.balance_changes,
        call.params,
        f"/v1/customers/{customer.id}/balance_transactions",
        "invoice",
        where=lambda change: change.customer == customer.id,
    )
