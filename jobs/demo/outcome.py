"""What the demo ends with: what was asked, what moved, what is archived, and every difference."""

import contextlib
import time
from collections import Counter
from dataclasses import dataclass
from datetime import datetime

from archive.queries import Read, ask
from billing import database
from billing.errors import UnknownEntity
from billing.explain import Explanation, explain_one
from billing.states import CaptureState, RefundState
from jobs.demo.count import Asked, Offence, compare, compare_archived, sum_asked, sum_moved
from jobs.demo.scraping import Numbers
from jobs.demo.shopping import Shop
from jobs.demo.stage import Stage
from jobs.process import archiving, buckets
from jobs.process.patience import patiently

STORIES = 5


@dataclass(frozen=True, slots=True)
class Outcome:
    """Sums are minor units by currency; the other counts are by state, or by what is counted."""

    seed: int
    seconds: float
    captures: Counter[str]
    voids: Counter[str]
    refunds: Counter[str]
    invoices: Counter[str]
    asked: Counter[str]
    """Of captures that are captured here."""
    moved: Counter[str]
    """Of captures that happened at the provider."""
    archived: Counter[str] | None
    """Of captures that the evidence in S3 shows as taken; None if nothing was archived."""
    archived_captures: int
    asked_back: Counter[str]
    """Of refunds that succeeded here."""
    moved_back: Counter[str]
    """Of refunds that happened at the provider."""
    evidence: list[Read]
    metrics: Numbers | None
    """What the workers counted; None where the extra `metrics` is not installed."""
    effects: Counter[str]
    faults: Counter[str]
    refused: Counter[str]
    keys_resent: int
    keys_replaced: int
    offences: list[Offence]
    stories: list[Explanation]
    """What `billing explain` says about the first differences. Their database is removed before this is read."""


def count(stage: Stage, shop: Shop, seed: int, since: datetime, began: float) -> Outcome:
    """Compare the three counts, and what was expected of each request."""
    expected = stage.expected | shop.expected
    asked = patiently(stage.runtime, lambda session: stage.tally.asked(session, expected))
    resent, replaced = patiently(stage.runtime, stage.tally.keys)
    effects = stage.standin.effects()
    captures = _of("cap_", asked)
    refunds = _of("ref_", asked)
    offences = [*stage.offences, *compare(asked, effects)]
    forgotten = sorted(expected.keys() - {request.id for request in asked})
    offences += [Offence("lost", lost, "asked for, and Postgres has no row of it") for lost in forgotten]
    archived = _ask_the_archive(stage, since)
    sums, number, evidence = archived or (None, 0, [])
    if sums is not None:
        taken = sum(request.state == CaptureState.CAPTURED for request in captures)
        offences += compare_archived(sum_asked(captures, CaptureState.CAPTURED), taken, sums, number)
    return Outcome(
        seed=seed,
        seconds=round(time.monotonic() - began, 1),
        captures=_by_state(captures),
        voids=_by_state(_of("void_", asked)),
        refunds=_by_state(refunds),
        invoices=_by_state(_of("inv_", asked)),
        asked=sum_asked(captures, CaptureState.CAPTURED),
        moved=sum_moved(effects, "capture"),
        archived=sums,
        archived_captures=number,
        asked_back=sum_asked(refunds, RefundState.SUCCEEDED),
        moved_back=sum_moved(effects, "refund"),
        evidence=evidence,
        metrics=_numbers(stage),
        effects=Counter(effect["kind"] for effect in effects),
        faults=+stage.faults,
        refused=shop.refused,
        keys_resent=resent,
        keys_replaced=replaced,
        offences=offences,
        stories=_explain(stage, [offence.id for offence in offences]),
    )


def _of(prefix: str, asked: list[Asked]) -> list[Asked]:
    return [request for request in asked if request.id.startswith(prefix)]


def _by_state(asked: list[Asked]) -> Counter[str]:
    return Counter(request.state for request in asked)


def _ask_the_archive(stage: Stage, since: datetime) -> tuple[Counter[str], int, list[Read]] | None:
    """The third count, from verified copies of the objects in S3 only."""
    if not stage.stack.archives:
        return None
    settings = stage.runtime.settings
    with buckets.opened(settings) as store:
        answer = ask(archiving.cache(settings, store), "captures_by_day", {"since": since.isoformat()})
    sums: Counter[str] = Counter()
    for row in answer.named_rows:
        sums[row["currency"]] += row["minor"]
    return sums, sum(row["captures"] for row in answer.named_rows), answer.evidence


def _numbers(stage: Stage) -> Numbers | None:
    for child in stage.stack.processes:
        if child not in stage.killed:
            stage.scrapes.take(child)
    return stage.scrapes.numbers()


def _explain(stage: Stage, names: list[str]) -> list[Explanation]:
    stories: list[Explanation] = []
    for name in dict.fromkeys(names[:STORIES]):
        with database.transaction(stage.runtime.engine) as session, contextlib.suppress(UnknownEntity):
            stories.append(explain_one(session, name))
    return stories
