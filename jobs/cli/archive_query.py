"""`billing archive query` and `sql`: ask the archive, and print or write what it answers."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jobs.cli.output import AsJson, print_error, print_json, print_line, print_table

if TYPE_CHECKING:
    from archive.copies.cache import Cache
    from archive.queries import Answer, Query

Since = Annotated[
    str | None, typer.Option(metavar="TIME", help="2026-11-25, or 2026-11-25T10:00:00Z; included.", show_default=False)
]
Until = Annotated[str | None, typer.Option(metavar="TIME", help="In the same form; not included.", show_default=False)]
Zone = Annotated[
    str | None,
    typer.Option("--tz", metavar="ZONE", help="Time zone of days and times, as Europe/Berlin; else UTC."),
]
AsCsv = Annotated[bool, typer.Option("--csv", help="Print CSV; the source of the numbers goes to standard error.")]
ToParquet = Annotated[Path | None, typer.Option("--parquet", metavar="FILE", help="Write a Parquet file.")]
ToXlsx = Annotated[Path | None, typer.Option("--xlsx", metavar="FILE", help="Write a workbook, with its source.")]
ToSource = Annotated[
    Path | None, typer.Option("--source", metavar="FILE", help="Write the source of the numbers as JSON.")
]
Rehash = Annotated[
    bool, typer.Option("--rehash", help="Hash every copy first, also those that nothing has written to for a day.")
]
TimeLimit = Annotated[float, typer.Option(metavar="SECONDS", help="Stop the query after so long.", min=1, max=3600)]


def query(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The query; --list shows all.", show_default=False)] = "",
    list_all: Annotated[bool, typer.Option("--list", help="List all queries, and what each answers.")] = False,
    describe: Annotated[
        bool, typer.Option("--describe", help="Say what NAME answers, takes and returns, and run nothing.")
    ] = False,
    since: Since = None,
    until: Until = None,
    tz: Zone = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Another parameter of the query; may be given several times."),
    ] = None,
    as_json: AsJson = False,
    as_csv: AsCsv = False,
    parquet: ToParquet = None,
    xlsx: ToXlsx = None,
    source: ToSource = None,
    time_limit: TimeLimit = 60,
    rehash: Rehash = False,
) -> None:
    """Run a named query over the archived facts. --since is included, --until is not.

    It first checks the copies of the objects that it reads against the chain of manifests, and does not ask Postgres. A
    day begins at midnight in the time zone. Amounts are in minor units; table, CSV and workbook add a column with
    decimals.

    \b
    Examples:
      billing archive query --list
      billing archive query captures_by_day --describe
      billing archive query captures_by_day --since 2026-11-01 --until 2026-12-01 --tz Europe/Berlin
      billing archive query captures_by_day --csv > november.csv
      billing archive query captures_by_day --xlsx november.xlsx
    """
    from archive.queries import Limits, ask, every, load

    if list_all:
        _print_list(every(), as_json)
    elif not name:
        raise typer.BadParameter("write the name of a query; --list shows all", param_hint="NAME")
    elif describe:
        _print_description(load(name), as_json)
    else:
        # Before the settings are read: a name that is none is said at once.
        load(name)
        given = _given({"since": since, "until": until, "tz": tz}, set_ or [])
        answer = _asked(lambda cache: ask(cache, name, given, limits=Limits(time_limit), rehash=rehash))
        _hand_over(answer, as_json, as_csv, parquet, xlsx, source)


def sql(
    text: Annotated[str, typer.Argument(metavar="SELECT", help="One SELECT over the views facts and batches.")],
    since: Since = None,
    until: Until = None,
    tz: Zone = None,
    classes: Annotated[
        list[str] | None,
        typer.Option("--class", metavar="CLASS", help="Read only this class; may be given several times."),
    ] = None,
    as_json: AsJson = False,
    as_csv: AsCsv = False,
    parquet: ToParquet = None,
    xlsx: ToXlsx = None,
    source: ToSource = None,
    time_limit: TimeLimit = 60,
    rehash: Rehash = False,
) -> None:
    """Run a SELECT of your own over the archived facts, in DuckDB's SQL. It can read nothing else, and change nothing.

    The view `facts` holds the facts from --since to just before --until, with each payload key as a column. The view
    `batches` holds a row for each object that was read. `DESCRIBE facts` lists the columns. A column `minor`, or
    `..._minor`, beside a column `currency` counts as money.

    \b
    Examples:
      billing archive sql "DESCRIBE facts"
      billing archive sql "SELECT topic, count(*) AS facts FROM facts GROUP BY topic ORDER BY topic" --since 2026-11-01
      billing archive sql "SELECT * FROM facts WHERE payment_intent = 'pi_1'" --class capture --json
    """
    from archive.copies.cache import EVERY_CLASS
    from archive.queries import Limits, ask_sql

    given = _given({"since": since, "until": until, "tz": tz}, [])
    answer = _asked(
        lambda cache: ask_sql(
            cache, text, given, classes=classes or EVERY_CLASS, limits=Limits(time_limit), rehash=rehash
        )
    )
    _hand_over(answer, as_json, as_csv, parquet, xlsx, source)


def _asked(ask: "Callable[[Cache], Answer]") -> "Answer":
    from jobs.config.loading import load
    from jobs.process import archiving, buckets

    settings = load()
    with buckets.opened(settings) as store:
        store.check(settings.environment)
        return ask(archiving.cache(settings, store))


def _given(options: dict[str, str | None], settings: list[str]) -> dict[str, str]:
    given = {name: text for name, text in options.items() if text is not None}
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals:
            raise typer.BadParameter(f"{setting!r}: write NAME=VALUE", param_hint="--set")
        if name in given:
            raise typer.BadParameter(f"{name} is given twice", param_hint="--set")
        given[name] = text
    return given


def _hand_over(
    answer: "Answer", as_json: bool, as_csv: bool, parquet: Path | None, xlsx: Path | None, source: Path | None
) -> None:
    """Write the files that were asked for, then print."""
    import json

    from archive.files import write_file
    from archive.queries import formats

    if as_json and as_csv:
        raise typer.BadParameter("choose one of --json and --csv", param_hint="--csv")
    if parquet:
        formats.write_parquet(answer, parquet)
    if xlsx:
        formats.write_xlsx(answer, xlsx)
    if source:
        about = json.dumps(formats.source(answer), indent=2) + "\n"
        write_file("--source", source, lambda there: there.write_text(about, encoding="utf-8"))
    if as_json:
        print_json(formats.as_json(answer))
        return
    if as_csv:
        formats.write_csv(answer, sys.stdout)
    elif parquet or xlsx:
        for path in filter(None, (parquet, xlsx)):
            print_line(f"{answer.table.num_rows} rows are in {path}")
    else:
        columns, rows = formats.with_decimals(answer)
        print_table(answer.title, [column.name for column in columns], rows)
    for line in formats.source_lines(answer):
        print_error(line)


def _print_list(queries: "list[Query]", as_json: bool) -> None:
    from archive.queries import description

    if as_json:
        print_json([description(each) for each in queries])
        return
    print_table(
        "queries",
        ("name", "answers", "parameters"),
        [(each.name, each.answers, ", ".join(map(str, each.parameters))) for each in queries],
    )


def _print_description(asked: "Query", as_json: bool) -> None:
    from archive.queries import description
    from archive.queries.columns import MEANINGS
    from archive.queries.parameters import option

    if as_json:
        print_json(description(asked))
        return
    print_line(asked.title)
    print_line(asked.answers)
    print_line(f"It reads the classes {', '.join(asked.classes)}. Its SQL has the sha256 {asked.sha256}.")
    print_table(
        "parameters",
        ("parameter", "", "meaning", "example"),
        [
            (
                option(each.parameter.name),
                "required" if each.required else "",
                each.parameter.meaning,
                each.parameter.example,
            )
            for each in asked.parameters
        ],
    )
    print_table(
        "columns",
        ("column", "type", "", "meaning of the type"),
        [
            (each.name, each.type, "may be empty" if each.nullable else "", MEANINGS[each.type])
            for each in asked.columns
        ],
    )


def plot(
    name: Annotated[str, typer.Argument(metavar="NAME", help="captured_by_day, latency, ageing or heat_map")],
    png: Annotated[Path | None, typer.Option("--png", metavar="FILE", help="Write a PNG.")] = None,
    svg: Annotated[Path | None, typer.Option("--svg", metavar="FILE", help="Write an SVG.")] = None,
    since: Since = None,
    until: Until = None,
    tz: Zone = None,
    as_json: AsJson = False,
    time_limit: TimeLimit = 60,
) -> None:
    """Draw a picture of what the archive says: what was captured by day, how long captures took, what is in doubt and
    for how long, or at which hours of the week captures are taken.

    Each is drawn from the answer to a named query, which the picture names below, with the manifests that were read.
    Ageing takes no --since: it shows what was in doubt at --until, or is now. With --json the answer is printed.

    \b
    Examples:
      billing archive plot captured_by_day --png november.png --since 2026-11-01 --until 2026-12-01 --tz Europe/Berlin
      billing archive plot latency --svg latency.svg
      billing archive plot ageing --png doubt.png
    """
    from archive.errors import BadQuestion
    from archive.queries import Limits, ask, formats, plots

    if name not in plots.PLOTS:
        raise BadQuestion(f"{name!r} is no picture; choose one of: {', '.join(plots.PLOTS)}")
    if not (png or svg):
        raise typer.BadParameter("write --png FILE or --svg FILE", param_hint="--png")
    drawn = plots.PLOTS[name]
    given = _given({"since": since, "until": until, "tz": tz}, [])
    answer = _asked(lambda cache: ask(cache, drawn.query, given, limits=Limits(time_limit)))
    files = [(kind, path) for kind, path in (("png", png), ("svg", svg)) if path is not None]
    for kind, path in files:
        plots.save(drawn, answer, path, kind)
    if as_json:
        print_json(formats.as_json(answer))
        return
    for _, path in files:
        print_line(f"{drawn.shows}: {path}")
