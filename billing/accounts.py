"""Which accounts at Stripe this service has been asked to call."""

from sqlalchemy.orm import Session

from billing import statements

SQL = statements.beside(__file__)


def accounts(session: Session) -> list[str | None]:
    """Our own, which is None, and every connected one that something was requested for."""
    return [None, *statements.run(session, SQL["connected"]).scalars()]
