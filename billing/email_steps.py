"""The one call of an e-mail: handing it to a mail server.

A mail server knows no key: it delivers a message that comes twice, twice. So the step is `once`. What was provably not
taken (no connection, a refusal before the message was complete, an answer "not now") is sent again; what may have been
taken is never sent again by a machine. Nothing can be looked at either, so such a call stays undecided until a person
has asked the mail server's log, or until the answer comes after all, too late to be settled. Source: RFC 5321, 4.5.3.2
and 4.2.5: a server that has answered 250 to the end of the data is responsible for the message; without that answer,
nobody knows who is.
"""

import json
from typing import Any

from billing import email_notices
from billing.facts import OWN, new_fact
from billing.gateway import MAIL
from billing.idempotency import Rules
from billing.learned import Learned
from billing.states import EmailState, set_state
from billing.steps import Ask, Json, Judgment, LoadedOperation, LookResult, Reader, Step
from billing.tables.entities import Email
from billing.tables.facts import Fact

NOT_ACCEPTED = "not_accepted_for_a_day"
"""The reason of an e-mail that no mail server took in 23 hours (`Timing.horizon_s`): it is too late for most."""


def _email(loaded: LoadedOperation) -> Email:
    assert isinstance(loaded.row, Email)
    return loaded.row


def _ask(loaded: LoadedOperation) -> Ask:
    row = _email(loaded)
    parameters: dict[str, Any] = {"to": row.recipient} | ({"locale": row.locale} if row.locale else {})
    data = json.dumps(row.data, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return Ask(MAIL, f"/email/{row.template}", parameters | {"data": data})


def _find(loaded: LoadedOperation, _read: Reader, _livemode: bool) -> LookResult:
    """Reads nothing: what is known is in the record. An answer that came too late was kept there. A notice about it
    proves that it was sent, too: its id is in no other place than the message."""
    record = loaded.open_record
    assert record is not None, "a look is one of an open record"
    if record.request_ids:
        return LookResult(Learned.FOUND_OURS, {"id": record.request_ids[-1]})
    if loaded.parts:
        return LookResult(Learned.FOUND_OURS)
    if record.unanswered or record.look_only:
        return LookResult(Learned.UNPROVABLE, why="no_answer_to_the_whole_message")
    return LookResult(Learned.IMPOSSIBLE, why=NOT_ACCEPTED)


def _apply(loaded: LoadedOperation, outcome: Learned, data: Json, why: str) -> list[Fact]:
    row = _email(loaded)
    set_state(row, EmailState.SENT if outcome is Learned.SUCCEEDED else EmailState.REFUSED)
    row.reason = why or None
    about: dict[str, Any] = {"template": row.template, "account": row.account or OWN, "why": why}
    if row.state == EmailState.REFUSED:
        return [new_fact(row, "refused", **about)]
    if "id" in data:
        row.provider_message = data["id"]
    return [new_fact(row, "sent", **about, provider_message=row.provider_message)]


def _ask_for_notices(loaded: LoadedOperation) -> Ask:
    return Ask(MAIL, f"/email/{_email(loaded).template}", {})


def news_of(loaded: LoadedOperation) -> EmailState | None:
    """The state to which what was told about it moves an e-mail; None if nothing new was told."""
    row, told = _email(loaded), email_notices.told(loaded.parts)
    if told is None:
        return None
    found = EmailState.COMPLAINED if told.kind is email_notices.Kind.COMPLAINT else EmailState.BOUNCED
    return found if (row.state, found) in row.life.legal else None


def _apply_notices(loaded: LoadedOperation, _outcome: Learned, _data: Json, _why: str) -> list[Fact]:
    row, told, found = _email(loaded), email_notices.told(loaded.parts), news_of(loaded)
    if told is None or found is None:
        return []
    set_state(row, found)
    row.reason = told.why
    about = {"template": row.template, "account": row.account or OWN, "why": told.why}
    if found is EmailState.COMPLAINED:
        return [new_fact(row, "complained", **about)]
    return [new_fact(row, "bounced", **about)]


READ_NOTICES = Step(
    name="read_notices",
    ask=_ask_for_notices,
    # The notices were loaded with the e-mail; nobody is asked.
    find=lambda _loaded, _read, _livemode: LookResult(Learned.SUCCEEDED),
    apply=_apply_notices,
    rules=Rules(replays=False, alarms=False),
)
SEND_EMAIL = Step(
    name="send_email",
    ask=_ask,
    judge=lambda _loaded, _data: Judgment(Learned.SUCCEEDED),
    find=_find,
    apply=_apply,
    creates=True,
    rules=Rules(replays=False, once=True, needs_a_person=True, seen_as=Learned.SUCCEEDED),
)
