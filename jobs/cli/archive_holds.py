"""`billing archive hold`: legal holds, which keep evidence longer than its policy until somebody releases them."""

import re
from typing import TYPE_CHECKING, Annotated

import typer

from jobs.cli.acting import acting
from jobs.cli.moments import Moment, moment
from jobs.cli.output import (
    Actor,
    AsJson,
    Reason,
    clock,
    counted,
    every_few_seconds,
    print_json,
    print_line,
    print_table,
)

if TYPE_CHECKING:
    from archive.keeping.search import Criteria

HoldName = Annotated[str, typer.Option("--name", help="Of the case, such as CASE-7; it is stored for ever.")]


def add_to(archive: typer.Typer) -> None:
    hold = typer.Typer(no_args_is_help=True, help="Legal holds: keep evidence for a case, whatever its policy says.")
    hold.command()(place)
    hold.command("list")(list_holds)
    hold.command()(release)
    archive.add_typer(hold, name="hold")


def place(
    name: HoldName,
    reason: Reason,
    where: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=ID", help="payment-intent=pi_... or customer=cus_...; both must hold."),
    ] = None,
    retention_class: Annotated[str | None, typer.Option("--class", metavar="CLASS", help="Only of this class.")] = None,
    since: Moment = None,
    until: Moment = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be held.")] = False,
    actor: Actor = "",
    as_json: AsJson = False,
) -> None:
    """Hold what is archived about a payment, a customer, a class or a time: nobody can delete it, no rule lets it end.

    It reads the verified copies, and sets a legal hold in S3 on each object with such a fact, and on each document that
    such a fact tells of. An object holds facts about others, too, and is held as a whole; a document is held alone.
    What happens later is held if the hold is placed again, with the same name and the same criteria. --since and
    --until mean whole UTC days, as those of objects. A customer is known in facts about invoices; name a capture by its
    payment intent. It needs the login `holder` in S3.

    \b
    Examples:
      billing archive hold place --name CASE-7 --where payment-intent=pi_123 --reason "Doe v. shop, LEGAL-7"
      billing archive hold place --name AUDIT-26 --class invoice --since 2026-01-01 --until 2027-01-01 \\
          --reason "tax audit, LEGAL-9"
    """
    from functools import partial

    from archive.keeping import holds, search
    from jobs.process import archiving, buckets
    from jobs.process.patience import patiently

    criteria = _criteria(where or (), retention_class, moment("--since", since), moment("--until", until))
    _check_name(name)
    with acting("archive hold place", actor, reason) as act, buckets.opened(act.runtime.settings) as store:
        settings = act.runtime.settings
        store.check(settings.environment)
        patiently(act.runtime, lambda session: holds.check_name(session, name, criteria))
        found = search.search(archiving.cache(settings, store), criteria)
        batches = [(each.manifest.retention_class, each.manifest.number) for each in found]
        documents = sorted({document for each in found for document in each.documents})
        if found and not dry_run:
            with act.outside(about=name, count=len(found) + len(documents)):
                stored = partial(holds.remember, name=name, criteria=criteria, batches=batches, documents=documents)
                patiently(
                    act.runtime, lambda session: stored(session, placed_by=act.actor, reason=act.command.reason or "")
                )
                holds.hold_all(store, partial(patiently, act.runtime), name, every_few_seconds())
    facts, about = sum(each.manifest.rows for each in found), sum(each.about for each in found)
    if as_json:
        told = {"objects": len(found), "facts": facts, "about": about, "documents": len(documents)}
        print_json({"name": name, "dry_run": dry_run, **told})
    elif not found:
        print_line("nothing is archived about this; facts that wait are archived within a minute or so, then try again")
    else:
        held = "would be held" if dry_run else "are held"
        beside = f"; and {counted(len(documents), 'document')}" if documents else ""
        print_line(
            f"{name}: {counted(len(found), 'object')} with {counted(facts, 'fact')} {held}; {about} of them are about"
            f" this, the others share an object with one{beside}"
        )
    if not found:
        raise typer.Exit(1)


def list_holds(as_json: AsJson = False) -> None:
    """List the legal holds, those in force first: what for, who placed them and why, and how much they hold.

    \b
    Example:
      billing archive hold list
    """
    from archive.keeping import holds
    from jobs.cli.opening import opened
    from jobs.process.patience import patiently

    with opened() as runtime:
        found = patiently(runtime, holds.listed)
    if as_json:
        print_json(found)
    elif found:
        print_table(
            "legal holds",
            ("name", "since (UTC)", "objects", "facts", "documents", "placed by", "for", "reason", "released (UTC)"),
            [
                (
                    *(each.name, clock(each.placed_at), each.objects, each.facts, each.documents),
                    *(each.placed_by, each.criteria, each.reason, clock(each.released_at)),
                )
                for each in found
            ],
        )
    else:
        print_line("there is no legal hold")


def release(name: HoldName, reason: Reason, actor: Actor = "", as_json: AsJson = False) -> None:
    """Release a legal hold: its objects and documents end as their policy says, except those that another hold needs.

    A lock that has not ended stays as it is. If it dies, run it again. It needs the login `holder` in S3.

    \b
    Example:
      billing archive hold release --name CASE-7 --reason "settled, LEGAL-7"
    """
    from functools import partial

    from archive.keeping import holds
    from jobs.process import buckets
    from jobs.process.patience import patiently

    with acting("archive hold release", actor, reason) as act, buckets.opened(act.runtime.settings) as store:
        store.check(act.runtime.settings.environment)
        hold = patiently(act.runtime, lambda session: holds.in_force(session, name))
        with act.outside(about=name, count=hold.objects + hold.documents):
            lifted = holds.release(store, partial(patiently, act.runtime), name, every_few_seconds())
            patiently(act.runtime, lambda session: holds.mark_released(session, name))
    needed = hold.objects + hold.documents - lifted
    if as_json:
        print_json({"name": name, "released": lifted, "held_by_others": needed})
    else:
        print_line(f"{name} is released: {counted(lifted, 'object')} free, {needed} held by other holds")


def _criteria(where: "list[str] | tuple[()]", retention_class: str | None, since: object, until: object) -> "Criteria":
    from archive.format.allowed import PAYLOAD
    from archive.keeping.search import IN_PAYLOAD, Criteria

    subjects: dict[str, str] = {}
    for text in where:
        key, _, value = text.partition("=")
        key = key.strip().replace("-", "_")
        if key not in IN_PAYLOAD or key in subjects or not PAYLOAD[key](value):
            raise typer.BadParameter(
                f"{text!r}: write payment-intent=pi_... or customer=cus_..., each once", param_hint="--where"
            )
        subjects[key] = value
    return Criteria(**subjects, retention_class=retention_class, since=since, until=until)  # type: ignore[arg-type]


def _check_name(name: str) -> None:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,59}", name):
        raise typer.BadParameter(
            "must be the number of a case: letters, digits, dots and dashes, at most 60", param_hint="--name"
        )
