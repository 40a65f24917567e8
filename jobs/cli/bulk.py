"""Asking for all rows of a file: it is checked, confirmed and carried out, or continued where it was interrupted."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import IO, TYPE_CHECKING, Any

import typer

from jobs.cli.acting import Acting
from jobs.cli.bulk_output import as_data, progress, show_checked, show_done
from jobs.cli.from_file import CONFIRM_FROM, FromFile
from jobs.cli.output import counted, every_few_seconds, print_error, print_json

if TYPE_CHECKING:
    from billing.bulks import Progress
    from billing.errors import TooBusy
    from jobs.bulk.checking import Checked, File


def ask_for(act: Acting, kind: str, given: FromFile, *, as_json: bool) -> None:
    """Check the file, and ask for its rows. Exit status 1 if a row is bad or was refused, or more has to be said."""
    from functools import partial

    from billing.bulks import bulk_id, default_id, find
    from billing.many import MOVABLE
    from jobs.bulk.checking import File, check
    from jobs.bulk.lines import digest_of
    from jobs.bulk.problems import Problems
    from jobs.process.patience import patiently

    transact = partial(patiently, act.runtime)
    with ExitStack() as open_files:
        stream = open_files.enter_context(_opened(given.path or "-"))
        digest = digest_of(stream)
        bulk = bulk_id(given.bulk_id) if given.bulk_id else default_id(kind, digest)
        file = File(stream, digest, MOVABLE[kind], bulk, act.runtime.settings.stripe_account, act.actor)
        begun = transact(lambda session: find(session, bulk, kind=kind, digest=digest, account=file.account))
        problems = Problems(open_files.enter_context(_written(given)))
        size = stream.seek(0, 2)
        with progress("checking", size, as_bytes=True) as shown:
            # A dry run judges what is done, too: so it says again what was refused.
            after = 0 if given.dry_run or begun is None else begun.done_upto
            checked = check(file, transact, problems, lambda _, bytes_read: shown(bytes_read), after_line=after)
        show_checked(given, file, checked, begun, as_json=as_json)
        done = begun
        if not given.dry_run and (begun is None or begun.ended_at is None):
            if checked.bad and not given.skip_bad:
                _give_up(given, file, checked, "correct them, or leave them out with --skip-bad", as_json=as_json)
            if begun is None:
                _confirm(given, file, checked, as_json=as_json)
            done = _carry_out(act, given, file, checked, begun)
    show_done(given, file, checked, done, as_json=as_json)
    if problems.rows or (done is not None and done.refused):
        raise typer.Exit(1)


def _carry_out(
    act: Acting, given: FromFile, file: "File", checked: "Checked", begun: "Progress | None"
) -> "Progress | None":
    """Ask for what is left. None where there is nothing, and nothing was begun."""
    from functools import partial

    from billing import bulks
    from jobs.bulk.carrying_out import carry_out
    from jobs.bulk.room import Room
    from jobs.process.patience import patiently

    if not checked.rows and begun is None:
        return None
    transact = partial(patiently, act.runtime)
    reason = given.reason or ""
    wanted = bulks.Given(file.bulk, file.movable.kind, file.digest, file.account, checked.rows, act.actor, reason)
    tell = every_few_seconds()

    def busy(error: "TooBusy") -> None:
        tell(f"waiting for room: {error}")

    room = Room(transact, file.movable.queue, busy if given.wait else None)
    with act.outside(about=file.bulk, count=checked.rows):
        started = transact(lambda session: bulks.begin(session, wanted))
        done = started.done
        try:
            with progress("asking", started.rows) as shown:
                shown(done)

                def progressing(rows: int) -> None:
                    nonlocal done
                    done = rows
                    shown(rows)

                return carry_out(file, checked, started, transact, room.wait_for, progressing)
        except BaseException:
            print_error(
                f"{file.bulk}: {done:,} of {started.rows:,} rows are done; the same command again goes on from there"
            )
            raise


def _give_up(given: FromFile, file: "File", checked: "Checked", what_to_do: str, *, as_json: bool) -> None:
    """Nothing is asked for."""
    if as_json:
        print_json(as_data(given, file, checked, None))
    print_error(f"nothing was asked for; {what_to_do}")
    raise typer.Exit(1)


def _confirm(given: FromFile, file: "File", checked: "Checked", *, as_json: bool) -> None:
    """Go on only if the number of rows, or their total, was repeated. Asks on a terminal."""
    import sys

    from jobs.bulk.checking import totals_shown

    if checked.rows < CONFIRM_FROM:
        return
    total, typed = totals_shown(checked.totals), given.confirm
    if typed is None and given.path != "-" and not as_json and sys.stdin.isatty():
        print_error(f"This asks for {counted(checked.rows, 'row')}. Type their number to go on:")
        typed = sys.stdin.readline()
    words = " ".join((typed or "").split())
    if words not in {str(checked.rows), total}:
        or_total = f", or --confirm '{total}'" if total else ""
        was = f", not {words}" if words else ""
        what = f"these are {counted(checked.rows, 'row')}{was}; to ask for them, repeat the command with --confirm"
        _give_up(given, file, checked, f"{what} {checked.rows}{or_total}", as_json=as_json)


@contextmanager
def _opened(path: str) -> Iterator[IO[bytes]]:
    """The file, to be read twice: what cannot be, standard input or a pipe, is copied to disk first."""
    import shutil
    import sys
    import tempfile

    with ExitStack() as files:
        try:
            stream: Any = sys.stdin.buffer if path == "-" else files.enter_context(open(path, "rb"))
            if path == "-" or not stream.seekable():
                copy = files.enter_context(tempfile.TemporaryFile())
                shutil.copyfileobj(stream, copy)
                stream = copy
        except OSError as error:
            why = error.strerror or type(error).__name__
            raise typer.BadParameter(f"--from-file {path}: {why}") from None
        yield stream


@contextmanager
def _written(given: FromFile) -> Iterator[IO[str] | None]:
    import os

    if given.errors is None:
        yield None
        return
    if given.path and os.path.exists(given.errors) and os.path.samefile(given.path, given.errors):
        raise typer.BadParameter("--errors would be written over the file that is read")
    try:
        file = open(given.errors, "w", encoding="utf-8", newline="")  # noqa: SIM115 - closed below
    except OSError as error:
        raise typer.BadParameter(f"--errors {given.errors}: {error.strerror or type(error).__name__}") from None
    with file:
        yield file
