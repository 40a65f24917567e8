"""The first reading of a file: everything that is wrong with it is found before anything is asked for.

Each row is read, checked by the rules of its request, compared with what is known in the database (a request id that
was used for something else, an authorization that is taken), and with the other rows of the file. Both readings take
the same batches: at the end of each one stands the digest of all bytes so far, so the second reading knows before it
writes a batch whether it is still what was checked.
"""

import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import IO

from billing.database import Transact
from billing.errors import BillingError, InvalidRequest, PossibleCardNumber
from billing.many import Movable, Outcome, rehearse_many
from billing.money import Money, shown
from jobs.bulk.columns import Asked, asked_by, columns_of
from jobs.bulk.duplicates import Counted, Duplicates, Key
from jobs.bulk.errors import FileChanged, UnusableFile
from jobs.bulk.lines import LINE_MOST, Lines, refuse_strangers
from jobs.bulk.problems import Problem, Problems
from jobs.bulk.rows import rows

BATCH = 500
"""Rows that are asked for in one transaction: some 0.1 s."""
NESTED_BATCH, NESTED_LINE_MOST = 50, 1_000_000
"""Of rows that hold more than cells, such as an invoice with 250 lines; the bytes of one are those of its own file."""
REMARKS_KEPT = 20

Progressing = Callable[[int, int], None]
"""Called with the number of rows and of bytes that are done, after every batch."""


@dataclass(frozen=True, slots=True)
class File:
    """What is to be asked for, and as what. `account`: of the rows that name none."""

    stream: IO[bytes]
    digest: str
    movable: Movable
    bulk: str
    account: str | None
    actor: str


@dataclass(frozen=True, slots=True)
class Batch:
    """The rows up to this line, `read` of them. `digest`: of all bytes up to the end of that line."""

    read: int
    asked: Sequence[Asked]
    problems: Sequence[Problem]
    upto: int
    bytes_read: int
    digest: str


@dataclass(slots=True)
class Checked:
    """What a file would ask for. `new`: rows that would be; `before`: that were, with the same parameters; `bad`: that
    cannot be.

    `totals`: minor units by currency, and `without_amount` how many rows name none, of what is new; where all that is
    left is meant, it counts as it is left now. `marks`: the digest at the end of each batch. `remarks`: (line, what is
    strange but no error).
    """

    problems: Problems
    bad: int = 0
    new: int = 0
    before: int = 0
    without_amount: int = 0
    totals: Counter[str] = field(default_factory=Counter)
    marks: list[str] = field(default_factory=list)
    remarks: list[tuple[int, str]] = field(default_factory=list)
    remarked: int = 0

    @property
    def rows(self) -> int:
        """That can be asked for."""
        return self.new + self.before


def batches(file: File) -> Iterator[Batch]:
    """The file from its beginning. Raises UnusableFile."""
    refuse_strangers(file.stream)
    columns = columns_of(file.movable)
    most, longest = (NESTED_BATCH, NESTED_LINE_MOST) if columns.nested else (BATCH, LINE_MOST)
    lines, asked, problems, read = Lines(file.stream, longest), list[Asked](), list[Problem](), 0
    for row in rows(lines, columns):
        read += 1
        match asked_by(row, file.movable, file.bulk, file.account):
            case Asked() as one:
                asked.append(one)
            case found:
                problems += found
        if read == most:
            yield Batch(read, asked, problems, lines.number, lines.bytes_read, lines.digest())
            asked, problems, read = [], [], 0
    # Also if there are no more rows: the digest of the whole file is in the last batch.
    yield Batch(read, asked, problems, lines.number, lines.bytes_read, lines.digest())


def check(
    file: File, transact: Transact, problems: Problems, progressing: Progressing, *, after_line: int = 0
) -> Checked:
    """Read the whole file, and say what it would ask for. Nothing is written.

    `after_line`: what a continued bulk has done is read and not judged again. Raises UnusableFile and FileChanged.
    """
    found, read = Checked(problems), 0
    with closing(Duplicates()) as duplicates, warnings.catch_warnings():
        # It names no line; the remark about the row does.
        warnings.simplefilter("ignore", PossibleCardNumber)
        for batch in batches(file):
            for problem in batch.problems:
                if problem.line > after_line:
                    problems.add(problem.line, problem.column, problem.why)
            left = [one for one in batch.asked if one.line > after_line]
            outcomes = _rehearsed(file, transact, left)
            counted = {one.line: _count(found, one, outcome) for one, outcome in zip(left, outcomes, strict=True)}
            duplicates.add(key for one in batch.asked for key in _keys(file, one, counted.get(one.line)))
            found.marks.append(batch.digest)
            read += batch.read
            progressing(read, batch.bytes_read)
        if found.marks[-1] != file.digest:
            raise FileChanged(batch.upto)
        if not read:
            raise UnusableFile("the file has a header and no rows")
        _take_out(found, duplicates, after_line)
    found.bad = len(problems.rows)
    return found


def _rehearsed(file: File, transact: Transact, asked: Sequence[Asked]) -> Sequence[Outcome]:
    if not asked:
        return ()
    arguments = [one.arguments for one in asked]
    return transact(lambda session: rehearse_many(session, file.movable.kind, arguments, actor=file.actor))


def _count(found: Checked, one: Asked, outcome: Outcome) -> Counted | None:
    """Judge one row. Returns what it added to the totals; None where it added nothing."""
    if one.remark is not None:
        found.remarked += 1
        if len(found.remarks) < REMARKS_KEPT:
            found.remarks.append((one.line, one.remark))
    if isinstance(outcome, BillingError):
        found.problems.add(one.line, *about(outcome))
        return None
    if not outcome.new:
        found.before += 1
        return None
    # Of a row that means all that is left, the receipt says how much that is.
    amount: Money | None = one.amount or getattr(outcome, "amount", None)
    counted = Counted(amount.minor if amount else 0, amount.currency if amount else "", one.amount is not None)
    _add(found, counted, 1)
    return counted


def _add(found: Checked, counted: Counted, times: int) -> None:
    found.new += times
    found.without_amount += 0 if counted.named else times
    found.totals[counted.currency] += times * counted.minor
    if not found.totals[counted.currency]:
        del found.totals[counted.currency]


def about(error: BillingError) -> tuple[str, str]:
    """The column that an error is about, and what is wrong with it."""
    if isinstance(error, InvalidRequest):
        return error.subject, error.problem
    return "", str(error)


def _keys(file: File, one: Asked, counted: Counted | None) -> Iterator[Key]:
    account = one.arguments.get("account") or ""
    if one.named:
        yield Key("request_id", f"{account} {one.arguments['request_id']}", one.line, counted)
    if (once := file.movable.once) is not None and (same := once(one.arguments)) is not None:
        yield Key(same[0], f"{account} {same[1]}", one.line, counted)


def _take_out(found: Checked, duplicates: Duplicates, after_line: int) -> None:
    """Rows that share what no two may share are bad, all of them: nobody knows which is meant."""
    for each in duplicates.found():
        if each.line <= after_line:
            continue
        if each.line not in found.problems.rows:
            if each.counted is None:
                found.before -= 1
            else:
                _add(found, each.counted, -1)
        again = "stands in another line again" if each.line == each.first else f"is that of line {each.first}, too"
        found.problems.add(each.line, each.column, again)


def totals_shown(totals: Mapping[str, int]) -> str:
    """`1999.00 EUR, 500 JPY`, as an operator types it to confirm."""
    return ", ".join(shown(minor, currency) for currency, minor in sorted(totals.items()))
