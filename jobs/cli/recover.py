"""`billing recover`: what a restored database has forgotten is brought back, and then its sends may go on."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from jobs.cli.acting import Acting, acting
from jobs.cli.moments import Moment, moment
from jobs.cli.output import RUNNING, Actor, AsJson, clock, counted, print_error, print_json, print_line

if TYPE_CHECKING:
    from jobs.recovery.from_archive import Count
    from jobs.recovery.recover import Recovery, Report

SHOWN = 20
"""So many differences are printed; JSON has all."""


def add_to(app: typer.Typer) -> None:
    app.command(rich_help_panel=RUNNING)(recover)


def recover(
    since: Moment = None,
    apply: Annotated[bool, typer.Option("--apply", help="Bring back what is missing.")] = False,
    release: Annotated[
        bool, typer.Option("--release", help="If nothing differs: this database counts, and what is held continues.")
    ] = False,
    reason: Annotated[str, typer.Option(help="Why; it is stored in a fact. Needed to change something.")] = "",
    actor: Actor = "",
    as_json: AsJson = False,
) -> None:
    """Compare a restored database with the archive and with Stripe, and bring back what it has forgotten.

    Without --apply nothing is changed, here or at Stripe. --apply brings back the archived facts under their numbers,
    makes the captures and invoices that they tell of, pulls again the switches that were pulled, and adds what Stripe
    did and no archive knows. A request that your application has repeated meanwhile is refused. It sends nothing, and
    may be stopped and run again. --release ends the stop, unless something still differs. It needs the owner's
    DATABASE_URL, and keys that may read at Stripe and in the bucket. The exit status is 1 if something differs.

    \b
    Examples:
      billing recover
      billing recover --apply --reason "restored the dump of 02:00, INC-17"
      billing recover --release --reason "nothing differs, INC-17"
    """
    if apply and release:
        raise typer.BadParameter("first --apply, then --release", param_hint="--release")
    if (apply or release) and not reason:
        raise typer.BadParameter("say why", param_hint="--reason")
    from_when = moment("--since", since)
    with acting("recover", actor, reason or None) as act, _opened(act) as recovery:
        report = recovery.compare(from_when)
        if apply and report.differs:
            with act.outside(about=_installation(act), count=report.differs):
                report = recovery.apply(report)
        stays = None
        if release and report.restored_at is not None and not report.differs:
            stays = _release(act, recovery, report, reason)
    if as_json:
        print_json(_as_json(report, released=release and not report.differs, stays=stays))
    else:
        _print(report, applied=apply, released=release, stays=stays)
    if report.differs:
        raise typer.Exit(1)


@contextmanager
def _opened(act: Acting) -> "Iterator[Recovery]":
    """With the gateway of a worker, which here only reads. Raises NotTheOwner, SecretError and OtherAccount."""
    from functools import partial

    from jobs.process import buckets
    from jobs.process.patience import patiently
    from jobs.process.service import ServiceProcess
    from jobs.recovery.from_stripe import StripesSide
    from jobs.recovery.recover import Recovery, refuse_unless_owner
    from jobs.road.refusing_gateways import ReadOnly

    transact = partial(patiently, act.runtime)
    transact(refuse_unless_owner)
    process = ServiceProcess(act.runtime.settings, "cli")
    with ExitStack() as until_the_end:
        until_the_end.callback(process.close)
        store = None
        if act.runtime.settings.archive_bucket is not None:
            store = until_the_end.enter_context(buckets.opened(act.runtime.settings))
            store.check(act.runtime.settings.environment)
        process.check_provider()
        gateway = ReadOnly(process.gateway(1))
        yield Recovery(
            transact,
            store,
            lambda since: StripesSide(gateway, process.call_settings, transact, since, act.actor),
            act.actor,
            print_error,
        )


def _installation(act: Acting) -> str:
    from sqlalchemy import select

    from billing.tables.schema import Installation
    from jobs.process.patience import patiently

    return patiently(act.runtime, lambda session: session.scalars(select(Installation.identity)).one())


def _release(act: Acting, recovery: "Recovery", report: "Report", reason: str) -> str | None:
    """Who else has pulled everything, so that it stays pulled."""
    from billing.scopes import EVERYTHING

    return act.inside(lambda session: recovery.release(session, report.since, reason=reason), about=EVERYTHING)


def _as_json(report: "Report", *, released: bool, stays: str | None) -> dict[str, object]:
    return {
        "restored_at": report.restored_at,
        "why": report.why,
        "since": report.since,
        "archive": report.archive,
        "operations_at_stripe": report.seen,
        "brought_back": report.back,
        "attached": report.attached,
        "differences": report.differences,
        "released": released and report.restored_at is not None,
        "everything_stays_pulled_by": stays,
    }


def _print(report: "Report", *, applied: bool, released: bool, stays: str | None) -> None:
    from billing.lineage import SIGNS

    if report.restored_at is None:
        print_line("no sign of a restore was found in this database")
    else:
        print_line(f"restored, found at {clock(report.restored_at)} UTC: {SIGNS.get(report.why or '', report.why)}")
    if report.archive is None:
        print_line("no bucket is set (BILLING_ARCHIVE_BUCKET): only Stripe is compared")
    else:
        if applied:
            print_line(f"archive: {_held(report.back)} brought back")
        print_line(f"archive: {_held(report.archive)} missing here")
    print_line(f"Stripe, since {clock(report.since)} UTC: it shows {counted(report.seen, 'operation')} of ours")
    if applied:
        print_line(f"Stripe: {counted(report.attached, 'operation')} attached, and nothing was sent")
    for each in report.differences[:SHOWN]:
        print_line(f"DIFFERS {each.operation_id}: {each.what}")
    if len(report.differences) > SHOWN:
        print_line(f"and {len(report.differences) - SHOWN} more; --json names all")
    if report.differs:
        print_line(f"{counted(report.differs, 'difference')}: " + (_AGAIN if applied else _APPLY))
    elif stays is not None:
        print_line(f"nothing differs, and this database counts; everything stays pulled, because {stays} pulled it")
        print_line("to continue: billing switch release everything --reason WHY")
    elif released and report.restored_at is not None:
        print_line("nothing differs; everything is released, and held work continues")
    elif report.restored_at is not None:
        print_line("nothing differs; to continue: billing recover --release --reason WHY")
    else:
        print_line("nothing differs")


def _held(count: "Count") -> str:
    return f"{counted(count.batches, 'batch', 'batches')} with {counted(count.facts, 'fact')}"


_APPLY = "to bring back what is missing: billing recover --apply --reason WHY"
_AGAIN = "these need a decision, or a second run (docs/operate/restore.md)"
