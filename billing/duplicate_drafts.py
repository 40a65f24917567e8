"""Duplicate drafts, which a lost answer can leave at Stripe, are listed and deleted, so that only one is finalized.

They are listed twice, before lines are added and before the invoice is finalized, because a create may arrive late.
"""

from billing.gateway import encode
from billing.idempotency import Rules
from billing.invoice_draft_steps import CREATE, invoices_of, judge_deleted, look_for_deleted
from billing.invoice_row import invoice_of, is_ours, named
from billing.learned import Learned
from billing.provider_ids import IdKind, object_path
from billing.steps import Ask, LoadedOperation, LookResult, Reader, Step

_LIST = "list_duplicate_drafts_"
_DELETE = "delete_duplicate_draft:"


def duplicates_step(loaded: LoadedOperation, phase: str) -> Step | None:
    """The next step about duplicates in this phase: list them, or delete one. None if nothing is left to do.

    None, too, if the create step needed one generation and no look: then only one draft can exist.
    """
    creates = loaded.generations(CREATE.name)
    if len(creates) < 2 and not any(record.looks for record in creates):
        return None
    listed = [r for r in loaded.generations(f"{_LIST}{phase}") if r.concluded_at is not None]
    if not listed or listed[-1].generation < (invoice_of(loaded).create_generation or 0):
        return list_duplicates(phase)
    deleted = {r.step for r in loaded.records if r.concluded_at is not None}
    deletions = map(delete_duplicate, listed[-1].found_objects or ())
    return next((step for step in deletions if step.name not in deleted), None)


def step_named(name: str) -> Step | None:
    """The step about duplicate drafts that has this name."""
    if name.startswith(_LIST):
        return list_duplicates(name.removeprefix(_LIST))
    if name.startswith(_DELETE):
        return delete_duplicate(name.removeprefix(_DELETE))
    return None


def list_duplicates(phase: str) -> Step:
    return Step(
        name=f"{_LIST}{phase}",
        ask=lambda loaded: Ask("GET", "/v1/invoices?" + encode({"customer": invoice_of(loaded).customer})),
        find=_look_for_duplicates,
        apply=lambda _loaded, _outcome, _data, _why: [],
        rules=Rules(replays=False),
    )


def _look_for_duplicates(loaded: LoadedOperation, read: Reader, _livemode: bool) -> LookResult:
    row = invoice_of(loaded)
    first = min((r.first_sent_at for r in loaded.generations(CREATE.name) if r.first_sent_at), default=None)
    created = {"created": {"gte": int(first.timestamp()) - 300}} if first else {}
    duplicates = [
        named(invoice.get("id"))
        for invoice in invoices_of(row, read, {"status": "draft", **created}) or ()
        if is_ours(loaded, invoice) and invoice.get("id") != row.stripe_invoice
    ]
    return LookResult(Learned.SUCCEEDED, found_objects=duplicates)


def delete_duplicate(draft: str) -> Step:
    return Step(
        name=f"{_DELETE}{draft}",
        ask=lambda _loaded: Ask("DELETE", object_path(IdKind.INVOICE, draft), {}, draft),
        judge=lambda _loaded, data: judge_deleted(draft, data),
        find=lambda _loaded, read, livemode: look_for_deleted(draft, read, livemode),
        apply=lambda _loaded, _outcome, _data, _why: [],
        rules=Rules(replays=False),
    )
