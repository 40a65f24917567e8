"""`billing archive policy`: how long evidence is kept, and the bucket that makes it so."""

from typing import TYPE_CHECKING, Annotated

import typer

from jobs.cli.acting import acting
from jobs.cli.output import (
    Actor,
    AsJson,
    Reason,
    counted,
    every_few_seconds,
    print_error,
    print_json,
    print_line,
    print_table,
)

if TYPE_CHECKING:
    from archive.keeping.raising import Extent


def add_to(archive: typer.Typer) -> None:
    policy = typer.Typer(no_args_is_help=True, help="How long evidence is kept, and the bucket's rules for it.")
    for command in (show, diff, apply):
        policy.command()(command)
    policy.command("raise")(raise_)
    archive.add_typer(policy, name="policy")


def show(as_json: AsJson = False) -> None:
    """Show how long each class is kept, until when a fact of today is locked, and why. It asks no server.

    The file is named by BILLING_ARCHIVE_RETENTION. A manifest is locked as long as the longest class, or longer.

    \b
    Example:
      billing archive policy show
    """
    from datetime import UTC, datetime

    from archive.policy.retention import CLASSES, STANDARD
    from jobs.config.loading import load
    from jobs.process import archiving

    policy = archiving.policy(load())
    today = datetime.now(UTC).date()
    until = {name: policy.lock(name, today, today).until for name in CLASSES}
    manifests = policy.manifest_lock(today, today)
    if as_json:
        print_json(
            {
                "classes": {
                    name: {
                        "policy": rule.policy,
                        "keep": rule.keep,
                        "from": rule.counted_from,
                        "mode": rule.mode,
                        "today_is_locked_until": until[name],
                        "storage": rule.storage,
                        "transitions": rule.transitions,
                        "because": rule.because,
                    }
                    for name, rule in policy.rules.items()
                },
                "manifests": {"mode": manifests.mode, "today_is_locked_until": manifests.until},
                "grace_days": policy.grace_days,
                "bypass_role": policy.bypass_role,
            }
        )
        return
    rows: list[tuple[object, ...]] = [
        (
            *(name, rule.keep, rule.counted_from.replace("_", " "), rule.mode, f"{until[name]:%Y-%m-%d}", rule.storage),
            ", ".join(f"{each.storage} after {each.days} days" for each in rule.transitions),
            *(rule.name, rule.because),
        )
        for name, rule in policy.rules.items()
    ]
    until_day = f"{manifests.until:%Y-%m-%d}"
    rows.append(("manifests", "", "", manifests.mode, until_day, STANDARD, "", "", "they outlive every class"))
    columns = ("class", "keep", "from the", "mode", "today's facts until", "stored in", "moves to", "policy", "because")
    print_table("retention", columns, rows)
    print_line(
        f"objects are disposed of by the bucket's rules, {counted(policy.grace_days, 'day')} after the longest that"
        " their locks can last; manifests are not"
    )


def diff(as_json: AsJson = False) -> None:
    """Compare the bucket with the retention file: versions, default lock, rules of expiry, statements that deny.

    It changes nothing. Exit status 1 if something differs that `apply` can change. SHORTER: `apply` would refuse that.
    "This server does not": it refused that when the file was applied, and has the rest.

    \b
    Example:
      billing archive policy diff
    """
    from archive.keeping import bucket_changes
    from jobs.config.loading import load
    from jobs.process import archiving, buckets

    settings = load()
    policy = archiving.policy(settings)
    with buckets.opened(settings) as store:
        store.check(settings.environment)
        found = bucket_changes.differences(store, policy)
    if as_json:
        print_json({"bucket": store.bucket, "differences": found})
    else:
        for each in found:
            print_line(f"{'SHORTER ' if each.shorter else ''}{each}")
        if all(each.refused for each in found):
            print_line(f"{store.bucket} is as the retention file asks{', as far as this server can' if found else ''}")
    if not all(each.refused for each in found):
        raise typer.Exit(1)


def apply(reason: Reason, actor: Actor = "", as_json: AsJson = False) -> None:
    """Give the bucket what the retention file asks for. Safe to repeat; it needs the login `setup` in S3.

    A time is never shortened: neither that of a rule of the bucket, nor a lock that the newest batches have. What this
    server does not do is named, a line each, and the exit status is then 1; the rest is applied. Rules of expiry that
    are not in the file are removed, because the bucket is for the archive alone; statements of the bucket's policy
    whose names do not begin with Billing stay.

    \b
    Example:
      billing archive policy apply --reason "ten years for captures, FIN-31"
    """
    from archive.keeping import bucket_changes
    from archive.writing.batches import newest
    from jobs.process import archiving, buckets
    from jobs.process.patience import patiently

    with acting("archive policy apply", actor, reason) as act, buckets.opened(act.runtime.settings) as store:
        policy = archiving.policy(act.runtime.settings)
        store.check(act.runtime.settings.environment)
        found = bucket_changes.differences(store, policy)
        bucket_changes.check_not_shorter(policy, found, patiently(act.runtime, newest))
        applied = bucket_changes.Applied([], [])
        if found:
            with act.outside(about=store.bucket, count=len(found)):
                applied = bucket_changes.apply(store, policy, found)
    if as_json:
        print_json({"bucket": store.bucket, "changed": applied.changed, "not_done": applied.not_done})
    else:
        for each in applied.changed:
            print_line(f"{each.part}: {each.policy}")
        for line in applied.not_done:
            print_line(f"NOT DONE {line}")
        print_line(f"{store.bucket}: {counted(len(applied.changed), 'part')} changed, {len(applied.not_done)} not done")
    if applied.not_done:
        raise typer.Exit(1)


def raise_(
    retention_class: Annotated[list[str], typer.Option("--class", metavar="CLASS", help="May be given several times.")],
    reason: Reason,
    confirm: Annotated[
        str, typer.Option(metavar="BUCKET", help="The bucket's name: what is raised cannot be undone.")
    ] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be raised, and until when.")] = False,
    actor: Actor = "",
    as_json: AsJson = False,
) -> None:
    """Raise the locks of archived objects and their manifests to COMPLIANCE, and with the class invoice those of
    documents. Nobody can undo this.

    The retention file must ask for COMPLIANCE for the class, and the bucket must be named again: with --confirm, or
    when it is asked. It needs the login `raiser` in S3, which may bypass a GOVERNANCE lock; no other login should exist
    that may. If it dies, run it again: what is raised already is left alone.

    \b
    Examples:
      billing archive policy raise --class capture --reason "after 90 days, FIN-40" --dry-run
      billing archive policy raise --class capture --reason "after 90 days, FIN-40" --confirm evidence
    """
    from functools import partial

    from archive.keeping import raising
    from archive.policy.retention import CLASSES, Mode
    from jobs.process import archiving, buckets
    from jobs.process.patience import patiently

    for name in retention_class:
        if name not in CLASSES:
            raise typer.BadParameter(f"{name!r} is no class; there are: {', '.join(CLASSES)}", param_hint="--class")
    with acting("archive policy raise", actor, reason) as act, buckets.opened(act.runtime.settings) as store:
        policy = archiving.policy(act.runtime.settings)
        for name in retention_class:
            if policy.rules[name].mode is not Mode.COMPLIANCE:
                raise typer.BadParameter(
                    f"the retention file asks for GOVERNANCE for {name}; write COMPLIANCE there first, so that new"
                    " evidence gets it, too",
                    param_hint="--class",
                )
        store.check(act.runtime.settings.environment)
        classes = list(dict.fromkeys(retention_class))
        extent = patiently(act.runtime, lambda session: raising.extent(session, classes))
        counts = dict.fromkeys(raising.Became, 0)
        if not as_json:
            _show_extent(extent, store.bucket)
        if not dry_run and extent.batches:
            _confirmed(store.bucket, confirm)
            with act.outside(about=store.bucket, count=extent.batches):
                counts = raising.raise_locks(store, partial(patiently, act.runtime), classes, every_few_seconds())
    if as_json:
        print_json({"bucket": store.bucket, "dry_run": dry_run, "extent": extent, "locks": counts})
    elif not dry_run:
        print_line(
            f"{counts[raising.Became.RAISED]} locks raised, {counts[raising.Became.WAS_COMPLIANCE]} were COMPLIANCE"
            f" already, {counts[raising.Became.ENDED]} had ended"
        )


def _show_extent(extent: "Extent", bucket: str) -> None:
    print_line(
        f"{counted(extent.batches, 'batch', 'batches')} with {counted(extent.facts, 'fact')}"
        + (f" and {counted(extent.documents, 'document')}" if extent.documents else "")
        + f" in {bucket}"
        + (f"; raised, nobody can delete the last of it before {extent.until:%Y-%m-%d}" if extent.until else "")
    )


def _confirmed(bucket: str, confirm: str) -> None:
    """Raises typer.BadParameter unless the bucket's name was typed."""
    import sys

    if not confirm and sys.stdin.isatty():
        print_error("This cannot be undone by anybody, nor can the cost of the storage. Type the bucket's name:")
        confirm = sys.stdin.readline().strip()
    if confirm != bucket:
        raise typer.BadParameter(f"name the bucket {bucket} to raise its locks for good", param_hint="--confirm")
