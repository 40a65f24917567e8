"""Answers that a client must not believe: pages of a proxy, a redirect, and lies about an object.

A lie changes only this answer. The true answer was saved, and a replay returns it.
"""

from collections.abc import Callable, Iterator

from .faults import Fault
from .objects import Json
from .wire import Answer

_HTML = (b"content-type", b"text/html; charset=utf-8")
BAD_GATEWAY = b"<html><head><title>502 Bad Gateway</title></head><body>502 Bad Gateway</body></html>"
WELCOME = b"<html><head><title>Welcome</title></head><body>Please accept the terms of this network.</body></html>"

AMOUNTS = (
    *("amount", "amount_received", "amount_captured", "amount_refunded", "amount_due", "amount_paid"),
    *("amount_requested", "subtotal", "total", "net"),
)
# How each kind of object looks before its final state. A credit note has no such state: it is issued, or void.
UNSETTLED: dict[str, Json] = {
    "balance_transaction": {"status": "pending"},
    "charge": {"status": "pending", "captured": False},
    "invoice": {"status": "draft"},
    "invoice_payment": {"status": "open"},
    "payout": {"status": "in_transit"},
    "refund": {"status": "pending"},
}


def on_arrival(fault: Fault) -> Answer | None:
    """The answer of something between the client and Stripe. None: the connection ends without an answer."""
    match fault.name:
        case "drop_before":
            return None
        case "redirect_307":
            return 307, [(b"location", (fault.location or "").encode())], b""
        case _:
            return page(fault)


def page(fault: Fault) -> Answer:
    if fault.name == "502_html":
        return 502, [_HTML], BAD_GATEWAY
    return 200, [_HTML], WELCOME


def _other_id(shown: Json) -> None:
    prefix, _, rest = shown["id"].partition("_")
    shown["id"] = f"{prefix}_{rest[::-1]}"


def _other_object(shown: Json) -> None:
    shown["object"] = "setup_intent" if shown["object"] != "setup_intent" else "payment_intent"


def _other_livemode(shown: Json) -> None:
    if "livemode" in shown:
        shown["livemode"] = not shown["livemode"]


def _other_currency(shown: Json) -> None:
    if shown.get("currency"):
        shown["currency"] = "usd" if shown["currency"] != "usd" else "eur"


def _other_amount(shown: Json) -> None:
    for name in AMOUNTS:
        if shown.get(name):
            shown[name] += 1


def _not_end_state(shown: Json) -> None:
    """Change a success so that its status is not a final one."""
    if shown["object"] == "payment_intent":
        shown["amount_capturable"] += shown["amount_received"]
        shown.update(status="processing", amount_received=0, canceled_at=None, cancellation_reason=None)
    else:
        shown.update(UNSETTLED.get(shown["object"], {}))


LIES: dict[str, Callable[[Json], None]] = {
    "other_id": _other_id,
    "other_object": _other_object,
    "other_livemode": _other_livemode,
    "other_currency": _other_currency,
    "other_amount": _other_amount,
    "not_end_state": _not_end_state,
}


def lie(name: str, answer: Json) -> None:
    """Change an answer in place: each object that it is about. Errors stay as they are."""
    for shown in _subjects(answer):
        LIES[name](shown)


def _subjects(answer: Json) -> Iterator[Json]:
    """The object itself, every object of a page, and the object of an event; not what was expanded within them."""
    if answer.get("object") in ("list", "search_result"):
        for each in answer["data"]:
            yield from _subjects(each)
    elif "id" in answer and "object" in answer:
        if answer["object"] == "event":
            yield from _subjects(answer["data"]["object"])
        yield answer
