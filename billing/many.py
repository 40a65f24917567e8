"""Asking for many at once, in one transaction: the same rules as one by one, with few statements.

    with Session(engine) as session, session.begin():
        billing.admit(session, "captures", len(requests))
        outcomes = billing.request_many(session, "capture", requests)

A request of which nothing is known here yet can only be new, so all of those are written by one statement. Each of the
others is passed to the function that requests one. No rule stands in this room.

What can be asked for in bulk is the table `MOVABLE`, a row for each kind. The command `billing ... --from-file` makes
its columns of the same rows (`jobs.bulk`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from sqlalchemy.orm import Session

from billing import capture_requests, ids, invoice_requests, refund_requests, request_ids, row_io, statements, voids
from billing.asking import CommonArguments, Wanted, callers_session, common_arguments
from billing.errors import BillingError, InvalidRequest

SQL = statements.beside(__file__)


class Receipt(Protocol):
    """What every request gives back. `new` is False if it was requested before."""

    @property
    def request_id(self) -> str: ...

    @property
    def new(self) -> bool: ...


Outcome = Receipt | BillingError
"""What became of one of many requests: its receipt, or why it was refused."""
Arguments = Mapping[str, Any]
"""The arguments by name of the function that requests one, without session and actor."""


@dataclass(frozen=True, slots=True)
class Together:
    """How many of a kind are written by one statement.

    `wanted` checks the arguments of one, without a database. `known` names the statements in `many.sql` that say of
    which something is known already, their request id or their object at Stripe: for a connected account and for our
    own, because an index on `account` is not used for `IS NOT DISTINCT FROM`.
    """

    wanted: Callable[..., Wanted[Any]]
    known: tuple[str, str]
    receipt: Callable[[str, str], Receipt]


@dataclass(frozen=True, slots=True)
class Movable:
    """A kind that can be asked for in bulk. `request` asks for one. `queue`: where its work waits.

    `once` names the argument by which a second request is refused, whatever its request id, and its value; None of
    arguments that leave room for another. Where `once` itself is None nothing of this kind is refused so: then a file
    must name its requests, because with made-up request ids a corrected file would ask again for what was done.

    `together` is None where each is asked for by statements of its own. `without_amount`: what a request means that
    names no amount.
    """

    kind: str
    request: Callable[..., Receipt]
    queue: str
    once: Callable[[Arguments], tuple[str, str] | None] | None
    together: Together | None = None
    without_amount: str = "all that is left, as it is now"


def _by_payment_intent(asked: Arguments) -> tuple[str, str] | None:
    return "payment_intent", asked["payment_intent"]


def _by_authorization(asked: Arguments) -> tuple[str, str] | None:
    """A capture that keeps the rest leaves room for another."""
    return None if asked.get("remainder") == "keep" else _by_payment_intent(asked)


_SOURCES = ("capture", "payment_intent", "charge", "invoice")


def _by_what_is_left(asked: Arguments) -> tuple[str, str] | None:
    """A refund of all that is left leaves nothing for another; one of an amount may."""
    if asked.get("amount") is not None:
        return None
    return next(((name, asked[name]) for name in _SOURCES if asked.get(name)), None)


MOVABLE: Mapping[str, Movable] = {
    each.kind: each
    for each in (
        Movable(
            "capture",
            capture_requests.request_capture,
            queue="captures",
            once=_by_authorization,
            together=Together(
                capture_requests.wanted_capture,
                known=("known_captures", "known_captures_of_our_own_account"),
                receipt=lambda own_id, name: capture_requests.CaptureReceipt(ids.CaptureId(own_id), name, new=True),
            ),
        ),
        Movable("void", voids.request_void, queue="captures", once=_by_payment_intent),
        Movable("refund", refund_requests.request_refund, queue="refunds", once=_by_what_is_left),
        Movable(
            "invoice",
            invoice_requests.issue_invoice,
            queue="invoices",
            once=None,
            without_amount="they come to 0, or to what Stripe reckons",
        ),
    )
}


def request_many(
    session: Session, kind: str, requests: Sequence[Arguments], *, actor: str = "application"
) -> list[Outcome]:
    """Ask for each of these, inside the caller's own transaction. Returns an outcome for each, in their order.

    `kind`: `capture`, `void`, `refund` or `invoice`. `requests`: the arguments of `billing.request_capture`,
    `request_void`, `request_refund` or `issue_invoice`, by name, without session and actor. What is refused is no
    exception here but an outcome, a `BillingError`, and nothing of it is written; the others are, and the caller's
    transaction stays usable. Up to a few thousand fit into one transaction.

    Raises InvalidRequest for a kind that does not exist, and TypeError for arguments that the function does not have.
    """
    session, movable = callers_session(session), _movable(kind)
    outcomes: dict[int, Outcome] = {}
    if (together := movable.together) is not None:
        fresh = _fresh(session, together, requests, actor, outcomes)
        # With the fact, because it counts itself in its row.
        facts = {number: wanted.first_fact() for number, (_, wanted) in fresh.items()}
        for fact in facts.values():
            # Said of each, because one statement writes facts of both versions: without a value it would be null.
            fact.version = fact.version or 1
        rows = [_row(common, wanted) for common, wanted in fresh.values()]
        written = row_io.insert_where_free(session, rows) if rows else set()
        # Two of the same in one bulk: the second was not written, and is asked for below.
        new = {number: each for number, each in fresh.items() if each[1].row.id in written}
        if new:
            row_io.save(session, (), [facts[number] for number in new])
        for number, (common, wanted) in new.items():
            outcomes[number] = together.receipt(wanted.row.id, common.request_id)
    _one_by_one(session, movable, requests, actor, outcomes)
    return [outcomes[number] for number in range(len(requests))]


def rehearse_many(
    session: Session, kind: str, requests: Sequence[Arguments], *, actor: str = "application"
) -> list[Outcome]:
    """What `request_many` would return now. Nothing is written, so the ids of what would be new stand for nothing.

    Those that are written together are not compared with each other; those that are asked for one by one are, in their
    order: two refunds of one capture take what is left of it one after the other.
    """
    session, movable = callers_session(session), _movable(kind)
    outcomes: dict[int, Outcome] = {}
    if (together := movable.together) is not None:
        for number, (common, wanted) in _fresh(session, together, requests, actor, outcomes).items():
            outcomes[number] = together.receipt(wanted.row.id, common.request_id)
    if len(outcomes) < len(requests):
        rehearsal = session.begin_nested()
        _one_by_one(session, movable, requests, actor, outcomes)
        rehearsal.rollback()
    return [outcomes[number] for number in range(len(requests))]


def _movable(kind: str) -> Movable:
    if kind not in MOVABLE:
        raise InvalidRequest("kind", f"must be one of {', '.join(MOVABLE)}")
    return MOVABLE[kind]


_Checked = tuple[CommonArguments, Wanted[Any]]


def _fresh(
    session: Session, together: Together, requests: Sequence[Arguments], actor: str, outcomes: dict[int, Any]
) -> dict[int, _Checked]:
    """Those of which nothing is known here, by their number. What is wrong with others is put into `outcomes`."""
    checked: dict[int, _Checked] = {}
    for number, given in enumerate(requests):
        own = dict(given)
        if "request_id" not in own:
            continue  # the function that requests one says so
        try:
            common = common_arguments(
                own.pop("request_id"), own.pop("correlation_id", None), own.pop("account", None), actor
            )
            checked[number] = common, together.wanted(common, **own)
        except BillingError as error:
            outcomes[number] = error
    for account in {common.account for common, _ in checked.values()}:
        mine = {number: each for number, each in checked.items() if each[0].account == account}
        for number in _known(session, together, account, mine):
            del checked[number]
    return checked


def _known(session: Session, together: Together, account: str | None, checked: Mapping[int, _Checked]) -> Sequence[int]:
    of_account, of_our_own = together.known
    names = [common.request_id for common, _ in checked.values()]
    found = statements.run(
        session,
        SQL[of_our_own if account is None else of_account],
        **({} if account is None else {"account": account}),
        numbers=list(checked),
        names=names,
        made_again=[request_ids.recovered(request_ids.digest_of(name) or "") for name in names],
        objects=[wanted.parameters["payment_intent"] for _, wanted in checked.values()],
    )
    return found.scalars().all()


def _row(common: CommonArguments, wanted: Wanted[Any]) -> Any:
    values = {"account": common.account, "request_id": common.request_id, **wanted.parameters, **wanted.further}
    for name, value in values.items():
        setattr(wanted.row, name, value)
    return wanted.row


def _one_by_one(
    session: Session, movable: Movable, requests: Sequence[Arguments], actor: str, outcomes: dict[int, Any]
) -> None:
    """Ask for those that have no outcome yet, in their order."""
    for number, given in enumerate(requests):
        if number not in outcomes:
            try:
                outcomes[number] = movable.request(session, **given, actor=actor)
            except BillingError as error:
                outcomes[number] = error
