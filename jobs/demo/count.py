"""Independent counts and their differences: what was asked (Postgres), what moved (the stand-in), what is archived.

Nothing here trusts the service: an effect without a request, a request without an effect, an effect too many and an
amount that differs are all found from the two lists alone.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from billing.states import CAPTURE, INVOICE, REFUND, VOID, CaptureState, InvoiceState, RefundState, VoidState

_ENDS = {state for life in (CAPTURE, VOID, REFUND, INVOICE) for state in life.states if life.is_final(state)}

Effects = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Asked:
    """One request as Postgres has it; `expected` is the state in which it must end."""

    id: str
    provider_object: str | None
    minor: int
    currency: str
    state: str
    expected: str


@dataclass(frozen=True, slots=True)
class Offence:
    """Something that must not be. `kind` is double, lost, stuck, wrong, unasked, or differs: a command found it."""

    kind: str
    id: str
    message: str


def compare(asked: Sequence[Asked], effects: Effects) -> list[Offence]:
    """All differences between the two counts; none if they agree."""
    by_kind: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for effect in effects:
        by_kind[effect["kind"]].append(effect)
    captures, voids, refunds, invoices = (
        [request for request in asked if request.id.startswith(prefix)] for prefix in ("cap_", "void_", "ref_", "inv_")
    )
    return [
        *_captures(captures, by_kind["capture"]),
        *_voids(voids, by_kind["payment_intent.canceled"]),
        *_refunds(refunds, by_kind["refund"]),
        *_invoices(invoices, by_kind),
    ]


def compare_archived(asked: Mapping[str, int], captures: int, archived: Mapping[str, int], count: int) -> list[Offence]:
    """Where the evidence in S3 differs from Postgres: the number of captures, and their sum in each currency."""
    offences = []
    if count != captures:
        offences.append(Offence("lost", "archive", f"S3 holds {count} captures, Postgres {captures}"))
    for currency in sorted(asked.keys() | archived.keys()):
        here, there = asked.get(currency, 0), archived.get(currency, 0)
        if here != there:
            offences.append(Offence("wrong", "archive", f"S3 adds up to {there} {currency}, Postgres to {here}"))
    return offences


def _captures(asked: Sequence[Asked], taken: Effects) -> list[Offence]:
    offences: list[Offence] = []
    by_intent: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for effect in taken:
        by_intent[effect["id"]].append(effect)
    parts = Counter(request.provider_object for request in asked)
    for request in asked:
        found = by_intent.get(request.provider_object or "", [])
        if parts[request.provider_object] > 1:
            found = [effect for effect in found if _of(effect) == request.id]
        offences += _state(request)
        offences += _effects(request, found, wanted=request.state == CaptureState.CAPTURED, verb="taken")
    mine = {request.id for request in asked}
    for intent, found in by_intent.items():
        strange = [each for each in found if not parts[intent] or (parts[intent] > 1 and _of(each) not in mine)]
        if strange:
            offences.append(Offence("unasked", intent, f"taken {len(strange)} times, and no request asked for it"))
    return offences


def _voids(asked: Sequence[Asked], canceled: Effects) -> list[Offence]:
    """A cancel has no metadata, and a shop cancels authorizations by itself, too: it is found by the payment intent."""
    times = Counter(effect["id"] for effect in canceled)
    offences = [offence for request in asked for offence in _state(request)]
    for request in asked:
        wanted, done = request.state == VoidState.VOIDED, times[request.provider_object]
        if done != wanted:
            kind = "double" if done > 1 else "lost" if wanted else "wrong"
            offences.append(Offence(kind, request.id, f"it is {request.state}, and was canceled {done} times"))
    return offences


def _refunds(asked: Sequence[Asked], given: Effects) -> list[Offence]:
    offences: list[Offence] = []
    by_request: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for effect in given:
        by_request[_of(effect)].append(effect)
    for request in asked:
        found = by_request.pop(request.id, [])
        offences += _state(request)
        offences += _effects(request, found, wanted=request.state == RefundState.SUCCEEDED, verb="given back")
    for unasked in by_request.values():
        offences += [Offence("unasked", each["id"], "given back, and no request asked for it") for each in unasked]
    return offences


def _of(effect: Mapping[str, Any]) -> str:
    """The request that an effect names."""
    return str(effect["metadata"].get("billing_operation", ""))


def _invoices(asked: Sequence[Asked], by_kind: Mapping[str, Effects]) -> list[Offence]:
    offences: list[Offence] = []
    finalized, sent = ({e["id"]: e for e in by_kind.get(f"invoice.{kind}", ())} for kind in ("finalized", "sent"))
    times = Counter(e["id"] for kind in ("finalized", "sent") for e in by_kind.get(f"invoice.{kind}", ()))
    of_request: dict[str, list[str]] = defaultdict(list)
    for stripe_id, effect in finalized.items():
        of_request[_of(effect)].append(stripe_id)
    for request in asked:
        mine = of_request.pop(request.id, [])
        offences += _state(request)
        wanted = request.state in (InvoiceState.FINALIZED, InvoiceState.SENT, InvoiceState.PAID)
        offences += _effects(request, [finalized[stripe_id] for stripe_id in mine], wanted=wanted, verb="finalized")
        for stripe_id in mine:
            if stripe_id != request.provider_object:
                offences.append(Offence("wrong", request.id, f"{stripe_id} was finalized, and its row names another"))
            # A paid invoice may have been sent before.
            if request.state != InvoiceState.PAID and (stripe_id in sent) != (request.state == InvoiceState.SENT):
                offences.append(
                    Offence("lost", request.id, f"{stripe_id}: Stripe and Postgres differ on whether it was sent")
                )
    for unasked in of_request.values():
        offences += [Offence("unasked", stripe_id, "finalized, and no request asked for it") for stripe_id in unasked]
    # A second e-mail moves no money, but it is counted all the same.
    offences += [Offence("double", i, f"finalized or sent {n} times in all") for i, n in times.items() if n > 2]
    created, gone = ({e["id"] for e in by_kind.get(f"invoice.{kind}", ())} for kind in ("created", "deleted"))
    offences += [Offence("stuck", i, "a draft that nothing deletes") for i in sorted(created - gone - set(finalized))]
    return offences


def _state(request: Asked) -> list[Offence]:
    if request.state == request.expected:
        return []
    final = request.state in _ENDS
    kind = "lost" if final else "stuck"
    return [Offence(kind, request.id, f"it is {request.state}, and should be {request.expected}")]


def _effects(request: Asked, found: Effects, *, wanted: bool, verb: str) -> list[Offence]:
    offences: list[Offence] = []
    if len(found) > 1:
        offences.append(Offence("double", request.id, f"{verb} {len(found)} times"))
    if wanted and not found:
        offences.append(Offence("lost", request.id, f"{verb} according to Postgres, and not at the provider"))
    if found and not wanted:
        offences.append(Offence("wrong", request.id, f"{verb} at the provider, and it is {request.state} here"))
    for effect in found:
        theirs = (effect["amount"], str(effect["currency"]).upper())
        if theirs != (request.minor, request.currency):
            offences.append(
                Offence("wrong", request.id, f"{verb} {theirs} instead of {(request.minor, request.currency)}")
            )
        if _of(effect) != request.id:
            offences.append(Offence("wrong", request.id, f"{verb} in the name of another operation"))
    return offences


def sum_asked(asked: Iterable[Asked], done: str) -> Counter[str]:
    """Minor units by currency of those that are in this state in Postgres."""
    sums: Counter[str] = Counter()
    for request in asked:
        if request.state == done:
            sums[request.currency] += request.minor
    return sums


def sum_moved(effects: Effects, kind: str) -> Counter[str]:
    """Minor units by currency of all effects of this kind at the provider."""
    sums: Counter[str] = Counter()
    for effect in effects:
        if effect["kind"] == kind:
            sums[effect["currency"].upper()] += effect["amount"]
    return sums
