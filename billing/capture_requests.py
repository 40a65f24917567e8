"""Asking for a capture: it is checked, and written once under the next free number of its authorization."""

from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy.orm import Session

from billing import ids, request_ids, row_io
from billing.asking import CommonArguments, Wanted, callers_session, common_arguments, write_once
from billing.capture_places import LEAVES_NOTHING, NEXT_NUMBER, TAKEN, holder_of
from billing.capture_steps import beside_the_amount, iso
from billing.capture_terms import CaptureTerms, Remainder, keeps_remainder, needs_newer_workers
from billing.errors import AuthorizationTaken, InvalidAmount, InvalidRequest, InvalidText
from billing.facts import new_fact
from billing.holders import IS_VOIDED, void_holding
from billing.money import Money
from billing.provider_ids import provider_id
from billing.tables.entities import MAX_CAPTURES, Capture
from billing.tables.facts import Fact
from billing.timing import EARLIEST, LATEST, may_be_real

WITH_TERMS = 2
"""The version of the fact, and of the contract, of a capture that a worker from before them would carry out wrongly: it
would release a rest that is to be kept, and leave out the fee."""
NO_TERMS = CaptureTerms()


@dataclass(frozen=True, slots=True, init=False)
class Authorization:
    """What Stripe's answer to the caller's confirm said: how much may be captured, in which currency, and until when.

    The values of Stripe's SDK may be passed unchanged: `amount_capturable` in minor units; the currency in lower case
    or in capitals; `capture_before` is Stripe's own `charge.payment_method_details.card.capture_before`, never
    computed, in seconds since 1970 or as a time with a time zone. It is kept as a time in UTC; None where the payment
    method has none.

    Raises InvalidAmount, InvalidCurrency and InvalidText.
    """

    amount_capturable: int
    currency: str
    capture_before: datetime | None

    def __init__(self, amount_capturable: int, currency: str, capture_before: datetime | int | None) -> None:
        money = Money(amount_capturable, currency)
        object.__setattr__(self, "amount_capturable", money.minor)
        object.__setattr__(self, "currency", money.currency)
        object.__setattr__(self, "capture_before", _moment(capture_before))


def _moment(given: object) -> datetime | None:
    """A time as Stripe writes it, in UTC; else InvalidText."""
    match given:
        case None:
            return None
        case int() if not isinstance(given, bool):
            if not EARLIEST.timestamp() <= given < LATEST.timestamp():
                raise InvalidText(
                    "capture_before", "must be Stripe's own seconds since 1970, in this century or the next"
                )
            return datetime.fromtimestamp(int.__index__(given), UTC)
        case datetime():
            if given.utcoffset() is None:
                raise InvalidText(
                    "capture_before", "must have a time zone; Stripe's own seconds since 1970 are accepted, too"
                )
            # Compared before it is moved to UTC, which cannot be done at the ends of the calendar.
            if not may_be_real(given):
                raise InvalidText(
                    "capture_before", "must be Stripe's own value, and this is not in this century or the next"
                )
            return given.astimezone(UTC)
        case _:
            raise InvalidText(
                "capture_before",
                f"must be seconds since 1970 or a datetime with a time zone, not {type(given).__name__}",
            )


ONCE_VOIDED = "it is given back, so to take the money let the customer authorize it again"


@dataclass(frozen=True, slots=True)
class CaptureReceipt:
    """What was requested, true once the caller's transaction commits. `new` is False if it was requested before."""

    capture_id: ids.CaptureId
    request_id: str
    new: bool


def request_capture(
    session: Session,
    *,
    payment_intent: str,
    amount: Money,
    request_id: str,
    correlation_id: str | None = None,
    authorization: Authorization | None = None,
    account: str | None = None,
    actor: str = "application",
    remainder: Remainder = "release",
    terms: CaptureTerms = NO_TERMS,
) -> CaptureReceipt:
    """Ask, inside the caller's own transaction, for an authorization to be captured in full or in part.

    Stripe releases the rest of a partly captured authorization, or with `remainder="keep"` keeps it for another
    capture, which is another request. Captures of one authorization are carried out in the order in which they were
    asked for. One of which nothing is captured is given back by `request_void`. `terms` are sent with it: a fee, texts.
    Without `authorization` it is read from Stripe once before anything is sent. The same `request_id` again returns the
    same receipt. The request id is the default of `correlation_id`.

    Raises RequestReused (same request id, other parameters), AuthorizationTaken, which names the capture or the void
    that has the authorization, and InvalidRequest before anything is written; the caller's transaction stays usable.
    (Above READ COMMITTED, Postgres itself may ask for the transaction to be repeated, as for any other.)
    """
    session = callers_session(session)
    common = common_arguments(request_id, correlation_id, account, actor)
    wanted = wanted_capture(
        common,
        payment_intent=payment_intent,
        amount=amount,
        authorization=authorization,
        remainder=remainder,
        terms=terms,
    )
    written = _write(session, common, wanted, terms)
    if written is not wanted.row:
        return CaptureReceipt(ids.CaptureId(written.id), common.request_id, new=False)
    # Not by the ORM, which would write and read back columns that an application's login has no rights to.
    row_io.save(session, (), [wanted.first_fact()])
    return CaptureReceipt(ids.CaptureId(written.id), common.request_id, new=True)


def wanted_capture(
    common: CommonArguments,
    *,
    payment_intent: str,
    amount: Money,
    authorization: Authorization | None = None,
    remainder: Remainder = "release",
    terms: CaptureTerms = NO_TERMS,
) -> Wanted[Capture]:
    """What `request_capture` writes, checked without a database. Raises InvalidRequest."""
    if not isinstance(amount, Money):
        raise InvalidAmount("amount", f"must be billing.Money, not {type(amount).__name__}")
    payment_intent = provider_id("payment_intent", payment_intent)
    if authorization is not None:
        if not isinstance(authorization, Authorization):
            raise InvalidRequest("authorization", f"must be billing.Authorization, not {type(authorization).__name__}")
        _within(amount, authorization)
    if not isinstance(terms, CaptureTerms):
        raise InvalidRequest("terms", f"must be billing.CaptureTerms, not {type(terms).__name__}")
    parameters = {
        "payment_intent": payment_intent,
        "amount_minor": amount.minor,
        "currency": amount.currency,
        "keeps_remainder": keeps_remainder(remainder),
        **terms.amounts(amount),
    }
    further = terms.texts()
    if authorization is not None:
        further |= {
            "authorized_minor": authorization.amount_capturable,
            "authorized_currency": authorization.currency,
            "capture_before": authorization.capture_before,
        }
    row = Capture(id=ids.new("cap"), correlation_id=common.correlation_id, **parameters, **terms.texts())

    def requested() -> Fact:
        fact = new_fact(
            row,
            "requested",
            actor=common.actor,
            traceparent=common.traceparent,
            minor=amount.minor,
            currency=amount.currency,
            payment_intent=payment_intent,
            account=common.account,
            request_digest=request_ids.digest_of(common.request_id),
            authorized=authorization is not None,
            capture_before=iso(authorization.capture_before) if authorization else None,
        )
        tell_terms(fact, row)
        return fact

    return Wanted(row, parameters, further, requested)


def _write(session: Session, common: CommonArguments, wanted: Wanted[Capture], terms: CaptureTerms) -> Capture:
    """Write the request under the next free number of its authorization, or find the one with its request id.

    Two that are asked for at once compute the same number. The unique index refuses one, which computes it again.
    Raises AuthorizationTaken.
    """
    holder, intent = None, wanted.row.payment_intent
    for _ in range(MAX_CAPTURES + 1):
        written = write_once(
            session,
            wanted.row,
            common,
            wanted.parameters,
            further=wanted.further,
            differing=terms.differing,
            computed={"capture_no": NEXT_NUMBER},
            unless=f"{TAKEN} OR {IS_VOIDED}",
        )
        if written is not None:
            return written
        holder = holder_of(session, common.account, intent, LEAVES_NOTHING)
        if holder is not None:
            break
        if (void := void_holding(session, common.account, intent)) is not None:
            raise AuthorizationTaken(intent, void, instead=ONCE_VOIDED)
    raise AuthorizationTaken(intent, holder or "unknown")


def tell_terms(requested: Fact, row: Capture) -> None:
    """Add to the fact that requests it what only newer workers carry out; the fact of a plain capture stays as it
    is."""
    if needs_newer_workers(row):
        requested.version = WITH_TERMS
        requested.payload |= {"capture_no": row.capture_no, **beside_the_amount(row)}


def _within(amount: Money, authorization: Authorization) -> None:
    if amount.currency != authorization.currency:
        raise InvalidAmount("amount", f"{amount} cannot be captured from an authorization in {authorization.currency}")
    if amount.minor > authorization.amount_capturable:
        raise InvalidAmount(
            "amount", f"{amount} is more than the {authorization.amount_capturable} that may be captured"
        )
