"""Taking the money that a customer has authorized, once."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from sqlalchemy.orm import Session

from billing import capture_terms, ids, observing, request_ids, row_io
from billing.asking import CommonArguments, Wanted, callers_session, common_arguments, write_once
from billing.capture_places import LEAVES_NOTHING, NEXT_NUMBER, TAKEN, comes_after, earlier, holder_of
from billing.capture_steps import CAPTURE, READ_AUTHORIZATION, beside_the_amount, iso
from billing.capture_terms import CaptureTerms, Remainder, keeps_remainder, needs_newer_workers
from billing.errors import AuthorizationTaken, InvalidAmount, InvalidRequest, InvalidText
from billing.facts import new_fact
from billing.holders import IS_VOIDED, VOIDED_BY, void_holding
from billing.money import Money, money_problem
from billing.provider_ids import IdKind, NoSuchShape, is_id, provider_id
from billing.registration import Afterwards, BusinessMetric, Contract, Operation, Retry
from billing.states import FREES_THE_AUTHORIZATION, CaptureState, set_state
from billing.steps import LoadedOperation, Step
from billing.tables.entities import MAX_CAPTURES, Capture
from billing.tables.facts import Fact
from billing.timing import EARLIEST, LATEST, may_be_real

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
    Without `authorization` it is read from Stripe once before
    anything is sent. The same `request_id` again returns the same receipt. The request id is the default of
    `correlation_id`.

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
        requested.version = _WITH_TERMS
        requested.payload |= {"capture_no": row.capture_no, **beside_the_amount(row)}


def _within(amount: Money, authorization: Authorization) -> None:
    if amount.currency != authorization.currency:
        raise InvalidAmount("amount", f"{amount} cannot be captured from an authorization in {authorization.currency}")
    if amount.minor > authorization.amount_capturable:
        raise InvalidAmount(
            "amount", f"{amount} is more than the {authorization.amount_capturable} that may be captured"
        )


def next_step(loaded: LoadedOperation) -> Step | None:
    row = loaded.row
    assert isinstance(row, Capture), "the operation's own table"
    if row.state != CaptureState.REQUESTED:
        return None
    return READ_AUTHORIZATION if row.authorized_minor is None else CAPTURE


def unfit(loaded: LoadedOperation) -> str | None:
    """As `Operation.unfit`. Money and deadline are checked before the first call only: a call that was made is
    finished."""
    row = loaded.row
    assert isinstance(row, Capture), "the operation's own table"
    if not is_id(IdKind.PAYMENT_INTENT, row.payment_intent):
        return str(NoSuchShape(IdKind.PAYMENT_INTENT))
    if loaded.records:
        return None
    if row.capture_before is not None and not may_be_real(row.capture_before):
        return "capture_before is no time that Stripe can have named"
    return capture_terms.unfit(row) or money_problem(row.amount_minor, row.currency)


def reconsider(session: Session, row: Capture) -> bool:
    """As `Operation.reconsider`: a capture that ended without the money is set back, so that a look at Stripe shows
    whether the money moved after all. Refused if another capture has the authorization by now."""
    if row.state in (CaptureState.REQUESTED, CaptureState.CAPTURED):
        return False
    holder = holder_of(session, row.account, row.payment_intent, Capture.capture_no == row.capture_no)
    if holder not in (None, row.id):
        raise InvalidRequest(
            str(holder),
            f"has taken the authorization {row.payment_intent} since; settle the two at Stripe, in its dashboard",
        )
    set_state(row, CaptureState.REQUESTED)
    row.reason = None
    return True


def _name_winner(session: Session, loaded: LoadedOperation) -> None:
    """As `Operation.name_winner`: a capture that found its authorization canceled names the void that canceled it."""
    row = loaded.row
    assert isinstance(row, Capture), "the operation's own table"
    if row.state != CaptureState.CANCELED:
        return
    winner = void_holding(session, row.account, row.payment_intent)
    if winner is None:
        return
    row.reason = f"{VOIDED_BY}: {winner}"
    for fact in loaded.facts:
        if fact.topic == "capture.canceled":
            fact.payload = {**fact.payload, "why": VOIDED_BY, "differs": winner, "winner": winner}


def _shown(_session: Session, row: Capture) -> dict[str, Any]:
    return {
        "payment_intent": row.payment_intent,
        "minor": row.amount_minor,
        "currency": row.currency,
        "authorized_minor": row.authorized_minor,
        "capture_before": row.capture_before,
        "charge": row.charge,
        # Without the texts that were asked for: people paste this output into tickets.
        "capture_no": row.capture_no,
        "remainder": "keep" if row.keeps_remainder else "release",
        "application_fee_minor": row.application_fee_minor,
        "transfer_minor": row.transfer_minor,
    }


def _is_unread(requested: Mapping[str, Any]) -> bool:
    """Whether its authorization is still to be read. Facts from before migration 0010 have the other spelling."""
    return not (requested.get("authorized") or requested.get("authorised"))


_TAKE = Contract(
    name="take_capture",
    topic="requested",
    queue="captures",
    max_attempts=5,
    call_budget_s=30,
    retry=Retry.PROMPT,
    owner="payments",
    purpose="take the money of one authorization, once",
    payload={
        "minor": "integer",
        "currency": "text",
        "payment_intent": "text",
        "account": "text or null",
        "request_digest": "optional text",
        "authorized": "true or false",
        "capture_before": "time or null",
    },
    comes_first=_is_unread,
)
_WITH_TERMS = 2
"""The version of the fact, and of the contract, of a capture that a worker from before them would carry out wrongly: it
would release a rest that is to be kept, and leave out the fee."""
_TAKE_WITH_TERMS = replace(
    _TAKE,
    version=_WITH_TERMS,
    fact_versions=(_WITH_TERMS,),
    payload={
        **_TAKE.payload,
        "capture_no": "integer",
        "keeps_remainder": "optional true or false",
        "application_fee_minor": "optional integer",
        "transfer_minor": "optional integer",
    },
)

OPERATION = Operation(
    table=Capture,
    prefix="cap",
    contracts=(
        _TAKE,
        _TAKE_WITH_TERMS,
        # No step of its own: what ends a capture has its call looked at, and what was captured stays so.
        observing.contract("capture", queue="captures", owner="payments"),
    ),
    next_step=next_step,
    steps={step.name: step for step in (READ_AUTHORIZATION, CAPTURE)}.__getitem__,
    scope="captures",
    deadline="capture_before",
    amount="amount_minor",
    business=(BusinessMetric("captured_money_minor", CaptureState.CAPTURED, "money that was captured", money=True),),
    found_by={"pi": Capture.payment_intent, "ch": Capture.charge},
    sought_in=tuple(state for state in CaptureState if state not in FREES_THE_AUTHORIZATION),
    shown=_shown,
    unfit=unfit,
    parts=earlier,
    comes_after=comes_after,
    reconsider=reconsider,
    afterwards={
        CaptureState.CAPTURED: Afterwards("nothing: the money is taken"),
        CaptureState.DECLINED: Afterwards("nothing here: no money was taken; the customer pays in another way"),
        CaptureState.REFUSED: Afterwards(
            "nothing here: no money was taken; correct what the reason names, and ask under another request id"
        ),
        CaptureState.EXPIRED: Afterwards(
            "nothing here: no money was taken, and none is reserved any more; the customer has to authorize it anew"
        ),
        CaptureState.CANCELED: Afterwards(
            "nothing here: no money was taken; somebody canceled the authorization at Stripe, who knows why"
        ),
    },
    name_winner=_name_winner,
)
