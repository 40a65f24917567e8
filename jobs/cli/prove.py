"""`billing export` writes what each side says of the money, and `billing prove` compares the three files."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jobs.cli.moments import Moment, moment
from jobs.cli.output import (
    FINANCE,
    AsJson,
    amount,
    clock,
    counted,
    every_few_seconds,
    print_json,
    print_line,
)

if TYPE_CHECKING:
    from archive.proving.exports import Header
    from archive.proving.proof import Proof
    from jobs.config.settings import Settings

SINCE_DAYS = 30
SHOWN = 5
"""So many of what breaks a rule are printed; JSON has up to 1,000 of each."""

File = Annotated[Path, typer.Argument(metavar="FILE", help="Where it is written; a file that is there is replaced.")]


def add_to(app: typer.Typer) -> None:
    exports = typer.Typer(
        help="Write what one side says of the money, to be compared by `billing prove`: ours, Stripe's, the archive's.",
        no_args_is_help=True,
    )
    for each in (archive, stripe, ours):
        exports.command()(each)
    app.add_typer(exports, name="export", rich_help_panel=FINANCE)
    app.command(rich_help_panel=FINANCE)(prove)


def ours(file: File, since: Moment = None, as_json: AsJson = False) -> None:
    """Write every request since then, and how it stands, from Postgres. Write it as the last of the three.

    Without --since: the last 30 days, from midnight in UTC. It needs a DATABASE_URL that may read (the reader's).

    \b
    Example:
      billing export ours proof/ours.jsonl --since 2026-11-01
    """
    from functools import partial

    from archive.proving import exports
    from archive.proving import ours as our_side
    from jobs.cli.opening import opened
    from jobs.process.patience import patiently

    with opened() as runtime:
        header = _header(exports.OURS, runtime.settings, since)
        lines = our_side.lines(partial(patiently, runtime), header.since)
        _say(exports.write(file, header, lines, _now, _progress("requests")), file, as_json)


def stripe(file: File, since: Moment = None, as_json: AsJson = False) -> None:
    """Write every effect since then that Stripe's lists show, of our account and of those that requests were for.

    It only reads; a restricted key that may read payment intents, invoices and refunds is enough. Without --since: the
    last 30 days, from midnight in UTC.

    \b
    Example:
      billing export stripe proof/stripe.jsonl --since 2026-11-01
    """
    from archive.proving import exports, stripes
    from billing.accounts import accounts
    from billing.reading import patient_readers
    from jobs.cli.opening import open_process
    from jobs.process.patience import patiently

    process = open_process("cli")
    try:
        process.check(provider=True)
        header = _header(exports.STRIPE, process.settings, since)
        readers = patient_readers(process.gateway(1), process.call_settings)
        lines = stripes.lines(readers, patiently(process, accounts), header.since)
        _say(exports.write(file, header, lines, _now, _progress("effects")), file, as_json)
    finally:
        process.close()


def archive(file: File, since: Moment = None, as_json: AsJson = False) -> None:
    """Write every effect since then that the archive tells of, from copies that are checked first.

    It needs read access to the bucket, and no Postgres. Without --since: the last 30 days, from midnight in UTC.

    \b
    Example:
      billing export archive proof/archive.jsonl --since 2026-11-01
    """
    from dataclasses import replace

    from archive.proving import archived, exports
    from jobs.config.loading import load
    from jobs.process import archiving, buckets

    settings = load()
    header = _header(exports.ARCHIVE, settings, since)
    with (
        buckets.opened(settings) as store,
        archived.opened(archiving.cache(settings, store), header.since) as (heads, lines),
    ):
        written = exports.write(file, replace(header, heads=heads), lines, _now, _progress("effects"))
        _say(written, file, as_json)


def prove(
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE FILE FILE", help="The three exports, in any order.", show_default=False),
    ],
    as_json: AsJson = False,
) -> None:
    """Compare three exports, and print a certificate, or what is violated: with the network off, on any machine.

    It proves that every request has at most one effect at Stripe, that every effect of ours has one request, that the
    archive tells of each effect once, that an invoice of captures asks nobody for their money again, and that amounts,
    currencies, accounts and totals agree. It reads the three files and nothing else. The exit status is 1 if a rule is
    broken.

    \b
    Example:
      billing export archive proof/archive.jsonl
      billing export stripe proof/stripe.jsonl
      billing export ours proof/ours.jsonl
      billing prove proof/*.jsonl
    """
    from archive.proving.proof import prove as proven

    if len(files) != len(set(files)) or len(files) != 3:
        raise typer.BadParameter("give three different files: the exports of ours, stripe and archive")
    proof = proven(files)
    if as_json:
        print_json({"holds": proof.holds, **{name: getattr(proof, name) for name in proof.__dataclass_fields__}})
    else:
        _print(proof)
    if not proof.holds:
        raise typer.Exit(1)


def _now() -> datetime:
    return datetime.now(UTC)


def _header(name: str, settings: "Settings", since: str | None) -> "Header":
    from archive.proving.exports import Header

    now = _now()
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    begun_with = moment("--since", since) or midnight - timedelta(days=SINCE_DAYS)
    return Header(name, settings.environment, settings.livemode, begun_with, now, now)


def _progress(what: str) -> Callable[[int], None]:
    tell = every_few_seconds()
    return lambda done: tell(f"{done:,} {what}")


def _say(header: "Header", file: Path, as_json: bool) -> None:
    if as_json:
        print_json(header)
    else:
        print_line(f"{file}: {counted(header.lines, 'line')} since {clock(header.since)} UTC, sha256 {header.sha256}")


def _print(proof: "Proof") -> None:
    for line in _certificate(proof):
        print_line(line)


def _certificate(proof: "Proof") -> Iterator[str]:
    from archive.proving.proof import RULES

    if proof.holds:
        yield "PROVEN: every request has at most one effect at Stripe, every effect of ours has one request,"
        yield f"the archive tells of each once, and the totals agree. {len(RULES)} rules were checked."
    else:
        yield f"VIOLATED: {counted(len(proof.broken), 'rule')} of {len(RULES)}."
        yield "Look at each id with `billing explain ID` before anything is paid back or asked for again."
    yield ""
    yield from _sources(proof)
    for total in proof.totals:
        of = total.currency
        yield f"{total.kind} {of}: {counted(total.requests, 'request')}, {amount(total.minor, of)}"
        yield f"  {amount(total.compared, of)} can be compared with Stripe, which has {amount(total.stripe, of)}"
        yield f"  {amount(total.archived, of)} must be archived, and the archive has {amount(total.archive, of)}"
    if proof.invoiced:
        yield f"on invoices: {counted(proof.invoiced, 'capture')}"
    if proof.open:
        yield f"not known yet: {', '.join(f'{count:,} {state}' for state, count in proof.open.items())}"
    if any(proof.young):
        yield f"too young to compare: {proof.young[0]:,} with Stripe, {proof.young[1]:,} with the archive"
    if proof.others:
        yield f"effects at Stripe that are not of this service: {proof.others:,}"
    for rule, broken in proof.broken.items():
        yield ""
        yield f"{rule}: {broken.count:,}"
        yield from (f"  {entity}: {what}" for entity, what in broken.shown[:SHOWN])
        if broken.count > SHOWN:
            yield f"  and {broken.count - SHOWN:,} more; --json has up to 1,000 of each rule"


def _sources(proof: "Proof") -> Iterator[str]:
    first = next(iter(proof.headers.values()))
    mode = "live" if first.livemode else "test"
    yield f"environment {first.environment}, {mode} mode, requests since {clock(first.since)} UTC"
    for name, header in proof.headers.items():
        read = f"{clock(header.begun)} to {clock(header.ended)} UTC"
        yield f"  {name:<8}{header.lines:>10,} lines, read {read}"
        yield f"  {'':<8}sha256 {header.sha256}"
    yield ""
