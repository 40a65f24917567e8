"""The one call of a document: it is read at Stripe, and stored in the archive's bucket under a lock.

Nothing is changed at Stripe, and the object's key is that of the document, written only where there is none. So the
call may be made again at any time, like a function of ours (`Rules.local`): made twice, it stores once. What it may
answer: stored; refused, for what will not become a document however often it is read; or not now, for what may.
"""

from datetime import UTC, datetime, timedelta

from billing.facts import OWN, new_fact
from billing.gateway import KEEP
from billing.idempotency import Rules
from billing.learned import Learned
from billing.states import DocumentState, set_state
from billing.steps import Ask, Json, Judgment, LoadedOperation, LookResult, Reader, Step
from billing.tables.documents import Document
from billing.tables.facts import Fact

TRIED_FOR = timedelta(hours=23)
"""So long what may pass is tried again, with growing pauses; then a person has to look."""
STORED_AS = ("sha256", "size_bytes", "object_key", "object_version", "lock_mode", "locked_until")
"""What is known of a stored document: columns, fields of the answer, and of the fact."""


def document_of(loaded: LoadedOperation) -> Document:
    assert isinstance(loaded.row, Document), "the operation's own table"
    return loaded.row


def _ask(loaded: LoadedOperation) -> Ask:
    row = document_of(loaded)
    parameters = {
        "document": row.id,
        "of": row.stripe_object,
        # The lock counts from here, however late it is stored.
        "day": row.requested_at.astimezone(UTC).date().isoformat(),
        # Of a document that an operator had fetched again: from then on.
        "until": int((row.state_since + TRIED_FOR).timestamp()),
    }
    return Ask(KEEP, f"/document/{row.kind}", parameters)


def _nothing_to_find(_loaded: LoadedOperation, _read: Reader, _livemode: bool) -> LookResult:
    return LookResult(Learned.ABSENT, why="a document is not looked at; it is fetched again")


def _apply(loaded: LoadedOperation, outcome: Learned, data: Json, why: str) -> list[Fact]:
    row = document_of(loaded)
    about = {"invoice": row.invoice_id, "kind": row.kind, "account": row.account or OWN, "why": why}
    if outcome is not Learned.SUCCEEDED:
        set_state(row, DocumentState.REFUSED)
        row.reason = why or outcome
        return [new_fact(row, "refused", **about)]
    set_state(row, DocumentState.STORED)
    row.reason = None
    for name in STORED_AS:
        value = data[name]
        setattr(row, name, datetime.fromisoformat(value) if name == "locked_until" else value)
    return [new_fact(row, "stored", **about, **{name: data[name] for name in STORED_AS})]


STORE = Step(
    name="store_document",
    ask=_ask,
    judge=lambda _loaded, _data: Judgment(Learned.SUCCEEDED),
    find=_nothing_to_find,
    apply=_apply,
    creates=True,
    rules=Rules(replays=False, local=True),
)
