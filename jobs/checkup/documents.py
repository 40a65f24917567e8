"""The documents of invoices: whether they are kept, which are not, and how long the oldest waits."""

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from billing import database
from billing.errors import WrongDatabase
from jobs.checkup.findings import NAMED, Finding, Level, first_line, some
from jobs.config.secrets import SecretError
from jobs.config.sources import SettingsError
from jobs.process.runtime import Runtime

WAITED_S = 24 * 3600.0
"""So long the oldest may wait: what may pass is tried for 23 hours."""


def documents(runtime: Runtime) -> Finding:
    """One line."""
    settings = runtime.settings
    if settings.archive_bucket is None:
        return Finding("documents", Level.OK, "not kept: there is no bucket for them (BILLING_ARCHIVE_BUCKET)")
    if not settings.keeps_documents:
        return Finding("documents", Level.OK, "not kept: BILLING_DOCUMENTS=off")
    try:
        with database.transaction(runtime.engine) as session:
            refused = list(session.scalars(_REFUSED, {"most": NAMED}))
            count, waiting, oldest_s = session.execute(_COUNTS).one()
    except (SettingsError, SecretError, WrongDatabase):
        return Finding("documents", Level.OK, "kept")  # reported by another check
    except SQLAlchemyError as error:
        return Finding("documents", Level.FAIL, first_line(error), "see the server's log")
    if count:
        message = f"{count} refused, and so not kept: {some(refused, count)}"
        return Finding("documents", Level.WARN, message, "billing document list --refused; docs/operate/documents.md")
    if oldest_s > WAITED_S:
        message = f"{waiting} wait, the oldest for {oldest_s / 3600:.0f} h"
        return Finding("documents", Level.WARN, message, "start a worker (`billing worker documents`), or read its log")
    return Finding("documents", Level.OK, f"kept; {waiting} wait" if waiting else "kept; none waits")


_REFUSED = text("SELECT id FROM billing.documents WHERE state = 'refused' ORDER BY id DESC LIMIT :most")
_COUNTS = text(
    """
    SELECT (SELECT count(*) FROM billing.documents WHERE state = 'refused') AS refused,
           count(*) AS waiting,
           coalesce(extract(epoch FROM clock_timestamp() - min(d.state_since)), 0)::float AS oldest_s
      FROM billing.documents AS d WHERE d.state = 'requested'
    """
)
