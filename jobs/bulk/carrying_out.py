"""The second reading of a file: batch by batch it is asked for, each in one transaction with the progress.

The process may die at any line. What was committed is done and counted, what was not is not, and the same command goes
on from there. Two processes with the same file exclude each other by the row of the bulk.
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from sqlalchemy.orm import Session

from billing import bulks
from billing.bulks import Progress
from billing.database import Transact
from billing.errors import BillingError, PossibleCardNumber
from billing.many import Outcome, request_many
from jobs.bulk.checking import Checked, File, about, batches
from jobs.bulk.columns import Asked
from jobs.bulk.errors import FileChanged

WaitForRoom = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class _Left:
    """What is left of a batch to ask for."""

    rows: Sequence[Asked]
    upto: int


def carry_out(
    file: File,
    checked: Checked,
    begun: Progress,
    transact: Transact,
    wait_for_room: WaitForRoom,
    progressing: Callable[[int], None],
) -> Progress:
    """Ask for every row that was found good and is not done. One that is refused now, although it was good when it was
    checked, is one more of `checked.problems`. `progressing` is called with the number of rows that are done.

    Raises FileChanged, BulkTaken, and TooBusy where nobody wants to wait; what was asked for stays.
    """
    upto, done = begun.done_upto, begun.done
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PossibleCardNumber)
        for left in _left(file, checked, begun.done_upto):
            wait_for_room(len(left.rows))
            outcomes = transact(_asking(file, left, done_upto=upto))
            for one, outcome in zip(left.rows, outcomes, strict=True):
                if isinstance(outcome, BillingError):
                    checked.problems.add(one.line, *about(outcome))
            upto, done = left.upto, done + len(left.rows)
            progressing(done)
    return transact(lambda session: bulks.end(session, file.bulk))


def _left(file: File, checked: Checked, done_upto: int) -> Iterator[_Left]:
    """Every batch with something to ask for, once it is proven to be what was checked. Raises FileChanged."""
    marks = iter(checked.marks)
    for batch in batches(file):
        if batch.digest != next(marks, None):
            raise FileChanged(batch.upto)
        rows = [one for one in batch.asked if one.line > done_upto and one.line not in checked.problems.rows]
        if rows:
            yield _Left(rows, batch.upto)
    if next(marks, None) is not None:
        raise FileChanged(batch.upto)


def _asking(file: File, left: _Left, *, done_upto: int) -> Callable[[Session], list[Outcome]]:
    def ask(session: Session) -> list[Outcome]:
        bulks.hold(session, file.bulk, done_upto=done_upto)
        arguments = [one.arguments for one in left.rows]
        outcomes = request_many(session, file.movable.kind, arguments, actor=file.actor)
        refused = sum(isinstance(outcome, BillingError) for outcome in outcomes)
        new = sum(not isinstance(outcome, BillingError) and outcome.new for outcome in outcomes)
        before = len(outcomes) - refused - new
        bulks.advance(session, file.bulk, bulks.Batch(left.upto, new, before, refused))
        return outcomes

    return ask
