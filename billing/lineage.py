"""Whether this database was restored: it has forgotten something, or is another one than it was.

A restored database does not know what Stripe did since, so nothing may be sent from it. Whoever finds that writes it
down (`note`), and relays and workers pull the switch of everything (`stop`). Looks at Stripe go on.
`billing recover --release` ends it.

Two signs are compared: the identity of the database, which a dump carries along; and a mark kept elsewhere, of a fact
that was committed here. A failover that lost nothing shows neither.
"""

from dataclasses import asdict, dataclass
from datetime import datetime

from sqlalchemy.exc import ProgrammingError
from sqlalchemy.orm import Session

from billing import statements, switches
from billing.audit import SERVICE
from billing.database import MISSING, sqlstate
from billing.errors import NotInstalled
from billing.scopes import EVERYTHING

SQL = statements.beside(__file__)

ANOTHER = "another_database"
FORGOTTEN = "facts_missing"
BEHIND_THE_ARCHIVE = "behind_the_archive"
SIGNS = {
    ANOTHER: "it is another database than it was: a dump was restored, or it is a copy, or the server was replaced",
    FORGOTTEN: "a fact that was committed here is missing: it was restored to an earlier time, or a failover lost it",
    BEHIND_THE_ARCHIVE: "the archive holds batches that it does not know: it was restored to an earlier time",
}
"""How a restore is noticed, each with what it says about the database."""

PASSED_MOST = 100
"""So many facts about neither money nor an e-mail are passed to find the newest that is; and so many batches of each
class are searched for one that is not here any more."""


@dataclass(frozen=True, slots=True)
class Identity:
    """`cluster`: Postgres' own number of the cluster; None where it may not be read."""

    cluster: str | None
    database_oid: int


@dataclass(frozen=True, slots=True)
class Mark:
    """A fact that was committed in this installation's database."""

    installation: str
    fact_id: int
    entity_id: str
    happened_at: datetime


@dataclass(frozen=True, slots=True)
class Standing:
    """What a look at the database shows.

    `sign`: the key of `SIGNS` that was found now; None if there is none, or `restored_at` is set already. `newest`: the
    mark to keep elsewhere; None if there is none.
    """

    identity: Identity
    restored_at: datetime | None
    why: str | None
    restored_to: datetime | None
    sign: str | None
    newest: Mark | None


def identity(session: Session) -> Identity:
    """Of the database that this session is connected to."""
    here = statements.run(session, SQL["here"]).one()
    cluster = statements.run(session, SQL["cluster"]).scalar_one() if here.shows_cluster else None
    return Identity(cluster, here.database_oid)


def adopt(session: Session) -> None:
    """Write this database's identity, once. A restored one keeps that of the database which was dumped."""
    statements.run(session, SQL["adopt"], **asdict(identity(session)))


def look(session: Session, mark: Mark | None = None) -> Standing:
    """Compare the database with what it says of itself, and with a mark that was kept elsewhere.

    A mark of another installation, or of before the last recovery, counts for nothing. Raises NotInstalled.
    """
    try:
        row = statements.run(session, SQL["read"]).one()
    except ProgrammingError as error:
        if (found := MISSING.get(sqlstate(error) or "")) is None:
            raise
        raise NotInstalled(found) from error
    ours = identity(session)
    newest = statements.run(session, SQL["newest"], most=PASSED_MOST).one_or_none()
    sign = None
    if row.restored_at is None:
        if row.database_oid is not None and Identity(row.cluster, row.database_oid) != ours:
            sign = ANOTHER
        elif mark is not None and mark.installation == row.identity and not _after(row.recovered_at, mark):
            asked = {"fact_id": mark.fact_id, "entity_id": mark.entity_id, "happened_at": mark.happened_at}
            asked["most"] = PASSED_MOST
            sign = None if statements.run(session, SQL["holds"], **asked).scalar_one() else FORGOTTEN
    return Standing(
        ours,
        row.restored_at,
        row.why,
        row.restored_to,
        sign,
        None if newest is None else Mark(row.identity, newest.id, newest.entity_id, newest.happened_at),
    )


def _after(recovered_at: datetime | None, mark: Mark) -> bool:
    return recovered_at is not None and recovered_at >= mark.happened_at


def note(session: Session, sign: str, *, until: datetime | None = None) -> bool:
    """Write down that this database was restored, by the function that relays, workers and archivers may call. True if
    nobody had.

    `until`: when something happened that is not here any more, if that is known.
    """
    back_to = statements.run(session, SQL["newest_until"], until=until).scalar_one_or_none()
    noted: bool = statements.run(session, SQL["note"], why=sign, restored_to=back_to).scalar_one()
    return noted


def stop(session: Session, sign: str) -> bool:
    """Pull the switch of everything, with a relay's or a worker's login. True if it was not pulled for good before."""
    if statements.run(session, SQL["stopped"]).scalar_one():
        return False  # to pull it again would wait for every worker that prepares a call
    reason = f"restored: {SIGNS.get(sign, sign)}; billing recover"
    return switches.pull_once(session, EVERYTHING, actor=SERVICE, reason=reason).changed


def recovered(session: Session) -> None:
    """This database is the one and only from now on, with the owner's login. The switch is released by the caller."""
    statements.run(session, SQL["recovered"], **asdict(identity(session)))
