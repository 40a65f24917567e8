"""What is raised by the public face: a tree that is drawn in full, of classes that make their messages of fields."""

import copy
import pickle
import re
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

import billing
from billing import errors
from billing.errors import BillingError, PossibleCardNumber
from billing.reading import NotRead

EXAMPLES = [
    errors.InvalidRequest("days_until_due", "must be a whole number"),
    errors.InvalidAmount("amount", "must be positive"),
    errors.InvalidCurrency("currency", "must be one of Stripe's"),
    errors.InvalidText("request_id", "must be shorter"),
    errors.WrongEngine("Session", "sqlalchemy.Engine", "pass the engine"),
    errors.UnknownCursor(42),
    errors.TooBusy("invoices", 500, waiting=580, room=20, at_most=600, retry_after_s=240),
    billing.NotFinal(billing.Status("cap_1", "in_doubt", datetime(2026, 1, 1, tzinfo=UTC), "Stripe is asked", False)),
    NotRead("HTTP 500"),
    errors.BulkReused("bulk_1", "it was begun with another file"),
    errors.BulkTaken("bulk_1"),
    errors.WrongSession("Engine", "with Session(engine) as session: ..."),
    errors.RequestReused("order-1", {"amount_minor": (1999, 2999)}),
    errors.AuthorizationTaken("pi_1", "cap_1"),
    errors.NotCaptured("cap_1", "requested"),
    errors.MoreThanCaptured("cap_1", "USD", asked=500, left=499),
    errors.NotPaid("inv_1", "sent"),
    errors.MoreThanInvoiced("inv_1", "USD", asked=500, left=499),
    errors.InvoicedOtherwise("cap_1", "inv_1", {"customer": ("cus_1", "cus_2")}),
    errors.PeriodRefused("2026-10", "own", "not_over", "it ends tomorrow"),
    errors.NotFinalized("inv_1", "drafted"),
    errors.NoLongerOpen("inv_1", "paid", "void"),
    errors.NotIssued("crn_1", "requested"),
    errors.NotOpen("inv_1", "paid"),
    errors.NotOurPayment("pi_1"),
    errors.UnknownEntity("cap_1"),
    errors.StillRestored(),
    errors.IllegalTransition("capture", "captured", "requested"),
    errors.WrongDatabase("the schema billing is somebody else's"),
    errors.NotInstalled("has no billing tables"),
    errors.OtherEnvironment(("test", False), ("production", True)),
    errors.OtherAccount("acct_1", "acct_2"),
    errors.KeepsNoSession(),
    PossibleCardNumber("request_id"),
]


def below(kind: type[BillingError]) -> Iterator[type[BillingError]]:
    for each in kind.__subclasses__():
        yield each
        yield from below(each)


def test_every_error_stands_in_the_tree_and_has_an_example_here():
    assert {kind for kind in below(BillingError) if kind.__module__.startswith("billing.")} == {
        type(example) for example in EXAMPLES if isinstance(example, BillingError)
    }
    drawn = re.findall(r"── (\w+)", errors.__doc__ or "")
    assert sorted(drawn) == sorted(type(example).__name__ for example in EXAMPLES if isinstance(example, BillingError))


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_an_error_crosses_a_process_with_its_message_and_its_fields(error: Exception):
    """A pool or a queue of the application's pickles what a worker of its own raised."""
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error)):  # noqa: S301 - our own bytes
        assert (type(again), str(again), vars(again)) == (type(error), str(error), vars(error))


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_the_fields_of_an_error_stand_in_its_message(error: Exception):
    for name, value in vars(error).items():
        shown = next(iter(value)) if isinstance(value, dict | tuple) else getattr(value, "id", value)
        assert str(shown) in str(error), name
