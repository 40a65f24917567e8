"""Sending an e-mail, once: what an application asks for, without an address and without a sentence.

The recipient is an id, which is resolved when the e-mail is sent: a customer at Stripe, or an id that a function of the
application's knows. So no row, fact, log or archive holds an address, and a customer who is erased meanwhile gets
nothing. docs/moves/email.md says how it is sent, and what happens when nobody knows whether it was.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from billing import email_notices, ids, observing, request_ids, row_io, shapes
from billing.asking import callers_session, common_arguments, write_once
from billing.email_steps import READ_NOTICES, SEND_EMAIL, news_of
from billing.errors import InvalidText
from billing.facts import new_fact
from billing.money import Money
from billing.registration import Afterwards, BusinessMetric, Contract, Operation, Retry
from billing.states import EmailState, set_state
from billing.steps import LoadedOperation, Step
from billing.tables.entities import MAX_DATA, Email
from billing.tables.received_events import ReceivedEvent

MAX_VALUES = 40
"""Values of one e-mail."""

_name = shapes.like(r"[a-z][a-z0-9_]{0,39}")
_value = shapes.like(r"[A-Za-z0-9][A-Za-z0-9_.:/+-]{0,99}")


@dataclass(frozen=True, slots=True)
class EmailReceipt:
    """What was requested, true once the caller's transaction commits. `new` is False if it was requested before."""

    email_id: ids.EmailId
    request_id: str
    new: bool


def request_email(
    session: Session,
    *,
    template: str,
    to: str,
    data: Mapping[str, Any],
    locale: str | None = None,
    request_id: str,
    correlation_id: str | None = None,
    account: str | None = None,
    actor: str = "application",
) -> EmailReceipt:
    """Ask, inside the caller's own transaction, for one e-mail. The same `request_id` again returns the same receipt.

    `template`: one of the service's (`invoice_sent`, `capture_receipt`, `refund_made`) or of BILLING_EMAIL_TEMPLATES.
    `to`: a customer at Stripe (cus_...), or an id that BILLING_EMAIL_RECIPIENTS resolves; never an address.
    `data`: what the template shows: Money, dates, aware times, whole numbers, True or False, and ids without spaces.
    `locale`: `de`, `pt_BR`; None, the language that Stripe or the application has of the recipient.
    `account`: whose customer it is.

    Raises RequestReused (same request id, other parameters) and InvalidRequest before anything is written; the caller's
    transaction stays usable. Whether the template exists, only the worker knows that sends it.
    """
    session = callers_session(session)
    template = _shaped("template", template, shapes.template, "the name of a template: a-z, 0-9 and _")
    to = _shaped("to", to, shapes.reference, "an id with a digit in it, as cus_123; an address is no id")
    if locale is not None:
        locale = _shaped("locale", locale, shapes.locale, "a language, as de, pt_BR or zh-Hant-TW")
    kept = bounded(data)
    common = common_arguments(request_id, correlation_id, account, actor)
    row = Email(id=ids.new("eml"), correlation_id=common.correlation_id)
    parameters = {"template": template, "recipient": to, "locale": locale}
    written = write_once(
        session,
        row,
        common,
        parameters,
        further={"data": kept},
        differing=lambda first: {} if first.data in (kept, {}) else {"data": ("other data", "this data")},
    )
    assert written is not None, "no other unique index forbids an e-mail"
    if written is not row:
        return EmailReceipt(ids.EmailId(written.id), common.request_id, new=False)
    requested = new_fact(
        row,
        "requested",
        actor=common.actor,
        traceparent=common.traceparent,
        template=template,
        recipient=to,
        locale=locale,
        account=common.account,
        request_digest=request_ids.digest_of(common.request_id),
    )
    row_io.save(session, (), [requested])
    return EmailReceipt(ids.EmailId(row.id), common.request_id, new=True)


def bounded(data: object) -> dict[str, Any]:
    """What an e-mail is about, as it is stored: JSON with values that cannot name a person. Raises InvalidText, which
    names the field and not its value."""
    if not isinstance(data, Mapping) or len(data) > MAX_VALUES:
        raise InvalidText("data", f"must be a mapping of at most {MAX_VALUES} values")
    kept = {}
    for name, value in data.items():
        if not _name(name):
            raise InvalidText("data", "must have names of a-z, 0-9 and _, such as `due_date`")
        kept[str(name)] = _stored(f"data: {name}", value)
    if len(json.dumps(kept, ensure_ascii=False)) > MAX_DATA // 2:  # Postgres writes it with more spaces
        raise InvalidText("data", f"must have at most {MAX_DATA // 2:,} characters as JSON")
    return kept


def _stored(name: str, value: object) -> Any:
    match value:
        case Money():
            return {"minor": value.minor, "currency": value.currency}
        case Mapping() if value.keys() == {"minor", "currency"}:
            return _stored(name, Money(value["minor"], value["currency"]))
        case datetime() if value.tzinfo is not None:
            return value.astimezone(UTC).isoformat()
        case date() if not isinstance(value, datetime):
            return value.isoformat()
        case bool():
            return value
        case int() if shapes.whole(value):
            return value
        case str() if _value(value):
            return value
    raise InvalidText(
        name,
        "must be Money, a date, an aware time, a whole number, True or False, or an id: letters, digits and _.:/+- "
        "without spaces. Names and addresses are read when the e-mail is sent",
    )


def _shaped(name: str, value: object, shape: shapes.Shape, wanted: str) -> str:
    if not isinstance(value, str) or not shape(value):
        raise InvalidText(name, f"must be {wanted}")
    return str.__str__(value)


def next_step(loaded: LoadedOperation) -> Step | None:
    return SEND_EMAIL if loaded.row.state == EmailState.REQUESTED else observe(loaded)


def observe(loaded: LoadedOperation) -> Step | None:
    """As `Operation.observe`: what was told about an e-mail that was sent."""
    return READ_NOTICES if news_of(loaded) is not None else None


def _notices(session: Session, rows: Sequence[Email]) -> Iterator[tuple[str, Any]]:
    """As `Operation.parts`: what mail servers told about them."""
    columns = (ReceivedEvent.matched_with, ReceivedEvent.type)
    mine = ReceivedEvent.matched_with.in_([row.id for row in rows])
    found = select(*columns).where(mine, ReceivedEvent.source.in_(email_notices.SOURCES))
    for each in session.execute(found.order_by(ReceivedEvent.id)):
        yield str(each.matched_with), each


def unfit(loaded: LoadedOperation) -> str | None:
    """As `Operation.unfit`."""
    row = loaded.row
    assert isinstance(row, Email), "the operation's own table"
    if not shapes.template(row.template) or not shapes.reference(row.recipient):
        return "template or recipient does not have its shape"
    return None


def reconsider(_session: Session, row: Email) -> bool:
    """As `Operation.reconsider`: an e-mail that was refused is set back, so that the answer that came too late is
    read."""
    if row.state != EmailState.REFUSED:
        return False
    set_state(row, EmailState.REQUESTED)
    row.reason = None
    return True


def _shown(_session: Session, row: Email) -> dict[str, Any]:
    return {
        "template": row.template,
        "recipient": row.recipient,
        "locale": row.locale,
        "provider_message": row.provider_message,
    }


OPERATION = Operation(
    table=Email,
    prefix="eml",
    contracts=(
        Contract(
            name="send_email",
            topic="requested",
            queue="emails",
            max_attempts=5,
            call_budget_s=30,
            retry=Retry.PATIENT,
            owner="customer support",
            purpose="send one e-mail to one recipient, once",
            # It moves no money, and its readers sleep.
            sheddable=True,
            payload={
                "template": "text",
                "recipient": "text",
                "locale": "text or null",
                "account": "text or null",
                "request_digest": "optional text",
            },
        ),
        observing.contract("email", queue="emails", owner="customer support", sheddable=True),
    ),
    next_step=next_step,
    steps={step.name: step for step in (SEND_EMAIL, READ_NOTICES)}.__getitem__,
    belongs_to=((Email.recipient, None),),
    observe=observe,
    parts=_notices,
    found_by={email_notices.OF_SES.rstrip("_"): Email.provider_message},
    of_any_account=True,
    scope="emails",
    told_at_its_end=("template",),
    business=(
        BusinessMetric("emails_sent", EmailState.SENT, "e-mails that a mail server has accepted"),
        BusinessMetric("emails_bounced", EmailState.BOUNCED, "e-mails that came back; each is a task for a person"),
        BusinessMetric("emails_complained", EmailState.COMPLAINED, "e-mails that a reader reported as unwanted"),
        BusinessMetric("emails_refused", EmailState.REFUSED, "e-mails that are not sent; each is a task for a person"),
    ),
    shown=_shown,
    unfit=unfit,
    reconsider=reconsider,
    afterwards={
        EmailState.SENT: Afterwards("nothing: a mail server has accepted it"),
        EmailState.BOUNCED: Afterwards(
            "nothing here: the reader does not have it; if its reason is hard, correct the customer's address at "
            "Stripe, and have the application ask for it again under a new request id",
        ),
        EmailState.COMPLAINED: Afterwards(
            "nothing here: send this customer no more e-mails that are not wanted, and tell whoever owns the account",
        ),
        EmailState.REFUSED: Afterwards(
            "nothing here: it was not sent; mend what its reason names, such as the customer's address at Stripe, and "
            "have the application ask for it again under a new request id",
        ),
    },
)
