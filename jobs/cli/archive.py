"""`billing archive`: set up the bucket, archive facts, show how far the archive is, and query it."""

from typing import Annotated

import typer

from jobs.cli import archive_holds, archive_policy
from jobs.cli.acting import acting
from jobs.cli.archive_compact import compact, ddl
from jobs.cli.archive_keys import NOT_SIGNED, key, keys
from jobs.cli.archive_query import plot, query, sql
from jobs.cli.archive_restore import restore
from jobs.cli.archive_verifier import verifier
from jobs.cli.archive_verify import verify
from jobs.cli.output import (
    FINANCE,
    Actor,
    AsJson,
    Reason,
    clock,
    print_json,
    print_line,
    print_table,
)


def add_to(app: typer.Typer) -> None:
    archive = typer.Typer(no_args_is_help=True, help="The archive in S3: write facts, query them, verify them.")
    for command in (setup, run, status, query, sql, plot, restore, compact, ddl, verify, keys, verifier):
        archive.command()(command)
    archive.add_typer(key, name="key")
    for room in (archive_policy, archive_holds):
        room.add_to(archive)
    app.add_typer(archive, name="archive", rich_help_panel=FINANCE)


def setup(reason: Reason, actor: Actor = "", as_json: AsJson = False) -> None:
    """Make the bucket, with Object Lock and this environment's tag. Safe to repeat.

    It refuses a bucket that was made without Object Lock, or belongs to another environment. It needs the database,
    too: who makes the bucket, and why, is a fact before there is one. Then it tries, with empty objects below probes/,
    whether this S3 does what evidence needs, and names what it does not do. Exit status 1 if no fact may be written
    there.

    \b
    Example:
      billing archive setup --reason "the first deployment, OPS-7"
    """
    from archive.errors import WrongBucket
    from archive.s3 import abilities
    from jobs.process import buckets

    with acting("archive setup", actor, reason) as act, buckets.opened(act.runtime.settings) as store:
        settings, made = act.runtime.settings, False
        try:
            store.check(settings.environment)
        except WrongBucket:
            with act.outside(about=store.bucket):
                made = store.set_up(settings.environment)
        lacks = abilities.all_of_them(store)
    if as_json:
        told = [
            {"ability": lack.ability.name, "needed": lack.ability.needed, "found": lack.found, "fix": lack.ability.fix}
            for lack in lacks
        ]
        print_json({"bucket": store.bucket, "environment": settings.environment, "made": made, "lacks": told})
    else:
        print_line(f"{store.bucket} {'was made' if made else 'exists'}, with Object Lock, for {settings.environment}")
        for lack in lacks:
            print_line(f"{'FAIL' if lack.ability.needed else 'WARN'}  {lack} -> {lack.ability.fix}")
    if any(lack.ability.needed for lack in lacks):
        raise typer.Exit(1)


def run(
    once: Annotated[bool, typer.Option("--once", help="Archive the facts that wait now, then end.")] = False,
    as_json: AsJson = False,
) -> None:
    """Run an archiver until SIGTERM or Ctrl-C: it copies facts to S3 under Object Lock, batch by batch.

    Any number may run, and any may be killed: the next one finishes its batch. With --once and --json it prints how
    many facts were archived.

    \b
    Examples:
      billing archive run
      billing archive run --once
    """
    from jobs.cli.complaints import complaint
    from jobs.cli.opening import open_runtime
    from jobs.cli.processes import Stop
    from jobs.process import archiving

    # With --once a signal ends it at once: what it leaves unfinished, the next one finishes.
    stop = None if once else Stop()
    runtime = open_runtime("archiver", logs_too=True)
    try:
        if stop is not None:
            archiving.run(runtime, stop.requested, complaint)
            return
        archived = archiving.run_once(runtime)
    finally:
        runtime.close()
    if as_json:
        print_json({"archived": archived})
    else:
        print_line(f"{archived} facts were archived")


def status(as_json: AsJson = False) -> None:
    """Show how far the archive is: facts that wait or are set aside, and the batches and head of each class.

    Heads are published every day where BILLING_HEADS_BUCKET and BILLING_HEADS_DIRECTORY lead; it shows how far each
    place is. With a published head, `billing archive verify` can prove that nothing was cut off or rewritten since. A
    fact that cannot be archived is set aside, with its reason; the others are archived. After its row is corrected, the
    next archiver that starts takes it.

    \b
    Example:
      billing archive status
    """
    from archive.writing import batches, publishing, set_aside
    from jobs.cli.opening import opened
    from jobs.process.patience import patiently

    with opened() as runtime:
        classes = patiently(runtime, batches.standing)
        lag = patiently(runtime, batches.lag)
        aside = patiently(runtime, set_aside.named)
        published = patiently(runtime, publishing.standing)
    if as_json:
        print_json({"lag": lag, "classes": classes, "set_aside": aside, "published": published})
        return
    print_line(
        f"{_counted(lag.waiting)} facts wait to be archived"
        + (f", the oldest for {lag.oldest_age_s:.0f} s" if lag.waiting else "")
        + (f"; {_counted(lag.unplanned)} wait for a relay first" if lag.unplanned else "")
    )
    if aside.count:
        print_table(
            f"set aside: {aside.count}, the oldest",
            ("fact", "topic", "why"),
            [(fact.fact_id, fact.topic, set_aside.words(fact.why)) for fact in aside.facts],
        )
    if classes:
        print_table(
            "archived",
            ("class", "facts", "batches", "unfinished", "last", "signed by", "head"),
            [
                (
                    c.retention_class,
                    c.archived_facts,
                    c.archived_batches,
                    c.claimed_batches,
                    clock(c.last_archived_at),
                    c.key_id or ("nobody" if c.head else ""),
                    c.head,
                )
                for c in classes
            ],
        )
    if published:
        shown = [(each.place, each.newest, each.behind or "", each.problem) for each in published]
        print_table("heads published", ("to", "newest day", "days missing", "why"), shown)
    if any(c.head and not c.key_id for c in classes):
        print_line(NOT_SIGNED)


def _counted(count: int) -> str:
    from archive.writing.batches import MOST_COUNTED

    return f"{count} or more" if count >= MOST_COUNTED else str(count)
