"""Independent counts and their differences: what was asked (Postgres), what moved (the stand-in), what is archived.

Nothing here trusts the service: an effect without a request, a request without an effect, an effect too many and an
amount that differs are all found from the two lists alone.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from billing.states import CaptureState, InvoiceState

_INVOICES_END = {InvoiceState.SENT, InvoiceState.PAID, InvoiceState.REFUSED}

Effects = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Asked:
    """One capture or invoice as Postgres has it; `expected` is the state in which it must end."""

    id: str
    provider_object: str | None
    minor: int
    currency: str
    state: str
    expected: str


@dataclass(frozen=True, slots=True)
class Offence:
    """Something that must not be. `kind` is double, lost, stuck, wrong or unasked."""

    kind: str
    id: str
    message: str


def compare(captures: Iterable[Asked], invoices: Iterable[Asked], effects: Effects) -> list[Offence]:
    """All differences between the two counts; none if they agree."""
    by_kind: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for effect in effects:
        by_kind[effect["kind"]].append(effect)
    return [*_captures(list(captures), by_kind["capture"]), *_invoices(list(invoices), by_kind)]


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
    for request in asked:
        found = by_intent.pop(request.provider_object or "", [])
        offences += _state(request)
        offences += _effects(request, found, wanted=request.state == CaptureState.CAPTURED, verb="taken")
    for intent, found in by_intent.items():
        offences.append(Offence("unasked", intent, f"taken {len(found)} times, and no request asked for it"))
    return offences


def _invoices(asked: Sequence[Asked], by_kind: Mapping[str, Effects]) -> list[Offence]:
    offences: list[Offence] = []
    finalized, sent = ({e["id"]: e for e in by_kind.get(f"invoice.{kind}", ())} for kind in ("finalized", "sent"))
    times = Counter(e["id"] for kind in ("finalized", "sent") for e in by_kind.get(f"invoice.{kind}", ()))
    of_request: dict[str, list[str]] = defaultdict(list)
    for stripe_id, effect in finalized.items():
        of_request[effect["metadata"].get("billing_operation", "")].append(stripe_id)
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
    final = request.state in {*CaptureState, *_INVOICES_END} - {CaptureState.REQUESTED}
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
        if effect["metadata"].get("billing_operation") != request.id:
            offences.append(Offence("wrong", request.id, f"{verb} in the name of another operation"))
    return offences


def sum_asked(captures: Iterable[Asked]) -> Counter[str]:
    """Minor units by currency of those that are captured in Postgres."""
    sums: Counter[str] = Counter()
    for request in captures:
        if request.state == CaptureState.CAPTURED:
            sums[request.currency] += request.minor
    return sums


def sum_moved(effects: Effects) -> Counter[str]:
    """Minor units by currency of all captures at the provider."""
    sums: Counter[str] = Counter()
    for effect in effects:
        if effect["kind"] == "capture":
            sums[effect["currency"].upper()] += effect["amount"]
    return sums
