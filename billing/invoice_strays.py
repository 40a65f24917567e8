"""Drafts of ours that a lost answer left behind: listed and deleted, so that only one can be finalized."""

from billing.gateway import encode
from billing.idempotency import Learned, Rules
from billing.invoice_case import invoice_of, is_ours, named
from billing.invoice_draft_steps import CREATE, invoices_of, judge_deleted, look_for_deleted
from billing.provider_ids import IdKind, object_path
from billing.steps import Ask, LoadedOperation, LookResult, Reader, Step, Unread


def stray_step(loaded: LoadedOperation, phase: str) -> Step | None:
    """What is still to do about strays in this phase: list them, delete one, or nothing.

    Nothing at all where the create step went straight: then only one draft can exist.
    """
    creates = loaded.generations(CREATE.name)
    if len(creates) < 2 and not any(record.looks for record in creates):
        return None
    listed = [r for r in loaded.generations(f"list_strays_{phase}") if r.concluded_at is not None]
    if not listed or listed[-1].generation < (invoice_of(loaded).create_generation or 0):
        return list_strays(phase)
    strays = (listed[-1].conclusion or "").removeprefix("strays:").split()
    deleted = {r.step for r in loaded.records if r.concluded_at is not None}
    return next((delete_stray(s) for s in strays if f"delete_stray:{s}" not in deleted), None)


def list_strays(phase: str) -> Step:
    return Step(
        name=f"list_strays_{phase}",
        ask=lambda loaded: Ask("GET", "/v1/invoices?" + encode({"customer": invoice_of(loaded).customer})),
        look=_look_for_strays,
        apply=lambda _loaded, _outcome, _data, _why: [],
        rules=Rules(replays=False),
    )


def _look_for_strays(loaded: LoadedOperation, read: Reader, livemode: bool) -> LookResult:
    row = invoice_of(loaded)
    first = min((r.first_sent_at for r in loaded.generations(CREATE.name) if r.first_sent_at), default=None)
    created = {"created": {"gte": int(first.timestamp()) - 300}} if first else {}
    try:
        strays = [
            named(invoice.get("id"))
            for invoice in invoices_of(row, read, {"status": "draft", **created})
            if is_ours(loaded, invoice) and invoice.get("id") != row.stripe_invoice
        ]
    except Unread as unread:
        return LookResult(Learned.LOOK_UNANSWERED, why=unread.why, answer=unread.answer)
    return LookResult(Learned.SUCCEEDED, why="strays:" + " ".join(strays))


def delete_stray(stray: str) -> Step:
    return Step(
        name=f"delete_stray:{stray}",
        ask=lambda _loaded: Ask("DELETE", object_path(IdKind.INVOICE, stray), {}, stray),
        judge=lambda _loaded, data: judge_deleted(stray, data),
        look=lambda _loaded, read, livemode: look_for_deleted(stray, read, livemode),
        apply=lambda _loaded, _outcome, _data, _why: [],
        rules=Rules(replays=False),
    )
