"""The calls that add the lines to a draft, up to 100 by each, and compare it with ours before it can be finalized.

One call adds all of its lines or none, and each line carries our id and its position, so a call whose answer is lost is
looked for by them and never made twice. Stripe shows lines that were added later first. So the last batch is added
first, and the lines stand on the invoice in the order in which they were asked for. The batch that begins with the
first line completes the draft: only then are all lines and the totals compared. Before that nothing can be finalized,
so an earlier batch needs no comparison of its own.
"""

from collections.abc import Mapping
from typing import Any

from billing.differences import Difference, differences, reason
from billing.invoice_lines import not_as_asked, parameters
from billing.invoice_row import differ, invoice_of, is_ours, lines_of, move, path_of, read_invoice, refuse
from billing.invoice_totals import not_our_totals, record
from billing.learned import Learned
from billing.paid_already import would_move_a_balance
from billing.states import InvoiceState, RecordState
from billing.steps import (
    CAPTURE_KEY,
    METADATA_KEY,
    Ask,
    Gone,
    Json,
    Judgment,
    LoadedOperation,
    LookResult,
    Reader,
    Step,
    judgment,
)
from billing.tables.entities import MAX_LINES, InvoiceLine
from billing.tables.facts import Fact

LINES_OF_A_CALL = 100
"""Stripe names no limit for one call. A hundred texts of 500 characters are a body of up to 600 kB as they are encoded.
"""


def next_batch(loaded: LoadedOperation) -> Step:
    """The batch that is added next: of those that this draft has not got, the one with the last lines."""
    draft = invoice_of(loaded).stripe_invoice
    done = {r.step for r in loaded.records if r.state == RecordState.ANSWERED and r.provider_object == draft}
    starts = range(0, max(1, len(lines_of(loaded))), LINES_OF_A_CALL)
    return next((_BATCHES[start] for start in reversed(starts) if _BATCHES[start].name not in done), ADD_LINES)


def batch_named(name: str) -> Step | None:
    """The batch that has this name."""
    return next((step for step in _BATCHES.values() if step.name == name), None)


def _batch(start: int) -> Step:
    completes = start == 0
    return Step(
        name="add_lines" if completes else f"add_lines_{start}",
        ask=lambda loaded: _ask_to_add_lines(loaded, start),
        judge=_judge_all if completes else _judge_some,
        # A replayed answer shows the invoice as it was then, but the comparison needs its present state.
        trust_replay=not completes,
        find=lambda loaded, read, livemode: _look_for_lines(loaded, start, read, livemode),
        apply=_apply_all if completes else _apply_some,
    )


def _ask_to_add_lines(loaded: LoadedOperation, start: int) -> Ask:
    row = invoice_of(loaded)
    lines = [
        {
            **parameters(row, line),
            "metadata": {METADATA_KEY: row.id, "billing_line": str(line.position), **_paid_by(line)},
        }
        for line in lines_of(loaded)[start : start + LINES_OF_A_CALL]
    ]
    return Ask("POST", path_of(loaded, "add_lines"), {"lines": lines}, row.stripe_invoice)


def _paid_by(line: InvoiceLine) -> dict[str, str]:
    """The metadata that leads from Stripe's line to the capture that paid it, if one did."""
    capture = (line.details or {}).get("capture")
    return {} if capture is None else {CAPTURE_KEY: capture}


def _not_our_lines(loaded: LoadedOperation, invoice: Json) -> list[Difference]:
    """In what it differs from our currency, our lines, and the totals that were asked for."""
    row, lines = invoice_of(loaded), _lines_of(invoice)
    wrong = differences(invoice, currency=row.currency.lower()) + not_our_totals(row, invoice, lines)
    if len(lines) != len(lines_of(loaded)) or _has_more(invoice):
        more = " and more" if _has_more(invoice) else ""
        wrong.append(Difference("lines", str(len(lines_of(loaded))), f"{len(lines)}{more}"))
    found = {line["metadata"].get("billing_line"): line for line in lines}
    for line in lines_of(loaded):
        position = str(line.position)
        shown = {"amount": None, "metadata": {}, **found.get(position, {})}
        owner = differences(shown, within="metadata", **{METADATA_KEY: row.id})
        wrong += [
            Difference(f"lines.{position}.{each.field}", each.expected, each.found)
            for each in (*not_as_asked(line, shown), *owner)
        ]
    return wrong


def _lines_of(invoice: Json) -> list[dict[str, Any]]:
    lines = invoice.get("lines")
    data = lines.get("data") if isinstance(lines, Mapping) else None
    return [{**line, "metadata": line.get("metadata") or {}} for line in data or []]


def _has_more(invoice: Json) -> bool:
    lines = invoice.get("lines")
    return lines.get("has_more") is not False if isinstance(lines, Mapping) else True


def _judge_some(loaded: LoadedOperation, invoice: Json) -> Judgment:
    """Of a batch that leaves lines to add. A replay says as much: this call was executed, for this draft."""
    wrong = differences(invoice, object="invoice", id=invoice_of(loaded).stripe_invoice)
    return judgment(wrong, Learned.SUCCEEDED if invoice.get("status") == "draft" else Learned.ASK)


def _judge_all(loaded: LoadedOperation, invoice: Json) -> Judgment:
    if wrong := differences(invoice, object="invoice", id=invoice_of(loaded).stripe_invoice):
        return judgment(wrong)
    if invoice.get("status") != "draft" or _has_more(invoice):
        return Judgment(Learned.ASK)
    if wrong := _not_our_lines(loaded, invoice):
        # The lines were added, and their amounts are not ours: the invoice must not be finalized.
        return Judgment(Learned.REFUSED, reason("total_differs", wrong))
    if why := would_move_a_balance(invoice_of(loaded), invoice):
        return Judgment(Learned.REFUSED, why)
    return Judgment(Learned.SUCCEEDED)


def _look_for_lines(loaded: LoadedOperation, start: int, read: Reader, livemode: bool) -> LookResult:
    try:
        invoice = dict(read_invoice(loaded, read, livemode))
        if _has_more(invoice):
            every = list(read.pages(path_of(loaded, "lines"), {}))
            invoice["lines"] = {"data": every, "has_more": False}
    except Gone:
        return LookResult(Learned.IMPOSSIBLE, why="gone")
    wrong = _not_our_lines(loaded, invoice)
    if not wrong:
        why = would_move_a_balance(invoice_of(loaded), invoice)
        return LookResult(Learned.IMPOSSIBLE if why else Learned.FOUND_OURS, invoice, why or "")
    ours = _has_lines_from(loaded, start, invoice)
    if start and ours and invoice.get("status") == "draft":
        return LookResult(Learned.FOUND_OURS, invoice)
    differing = reason("total_differs", wrong)
    if not_a_draft := differences(invoice, status="draft"):
        if ours:
            return LookResult(Learned.FOUND_DIFFERENT, invoice, reason("total_differs", [*not_a_draft, *wrong]))
        return LookResult(Learned.IMPOSSIBLE, invoice, reason("not_a_draft", not_a_draft))
    record = loaded.open_record
    if record is not None and record.unanswered == 0 and 200 <= (record.answer_status or 0) < 300:
        # Stripe answered that the lines were added, so this is the result.
        return LookResult(Learned.IMPOSSIBLE, invoice, differing)
    return LookResult(Learned.FOUND_DIFFERENT, invoice, differing) if ours else LookResult(Learned.ABSENT, invoice)


def _has_lines_from(loaded: LoadedOperation, start: int, invoice: Json) -> bool:
    """Whether there is a line of ours that no other batch adds. One call adds all of its lines, or none."""
    ours = lines_of(loaded)
    others = {str(line.position) for line in (*ours[:start], *ours[start + LINES_OF_A_CALL :])}
    own = (line["metadata"] for line in _lines_of(invoice) if is_ours(loaded, line))
    return any(each.get("billing_line") not in others for each in own)


def _apply_some(loaded: LoadedOperation, outcome: Learned, invoice: Json, why: str) -> list[Fact]:
    return [] if outcome is Learned.SUCCEEDED else _apply_otherwise(loaded, invoice, why)


def _apply_all(loaded: LoadedOperation, outcome: Learned, invoice: Json, why: str) -> list[Fact]:
    row = invoice_of(loaded)
    if outcome is Learned.SUCCEEDED:
        reckoned = record(row, invoice)
        money = {"minor": row.final_minor, "currency": row.currency, **reckoned}
        return move(loaded, InvoiceState.LINES_ADDED, "lines_added", **money)
    return _apply_otherwise(loaded, invoice, why)


def _apply_otherwise(loaded: LoadedOperation, invoice: Json, why: str) -> list[Fact]:
    if why == "gone" or why.startswith("not_a_draft"):
        return refuse(loaded, why)
    return differ(loaded, why or "total_differs", theirs=invoice.get("total"))


_BATCHES = {start: _batch(start) for start in range(0, MAX_LINES, LINES_OF_A_CALL)}
"""By the position of its first line."""
ADD_LINES = _BATCHES[0]
