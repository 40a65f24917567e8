"""The filters of `billing quarantine`, and its bulk forms: what is meant is printed first, then changed one by one.

A bulk form changes nothing without `--yes` or the number that it printed. Each piece of work is changed and recorded in
a transaction of its own, so that one that fails harms no other.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from jobs.cli.acting import Acting
from jobs.cli.output import counted, print_error, print_json, print_line

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from jobs.road.quarantine_list import Filters

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


@dataclass(slots=True)
class Receipt:
    """What a bulk form did. `failed`: the work that it could not change, and why."""

    meant: int
    done: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)


def filters(
    reason_has: str | None,
    contract: str | None,
    older_than: str | None,
    assignee: str | None,
    account: str | None,
    untouched: bool,
) -> "Filters":
    """The options as one value. Raises typer.BadParameter."""
    from jobs.road.quarantine_list import Filters

    return Filters(reason_has, contract, _age(older_than), assignee, account, untouched)


def refuse_both(work_id: str | None, wanted: "Filters", *, everything: bool) -> None:
    """Either one piece of work is meant, or filters say which, or `--all` does. Raises typer.BadParameter."""
    from jobs.road.quarantine_list import Filters

    filtered = wanted != Filters()
    if work_id is not None and (filtered or everything):
        raise typer.BadParameter("WORK_ID means one piece of work; leave out the filters, or WORK_ID")
    if work_id is None and filtered == everything:
        raise typer.BadParameter("give WORK_ID, or filters that say which work is meant, or --all without a filter")


def in_bulk(
    act: Acting,
    wanted: "Filters",
    change: "Callable[[Session, str], object]",
    what: str,
    *,
    yes: bool,
    count: int | None,
    as_json: bool,
) -> None:
    """Change all work that is meant, one by one. Exit status 1 if nothing was changed, or not all of it."""
    from jobs.process.patience import patiently
    from jobs.road.quarantine_list import matching

    work_ids = patiently(act.runtime, lambda session: matching(session, wanted))
    if not work_ids:
        print_json(Receipt(0)) if as_json else print_line("nothing in quarantine is meant by this")
        return
    if not yes and count != len(work_ids):
        _print_meant(work_ids, count)
        raise typer.Exit(1)
    receipt = Receipt(len(work_ids))
    for number, work_id in enumerate(work_ids, 1):
        why = _changed(act, change, work_id)
        if why is None:
            receipt.done.append(work_id)
        else:
            receipt.failed[work_id] = why
        if number % PROGRESS_EVERY == 0 and number < len(work_ids):
            print_error(f"{number} of {len(work_ids)}, {len(receipt.failed)} failed")
    if as_json:
        print_json(receipt)
    else:
        print_line(f"{len(receipt.done)} of {counted(receipt.meant, 'piece')} of work {what}")
        for work_id, why in list(receipt.failed.items())[:NAMED]:
            print_line(f"  {work_id} not: {why}")
        if len(receipt.failed) > NAMED:
            print_line(f"  and {len(receipt.failed) - NAMED} more not; --json names all")
    if receipt.failed:
        raise typer.Exit(1)


def _changed(act: Acting, change: "Callable[[Session, str], object]", work_id: str) -> str | None:
    """None, or why this piece could not be changed. What is no fault of one piece ends the command."""
    from sqlalchemy.exc import SQLAlchemyError

    from billing.errors import BillingError
    from jobs.cli.complaints import complaint
    from jobs.road.verdicts import Failure, classify

    try:
        act.inside(lambda session: change(session, work_id), about=work_id)
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
