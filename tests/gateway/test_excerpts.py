"""Of an answer only what is listed comes in, in the shape it must have; what the steps read is all on the list."""

import ast
import json
from pathlib import Path
from typing import Any

import pytest

from billing.excerpts import CONTAINERS, SHAPES, SOMEBODY_ELSES, UNREADABLE, encoded, excerpt
from billing.gateway import Response
from billing.steps import Reader, Unread

ROOT = Path(__file__).parents[2]


def came_in(data: Any) -> Any:
    return excerpt(json.dumps(data).encode())


def test_what_is_about_a_person_does_not_come_in() -> None:
    charge = {
        "id": "ch_1",
        "object": "charge",
        "billing_details": {"name": "Canary", "email": "canary@example.com", "address": {"line1": "Canary Street 7"}},
        "payment_method_details": {"card": {"last4": "4242", "capture_before": 1764045000, "brand": "visa"}},
        "receipt_email": "canary@example.com",
    }
    intent = {
        "id": "pi_1",
        "status": "succeeded",
        "latest_charge": charge,
        "description": "Canary",
        "client_secret": "x",
    }
    card = {"capture_before": 1764045000}
    kept = {"id": "ch_1", "object": "charge", "payment_method_details": {"card": card}}
    assert came_in(intent) == {"id": "pi_1", "status": "succeeded", "latest_charge": kept}


def test_of_an_error_its_codes_come_in_and_no_text() -> None:
    error = {
        "type": "card_error",
        "code": "card_declined",
        "message": "Canary, your card was declined",
        "param": "amount",
    }
    assert came_in({"error": {**error, "doc_url": "https://x"}}) == {
        "error": {"type": "card_error", "code": "card_declined", "param": "amount"}
    }


WRONG = [
    *("Canary Caruso", "canary@example.com", "4242424242424242", "pi_4242424242424242", "a\nb", "", "é"),
    *(4242424242424242, 1.5, True, None, [], ["Canary"], {}),
]


@pytest.mark.parametrize("name", sorted(SHAPES))
def test_a_value_of_another_shape_is_left_out(name: str) -> None:
    allowed = {
        True: {"attempted", "deleted", "enabled", "has_more", "livemode"},
        # That there is no address is kept, and no address.
        None: {"customer_email"},
    }
    for value in WRONG:
        kept = came_in({name: value})
        if isinstance(value, list | dict) and name in CONTAINERS:
            assert kept == {name: [{}] if value else type(value)()}
        elif (value is True or value is None) and name in allowed[value]:
            assert kept == {name: value}
        elif name == "number" and value is not None:
            assert kept == {name: UNREADABLE}
        else:
            assert kept == {}, value


def test_somebody_elses_metadata_is_seen_and_not_read() -> None:
    """Were it left out, an effect of somebody else's would count as nobody's."""
    ours = {"billing_operation": "cap_1", "billing_line": "0", "billing_request": "0a" * 16, "billing_capture": "cap_2"}
    assert came_in({"metadata": {**ours, "customer_name": "Canary"}}) == {"metadata": ours}
    theirs = came_in({"metadata": {"billing_operation": "for Canary Caruso"}})
    assert theirs == {"metadata": {"billing_operation": SOMEBODY_ELSES}}


@pytest.mark.parametrize("body", [b"", b"<html>Canary</html>", b"[]", b"null", b"\xff", b"[" * 100_000, b"NaN"])
def test_what_is_no_object_does_not_come_in(body: bytes) -> None:
    assert excerpt(body) is None


def test_it_is_written_down_in_one_way() -> None:
    assert encoded({"id": "pi_1", "metadata": {}}) == b'{"id":"pi_1","metadata":{}}'


def names_read(path: Path) -> set[str]:
    """Every name that this page reads out of a mapping: x.get("name"), x["name"], differences(x, name=...)."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Call(func=ast.Attribute(attr="get"), args=[ast.Constant(value=str(name)), *_]):
                found.add(name)
            case ast.Subscript(slice=ast.Constant(value=str(name)), ctx=ast.Load()):
                found.add(name)
            case ast.Call(func=ast.Name(id="differences"), keywords=keywords):
                found |= {keyword.arg for keyword in keywords if keyword.arg} - {"within"}
            case ast.Call(func=ast.Name(id="_whole"), args=[_, ast.Constant(value=str(name))]):
                found.add(name)
    return found


# What these pages read elsewhere than in an answer.
NOT_OF_ANSWERS = {
    *("/v1/account", "Idempotent-Replayed", "Original-Request", "Request-Id", "probes"),
    # Of what was asked for.
    *("capture", "discounts", "payment_method", "total_minor"),
}


def test_everything_that_is_read_of_an_answer_is_on_the_list() -> None:
    pages = (
        "answers",
        "capture_steps",
        "duplicate_drafts",
        "gateway",
        "invoice_row",
        "invoice_draft_steps",
        "invoice_line_steps",
        "invoice_totals",
        "invoice_final_steps",
        "invoice_payments",
        "invoice_charge_steps",
        "invoice_observing",
        "probes",
        "steps",
    )
    read = set().union(*(names_read(ROOT / "billing" / f"{page}.py") for page in pages))
    assert {"latest_charge", "amount_received", "billing_line", "has_more"} <= read
    assert read - NOT_OF_ANSWERS - SHAPES.keys() - CONTAINERS == set()


def test_an_invoice_number_of_another_shape_still_says_that_there_is_one() -> None:
    assert came_in({"number": "2026/0001"}) == {"number": UNREADABLE}
    assert came_in({"number": "ABC-0001"}) == {"number": "ABC-0001"}
    assert came_in({"number": None}) == {}


def pages(*bodies: dict[str, Any]) -> list[Any]:
    script = iter(bodies)

    def get(_: str) -> Response:
        data = came_in(next(script))
        return Response(200, encoded(data), data, "req_1", False)

    return list(Reader(get).pages("/v1/invoices", {}))


def test_a_list_is_read_to_its_end() -> None:
    first = {"data": [{"id": "in_1"}], "has_more": True}
    assert pages(first, {"data": [{"id": "in_2"}], "has_more": False}) == [{"id": "in_1"}, {"id": "in_2"}]
    assert pages({"data": [], "has_more": False}) == []


@pytest.mark.parametrize(
    "body",
    [
        {"data": []},
        {"data": [], "has_more": True},
        {"data": ["in_1"], "has_more": True},
        {"data": [{"id": "in_1"}], "has_more": "true"},
        {"has_more": False},
    ],
)
def test_what_a_list_without_a_known_end_lacks_is_not_absent(body: dict[str, Any]) -> None:
    with pytest.raises(Unread):
        pages(body)
