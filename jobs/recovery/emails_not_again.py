"""E-mails that stand here as not sent since a restore. Each may have been sent before it, and nobody can be asked.

A mail server knows no key, and lists nothing that it has accepted. So none of them is sent by a machine: they are
refused, as `restored`, and an application that still wants one asks for it under a new request id. What the archive
tells of as sent is known as sent by then.
"""

from datetime import datetime

from sqlalchemy import exists, or_, select
from sqlalchemy.orm import Session

from billing import begun_emails, database, emails, invoice_emails, receipts, row_io, store
from billing.states import EmailState
from billing.tables.entities import Email
from billing.tables.idempotency_records import Record
from billing.tables.work import Work
from jobs.road import discarding, work_queue

RESTORED = "restored"
"""The reason of an e-mail that is refused so."""
NOT_AGAIN = "this e-mail stands here as not sent; it may have been sent before the restore, and `--apply` refuses it"


def left(session: Session, restored_at: datetime | None) -> list[str]:
    """Those that would be sent, perhaps again. What may have been sent from here (its call is open) is never sent
    again, restored or not."""
    if restored_at is None:
        return []
    # While nothing is sent, a look may find an invoice finalized, or money taken or given back: the e-mail of that may
    # have been sent before, too.
    of_ours = (
        begun_emails.request_id_of(r"inv\_%", invoice_emails.NAME),
        *(begun_emails.request_id_of(rf"{each}\_%", receipts.NAME) for each in ("cap", "ref")),
    )
    before = or_(Email.requested_at < restored_at, *(Email.request_id.like(each) for each in of_ours))
    called = exists().where(Record.operation_id == Email.id, Record.concluded_at.is_(None), Record.unanswered > 0)
    waiting = select(Email.id).where(Email.state == EmailState.REQUESTED, before, ~called)
    return list(session.scalars(waiting.order_by(Email.id)))


def refuse(session: Session, restored_at: datetime | None, actor: str) -> int:
    """Refuse them, under the locks of both and of their work; a worker concludes the work. Returns how many."""
    refused = 0
    for email in left(session, restored_at):
        works = session.scalars(select(Work.id).where(Work.entity_id == email)).all()
        work_queue.locked(session, works)
        wanted = {email: ("", emails.OPERATION.contracts[0].queue)}
        loaded = store.load(session, emails.OPERATION, wanted)[email]
        if discarding.nothing_was_done(loaded):
            fact = discarding.refuse(loaded, database.now(session), actor=actor, why=RESTORED)
            row_io.save(session, [loaded.row, *loaded.records], [fact])
            refused += 1
    return refused
