"""A webhook is taken only with a signature over exactly its bytes, and only ids are read of it. No server is needed."""

import hmac
import json
from collections.abc import Callable
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.events import ADVICE, TOLERANCE_S, Refused, check, ids_of, read_event

NOW = 1_770_000_000
SECRET, OTHER = "whsec_aaaaaaaaaaaaaaaaaaaa", "whsec_bbbbbbbbbbbbbbbbbbbb"
BODY = b'{"id": "evt_1"}'
OWN = "cap_0198f0c2000070008000000000000001"


def signature(body: bytes = BODY, secret: str = SECRET, at: int = NOW) -> str:
    return hmac.new(secret.encode(), b"%d." % at + body, sha256).hexdigest()


def header(body: bytes = BODY, *secrets: str, at: int = NOW) -> str:
    return ",".join([f"t={at}", *(f"v1={signature(body, each, at)}" for each in secrets or (SECRET,))])


def event(**changes: Any) -> dict[str, Any]:
    made = {
        "id": "evt_1",
        "object": "event",
        "type": "payment_intent.succeeded",
        "livemode": False,
        "created": NOW,
        "api_version": "2026-08-27.basil",
        "data": {"object": {"id": "pi_1", "object": "payment_intent", "latest_charge": "ch_1"}},
        "request": {"id": "req_1", "idempotency_key": f"billing:test:{OWN}:capture:g1"},
    }
    return {name: value for name, value in (made | changes).items() if value is not ...}


def test_a_signature_over_these_bytes_is_accepted() -> None:
    assert check(BODY, header(), [SECRET], NOW) is None
    assert check(BODY, f"v0=ab, {header()}", [OTHER, SECRET], NOW) is None


def test_while_a_secret_is_rolled_either_of_the_two_will_do() -> None:
    """[26] Stripe signs with both, and we may know one or both."""
    both = header(BODY, OTHER, SECRET)
    assert check(BODY, both, [SECRET], NOW) is None
    assert check(BODY, both, [OTHER], NOW) is None
    assert check(BODY, header(), [OTHER, SECRET], NOW) is None


@pytest.mark.parametrize(
    ("age_s", "refused"),
    [
        (TOLERANCE_S, None),
        (TOLERANCE_S + 1, Refused.TOO_OLD),
        (-TOLERANCE_S, None),
        (-TOLERANCE_S - 1, Refused.FROM_THE_FUTURE),
    ],
)
def test_a_recorded_webhook_is_refused_and_one_from_the_future_too(age_s: int, refused: Refused | None) -> None:
    """[25] Stripe's own library accepts a signature from the future."""
    assert check(BODY, header(at=NOW - age_s), [SECRET], NOW) is refused


@pytest.mark.parametrize(
    "given_header",
    [None, "", "t=1", "v1=00", f"t={NOW}", f"v1={'a' * 64}", f"t=-1,v1={'a' * 64}", f"t=1e9,v1={'a' * 64}", "," * 9999],
)
def test_what_is_no_signature_is_refused(given_header: str | None) -> None:
    assert check(BODY, given_header, [SECRET], NOW) is Refused.NO_SIGNATURE


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_any_other_bytes_are_refused(signed: bytes, came: bytes) -> None:
    expected = None if signed == came else Refused.BAD_SIGNATURE
    assert check(came, header(signed), [SECRET], NOW) is expected


def test_another_secret_or_another_time_signs_nothing_for_us() -> None:
    assert check(BODY, header(BODY, OTHER), [SECRET], NOW) is Refused.BAD_SIGNATURE
    assert check(BODY, f"t={NOW + 1},v1={signature()}", [SECRET], NOW) is Refused.BAD_SIGNATURE
    assert check(BODY, header(), [], NOW) is Refused.BAD_SIGNATURE


def test_every_refusal_says_what_to_do() -> None:
    assert set(ADVICE) == set(Refused)


def test_of_an_event_only_ids_are_read() -> None:
    read = read_event(json.dumps(event()).encode(), source="webhook")
    assert read is not None
    assert (read.id, read.type, read.livemode, read.thin) == ("evt_1", "payment_intent.succeeded", False, False)
    assert ids_of(read) == ["pi_1", "ch_1"]
    assert (read.caused_by, read.operation_id, read.account) == (OWN, None, None)


def test_objects_that_were_expanded_and_metadata_of_ours_are_found() -> None:
    subject = {"id": "re_1", "payment_intent": {"id": "pi_2"}, "charge": {"id": "ch_2", "billing_details": {}}}
    subject["metadata"] = {"billing_operation": OWN}
    read = read_event(json.dumps(event(data={"object": subject}, account="acct_1")).encode(), source="webhook")
    assert read is not None
    assert (ids_of(read), read.operation_id, read.account) == (["re_1", "pi_2", "ch_2"], OWN, "acct_1")


def test_a_thin_event_names_its_object_and_nothing_else() -> None:
    thin = {
        "id": "evt_test_1",
        "object": "v2.core.event",
        "type": "v1.billing.meter.error_report_triggered",
        "livemode": False,
        "created": "2026-11-30T01:00:00.123Z",
        "context": "acct_2",
        "related_object": {"id": "in_1", "type": "invoice", "url": "/v1/invoices/in_1"},
    }
    read = read_event(json.dumps(thin).encode(), source="webhook")
    assert read is not None
    assert (read.thin, ids_of(read), read.account) == (True, ["in_1"], "acct_2")


def test_the_key_of_another_system_is_not_kept() -> None:
    for key in ("anna@example.com", f"x:{OWN}", f"a:b:{OWN.upper()}:c:g1", f"a:b:{OWN}:c", "", None, 7):
        read = read_event(json.dumps(event(request={"idempotency_key": key})).encode(), source="webhook")
        assert read is not None
        assert read.caused_by is None


HOSTILE: list[Callable[[], bytes]] = [
    lambda: b"",
    lambda: b"\xff\xfe",
    lambda: b"null",
    lambda: b"[]",
    lambda: b"[" * 100_000,
    lambda: b'{"object": "event"}',
    lambda: json.dumps(event(id="evt_1' OR 1=1")).encode(),
    lambda: json.dumps(event(id="evt_\u0000")).encode(),
    lambda: json.dumps(event(id="evt_" + "a" * 300)).encode(),
    lambda: json.dumps(event(id=["evt_1"])).encode(),
    lambda: json.dumps(event(type="Payment Intent")).encode(),
    lambda: json.dumps(event(type="")).encode(),
    lambda: json.dumps(event(livemode="false")).encode(),
    lambda: json.dumps(event(created=10**30)).encode(),
    lambda: json.dumps(event(created=True)).encode(),
    lambda: json.dumps(event(created="yesterday")).encode(),
    lambda: json.dumps(event(object="charge")).encode(),
]


@pytest.mark.parametrize("body", HOSTILE)
def test_what_is_no_event_is_none(body: Callable[[], bytes]) -> None:
    assert read_event(body(), source="webhook") is None


@pytest.mark.parametrize(
    "changes",
    [
        {"data": None},
        {"data": {"object": []}},
        {"data": {"object": {"id": "pi_1_secret_abc", "metadata": "x", "charge": 7, "payment_intent": "a b"}}},
        {"account": "acct_x y"},
        {"request": "req_1"},
        {"api_version": "x" * 500},
    ],
)
def test_what_has_another_shape_within_an_event_is_left_out(changes: dict[str, Any]) -> None:
    read = read_event(json.dumps(event(**changes)).encode(), source="webhook")
    assert read is not None
    assert "secret" not in str(ids_of(read))
    assert read.api_version is None or len(read.api_version) <= 40


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(st.sampled_from([*sorted(event()), "account", "context", "related_object"]), JSON))
def test_whatever_stands_in_its_fields_nothing_is_raised(changes: dict[str, Any]) -> None:
    read_event(json.dumps(event() | changes).encode(), source="webhook")
