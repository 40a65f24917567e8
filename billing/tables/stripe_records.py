"""What Stripe's own records say of money: a mirror of its ledger and of its invoices, and how far it was read."""

from datetime import datetime

from sqlalchemy import CheckConstraint, Index, String, text
from sqlalchemy.orm import Mapped, mapped_column

from billing.tables.schema import Table


class StripeRecord(Table):
    """One object as Stripe last showed it, with ids, amounts and states only: nothing about a person.

    `object` is Stripe's word for what it is: `balance_transaction` (an entry of the ledger), `charge`, `refund`,
    `payout`, `invoice`, `invoice_payment` once it is paid, `credit_note`, `payment_intent` for one that was canceled,
    or `event` for the end of an invoice, with the state that it had then. Amounts are in minor units. `account` is
    `own` for the account of our own key.
    """

    __tablename__ = "stripe_records"
    __table_args__ = (
        # No foreign key leads from here to an operation: that one is missing is what is looked for.
        Index("stripe_records_by_operation", "operation_id", postgresql_where=text("operation_id IS NOT NULL")),
        Index("stripe_records_by_intent", "payment_intent", postgresql_where=text("payment_intent IS NOT NULL")),
        Index("stripe_records_by_source", "source", postgresql_where=text("source IS NOT NULL")),
        Index("stripe_records_by_payout", "payout", postgresql_where=text("payout IS NOT NULL")),
        Index("stripe_records_by_time", "account", "created_at"),
        Index("stripe_records_payouts", "account", "created_at", postgresql_where=text("object = 'payout'")),
        # Entries of which no fact was written yet (`jobs.reconciliation.booking`).
        Index(
            "stripe_records_paid_out",
            "account",
            "payout",
            "id",
            postgresql_where=text("object = 'balance_transaction' AND told_at IS NULL AND payout IS NOT NULL"),
        ),
        Index(
            "stripe_records_kept",
            "account",
            "created_at",
            "id",
            postgresql_where=text("object = 'balance_transaction' AND told_at IS NULL AND payout IS NULL"),
        ),
    )

    id: Mapped[str] = mapped_column(String(255), primary_key=True)
    object: Mapped[str] = mapped_column(String(80))
    account: Mapped[str] = mapped_column(String(255))
    livemode: Mapped[bool | None]
    # Of an entry, what it is for: `charge`, `refund`, `payout`, `adjustment`, …
    type: Mapped[str | None] = mapped_column(String(80))
    state: Mapped[str | None] = mapped_column(String(80))
    # Of a charge, what was captured of it; of an entry, signed: what the balance gains or loses before the fee.
    amount_minor: Mapped[int | None]
    fee_minor: Mapped[int | None]
    net_minor: Mapped[int | None]
    currency: Mapped[str | None] = mapped_column(String(3))
    # The metadata `billing_operation` of the object, or of the payment intent that it belongs to; of a canceled intent
    # the operation in the key of the call.
    operation_id: Mapped[str | None] = mapped_column(String(40))
    payment_intent: Mapped[str | None] = mapped_column(String(255))
    # Of an entry: the charge, the refund or the payout that moved the money. Of a credit note, a payment or an event:
    # its invoice.
    source: Mapped[str | None] = mapped_column(String(255))
    # Of an entry: the payout in which it went to the bank.
    payout: Mapped[str | None] = mapped_column(String(255))
    # Of an entry: from when on Stripe can pay it out.
    available_at: Mapped[datetime | None]
    # Of an entry: when the fact `booked` of its operation was written, or it was found to be of none.
    told_at: Mapped[datetime | None]
    # By Stripe's clock. Of a charge it is the authorization's; the capture's is that of its entry.
    created_at: Mapped[datetime]
    # When the page was asked for that showed it so. An older page changes nothing.
    seen_at: Mapped[datetime]


class StripeCursor(Table):
    """How far one of Stripe's lists was read, for one account, and how far what it shows was compared with our rows.

    Everything that was created from `covered_from` until `covered_until` was read. A window is read from its newest
    object to its oldest: `window_until` is the end of the one that is being read, and `after_id` the last object of its
    last page. Whoever goes on after a crash begins there.
    """

    __tablename__ = "stripe_cursors"
    __table_args__ = (
        CheckConstraint("covered_from <= covered_until", name="covered_in_order"),
        CheckConstraint("after_id IS NULL OR window_until IS NOT NULL", name="page_of_a_window"),
    )

    account: Mapped[str] = mapped_column(String(255), primary_key=True)
    list: Mapped[str] = mapped_column(String(40), primary_key=True)
    covered_from: Mapped[datetime]
    covered_until: Mapped[datetime]
    window_until: Mapped[datetime | None]
    after_id: Mapped[str | None] = mapped_column(String(255))
    compared_until: Mapped[datetime]
