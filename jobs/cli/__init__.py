"""The `billing` command, for operators, scripts and containers.

Each module holds a few commands. A command imports what it needs when it runs, so that `--help` and
`--version` answer at once.

Exit status: 0, done, and the answer is good; 1, done, and the answer is bad; 2, not done (usage, settings, a server
away, an unknown id), nothing was changed, and one line on standard error says why.
"""

import gc
import sys
import warnings
from functools import cache
from typing import Any

import typer
from typer.exceptions import TyperException
from typer.main import get_command

from jobs.cli import (
    access,
    archive,
    audit,
    bulks,
    close,
    contracts,
    demo,
    doctor,
    documents,
    emails,
    erase,
    growth,
    health,
    housekeeping,
    invoices,
    limits,
    operators,
    processes,
    prove,
    quarantine,
    queues,
    reconcile,
    recover,
    refunds,
    requests,
    retries,
    schedules,
    standin,
    switches,
    usage,
    voids,
)
from jobs.cli.output import print_error, print_line

app = typer.Typer(
    name=usage.COMMAND,
    help="Payment capture and invoicing that cannot take money twice, and can prove it.",
    epilog="When something is wrong: billing doctor, then docs/operate/README.md. Every command has examples: "
    "billing COMMAND --help. All of them: docs/cli.md.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for room in (
    demo,
    requests,
    invoices,
    voids,
    bulks,
    refunds,
    emails,
    documents,
    doctor,
    operators,
    switches,
    quarantine,
    queues,
    retries,
    limits,
    audit,
    archive,
    reconcile,
    close,
    prove,
    erase,
    processes,
    health,
    contracts,
    growth,
    housekeeping,
    schedules,
    recover,
    access,
    standin,
):
    room.add_to(app)
usage.let_help_flow(app)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import PackageNotFoundError, version

        try:
            print_line(f"billing {version('billing-reference')}")
        except PackageNotFoundError:
            print_line("billing (not installed)")
        raise typer.Exit


@app.callback()
def _options(
    _: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Show the version and exit."),
) -> None:
    pass


@cache
def whole() -> Any:
    """The command with all that is below it. To make it takes Typer 15 ms, so a process that runs several makes one."""
    return get_command(app)


def main() -> None:
    """Run the command that the arguments name, and end the process with its exit status."""
    # A command imports a thousand modules, and creates no garbage thereby: by default the collector would look three
    # hundred times for some, a seventh of the CPU of a start.
    gc.set_threshold(10_000)
    warnings.showwarning = lambda warning, category, *_, **__: _warn(warning, category)
    try:
        # Not in "standalone mode", in which Typer prints a usage error as a box of five lines.
        status = whole()(prog_name=usage.COMMAND, standalone_mode=False)
    except TyperException as error:
        if words := usage.complaint(error):
            _print_safely(words)
        sys.exit(2)
    except Exception as error:  # noqa: BLE001 - nothing is swallowed: it ends the process
        from jobs.cli.complaints import complaint

        line = complaint(error)
        if line is None:
            _report_bug(error)
            sys.exit(1)
        _print_safely(f"billing: {line}")
        sys.exit(2)
    sys.exit(status)


def _print_safely(words: str) -> None:
    """Print without secrets: a line that quotes an argument or an answer may hold one."""
    from billing.provider_secrets import without_secrets

    print_error(without_secrets(words))


def _warn(warning: Warning | str, category: type[Warning]) -> None:
    """In one line, without the place in our source, which does not help an operator."""
    from jobs.cli.complaints import complaint

    line = complaint(warning) if isinstance(warning, Warning) else None
    print_error(f"billing: warning: {line or category.__name__}")


def _report_bug(error: Exception) -> None:
    """Report a bug of ours without the exception's message, which may quote a row or a parameter."""
    import json

    from jobs import logs

    if logs.owns_the_process():
        logs.log.critical("process.crashed", exc_info=error)
    else:
        print_error("billing: this is a bug, please report it with these lines")
        for line in logs.chain_of(error):
            print_error(json.dumps(line))
