"""Which spans the lines of the log make: one table. A span tells what became true, after the commit, as its line does.

    plan take_capture                                a relay turned the request into work
    take_capture capture                             a worker's turn: from the prepare of a call to its settling
        POST /v1/payment_intents/{id}/capture        the call itself
    archive capture                                  facts about the operation are in S3

No span has an amount, a key, an account, an id of Stripe's, or anything that an application chose.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Any

from billing.calls import Report
from billing.operations import by_id
from billing.tables.entities import Requested
from billing.traceparent import Traced

Line = Mapping[str, Any]
"""The fields of one line of the log, with `trace`."""


class Kind(StrEnum):
    """As OpenTelemetry has them."""

    INTERNAL = "INTERNAL"
    CONSUMER = "CONSUMER"
    CLIENT = "CLIENT"


@dataclass(frozen=True, slots=True)
class Span:
    """Times are in nanoseconds since 1970. `failed`: it is shown as an error. `inner`: the span within it."""

    name: str
    kind: Kind
    began_ns: int
    ended_ns: int
    attributes: Mapping[str, str | int]
    failed: bool = False
    inner: "Span | None" = None


@dataclass(frozen=True, slots=True)
class OfOperation:
    """A span of one operation, not made yet. `first`: its trace begins with it, if the application named no trace."""

    operation_id: str
    traceparent: str | None
    make: Callable[[], Span]
    first: bool = False


def spans_of(line: Line, now_ns: int) -> Iterator[OfOperation]:
    """The spans of a line that is written now; most lines make none."""
    make = SPANS.get(line["event"])
    return iter(()) if make is None else make(line, line["trace"], now_ns)


def _planned(line: Line, trace: Traced, now_ns: int) -> Iterator[OfOperation]:
    yield OfOperation(line["operation_id"], trace.traceparent, partial(_plan, line, trace, now_ns), first=True)


def _plan(line: Line, trace: Traced, now_ns: int) -> Span:
    attributes = {
        "billing.operation_id": line["operation_id"],
        "billing.contract": line["contract"],
        "billing.queue": line["queue"],
    }
    return Span(f"plan {line['contract']}", Kind.INTERNAL, trace.began_ns, now_ns, attributes)


def _called(line: Line, trace: Traced, now_ns: int) -> Iterator[OfOperation]:
    """Without a report there was no call."""
    if isinstance(trace.about, Report):
        yield OfOperation(line["operation_id"], trace.traceparent, partial(_turn, line, trace, trace.about, now_ns))


def _turn(line: Line, trace: Traced, report: Report, now_ns: int) -> Span:
    """A worker's turn, with the call in it."""
    call, step = report.call, _without_id(report.call.step.name)
    prepared_ns = int(call.prepared_at.timestamp() * 1e9)
    began_ns = trace.began_ns or prepared_ns
    ended_ns = began_ns + report.took_ms * 1_000_000
    attributes = {
        "billing.operation_id": line["operation_id"],
        "billing.contract": line["contract"],
        "billing.step": step,
        "billing.state": line["state"],
        "billing.standing": line.get("standing", "calling"),
        # It rises with each prepare: what is missing between two turns was prepared by a worker that died.
        "billing.fence": call.fence,
    }
    # Postgres's clock may be ahead of ours: a call never begins before its turn.
    return Span(
        f"{line['contract']} {step}",
        Kind.CONSUMER,
        min(prepared_ns, began_ns),
        max(now_ns, ended_ns),
        attributes,
        # As in the log: an operator must know.
        failed=line["level"] == "error",
        inner=_call(report, step, began_ns, ended_ns),
    )


def _call(report: Report, step: str, began_ns: int, ended_ns: int) -> Span:
    call, answer = report.call, report.answer
    generation = next((each.generation for each in call.loaded.records if each.id == call.record_id), 0)
    attributes: dict[str, str | int] = {
        "billing.step": step,
        "billing.generation": generation,
        "billing.answer": answer,
    }
    if answer.isdigit():
        attributes["http.response.status_code"] = int(answer)
    failed = not (answer.startswith("2") or answer == "seen")
    if failed:
        attributes["error.type"] = answer
    if call.looking:
        # A look is one or several GETs.
        name = f"look {step}"
    else:
        template = path_template(call.request.path)
        attributes |= {"http.request.method": call.request.method, "url.template": template}
        name = f"{call.request.method} {template}"
    return Span(name, Kind.CLIENT, began_ns, ended_ns, attributes, failed)


def path_template(path: str) -> str:
    """`/v1/payment_intents/pi_1/capture` is `/v1/payment_intents/{id}/capture`: what follows a collection is an id."""
    parts = path.partition("?")[0].split("/")
    return "/".join("{id}" if place == _PLACE_OF_ID else part for place, part in enumerate(parts))


_PLACE_OF_ID = len(["", "v1", "payment_intents"])


def _without_id(step: str) -> str:
    """What follows a colon in the name of a step is an id of Stripe's."""
    return step.partition(":")[0]


def _archived(line: Line, trace: Traced, now_ns: int) -> Iterator[OfOperation]:
    """One span for each operation of which the batch has facts."""
    facts = [fact for fact in trace.about if _is_requested(fact.entity_id)]
    counts = Counter(fact.entity_id for fact in facts)
    named = {fact.entity_id: fact.traceparent for fact in facts if fact.traceparent is not None}
    for operation_id, count in counts.items():
        make = partial(_archive, line["batch"], operation_id, count, trace.began_ns, now_ns)
        yield OfOperation(operation_id, named.get(operation_id), make)


def _archive(batch: str, operation_id: str, facts: int, began_ns: int, now_ns: int) -> Span:
    attributes: dict[str, str | int] = {
        "billing.operation_id": operation_id,
        "billing.batch": batch,
        "billing.facts": facts,
    }
    return Span(f"archive {batch.partition(' ')[0]}", Kind.INTERNAL, began_ns, now_ns, attributes)


def _is_requested(entity_id: str) -> bool:
    operation = by_id(entity_id)
    return operation is not None and issubclass(operation.table, Requested)


SPANS: Mapping[str, Callable[[Line, Traced, int], Iterator[OfOperation]]] = {
    "operation.planned": _planned,
    "operation.prepared": _called,
    "operation.settled": _called,
    "batch.archived": _archived,
}
