"""The ways in which our rows and Stripe's records can differ: one row for each class, and its statement in the `.sql`
file beside this page.

A statement is given ids (`:subjects`), and returns one row for each of them that differs: `subject`, `stripe_id`,
`minor`, `currency` and `what`, a sentence with both sides and amounts in minor units. It sees only what is settled:
`comparing.py` leaves out what is younger than the settle window, and what is in doubt.
"""

from dataclasses import dataclass

from billing import statements

SQL = statements.beside(__file__)

FINANCE, PAYMENTS, OPERATIONS = "finance", "payments", "operations"
"""The owners: who looks after the books, who after what was asked for and done, and who after the processes."""


@dataclass(frozen=True, slots=True)
class DifferenceClass:
    """`name` is also that of its statement. `next_step`: what its owner does."""

    name: str
    owner: str
    meaning: str
    next_step: str


CLASSES = (
    DifferenceClass(
        "missing_there",
        PAYMENTS,
        "it has its effect here, and Stripe's records do not show one",
        "billing explain ID; find the request id in Stripe's dashboard. Do not ask again before Stripe has answered",
    ),
    DifferenceClass(
        "missing_here",
        PAYMENTS,
        "it ended here without an effect, and Stripe's records show one",
        "billing explain ID; give the money back at Stripe, or deliver what was paid for",
    ),
    DifferenceClass(
        "amount",
        FINANCE,
        "both sides have the effect, with different amounts",
        "billing explain ID; find who changed the amount at Stripe, and correct it there or in your books",
    ),
    DifferenceClass(
        "currency",
        FINANCE,
        "both sides have the effect, in different currencies",
        "billing explain ID; correct it at Stripe",
    ),
    DifferenceClass(
        "state",
        OPERATIONS,
        "at Stripe it has gone further than here",
        "billing explain ID; is its work held, or in quarantine? A worker looks at Stripe and settles it",
    ),
    DifferenceClass(
        "account_or_mode",
        PAYMENTS,
        "the effect belongs to another account, or to the other mode",
        "stop that account (billing switch pull account:ID); find which key made the call",
    ),
    DifferenceClass(
        "duplicate_effect",
        PAYMENTS,
        "Stripe's records show more than one effect for one operation",
        "billing explain ID; refund or void what is too much at Stripe, and find who else acts there in our name",
    ),
    DifferenceClass(
        "fee_or_net",
        FINANCE,
        "Stripe's own figures do not add up: an entry, a charge's entries, or a payout's",
        "ask Stripe, with the ids; a next pass may show the entry that was missing",
    ),
    DifferenceClass(
        "refund",
        FINANCE,
        "Stripe has given money back that nobody asked for here",
        "find who refunded it in Stripe's dashboard; book it, then close this with that as the reason",
    ),
    DifferenceClass(
        "payment",
        FINANCE,
        "Stripe's records show another sum of payments of an invoice than is known here",
        "billing explain ID; find the payment in Stripe's dashboard: book it, or give it back; then close this",
    ),
    DifferenceClass(
        "credit",
        FINANCE,
        "Stripe has credited an invoice of ours, and nobody asked for that here",
        "find who issued it in Stripe's dashboard; book it, then close this with that as the reason",
    ),
    DifferenceClass(
        "lapsed",
        PAYMENTS,
        "its authorization has lapsed, no money was taken, and it is not over here",
        "billing explain ID; is its work held, or in quarantine? The amount is lost; tell who asked",
    ),
    DifferenceClass(
        "unknown_metadata",
        PAYMENTS,
        "Stripe's records name an operation of ours that is not known here",
        "was this database restored? billing recover. Does another service use this Stripe account?",
    ),
    DifferenceClass(
        "late",
        OPERATIONS,
        "it was asked for longer ago than the settle window, and is not over, here or at Stripe",
        "billing explain ID; do workers run? Is a switch pulled, or its work in quarantine?",
    ),
)
OF_THE_ARCHIVE = (
    DifferenceClass(
        "missing_in_archive",
        OPERATIONS,
        "it moved money here, and the archive has no fact that says so",
        "billing explain ID; is its fact set aside (billing doctor)? Nothing is purged that the archive does not hold",
    ),
    DifferenceClass(
        "archive_differs",
        FINANCE,
        "the archive says that it moved money, and our row says otherwise or is gone",
        "was this database restored? billing recover. Else find who changed the row: the archive is under a lock",
    ),
)
"""Those of the third side, whose statements are beside `archived.py`."""
BY_NAME = {each.name: each for each in (*CLASSES, *OF_THE_ARCHIVE)}
