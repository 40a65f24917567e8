"""Compares a restored database with the archive and with Stripe, brings back what is missing, and ends the stop.

`compare` changes nothing. `apply` takes the archive first, batch by batch, then switches, then Stripe, operation by
operation; a run that dies is simply run again. `release` comes after a comparison that has found nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from archive.s3.store import Store
from billing import database, lineage, switches
from billing.audit import SERVICE
from billing.database import Transact
from billing.errors import BillingError, InvalidRequest
from billing.scopes import EVERYTHING
from billing.states import SwitchState
from billing.tables.entities import Switch
from billing.tables.schema import Installation
from jobs.recovery import emails_not_again, from_archive, invoiced_again, repeats, switches_again
from jobs.recovery.from_archive import Count
from jobs.recovery.from_stripe import EVENTS_DAYS, Difference, StripesSide

MARGIN = timedelta(hours=1)
"""Clocks differ, and a call may have been made long before its fact was committed."""
WITHOUT_ROW = (
    "its facts are here and its row cannot be: another operation has its authorization, or what was left of its "
    "capture, or the archive left out a value"
)
SWITCH = "this switch was pulled or released, and it is not known here"
CLOSED = "this month was closed, and is open here; close it again, the earliest first: billing close {} --reason WHY"
REPEATED = "it repeats {}, which was made again; --apply refuses it, or puts its work into quarantine"
AS_OF_NOW = timedelta(days=1)
"""How far back a database is compared that was not restored."""


class NotTheOwner(BillingError):
    """This login may not write facts under the numbers that they had."""

    def __init__(self) -> None:
        super().__init__(
            "recovering writes facts and requests as they were, so it needs the DATABASE_URL of the owner, as "
            "`billing migrate` does (docs/operate/restore.md)"
        )


class AskedAgain(BillingError):
    """An application has repeated a request that was made again here, since the comparison."""

    def __init__(self, first: str, again: str) -> None:
        super().__init__(f"{again} repeats {first}, and came since the comparison; run `billing recover --apply` again")


@dataclass(slots=True)
class Report:
    """What was compared, and what differs. `why`: the sign of a restore; None if none was found. `archive`: what is
    missing here; None without a bucket. `seen`: how many operations Stripe shows. `back` and `attached`: what this run
    has brought back from the archive, and of how many operations it has added what Stripe did."""

    restored_at: datetime | None
    why: str | None
    since: datetime
    archive: Count | None = None
    seen: int = 0
    back: Count = field(default_factory=Count)
    attached: int = 0
    differences: list[Difference] = field(default_factory=list)

    @property
    def batches(self) -> int:
        return 0 if self.archive is None else self.archive.batches

    @property
    def differs(self) -> int:
        """How many things are missing here."""
        return self.batches + len(self.differences)


@dataclass(frozen=True, slots=True)
class Recovery:
    """`store`: None if no bucket is set. `side`: makes the reader of Stripe for what happened since then. `actor`: who
    recovers. `tell` is called with a line of progress."""

    transact: Transact
    store: Store | None
    side: Callable[[datetime], StripesSide]
    actor: str
    tell: Callable[[str], None] = lambda _: None

    def compare(self, since: datetime | None = None) -> Report:
        """What differs now. `since`: from when on Stripe is read, instead of from an hour before the restore point.

        Raises EvidenceDiffers, NotRead, and InvalidRequest if Stripe keeps no events of so long ago.
        """
        installation, standing, newest = self.transact(_read)
        archive = None
        if self.store is not None:
            archive = Count()
            for part in from_archive.missing(self.store, self.transact(from_archive.known), installation.identity):
                from_archive.add(archive, part)
        from_when = since or _since(standing, newest, archive)
        report = Report(standing.restored_at, standing.why, from_when, archive)
        if since is None and datetime.now(UTC) - from_when > timedelta(days=EVENTS_DAYS):
            raise InvalidRequest(
                "since",
                f"must be given: this database is of {from_when:%Y-%m-%d}, and Stripe lists events of {EVENTS_DAYS} "
                "days only; compare what is older in Stripe's dashboard",
            )
        side = self.side(from_when)
        traces = side.traces()
        report.seen = len(traces)
        report.differences = side.differences(traces)
        if not report.batches:
            report.differences += self.transact(lambda session: _here(session, from_when, report))
        return report

    def apply(self, found: Report) -> Report:
        """Bring back what `compare` has found to be missing, and compare again."""
        back, since = Count(), found.since
        again = self.transact(lambda session: repeats.since(session, since, self.actor))
        if self.store is not None and found.archive is not None and found.archive.batches:
            newest, known = found.archive.newest, self.transact(from_archive.known)
            self.transact(lambda session: from_archive.go_ahead(session, newest))
            installation, _, _ = self.transact(_read)
            for part in from_archive.missing(self.store, known, installation.identity):
                counted = self.transact(lambda session, part=part: from_archive.bring_back(session, part, again))  # type: ignore[misc]
                back.add(counted)
                self.tell(
                    f"{part.manifest.retention_class} batch {part.manifest.number}: {counted.facts} facts are back"
                )
        self.transact(lambda session: switches_again.bring_back(session, since, self.actor))
        side, attached = self.side(since), 0
        traces = side.traces()
        wanted = {each.operation_id for each in side.differences(traces)}
        for trace in traces:
            if trace.operation_id in wanted:
                attached += side.attach(trace, again) is None
                if attached % 100 == 0 and attached:
                    self.tell(f"{attached} of {len(wanted)} operations are attached")
        self.transact(lambda session: invoiced_again.bring_back(session, since))
        self.transact(lambda session: repeats.settle(session, since, self.actor))
        self.transact(lambda session: emails_not_again.refuse(session, found.restored_at, self.actor))
        left = self.compare(since)
        left.back, left.attached = back, attached
        return left

    def release(self, session: Session, since: datetime, *, reason: str) -> str | None:
        """This database counts from now on, and what the switch of everything held continues; unless a person has
        pulled that: then it stays, and who pulled it is returned. In the caller's transaction, after a comparison has
        found nothing. Raises AskedAgain.
        """
        # Whoever requests something now waits, and then finds what was made again.
        names = (
            "captures",
            "voids",
            "refunds",
            "invoices",
            "invoice_actions",
            "credit_notes",
            "emails",
            "invoiced_captures",
            "documents",
        )
        tables = ", ".join(f"billing.{name}" for name in names)
        session.execute(text(f"LOCK TABLE {tables} IN SHARE ROW EXCLUSIVE MODE"))
        for first, again in repeats.left(session, since):
            raise AskedAgain(first, again)
        lineage.recovered(session)
        pulled = select(Switch.actor).where(Switch.scope == EVERYTHING, Switch.state == SwitchState.PULLED)
        by = session.scalars(pulled).one_or_none()
        if by == SERVICE:
            switches.release(session, EVERYTHING, actor=self.actor, reason=reason)
        return None if by == SERVICE else by


def _here(session: Session, since: datetime, report: Report) -> list[Difference]:
    """What facts tell, and no row here does, once the facts themselves are here."""
    named = {each.operation_id for each in report.differences}
    return [
        *(Difference(each, WITHOUT_ROW) for each in from_archive.without_row(session, since) if each not in named),
        *(Difference(again, REPEATED.format(first)) for first, again in repeats.left(session, since)),
        *(Difference(each, SWITCH) for each in switches_again.behind(session, since)),
        *(Difference(each, CLOSED.format(each)) for each in from_archive.closed_in_the_gap(session, since)),
        *(Difference(each, emails_not_again.NOT_AGAIN) for each in emails_not_again.left(session, report.restored_at)),
    ]


def refuse_unless_owner(session: Session) -> None:
    """Raise NotTheOwner for a login that may not delete a fact: no other but the owner may."""
    if not session.scalar(text("SELECT has_table_privilege('billing.facts', 'DELETE')")):
        raise NotTheOwner


def _read(session: Session) -> tuple[Installation, lineage.Standing, datetime]:
    row = session.scalars(select(Installation)).one()
    session.expunge(row)
    return row, lineage.look(session), database.now(session)


def _since(standing: lineage.Standing, now: datetime, archive: Count | None) -> datetime:
    if standing.restored_at is None:
        began = now - AS_OF_NOW
    else:
        began = (standing.restored_to or standing.restored_at - AS_OF_NOW) - MARGIN
    oldest = archive.oldest if archive is not None else None
    return began if oldest is None else min(began, oldest - MARGIN)
