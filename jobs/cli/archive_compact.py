"""`billing archive compact` and `ddl`: a sorted copy of a month, and the tables for engines that read S3 themselves."""

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jobs.cli.output import AsJson, amount, counted, print_error, print_json, print_line

if TYPE_CHECKING:
    from archive.compacting.index import Index
    from archive.compacting.places import Place
    from jobs.config.settings import Settings

Month = Annotated[str, typer.Argument(metavar="YYYY-MM", help="The month, in UTC.")]
To = Annotated[
    Path | None,
    typer.Option("--to", metavar="DIRECTORY", help="Write it there, and not into BILLING_COMPACTED_BUCKET."),
]


def compact(
    month: Month,
    to: To = None,
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing: say whether the copy is whole, and what the archive holds.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Make a sorted copy of a month, for Athena, Trino, Spark and others that read S3 by themselves.

    It is made of copies of objects that are checked against the chain of manifests, and is compared with the manifests:
    count and captured money. A copy that is there as it must be is left alone. Facts that are archived later make it
    out of date; --check says so, with exit status 1, and reads every byte of it. It needs no database, and from the
    archive the right to read only.

    The copy proves nothing: anybody who may write there can change it. The archive does.

    \b
    Examples:
      billing archive compact 2026-10
      billing archive compact 2026-10 --check
      billing archive compact 2026-10 --to /srv/compacted
      billing archive ddl athena --by-month                (the table over it)
    """
    from archive.closing.periods import period
    from archive.compacting import compaction
    from jobs.config.loading import load
    from jobs.process import archiving, buckets

    wanted, settings = period(month), load()
    with ExitStack() as till_the_end:
        store = till_the_end.enter_context(buckets.opened(settings))
        store.check(settings.environment)
        place = _place(settings, to, till_the_end)
        cache = archiving.cache(settings, store)
        if check:
            troubles = compaction.check(cache, wanted, place)
            _show_troubles(wanted.name, place.name, troubles, as_json)
        else:
            made, new = compaction.compact(cache, wanted, place, print_error)
            _show(made, new, place.name, as_json)


def _place(settings: "Settings", to: Path | None, till_the_end: ExitStack) -> "Place":
    from archive.compacting.places import Directory
    from jobs.process import buckets

    if to is not None:
        return Directory(to)
    bucket = till_the_end.enter_context(buckets.compacted_opened(settings))
    bucket.check()
    return bucket


def _show(made: "Index", new: bool, place: str, as_json: bool) -> None:
    from dataclasses import asdict

    from archive.compacting.index import object_key

    if as_json:
        print_json({"made": new, "place": place, **asdict(made)})
        return
    for part in made.parts:
        sums = [f"captured {amount(minor, currency)}" for currency, minor in part.source.captured.items()]
        held = ", ".join([counted(part.source.facts, "fact"), *sums])
        print_line(f"{place}{object_key(made.month, part.source.retention_class)}: {held}")
    print_line(f"{made.month} {'was copied' if new else 'is there already, as it must be'}")


def _show_troubles(month: str, place: str, troubles: list[str], as_json: bool) -> None:
    if as_json:
        print_json({"month": month, "place": place, "troubles": troubles})
    elif troubles:
        for line in troubles:
            print_line(f"DIFFERS {line}")
        print_line(f"make it again: billing archive compact {month}")
    else:
        print_line(f"{place}: the copy of {month} is whole, and what the archive holds")
    if troubles:
        raise typer.Exit(1)


def ddl(
    engine: Annotated[str, typer.Argument(metavar="ENGINE", help="athena, trino, spark or datafusion")],
    by_month: Annotated[
        bool, typer.Option("--by-month", help="The table over the sorted copies, and not over the archive as it lies.")
    ] = False,
    location: Annotated[
        str, typer.Option(metavar="URL", help="Where it lies; else the bucket of the settings.", show_default=False)
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Print the statements that make a table over the archive, or over its sorted copies.

    They are made from the schema that archivers write. With --location no setting is read.

    \b
    Examples:
      billing archive ddl athena
      billing archive ddl trino --by-month
      billing archive ddl spark --location s3a://your-archive/v1/
    """
    from archive.compacting import ddl as tables

    table = tables.BY_MONTH if by_month else tables.JOURNAL
    made = tables.statements(engine, table, location or _location(engine, by_month))
    if as_json:
        print_json({"engine": engine, "table": table.name, "statements": made})
        return
    for line in "\n\n".join(f"{statement};" for statement in made).split("\n"):
        print_line(line)


def _location(engine: str, by_month: bool) -> str:
    from archive.compacting.index import PREFIX
    from jobs.config.loading import load
    from jobs.config.sources import SettingsError

    settings = load()
    name, bucket = (
        ("BILLING_COMPACTED_BUCKET", settings.compacted_bucket)
        if by_month
        else ("BILLING_ARCHIVE_BUCKET", settings.archive_bucket)
    )
    if bucket is None:
        raise SettingsError(f"{name} is not set; set it, or say --location")
    # Spark's own name for what reads S3.
    return f"{'s3a' if engine == 'spark' else 's3'}://{bucket}/{PREFIX}"
