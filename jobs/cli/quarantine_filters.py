"""Which work a command of `billing quarantine` means: one piece, or all that its filters mean; and changing it.

The filters are options of several commands, and stand once, in `filters`. A bulk form changes nothing without `--yes`
or the number that it printed. Each piece of work is changed and recorded in a transaction of its own, so that one that
fails harms no other.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from jobs.cli.acting import Acting
from jobs.cli.output import counted, print_error, print_json, print_line
from jobs.cli.shared_options import options_of

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from jobs.road.quarantine_list import Filters

T = TypeVar("T")

NAMED = 20
"""A bulk form names so many of the pieces that it would touch, and of those that failed."""
PROGRESS_EVERY = 100

WorkIdOrFilters = Annotated[
    str | None, typer.Argument(metavar="[WORK_ID]", help="wrk_...; without it, name what is meant by filters.")
]
ByReason = Annotated[
    str | None, typer.Option("--reason-has", metavar="TEXT", help="Only where the reason contains this.")
]
ByContract = Annotated[str | None, typer.Option("--contract", metavar="NAME", help="Only of this contract.")]
OlderThan = Annotated[
    str | None, typer.Option("--older-than", metavar="AGE", help="Only if in quarantine for longer: 30m, 2h, 3d.")
]
ByAssignee = Annotated[str | None, typer.Option("--assignee", metavar="NAME", help="Only what this person looks at.")]
ByAccount = Annotated[
    str | None, typer.Option("--account", metavar="ID", help="Only of this account: acct_..., or own.")
]
Untouched = Annotated[bool, typer.Option("--untouched", help="Only what nobody has touched yet.")]
Everything = Annotated[bool, typer.Option("--all", help="All work in quarantine, without a filter.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do it for all that are meant, however many there are.")]
Count = Annotated[int | None, typer.Option("--count", min=0, help="Do it only if exactly so many are meant.")]

_AGE = re.compile(r"([0-9]{1,6})([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


@dataclass(frozen=True, slots=True)
class Meant:
    """The work that a command is to change. `work_id` is None where the filters say which, or `--all` does."""

    work_id: str | None
    filters: "Filters"
    yes: bool
    count: int | None


@dataclass(slots=True)
class Receipt:
    """What a bulk form did. `failed`: the work that it could not change, and why."""

    meant: int
    done: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)


def filters(
    reason_has: ByReason = None,
    contract: ByContract = None,
    older_than: OlderThan = None,
    assignee: ByAssignee = None,
    account: ByAccount = None,
    untouched: Untouched = False,
) -> "Filters":
    """The options as one value. Raises typer.BadParameter."""
    from jobs.road.quarantine_list import Filters

    return Filters(reason_has, contract, _age(older_than), assignee, account, untouched)


@options_of(filters)
def meant(
    wanted: "Filters",
    work_id: WorkIdOrFilters = None,
    everything: Everything = False,
    yes: Yes = False,
    count: Count = None,
) -> Meant:
    """Either one piece of work is meant, or filters say which, or `--all` does. Raises typer.BadParameter."""
    from jobs.road.quarantine_list import Filters

    filtered = wanted != Filters()
    if work_id is not None and (filtered or everything):
        raise typer.BadParameter("WORK_ID means one piece of work; leave out the filters, or WORK_ID")
    if work_id is None and filtered == everything:
        raise typer.BadParameter("give WORK_ID, or filters that say which work is meant, or --all without a filter")
    return Meant(work_id, wanted, yes, count)


def change(act: Acting, what: Meant, step: "Callable[[Session, str], T]", became: str, *, as_json: bool) -> T | None:
    """Change the one piece that is meant, and return what `step` returns of it. Or change all that the filters mean,
    one by one, print a receipt (`became`: `assigned to grace`), and return None; exit status 1 if nothing was changed,
    or not all of it."""
    if what.work_id is not None:
        one = what.work_id
        return act.inside(lambda session: step(session, one), about=one)
    work_ids = all_of(act, what)
    if work_ids and not what.yes and what.count != len(work_ids):
        _print_meant(work_ids, what.count)
        raise typer.Exit(1)
    receipt = one_by_one(work_ids, lambda work_id: act.inside(lambda session: step(session, work_id), about=work_id))
    print_receipt(receipt, became, as_json=as_json)
    return None


def all_of(act: Acting, what: Meant) -> list[str]:
    """The ids of all work that the filters mean, the longest waiting first."""
    from jobs.process.patience import patiently
    from jobs.road.quarantine_list import matching

    return patiently(act.runtime, lambda session: matching(session, what.filters))


def one_by_one(work_ids: list[str], do: Callable[[str], object]) -> Receipt:
    """Do this for each piece of work. One that fails harms no other; what is no fault of one piece ends the command."""
    receipt = Receipt(len(work_ids))
    for number, work_id in enumerate(work_ids, 1):
        why = _why_not(do, work_id)
        if why is None:
            receipt.done.append(work_id)
        else:
            receipt.failed[work_id] = why
        if number % PROGRESS_EVERY == 0 and number < len(work_ids):
            print_error(f"{number} of {len(work_ids)}, {len(receipt.failed)} failed")
    return receipt


def print_receipt(receipt: Receipt, became: str, *, as_json: bool) -> None:
    """What a bulk form did. Exit status 1 where a piece could not be changed."""
    if as_json:
        print_json(receipt)
    elif not receipt.meant:
        print_line("nothing in quarantine is meant by this")
    else:
        print_line(f"{len(receipt.done)} of {counted(receipt.meant, 'piece')} of work {became}")
        for work_id, why in list(receipt.failed.items())[:NAMED]:
            print_line(f"  {work_id} not: {why}")
        if len(receipt.failed) > NAMED:
            print_line(f"  and {len(receipt.failed) - NAMED} more not; --json names all")
    if receipt.failed:
        raise typer.Exit(1)


def _why_not(do: Callable[[str], object], work_id: str) -> str | None:
    """Do it: None, or why it could not be done for this piece."""
    from sqlalchemy.exc import SQLAlchemyError

    from billing.errors import BillingError
    from jobs.cli.complaints import complaint
    from jobs.road.verdicts import Failure, classify

    try:
        do(work_id)
    except BillingError as error:
        return complaint(error)
    except SQLAlchemyError as error:
        if classify(error) is Failure.RECONNECT:
            raise
        return complaint(error) or type(error).__name__
    return None


def _print_meant(work_ids: list[str], count: int | None) -> None:
    found = counted(len(work_ids), "piece")
    print_error(f"{found} of work in quarantine are meant" + (f", not {count}" if count is not None else ""))
    for work_id in work_ids[:NAMED]:
        print_error(f"  {work_id}")
    if len(work_ids) > NAMED:
        print_error(f"  and {len(work_ids) - NAMED} more; `billing quarantine list` takes the same filters")
    print_error(f"nothing was changed; to do it, repeat the command with --count {len(work_ids)}")


def _age(text: str | None) -> timedelta | None:
    if text is None:
        return None
    if (found := _AGE.fullmatch(text)) is None:
        raise typer.BadParameter(f"{text!r} is not an age; write 30m, 2h or 3d", param_hint="--older-than")
    return timedelta(**{_UNITS[found[2]]: int(found[1])})
