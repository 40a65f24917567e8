"""A path leads where its code says, whatever the id in it; and what is not made of what we write never leaves."""

import string
from typing import Any
from urllib.parse import urlsplit

import pytest
from hostile_server import HostileServer, answer
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sqlalchemy import text
from test_gateway import budget, gateway, says

from billing.gateway import NotSent, Request
from billing.provider_ids import SHAPES, IdKind, NoSuchShape, is_id, object_path

HOSTILE = [
    *("pi_x/cancel?", "pi_x/../../customers", "../customers", "pi_x%2Fcancel", "pi_x?", "pi_x#", "pi_x;y", "pi_x\\y"),
    *("pi_x\r\nStripe-Account: acct_2", "pi_x\n", "pi_x ", " pi_x", "", "pi_\u0661", "pi_é", "pi_\x00", "pi_"),
    *("pi_1_secret_abcdefgh", "cus_1", "sk_live_abcdefgh", "pi_x/capture", "pi_\u202e1", "pi_" + "x" * 300),
]
KINDS = {IdKind.PAYMENT_INTENT: "payment_intents", IdKind.INVOICE: "invoices"}
anything = st.one_of(
    st.text(max_size=40),
    st.text(alphabet="pin_x/.?#%&=\\;: \r\n\t2eEF", max_size=20).map(lambda tail: f"pi_{tail}"),
    st.builds("{}_{}".format, st.sampled_from(["pi", "in"]), st.text(string.ascii_letters + "_9", min_size=1)),
    st.sampled_from(HOSTILE),
)


@given(of=anything, kind=st.sampled_from(list(KINDS)), verb=st.sampled_from([(), ("capture",), ("send",)]))
@settings(max_examples=400, deadline=None)
def test_a_path_names_one_object_and_one_action_or_is_not_built(of: str, kind: IdKind, verb: tuple[str, ...]) -> None:
    try:
        path = object_path(kind, of, *verb)
    except NoSuchShape:
        assert not is_id(kind, of)
        return
    assert urlsplit(path) == ("", "", path, "", "")
    assert path.split("/") == ["", "v1", KINDS[kind], of, *verb]
    assert set(of) <= set(string.ascii_letters + string.digits + "_")
    assert Request("GET", path).unfit is None


BROKEN: dict[str, dict[str, Any]] = {
    **{
        f"path {path!r}"[:40]: {"path": path}
        for path in (f"/v1/payment_intents/{each}/capture" for each in HOSTILE[:13])
    },
    "another host": {"path": "//elsewhere.example/v1/x"},
    "a whole URL": {"path": "http://elsewhere.example/v1/x"},
    "no path": {"path": ""},
    "another version": {"path": "/v2/x"},
    "a line in the query": {"path": "/v1/x?a=b\r\nX: y"},
    "a blank in the query": {"path": "/v1/x?a=b c"},
    "a line in the account": {"account": "acct_1\r\nX: y"},
    "another header's account": {"account": "acct_é"},
    "a secret as account": {"account": "sk_live_abcdefgh"},
    "a payment intent as account": {"account": "pi_1"},
    "a line in the key": {"key": "billing:test\r\nX: y"},
    "a key in unicode": {"key": "billing:é"},
    "a key that is too long": {"key": "k" * 256},
    "a line in the version": {"api_version": "2026-10-28\r\nX: y"},
    "another method": {"method": "PUT"},
    "a line in the method": {"method": "GET /v1/x HTTP/1.1\r\n"},
}


@pytest.mark.parametrize("changed", BROKEN.values(), ids=BROKEN)
def test_a_request_that_is_not_made_of_what_we_write_never_leaves_and_is_no_crash(changed: dict[str, Any]) -> None:
    asked = {"method": "POST", "path": "/v1/x", "body": "a=1", "key": "billing:test:cap_1:capture:g1", **changed}
    with HostileServer(says(answer("200 OK", b"{}"))) as server:
        result = gateway(server.url).send(Request(**asked), budget())
        assert isinstance(result, NotSent)
        assert "it was not sent" in result.why
        assert server.connections == 0


@given(part=st.sampled_from(["path", "account", "key", "api_version"]), value=st.text(min_size=1))
@example(part="account", value="acct_1\n")
@example(part="path", value="/v1/x\n")
@settings(max_examples=300, deadline=None)
def test_whatever_is_let_through_is_one_line_of_ascii(part: str, value: str) -> None:
    request = Request(**{"method": "GET", "path": "/v1/x", part: value})
    if request.unfit is None:
        assert value.isascii()
        assert value.isprintable()
        assert " " not in value


@pytest.mark.parametrize("kind", list(IdKind))
def test_postgres_reads_a_shape_as_python_does(kind: IdKind, service: Any) -> None:
    prefix = {IdKind.CHARGE: "ch"}.get(kind) or SHAPES[kind].partition(")(?!.*_secret)")[2].partition("_")[0]
    tried = [value.replace("pi_", f"{prefix}_") for value in HOSTILE if "\x00" not in value]
    tried += [f"{prefix}_1", f"{prefix}_".ljust(255, "x"), f"{prefix}_".ljust(256, "x"), f"{prefix}_a_b", "\U0001f600"]
    with service.engine.connect() as connection:
        for value in tried:
            seen = connection.scalar(
                text("SELECT CAST(:value AS text) ~ :shape"), {"value": value, "shape": SHAPES[kind]}
            )
            assert seen == is_id(kind, value), value
