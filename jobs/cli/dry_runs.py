"""`billing quarantine replay` with `--dry-run` or `--approve`: prints plans, and carries out one that was approved."""

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jobs.cli.acting import Acting
from jobs.cli.output import counted, print_json, print_line
from jobs.cli.quarantine_filters import Meant, Receipt, all_of, one_by_one, print_receipt

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from jobs.road.dry_run import DryRun
    from jobs.road.plans import Plan


@dataclass(frozen=True, slots=True)
class Plans:
    """The plans of all work that is meant, with one id for all of them. `failed`: what cannot be put back, and why."""

    id: str
    plans: "list[Plan]"
    failed: "Mapping[str, str]"


def show(act: Acting, what: Meant, reason: str, *, as_json: bool) -> None:
    """Print what a replay would do."""
    with _opened(act, reason) as dry_run:
        if what.work_id is not None:
            found = Plans("", [dry_run.plan(what.work_id)], {})
        else:
            found = _of_all(dry_run, all_of(act, what))
    if as_json:
        print_json(found if what.work_id is None else found.plans[0])
        return
    for plan in found.plans:
        _print(plan)
    for work_id, why in found.failed.items():
        print_line(f"{work_id} not: {why}")
    if not found.plans:
        print_line("nothing in quarantine is meant by this" if not found.failed else "nothing can be put back")
        return
    plan_id = found.id or found.plans[0].id
    if found.id:
        print_line(f"{counted(len(found.plans), 'plan')}, together {found.id}")
    print_line(f"nothing was changed; to do this and nothing else, write --approve {plan_id} in place of --dry-run")


def carry_out(act: Acting, what: Meant, approved: str, reason: str, *, as_json: bool) -> None:
    """Do what was approved, or nothing. In bulk, work that changes on the way is left as it is, and the others are
    done. Raises PlanChanged."""
    with _opened(act, reason) as dry_run:
        if what.work_id is not None:
            plan = _carried_out(act, dry_run, what.work_id, approved)
            print_json(plan) if as_json else _print_done(act, plan)
        else:
            print_receipt(_all_carried_out(act, dry_run, what, approved), "carried out as planned", as_json=as_json)


@contextmanager
def _opened(act: Acting, reason: str) -> "Iterator[DryRun]":
    """With the runner and the gateways of workers. Raises NotAWorker, SecretError and OtherAccount."""
    import random
    from functools import cache, partial

    from jobs import logs
    from jobs.process.patience import patiently
    from jobs.process.service import ServiceProcess
    from jobs.road.dry_run import DryRun, refuse_unless_worker
    from jobs.road.runner import Runner

    settings = act.runtime.settings
    # What is carried out is logged as by a worker.
    logs.configure(settings.log_level, settings.log_format)
    patiently(act.runtime, refuse_unless_worker)
    process = ServiceProcess(settings, "cli")
    try:
        process.check_provider()
        runner = Runner(process.call_settings, random.Random())  # noqa: S311 - jitter, no secret
        gateways = cache(lambda queue: process.gateway_of(queue, 1))
        yield DryRun(runner, gateways, partial(patiently, act.runtime), actor=act.actor, reason=reason)
    finally:
        process.close()


def _of_all(dry_run: "DryRun", work_ids: list[str]) -> Plans:
    from jobs.road.plans import digest

    plans: list[Plan] = []
    receipt = one_by_one(work_ids, lambda work_id: plans.append(dry_run.plan(work_id)))
    return Plans(digest([[plan.id for plan in plans], receipt.failed]), plans, receipt.failed)


def _all_carried_out(act: Acting, dry_run: "DryRun", what: Meant, approved: str) -> Receipt:
    from jobs.road.plans import PlanChanged

    found = _of_all(dry_run, all_of(act, what))
    if found.id != approved:
        raise PlanChanged(approved, found.id)
    ids = {plan.work_id: plan.id for plan in found.plans}
    receipt = one_by_one(list(ids), lambda work_id: _carried_out(act, dry_run, work_id, ids[work_id]))
    return Receipt(receipt.meant + len(found.failed), receipt.done, {**found.failed, **receipt.failed})


def _carried_out(act: Acting, dry_run: "DryRun", work_id: str, approved: str) -> "Plan":
    from functools import partial

    return dry_run.carry_out(work_id, approved, act.runtime.engine, partial(act.inside, about=work_id))


def _print(plan: "Plan") -> None:
    print_line(f"{plan.id}: {plan.work_id}, for {plan.entity_id}")
    for sentence in plan.replay:
        print_line(f"  replay  {sentence}")
    for look in plan.looks:
        print_line(f"  look    {look.call}: {look.learned}{f', {look.why}' if look.why else ''}")
    for change in plan.changes:
        columns = (_column(name, change.before.get(name), value) for name, value in change.after.items())
        print_line(f"  change  {change.of}: {', '.join(columns)}")
    if (call := plan.call) is not None:
        print_line(f"  call    {call.method} {call.path}{f' for {call.account}' if call.account else ''}")
        print_line(f"          key {call.key}, parameters sha256 {call.parameters_sha256[:16]} (--json shows them)")
    else:
        print_line("  call    none")
    print_line(f"  then    {plan.then}")


def _column(name: str, before: object, after: object) -> str:
    return f"{name} {after}" if before is None else f"{name} {before} -> {after if after is not None else 'nothing'}"


def _print_done(act: Acting, plan: "Plan") -> None:
    from billing.status import status
    from jobs.process.patience import patiently

    now = patiently(act.runtime, lambda session: status(session, plan.entity_id))
    print_line(f"{plan.work_id} was carried out as planned: {now.id} is {now.state}; next: {now.next}")
