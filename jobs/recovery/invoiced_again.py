"""Which captures were on invoices after the backup, by what facts tell once these and the invoices are back.

Otherwise a capture whose invoice is known would be invoiced a second time. Captures that waited for the end of their
period are told of by no fact: the application asks for them again, as it does for every request that was lost, and
`captured_not_invoiced` names them.
"""

from datetime import datetime

from sqlalchemy.orm import Session

from billing import statements
from billing.invoice_requests import UNKNOWN_TEXT
from jobs.recovery import from_archive

SQL = statements.beside(__file__)


def bring_back(session: Session, since: datetime) -> None:
    """Make the rows of what was invoiced since then. Those that are here stay as they are."""
    after = statements.run(session, from_archive.SQL["newest_before"], since=since).scalar_one_or_none() or 0
    statements.run(session, SQL["periods"], after=after)
    for name in ("alone", "collected"):
        statements.run(session, SQL[name], after=after, text=UNKNOWN_TEXT)
