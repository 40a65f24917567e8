"""`billing archive restore`: facts from the archive, in a Postgres of its own, for an investigation."""

from typing import TYPE_CHECKING, Annotated

import typer

from jobs.cli.acting import acting
from jobs.cli.archive_query import Since, Until, Zone
from jobs.cli.output import Actor, AsJson, clock, counted, every_few_seconds, print_json, print_line, print_table

if TYPE_CHECKING:
    from archive.scratch.restoring import Choice


def restore(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Of the case, such as case_7: the schema is billing_scratch_case_7.")
    ] = "",
    ids: Annotated[
        list[str] | None,
        typer.Option(
            "--id",
            metavar="ID",
            help="Everything about a capture, invoice, payment intent, customer or correlation id; may be given several"
            " times.",
        ),
    ] = None,
    since: Since = None,
    until: Until = None,
    tz: Zone = None,
    classes: Annotated[
        list[str] | None,
        typer.Option("--class", metavar="CLASS", help="Only this class; may be given several times."),
    ] = None,
    query: Annotated[
        str | None,
        typer.Option(
            metavar="SELECT", help="A SELECT as for `billing archive sql`; it returns retention_class and archive_seq."
        ),
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Drop the schema of this name first, if it is there.")
    ] = False,
    list_all: Annotated[
        bool, typer.Option("--list", help="List the schemas that were made, and change nothing.")
    ] = False,
    drop: Annotated[str, typer.Option(metavar="NAME", help="Drop this schema.", show_default=False)] = "",
    reason: Annotated[str, typer.Option(help="Why; it is stored in a fact. Needed for everything but --list.")] = "",
    actor: Actor = "",
    as_json: AsJson = False,
) -> None:
    """Bring facts back from the archive into a schema of another Postgres, to investigate a case with SQL.

    BILLING_SCRATCH_URL leads to a database of its own, never to that of the service. The schema gets a table `facts`,
    with the columns that `billing archive sql` shows and indexes on ids, and the tables `source` and
    `source_manifests`, which say what it was made from, by whom and why. Only verified bytes are written, in one
    transaction: if it dies, nothing is there.

    A schema that exists is not overwritten without --replace, and one that holds something of yours is never dropped.
    Nothing of it is evidence: that stays in the archive. Drop it when the case is over.

    \b
    Examples:
      billing archive restore case_7 --id pi_123 --reason "dispute, LEGAL-7"
      billing archive restore november --class capture --since 2026-11-01 --until 2026-12-01 --reason "FIN-40"
      billing archive restore declines --reason "FIN-41" \\
          --query "SELECT * FROM facts WHERE topic = 'capture.declined' AND currency = 'EUR'"
      billing archive restore --list
      billing archive restore --drop case_7 --reason "closed, LEGAL-7"
    """
    given = {key: text for key, text in (("since", since), ("until", until), ("tz", tz)) if text is not None}
    if sum((bool(name), list_all, bool(drop))) != 1:
        raise typer.BadParameter("write a NAME to make, --list, or --drop NAME", param_hint="NAME")
    if list_all:
        _list(as_json)
        return
    if not reason:
        raise typer.BadParameter("say why; it is stored in a fact", param_hint="--reason")
    with acting("archive restore", actor, reason) as act:
        from archive.scratch import restoring, schemas
        from jobs.process import archiving, buckets, scratch

        settings, schema = act.runtime.settings, schemas.schema_of(name or drop)
        choice = None if drop else _choice(ids or [], query, classes, given)
        # Before it is recorded that something begins.
        with scratch.connected(settings) as connection:
            if drop or (replace and schemas.exists(connection, schema)):
                schemas.check_ours(connection, schema)
            else:
                schemas.check_free(connection, schema)
        if choice is None:
            with act.outside(about=schema), scratch.connected(settings) as connection:
                schemas.drop(connection, schema)
            _print_dropped(schema, as_json)
            return
        with buckets.opened(settings) as store:
            store.check(settings.environment)
            maker = restoring.Maker(act.actor, reason, settings.environment, store.bucket)
            cache, tell = archiving.cache(settings, store), every_few_seconds()
            with act.outside(about=schema), scratch.connected(settings) as connection:
                done = restoring.restore(
                    cache,
                    connection,
                    schema,
                    choice,
                    maker,
                    replace=replace,
                    progress=lambda facts: tell(f"{facts} facts are written"),
                )
    if as_json:
        print_json(done)
        return
    print_line(f"{schema}: {counted(done.facts, 'fact')}, chosen by a query with the sha256 {done.query_sha256}")
    for retention_class, head in done.heads.items():
        print_line(f"{retention_class}: head {head}")
    print_line(f"its tables: {schema}.facts, and {schema}.source, which says what it was made from")
    print_line(f"when the case is over: billing archive restore --drop {name} --reason WHY")


def _choice(ids: list[str], query: str | None, classes: list[str] | None, given: dict[str, str]) -> "Choice":
    from archive.copies.cache import EVERY_CLASS
    from archive.scratch import restoring

    if ids and query:
        raise typer.BadParameter("choose one of --id and --query", param_hint="--query")
    if not (ids or query or classes or given.keys() & {"since", "until"}):
        raise typer.BadParameter("say which facts: --id, --since, --until, --class or --query", param_hint="--id")
    chosen = restoring.of_ids(ids) if ids else query or restoring.ALL
    return restoring.Choice(chosen, classes or EVERY_CLASS, given)


def _print_dropped(schema: str, as_json: bool) -> None:
    if as_json:
        print_json({"schema": schema, "dropped": True})
    else:
        print_line(f"{schema} is dropped")


def _list(as_json: bool) -> None:
    from archive.scratch import schemas
    from jobs.config.loading import load
    from jobs.process import scratch

    with scratch.connected(load()) as connection:
        found = schemas.listed(connection)
    if as_json:
        print_json(found)
    elif not found:
        print_line("there is no scratch schema")
    else:
        print_table(
            "scratch schemas",
            ("name", "made (UTC)", "by", "facts", "MB", "why", ""),
            [
                (
                    *(each.name, clock(each.made_at), each.made_by, each.facts, f"{each.bytes / 1e6:.1f}", each.reason),
                    "OLD: is the case over?" if each.old else "",
                )
                for each in found
            ],
        )
