"""The scopes of switches: how each kind is written, and in which scopes a piece of work stands."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import NamedTuple

from billing.currencies import CURRENCIES
from billing.errors import InvalidText
from billing.operations import OPERATIONS
from billing.provider_ids import provider_id
from billing.registration import Operation

EVERYTHING = "everything"
_ACCOUNT = "account:"


class Place(NamedTuple):
    """What decides in which scopes a piece of work stands. `currency`: None if it is not known."""

    operation: Operation
    contract: str
    queue: str
    account: str | None
    """The connected account; None: the one that our own key belongs to."""
    currency: str | None


@dataclass(frozen=True, slots=True)
class ScopeKind:
    """One kind of scope. `written`: how an operator writes it; `meaning`: what its switch stops."""

    written: str
    meaning: str
    of: Callable[[Place], str | None]
    """The scope of this kind in which this work stands; None if there is none."""
    names: Callable[[], Collection[str]]
    """Every scope of this kind; of accounts, only the one that needs no id."""


KINDS = (
    ScopeKind(
        EVERYTHING,
        "every call that changes something at Stripe, and every schedule",
        lambda _: EVERYTHING,
        lambda: [EVERYTHING],
    ),
    ScopeKind(
        "captures, voids, refunds, invoices, emails, documents, schedules",
        "all operations of one kind",
        of=lambda place: place.operation.scope,
        names=lambda: [str(operation.scope) for operation in _stoppable()],
    ),
    ScopeKind(
        "contract:NAME",
        "the work of one contract",
        of=lambda place: f"contract:{place.contract}",
        names=lambda: [f"contract:{contract.name}" for each in _stoppable() for contract in each.contracts],
    ),
    ScopeKind(
        "queue:NAME",
        "the work of one queue",
        of=lambda place: f"queue:{place.queue}",
        names=lambda: [f"queue:{contract.queue}" for each in _stoppable() for contract in each.contracts],
    ),
    ScopeKind(
        "account:acct_..., account:own",
        "one connected account, or the account of our own key",
        of=lambda place: None if place.operation.local else f"{_ACCOUNT}{place.account or 'own'}",
        names=lambda: [f"{_ACCOUNT}own"],
    ),
    ScopeKind(
        "currency:EUR",
        "all amounts in one currency",
        of=lambda place: f"currency:{place.currency}" if place.currency else None,
        names=lambda: [f"currency:{code}" for code in CURRENCIES],
    ),
)
"""`switches.sql` writes the same list for a row of work; a test compares the two."""


def _stoppable() -> list[Operation]:
    """The operations that switches stop: a probe is none of them."""
    return [operation for operation in OPERATIONS.values() if operation.scope is not None]


def scopes_of(place: Place) -> list[str]:
    """The scopes in which this work stands, in the order in which they are locked; none if no switch stops it."""
    if place.operation.scope is None:
        return []
    return sorted(scope for kind in KINDS if (scope := kind.of(place)) is not None)


def known_scope(scope: str) -> str:
    """The scope, if it is one of `KINDS`. Raises InvalidText, which lists the names of our own that there are."""
    if any(scope in kind.names() for kind in KINDS):
        return scope
    if scope.startswith(_ACCOUNT):
        provider_id("account", scope.removeprefix(_ACCOUNT))
        return scope
    few = [name for kind in KINDS for name in dict.fromkeys(kind.names()) if len(kind.names()) < 20]
    raise InvalidText("scope", f"must be one of {', '.join(few)}, account:<id> or currency:<code>, as in currency:EUR")


def account_of(scope: str) -> str | None:
    """The connected account that this scope names, if it names one."""
    account = scope.removeprefix(_ACCOUNT)
    return account if account not in (scope, "own") else None
