"""`billing contracts`: which work this version can take, whether that fits what was released, and what is left."""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Annotated, Any

import typer

from jobs.cli.output import RUNNING, AsJson, counted, print_json, print_line


def add_to(app: typer.Typer) -> None:
    contracts = typer.Typer(
        no_args_is_help=True,
        help="The kinds of work: what starts them, and whether old and new versions can share them.",
    )
    contracts.command("list")(list_contracts)
    contracts.command()(check)
    contracts.command()(drained)
    app.add_typer(contracts, name="contracts", rich_help_panel=RUNNING)


def list_contracts(as_json: AsJson = False) -> None:
    """List the contracts of this version: what starts each, how long a call may take, how it is tried again, and what
    undoes its effect if nobody wants it any more.

    It asks no server and needs no setting.

    \b
    Example:
      billing contracts list
    """
    from billing.timing import PRODUCTION
    from jobs.road.contracts import contracts, named, starters

    listed = [
        {
            "contract": named(contract),
            "purpose": contract.purpose,
            "owner": contract.owner,
            "started_by": ", ".join(sorted(starters(operation, contract))),
            "queue": contract.queue,
            "call_budget_s": contract.call_budget_s,
            "retry": contract.retry,
            "max_attempts": contract.max_attempts,
            "deadline": operation.deadline,
            "deadline_margin_s": PRODUCTION.deadline_margin_s if operation.deadline else None,
            "sheddable": contract.sheddable,
            "business": [metric.name for metric in operation.business],
            "compensation": "nothing: it only looks" if contract.observes else operation.compensation.what,
        }
        for operation, contract in contracts()
    ]
    if as_json:
        print_json(listed)
        return
    for each in listed:
        print_line(f"{each['contract']}: {each['purpose']}")
        for title, shown in _CONTRACT.items():
            print_line(f"  {title:<10}  {shown(each)}")


_CONTRACT: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "owner": lambda each: each["owner"],
    "started by": lambda each: f"{each['started_by']}, on the queue {each['queue']}",
    "a call": lambda each: f"takes up to {each['call_budget_s']:g} s, looks too",
    "no answer": lambda each: f"{each['retry']} (docs/operate/retries.md)",
    "crashes": lambda each: f"{each['max_attempts']:,} in one step, then it is quarantined",
    "deadline": lambda each: (
        f"{each['deadline']}; urgent from {each['deadline_margin_s'] / 3600:g} h before" if each["deadline"] else "none"
    ),
    "overload": lambda each: (
        "held back while a queue that may not wait is behind its SLO (docs/operate/backpressure.md)"
        if each["sheddable"]
        else "never held back"
    ),
    "counted as": lambda each: ", ".join(each["business"]) or "nothing",
    "undone by": lambda each: each["compensation"],
}
"""The lines of a contract: each with its title, and what it shows."""


def check(
    database: Annotated[
        bool, typer.Option("--database", help="Also plan on trial what waits in this database; nothing is written.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Check that processes of older and newer versions can share one database with this one. Run it before a rollout.

    It compares the contracts with every version that was released (jobs/road/golden), and prints each change that an
    older or a newer process could not consume, with what to do. Exit status 1 if there is one. Without --database it
    asks no server and needs no setting.

    \b
    Examples:
      billing contracts check
      billing contracts check --database   # with the new version, before it is rolled out
    """
    from jobs.road import golden

    corpus = golden.released()
    findings = golden.check(corpus)
    if database:
        from jobs.cli.opening import opened
        from jobs.process.patience import patiently
        from jobs.road.drain import check_waiting

        with opened() as runtime:
            findings += patiently(runtime, check_waiting)
    examples = sum(len(each.facts) for each in corpus)
    if as_json:
        print_json({"released": len(corpus), "facts": examples, "database": database, "findings": findings})
    elif not findings:
        print_line(
            f"{counted(len(corpus), 'released contract')} with {counted(examples, 'recorded fact')}: older and newer "
            "versions can share them" + (", and this version can take all that waits" if database else "")
        )
    for finding in () if as_json else findings:
        print_line(str(finding))
    if findings:
        raise typer.Exit(1)


def drained(
    contract: Annotated[str, typer.Argument(metavar="NAME:VERSION", help="as `billing contracts list` shows it")],
    as_json: AsJson = False,
) -> None:
    """Show what is left of one version of a contract. Exit status 0 only if nothing is.

    It counts work in every state but done, and facts that would start it: those that no relay has planned yet, and
    those that were set aside. A version that applications still write is drained whenever they rest, too: ask once none
    writes it any more. docs/operate/deploy.md has all four steps.

    \b
    Example:
      billing contracts drained take_capture:1
    """
    from jobs.cli.opening import opened
    from jobs.process.patience import patiently
    from jobs.road import drain
    from jobs.road.contracts import known

    with opened() as runtime:
        left = patiently(runtime, lambda session: drain.drained(session, contract))
    if left is None:
        raise typer.BadParameter(f"no contract is called {contract}; this version knows {', '.join(known())}")
    if as_json:
        print_json({"drained": left.drained, **asdict(left)})
    elif left.drained:
        print_line(
            f"{contract} is drained. Once no application writes its fact any more, its support may be removed: "
            "set `retired` in its golden file"
        )
    else:
        for line in _left(left.work, left.unplanned, left.set_aside):
            print_line(f"{contract}: {line}")
    if not left.drained:
        raise typer.Exit(1)


_WHAT_TO_DO = {
    "held": "`billing switch list` shows what stops it",
    "parked": "no running worker knows this version; start one that does",
    "quarantined": "it needs a decision: `billing quarantine list`",
}


def _left(work: Mapping[str, int], unplanned: int, set_aside: int) -> list[str]:
    lines = [
        f"{count} {state}; {_WHAT_TO_DO.get(state, 'wait: workers carry it out')}" for state, count in work.items()
    ]
    if unplanned:
        lines.append(
            f"{counted(unplanned, 'fact')} unplanned; wait, and see whether an old application still writes them"
        )
    if set_aside:
        lines.append(f"{counted(set_aside, 'fact')} set aside; `billing doctor` names them")
    return lines
