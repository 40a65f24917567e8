"""Every answer in these tests is judged. Here: the judge sees what is wrong, and has seen every route."""

import re
import sys
from pathlib import Path

import orjson
import pytest
import urllib3
import verdicts
from inside import ask
from validated import NOT_JUDGED, Judged

from stripe_standin import answers, errors
from stripe_standin.call import Route
from stripe_standin.faults import FAULTS
from stripe_standin.parameters import Table
from stripe_standin.routes import ROUTES
from stripe_standin.world import Settings

ACCOUNT = "GET /v1/account"
RIGHT = ROUTES[ACCOUNT].answer

# Routes that refuse every request, and why.
NEVER_GRANTED = {"POST /v1/refunds/{id}/cancel": "a card's refund never waits for the customer"}


@pytest.fixture
def planted(monkeypatch):
    """A judged stand-in whose account has these fields."""

    def plant(answer, operation=ACCOUNT):
        monkeypatch.setitem(ROUTES, operation, Route(Table({}), answer))
        return Judged(Settings())

    return plant


def found(app):
    return [(each["pointer"], each["message"]) for each in app.violations]


def test_a_right_answer_is_seen():
    app = Judged(Settings())
    ask(app)
    assert app.seen == {ACCOUNT: 1}
    ((_, body)) = ask(app, path="/_schema")
    assert orjson.loads(body["body"]) == {"violations": [], "seen": {ACCOUNT: 1}}


@pytest.mark.parametrize(
    ("answer", "pointer", "message"),
    [
        (lambda call: {**RIGHT(call), "country": 7}, "/country", "7 is not of type"),
        (lambda call: {**RIGHT(call), "bogus": 1}, "", "'bogus' was unexpected"),
        (lambda call: {"object": "account"}, "", "'id' is a required property"),
        (lambda call: {**RIGHT(call), "object": "customer"}, "/object", "'customer' is no value"),
        (lambda call: {"object": "list", "data": [], "has_more": False, "url": "/"}, "", "were unexpected"),
    ],
    ids=["wrong-type", "bogus-field", "missing-field", "another-object", "another-shape"],
)
def test_a_wrong_answer_is_found_and_does_not_count_as_seen(planted, answer, pointer, message):
    app = planted(answer)
    ask(app)
    assert any(at == pointer and message in text for at, text in found(app))
    assert {(each["operation"], each["status"]) for each in app.violations} == {(ACCOUNT, 200)}
    assert not app.seen


def test_a_wrong_error_is_found(planted):
    def refuse(call):
        raise errors.StripeError(400, "No.", kind="mood_error")

    app = planted(refuse)
    ask(app)
    assert found(app) == [("/error/type", "'mood_error' is no value the SDK knows")]


def test_a_route_that_the_sdk_does_not_know_is_found(planted):
    app = planted(RIGHT, "GET /v1/inventions")
    ask(app, path="/v1/inventions")
    assert found(app) == [("", "the SDK has no method for this route")]


@pytest.mark.parametrize(
    ("headers", "body", "message"),
    [
        ([(b"content-type", b"text/html")], b"{}", "content type b'text/html'"),
        ([], b"{}", "content type None"),
        ([answers.JSON], b'{"id": ', "no JSON"),
        ([answers.JSON], b"[]", "is not of type 'object'"),
    ],
)
def test_an_answer_that_is_no_json_is_found(monkeypatch, headers, body, message):
    first = answers.first

    def other(*arguments):
        _, named, _ = first(*arguments)
        return 200, [*(each for each in named if each[0] != b"content-type"), *headers], body

    monkeypatch.setattr(answers, "first", other)
    app = Judged(Settings())
    ask(app)
    assert [message in text for _, text in found(app)] == [True]


def test_what_is_wrong_on_purpose_is_not_judged(planted):
    assert set(FAULTS) >= NOT_JUDGED
    app = planted(lambda call: {"object": "account", "id": "acct_1", "bogus": 1})
    for fault in NOT_JUDGED - {"truncate_body"}:  # which needs a connection to break
        ask(app, x_standin_fault=f"{fault};location=http://127.0.0.1:9/")
    ask(app, stripe_version="2024-06-20")
    assert app.violations == []
    ask(app, x_standin_fault="other_id")
    assert len(app.violations) == 1


def test_a_test_that_meets_a_wrong_answer_fails_and_says_where(start):
    """A stand-in with a wrong account object, called over HTTP."""
    program = f"""if True:
        import sys
        sys.path.insert(0, {str(Path(verdicts.__file__).parent)!r})
        from validated import Judged, program
        from stripe_standin.routes import ROUTES
        route = ROUTES[{ACCOUNT!r}]
        ROUTES[{ACCOUNT!r}] = route._replace(answer=lambda call: {{**route.answer(call), "country": 7}})
        program.main(create=Judged)
    """
    text = re.escape("GET /v1/account (200), /country: 7 is not of type 'string', 'null'")
    with start(program=[sys.executable, "-c", program]) as (url, _):
        assert urllib3.request("GET", f"{url}/v1/account", headers={"Authorization": "Bearer sk_test_x"}).status == 200
        with pytest.raises(AssertionError, match=text):
            verdicts.assert_none(url)


def test_every_route_was_answered_and_judged(url, whole_folder):
    """Runs last: a route that never answered with success was never compared with the schema."""
    if not whole_folder:
        pytest.skip("only a part of stripe_standin/tests ran, so routes may be missing")
    assert sorted(ROUTES.keys() - verdicts.ask(url)["seen"].keys()) == sorted(NEVER_GRANTED)
