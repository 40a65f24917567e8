"""`billing demo`: prints one line for each event; on a terminal it shows the current counts below."""

import secrets
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from jobs.cli import operators
from jobs.cli.output import TRYING, AsJson, amount, counted, print_error, print_json, print_line, print_table

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Iterator

    from jobs.demo.outcome import Outcome
    from jobs.demo.scraping import Numbers
    from jobs.demo.tally import Progress


def add_to(app: typer.Typer) -> None:
    app.command(rich_help_panel=TRYING)(demo)


def demo(
    captures: Annotated[int, typer.Option(min=1, max=20_000, help="How many captures are asked for.")] = 300,
    invoices: Annotated[int, typer.Option(min=0, max=5_000, help="How many invoices are asked for.")] = 40,
    seed: Annotated[int | None, typer.Option(help="Repeat the amounts and faults of an earlier run.")] = None,
    cheat: Annotated[
        bool, typer.Option("--cheat", help="Also capture money without the service: the comparison must find it.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Move money in every way, cause faults, a kill -9 and a flushed Redis, then reconcile, prove and count.

    It starts real servers and processes on free ports of this machine, and leaves none of them. First each move once:
    captures in parts, a void, refunds; and an invoice from its capture to its document and e-mail. Then many at once,
    while much goes wrong; webhooks; the evidence in S3; reconciliation and a certificate. At last it compares what was
    asked (Postgres) with what moved (the stand-in's own list) and what is archived (S3). Exit status 0 only if nothing
    is double, lost, stuck or different.

    \b
    Examples:
      billing demo
      billing demo --captures 40 --invoices 6 --seed 7
      billing demo --cheat        # must end with exit status 1
    """
    from jobs.local import forked

    chosen = secrets.randbelow(1_000_000) if seed is None else seed
    print_error(f"seed {chosen}: {counted(captures, 'capture')}, {counted(invoices, 'invoice')}")
    # What it imports takes seconds, and so does what is imported here: at the same time.
    forked.begin()
    from jobs.demo.story import Plan, run

    with _watching(captures + invoices) as (print_event, watch):
        outcome = run(Plan(captures, invoices, chosen, cheat), print_event, watch)
    if as_json:
        print_json(outcome)
    else:
        _show(outcome)
    if outcome.offences:
        raise typer.Exit(1)


def _show(outcome: "Outcome") -> None:
    kept = [] if outcome.archived is None else [outcome.archived]
    effects = outcome.effects
    print_table(
        "what was asked, what moved, and what is archived",
        ("", "asked (Postgres)", "moved (provider)", "archived (S3)"),
        [
            ("captures", outcome.captures["captured"], effects["capture"], outcome.archived_captures if kept else ""),
            *_money(outcome.asked, outcome.moved, *kept),
            *((f"  {state}", n, 0) for state, n in sorted(outcome.captures.items()) if state != "captured"),
            ("refunds", outcome.refunds["succeeded"], effects["refund"]),
            *_money(outcome.asked_back, outcome.moved_back),
            ("invoices", outcome.invoices["sent"] + outcome.invoices["paid"], effects["invoice.finalized"]),
        ],
    )
    for part in outcome.evidence:
        source = f"{part.facts} facts of class {part.retention_class}, manifests 1 to {part.last}"
        print_line(f"archive: {source}, head {part.head[:16]}…")
    print_line("")
    print_line("faults: " + ", ".join(f"{n} {name}" for name, n in outcome.faults.most_common()))
    print_line(f"keys: {outcome.keys_resent} sent again, {outcome.keys_replaced} replaced after a proven absence")
    print_line("refused: " + ", ".join(f"{n} {what}" for what, n in outcome.refused.items()))
    _show_metrics(outcome.metrics)
    for offence in outcome.offences:
        print_line(f"{offence.kind.upper()} {offence.id}: {offence.message}")
    for story in outcome.stories:
        print_line("")
        print_line(f"$ billing explain {story.status.id}")
        operators.show(story)
    n = len(outcome.offences)
    verdict = counted(n, "difference") if n else "nothing is double, lost or stuck"
    print_line(f"{verdict}. {outcome.seconds} s, seed {outcome.seed}")


def _money(*counts: "Counter[str]") -> "Iterator[tuple[str, ...]]":
    """A row for each currency, with the sums of these counts."""
    for currency in sorted(set().union(*counts)):
        yield f"  {currency}", *(amount(sums[currency], currency) for sums in counts)


def _show_metrics(numbers: "Numbers | None") -> None:
    if numbers is None:
        print_line("metrics: none, because the extra `metrics` is not installed")
        return
    captured = ", ".join(amount(minor, currency) for currency, minor in sorted(numbers.captured.items()))
    waited = ", ".join(f"{name} under {seconds:g} s" for name, seconds in numbers.waited_s.items())
    print_line("")
    print_line("metrics, as Prometheus reads them:")
    print_line(f"  captured {captured}; {counted(numbers.invoices_sent, 'invoice')} sent")
    print_line(f"  from a request to its first call: {waited}")
    for what, by in (("calls at Stripe, by answer", numbers.calls), ("retries, by reason", numbers.retries)):
        print_line(f"  {what}: " + ", ".join(f"{n} {name}" for name, n in by.most_common()))
    print_line("")


@contextmanager
def _watching(total: int) -> "Iterator[tuple[Callable[[str], None], Callable[[Progress], None]]]":
    """The functions that print an event, and the counts: on a terminal in a line that changes below the events,
    elsewhere in a new line for every tenth."""
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    console = Console(stderr=True)
    if not console.is_terminal:
        tenths: list[int] = []

        def sometimes(progress: "Progress") -> None:
            tenth = 10 * _final(progress) // total
            if tenth not in tenths:
                tenths.append(tenth)
                print_error(_line(progress, total))

        yield print_error, sometimes
        return
    with Live(console=console, refresh_per_second=10, transient=True) as live:

        def print_event(line: str) -> None:
            live.console.print(Text(line))

        yield print_event, lambda progress: live.update(Text("\n".join(_lines(progress, total)), style="bold"))


def _line(progress: "Progress", total: int) -> str:
    return " | ".join(_lines(progress, total))


def _lines(progress: "Progress", total: int) -> list[str]:
    done = _final(progress)
    width = 24
    bar = "#" * (width * done // total)
    return [
        f"[{bar:<{width}}] {done}/{total} final, {progress.in_doubt} in doubt",
        *(
            f"{kind}: " + ", ".join(f"{n} {state}" for state, n in sorted(counted.items()))
            for kind, counted in (("captures", progress.captures), ("invoices", progress.invoices))
        ),
    ]


def _final(progress: "Progress") -> int:
    from jobs.demo.tally import FINAL

    return sum(n for states in (progress.captures, progress.invoices) for state, n in states.items() if state in FINAL)
