"""The errors of a request, named by what is known about the money.

    BillingError
    ├── InvalidRequest          nothing was written; the caller's transaction is usable
    │   ├── InvalidAmount
    │   ├── InvalidCurrency
    │   ├── InvalidText
    │   ├── WrongSession        a TypeError, too
    │   └── WrongEngine         a TypeError, too
    ├── RequestReused           this request id was first used with other parameters
    ├── AuthorizationTaken      another capture, or a void, holds this authorization
    ├── NotCaptured             this capture has taken no money that could be given back
    ├── MoreThanCaptured        less is left of this capture than was asked to be given back
    ├── NotPaid                 this invoice is not paid, so nothing of it can be given back
    ├── NotOpen                 this invoice is not open, so what is due of it cannot be reduced
    ├── MoreThanInvoiced        less is left of this invoice than was asked for
    ├── InvoicedOtherwise       this capture is invoiced to another customer, or as something else
    ├── PeriodRefused           a period that cannot be invoiced now: not over, unknown, or invoiced already
    ├── NotFinalized            this invoice has no number yet, so nothing can be done with it
    ├── NoLongerOpen            this invoice is paid, voided, given up or refused already
    ├── NotIssued               this credit note is not issued, so it cannot be voided
    ├── NotOurPayment           no capture of this service took money from this payment
    ├── UnknownEntity           no capture, void, refund, invoice or switch has this id
    ├── UnknownCursor           the fact at which this cursor of `billing.changes` stands is not here
    ├── BulkReused              this bulk id, or this file, was first used for another bulk
    ├── BulkTaken               another process carries this bulk on
    ├── TooBusy                 a bulk has no room on its queue now; it says when to come back
    ├── NotFinal                waiting was over before the work was (billing/waiting.py)
    ├── NotRead                 Stripe did not answer a command that reads much there (billing/reading.py)
    ├── StillRestored           this database was restored, and nobody has compared it yet
    ├── IllegalTransition       a state cannot follow another: a bug of ours, and nothing was changed
    └── WrongDatabase           this process must not use this database
        ├── NotInstalled        it has none of our tables, those of an older version, or no stamp
        ├── OtherEnvironment    it is stamped for another environment or mode
        ├── OtherAccount        it belongs to another Stripe account
        └── KeepsNoSession      a connection pooler there keeps no settings of a session

A decline is an outcome, not an error: it is a state of the capture. An error has fields and builds its message from
them. `jobs.cli.complaints`, which shows it, adds the names of options and settings.
"""

import re
from collections.abc import Mapping
from typing import Any

from billing.cards import may_hold_card_number
from billing.provider_secrets import secret_in

_ID = re.compile(r"[\x21-\x3f\x41-\x7e]{1,80}")


def _shown(given: str) -> str:
    """The text, if it has the form of an id. Anything else may be a name, an address, a card number or a secret."""
    return repr(given) if _ID.fullmatch(given) and not _is_delicate(given) else "that was given"


def _column_value(column: object) -> str:
    """A column's value. Its row may have been written without our functions, or by an older version."""
    return "a value that is not shown" if isinstance(column, str) and _is_delicate(column) else repr(column)


def _is_delicate(text: str) -> bool:
    return may_hold_card_number(text) or secret_in(text) is not None


class _Copyable:
    """Copied, and sent to another process, with its message and its fields: a constructor takes the fields only."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _copied, (type(self), self.args, vars(self))  # type: ignore[attr-defined]


def _copied(kind: type[BaseException], args: tuple[object, ...], fields: Mapping[str, object]) -> BaseException:
    error = kind.__new__(kind, *args)
    vars(error).update(fields)
    return error


class BillingError(_Copyable, Exception):
    """Every error of this package."""


class InvalidRequest(BillingError):
    """Refused before anything was written: `subject`, a parameter or the id of what was asked about, and `problem`."""

    def __init__(self, subject: str, problem: str) -> None:
        super().__init__(f"{subject} {problem}")
        self.subject = subject
        self.problem = problem


class InvalidAmount(InvalidRequest):
    """An amount that is not a positive whole number of minor units, or is out of the currency's range."""


class InvalidCurrency(InvalidRequest):
    """Not one of Stripe's presentment currencies; docs/currencies.md lists them."""


class InvalidText(InvalidRequest):
    """An id or a text that is empty, too long, or holds something that cannot be stored or sent."""


class WrongSession(InvalidRequest, TypeError):
    """Not a plain SQLAlchemy session: an asynchronous one, a connection, an engine, a factory."""

    def __init__(self, given: str, instead: str) -> None:
        what = f"must be a sqlalchemy.orm.Session in a transaction of yours, not {given}"
        super().__init__("session", f"{what}; {instead}" if instead else what)


class WrongEngine(InvalidRequest, TypeError):
    """Something else was passed than an engine, from which each look takes a connection for a moment."""

    def __init__(self, given: str, wanted: str, hint: str) -> None:
        super().__init__("engine", f"must be a {wanted}, not {given}; {hint}")


class PossibleCardNumber(_Copyable, UserWarning):
    """An accepted id may be a card number by its digits. Shown once for each place that calls, as Python's warnings
    are; `warnings.simplefilter("error", billing.PossibleCardNumber)` refuses it instead."""

    def __init__(self, subject: str) -> None:
        super().__init__(
            f"{subject} may be a card number: it has the length, first digits and check digit of one. If it is one, "
            "use another id, because ids are stored and logged. If it is an order number, letters between its digits "
            "or another length end this warning"
        )
        self.subject = subject


class RequestReused(BillingError):
    """The same request id came again with other parameters; the first request remains valid.

    `differences` maps the parameter's name to (first, now).
    """

    def __init__(self, request_id: str, differences: Mapping[str, tuple[object, object]]) -> None:
        changed = ", ".join(
            f"{name}: first {_column_value(first)}, now {_column_value(now)}"
            for name, (first, now) in differences.items()
        )
        super().__init__(f"request id {_shown(request_id)} was first used with other parameters ({changed})")
        self.request_id = request_id
        self.differences = dict(differences)


class AuthorizationTaken(BillingError):
    """One authorization is captured by one capture, until that one is declined, refused or canceled; or given back by
    one void, until that one is refused. `holder` is the id of the one that has it; `instead` is what may be done."""

    def __init__(self, payment_intent: str, holder: str, *, instead: str = "") -> None:
        super().__init__(f"the authorization {payment_intent} already belongs to {holder}{instead and f'; {instead}'}")
        self.payment_intent = payment_intent
        self.holder = holder
        self.instead = instead


class NotCaptured(BillingError):
    """A refund or an invoice was asked for of a capture that has not taken the money."""

    def __init__(self, capture_id: str, capture_state: str) -> None:
        self.capture_id, self.capture_state = capture_id, capture_state
        instead = (
            "it may still take it: ask again once it is captured, as `billing.wait` says"
            if self.may_come
            else "it took nothing, so there is nothing to give back or to invoice"
        )
        super().__init__(f"capture {capture_id} is {capture_state}; {instead}")

    @property
    def may_come(self) -> bool:
        """Whether the capture may still take the money."""
        return self.capture_state == "requested"


class MoreThanCaptured(BillingError):
    """A refund was asked for of more than is left of its capture, in minor units of `currency`: `asked` and `left`.
    `asked` is None if all that is left was asked for, and nothing is."""

    def __init__(self, capture_id: str, currency: str, *, asked: int | None, left: int) -> None:
        wanted = "nothing is left of it" if asked is None else f"{left} {currency} are left of it, not {asked}"
        super().__init__(
            f"capture {capture_id} cannot be refunded so: {wanted} (minor units; refunds that were asked for count, "
            "unless they were refused, failed or canceled)"
        )
        self.capture_id, self.currency, self.asked, self.left = capture_id, currency, asked, left


class NotPaid(BillingError):
    """A refund, or a credit note of what was paid, was asked for of an invoice that is not paid."""

    def __init__(self, invoice_id: str, invoice_state: str) -> None:
        self.invoice_id, self.invoice_state = invoice_id, invoice_state
        super().__init__(f"invoice {invoice_id} is {invoice_state}, not paid; there is nothing to give back")


class NotOpen(BillingError):
    """What is due of an invoice was to be reduced, and nothing is due of it."""

    def __init__(self, invoice_id: str, invoice_state: str) -> None:
        self.invoice_id, self.invoice_state = invoice_id, invoice_state
        super().__init__(
            f"invoice {invoice_id} is {invoice_state}, not open; what is due is only reduced while it is finalized, "
            "sent or unpaid, and what was paid is credited to the balance, out of band or by a refund"
        )


class MoreThanInvoiced(BillingError):
    """More was asked for than is left of an invoice, in minor units of `currency`: `asked` and `left`. `asked` is None
    if all that is left was asked for, and nothing is."""

    def __init__(self, invoice_id: str, currency: str, *, asked: int | None, left: int) -> None:
        wanted = "nothing is left of it" if asked is None else f"{left} {currency} are left of it, not {asked}"
        super().__init__(
            f"{wanted}: invoice {invoice_id} (minor units; what was asked for before counts, unless it came to nothing)"
        )
        self.invoice_id, self.currency, self.asked, self.left = invoice_id, currency, asked, left


class InvoicedOtherwise(BillingError):
    """A capture was to be invoiced that is on an invoice already, or is to be, otherwise than asked for now.

    `invoice_id` is None while it is collected. `differences` maps the parameter's name to (first, now).
    """

    def __init__(
        self, capture_id: str, invoice_id: str | None, differences: Mapping[str, tuple[object, object]]
    ) -> None:
        changed = ", ".join(
            f"{name}: first {_column_value(first)}, now {_column_value(now)}"
            for name, (first, now) in differences.items()
        )
        on = f"is on {invoice_id}" if invoice_id else "is collected for an invoice"
        super().__init__(f"capture {_shown(capture_id)} {on}, and otherwise than asked for now ({changed})")
        self.capture_id, self.invoice_id, self.differences = capture_id, invoice_id, dict(differences)


class PeriodRefused(BillingError):
    """A period was to be invoiced that cannot be. `why`: `not_over`, `unknown` (the account has no such period, or no
    capture in it), or `invoiced` (all of it is on invoices)."""

    def __init__(self, period: str, account: str, why: str, problem: str) -> None:
        super().__init__(f"period {_shown(period)} of {account} is not invoiced ({why}): {problem}")
        self.period, self.account, self.why = period, account, why


class NotFinalized(BillingError):
    """Something was to be done with an invoice that is not finalized yet."""

    def __init__(self, invoice_id: str, invoice_state: str) -> None:
        self.invoice_id, self.invoice_state = invoice_id, invoice_state
        super().__init__(f"invoice {invoice_id} is {invoice_state}, and not finalized yet; ask again once it is")


class NoLongerOpen(BillingError):
    """Something was to be done with an invoice, or a credit note of it, whose state does not allow it any more.
    `action`: pay, mark_paid, void, mark_uncollectible or void_credit_note."""

    def __init__(self, invoice_id: str, invoice_state: str, action: str) -> None:
        self.invoice_id, self.invoice_state, self.action = invoice_id, invoice_state, action
        instead = "; what was paid is given back by a refund" if invoice_state == "paid" else ""
        super().__init__(f"invoice {invoice_id} is {invoice_state}, so `{action}` is not possible any more{instead}")


class NotIssued(BillingError):
    """A credit note was to be voided that is not issued yet, or that takes nothing off any more."""

    def __init__(self, credit_note_id: str, credit_note_state: str) -> None:
        self.credit_note_id, self.credit_note_state = credit_note_id, credit_note_state
        super().__init__(f"credit note {credit_note_id} is {credit_note_state}, not issued, so it cannot be voided")


class NotOurPayment(BillingError):
    """A refund was asked for by a payment intent or a charge of which no capture here took money."""

    def __init__(self, given: str) -> None:
        super().__init__(
            f"no capture here took money from {_shown(given)}; is it of another account (`account=`)? What this "
            "service did not capture is refunded where it was captured, or in Stripe's dashboard"
        )
        self.given = given


class UnknownEntity(BillingError):
    """No row of this database has this id."""

    def __init__(self, entity_id: str) -> None:
        super().__init__(f"nothing here has the id {_shown(entity_id)}")
        self.entity_id = entity_id


class UnknownCursor(BillingError):
    """There is no fact with the number of this cursor: it was deleted, and later ones may be deleted too, or the cursor
    is of another database. A feed from 0 returns everything that is kept."""

    def __init__(self, cursor: int) -> None:
        super().__init__(
            f"nothing here stands at the cursor {cursor}: it is older than what is kept, or of another database; "
            "compare your rows with billing.status, and follow again from 0"
        )
        self.cursor = cursor


class TooBusy(BillingError):
    """A bulk of `count` requests has no room on its queue: `waiting` wait there already, and `room` more have room now.

    Ask again in `retry_after_s` seconds, or for `room` requests now. No bulk of more than `at_most` has room even on
    an empty queue; 0 if that is not known, because no relay measures the queue.
    """

    def __init__(self, queue: str, count: int, *, waiting: int, room: int, at_most: int, retry_after_s: int) -> None:
        if not at_most:
            why = "no relay measures it, or nothing is started there"
        elif count > at_most:
            why = f"ask for at most {at_most:,} at once"
        else:
            why = f"{waiting:,} of at most {at_most:,} wait there, and there is room for {room:,} now"
        super().__init__(f"{queue} has no room for {count:,} more requests: {why}; come back in {retry_after_s} s")
        self.queue, self.count, self.waiting = queue, count, waiting
        self.room, self.at_most, self.retry_after_s = room, at_most, retry_after_s


class BulkReused(BillingError):
    """A bulk is one file under one id, and stays that. Nothing was written."""

    def __init__(self, bulk: str, why: str) -> None:
        super().__init__(f"bulk {_shown(bulk)}: {why}")
        self.bulk = bulk
        self.why = why


class BulkTaken(BillingError):
    """Another process has asked for rows of this bulk meanwhile. Nothing of this batch was written."""

    def __init__(self, bulk: str) -> None:
        super().__init__(
            f"bulk {_shown(bulk)} is carried on by another process; wait for it, and run the same command again"
        )
        self.bulk = bulk


class StillRestored(BillingError):
    """This database was restored, and may have forgotten what Stripe did. Nothing may be sent from it, or archived,
    until `billing recover` has found that nothing differs."""

    def __init__(self) -> None:
        super().__init__(
            "this database was restored, and may have forgotten what Stripe did; `billing recover` compares the two "
            "and can end this (docs/operate/restore.md)"
        )


class IllegalTransition(BillingError):
    """A life has no such transition (billing/states). Nothing was changed; the code that asked for it has a bug."""

    def __init__(self, of: str, start: str, end: str) -> None:
        super().__init__(f"{of}: {start} cannot become {end}")
        self.of, self.start, self.end = of, start, end


class WrongDatabase(BillingError):
    """This process must not use this database."""


class NotInstalled(WrongDatabase):
    """Migrations have not run, or not all. `found` says what was found, such as "has no billing tables"."""

    def __init__(self, found: str) -> None:
        super().__init__(f"this database {found}; run `billing migrate`")
        self.found = found


class OtherEnvironment(WrongDatabase):
    """Its stamp and this process differ; each is (environment, livemode)."""

    def __init__(self, stamped: tuple[str, bool], ours: tuple[str, bool]) -> None:
        super().__init__(
            f"this database belongs to {_environment(*stamped)}, and this process to {_environment(*ours)}; "
            "point one of them elsewhere"
        )
        self.stamped = stamped
        self.ours = ours


class OtherAccount(WrongDatabase):
    """The key in use is of another Stripe account than the one that this database belongs to."""

    def __init__(self, stamped: str, ours: str) -> None:
        super().__init__(
            f"this key belongs to the Stripe account {ours}, and this database to {stamped}; "
            "use a key of that account, or another database"
        )
        self.stamped = stamped
        self.ours = ours


class KeepsNoSession(WrongDatabase):
    """A connection pooler that gives its connections to another client after each transaction."""

    def __init__(self) -> None:
        super().__init__(
            "this address is a connection pooler's that does not keep the settings of a session, and this process "
            "needs a connection of its own; use the address of Postgres itself (often port 5432, where a pooler has "
            "6432 or 6543), or the pooler's address for session mode. An application that only requests may stay "
            "behind it"
        )


def _environment(name: str, livemode: bool) -> str:
    return f"environment {name!r} ({'live' if livemode else 'test'} mode)"
