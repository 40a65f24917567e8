"""The schema made from the SDK accepts what the stand-in shows, and nothing that the SDK declares differently."""

import copy
import typing

import pytest
import sdk_schema
import stripe
from jsonschema import Draft202012Validator
from sdk_routes import class_answering
from sdk_schema import CORRECTIONS, class_called, definition, document, problems, schema_of
from stripe._object_classes import OBJECT_CLASSES

from stripe_standin.history import API_VERSION
from stripe_standin.routes import ROUTES


@pytest.fixture
def invoice(raw, customer):
    """A finalized invoice of one line, with its customer as a whole object."""
    drafted = raw("POST", "/v1/invoices", {"customer": customer, "metadata[a]": "b"}).json()
    raw("POST", f"/v1/invoices/{drafted['id']}/add_lines", {"lines[0][amount]": "500"})
    raw("POST", f"/v1/invoices/{drafted['id']}/finalize")
    return raw("GET", f"/v1/invoices/{drafted['id']}?expand[]=customer").json()


@pytest.fixture
def decline(raw, control):
    asked = {"amount": "1", "currency": "usd", "payment_method": "pm_card_visa_chargeDeclined", "confirm": "true"}
    return raw("POST", "/v1/payment_intents", asked).json()["error"]


def changed(body, path, value):
    body = copy.deepcopy(body)
    *way, last = path.split("/")[1:]
    place = body
    for step in way:
        place = place[int(step) if step.isdigit() else step]
    place[last] = value
    return body


def test_what_the_stand_in_shows_fits(invoice, decline):
    assert problems(invoice, stripe.Invoice) == []
    assert problems(decline, stripe.ErrorObject) == []


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        ("/total", "500", "'500' is not of type 'integer'"),
        ("/total", 500.0, "500.0 is not of type 'integer'"),
        ("/total", True, "True is not of type 'integer'"),
        ("/livemode", 0, "0 is not of type 'boolean'"),
        ("/id", None, "None is not of type 'string'"),
        ("/number", 7, "7 is not of type 'string', 'null'"),
        ("/object", "charge", "'charge' is no value the SDK knows"),
        ("/status", "half_paid", "'half_paid' is no value the SDK knows"),  # open in the SDK, closed here
        ("/collection_method", "by_pigeon", "'by_pigeon' is no value the SDK knows"),
        ("/metadata/a", 1, "1 is not of type 'string'"),
        ("/status_transitions/paid_at", "now", "'now' is not of type 'integer', 'null'"),
        ("/status_transitions", "none", "'none' is not of type 'object'"),
        ("/lines/data/0/period/start", "1", "'1' is not of type 'integer'"),
        ("/lines/data/0/object", "invoiceitem", "'invoiceitem' is no value the SDK knows"),
        ("/lines/has_more", None, "None is not of type 'boolean'"),
        ("/lines", [], "[] is not of type 'object'"),
        ("/customer", 7, "7 is not of type 'string', 'object', 'null'"),
        ("/customer/email", 7, "7 is not of type 'string', 'null'"),
    ],
)
def test_a_wrong_value_is_found_where_it_stands(invoice, path, value, reason):
    assert problems(changed(invoice, path, value), stripe.Invoice) == [(path, reason)]


@pytest.mark.parametrize("place", ["", "/status_transitions", "/lines", "/lines/data/0", "/customer"])
def test_a_field_that_nobody_declared_is_found(invoice, place):
    (problem,) = problems(changed(invoice, f"{place}/bogus", 1), stripe.Invoice)
    assert problem.pointer == place
    assert "'bogus' was unexpected" in problem.message


def test_every_field_that_is_not_optional_is_missed(invoice):
    required = definition("stripe._invoice:Invoice")["else"]["required"]
    assert {"id", "object", "status_transitions", "total"} <= set(required)
    for name in required:
        left = {other: value for other, value in invoice.items() if other != name}
        assert problems(left, stripe.Invoice) == [("", f"{name!r} is a required property")]


def test_an_event_is_held_against_the_class_of_its_object(raw, invoice):
    event = raw("GET", "/v1/events?limit=1").json()["data"][0]
    assert problems(event, stripe.Event) == []
    for path, value, pointer in (
        ("/data/object/total", "500", "/data/object/total"),
        ("/data/object/object", "customer", "/data/object"),
        ("/data/object/object", "parcel", "/data/object"),
        ("/data/object", {"id": "in_1"}, "/data/object"),
        ("/type", "invoice.lost", "/type"),
    ):
        assert pointer in {problem.pointer for problem in problems(changed(event, path, value), stripe.Event)}


def test_every_element_of_a_list_is_looked_at(invoice):
    page = {"object": "list", "data": [invoice, copy.deepcopy(invoice)], "has_more": False, "url": "/v1/invoices"}
    assert problems(page, stripe.ListObject[stripe.Invoice]) == []
    wrong = changed(page, "/data/1/total", None)
    assert [each.pointer for each in problems(wrong, stripe.ListObject[stripe.Invoice])] == ["/data/1/total"]
    assert problems(page, stripe.ListObject[stripe.Charge]) != []


def test_a_search_has_an_envelope_of_its_own(invoice):
    found = {"object": "search_result", "data": [invoice], "has_more": False, "next_page": None, "url": "/v1/x"}
    assert problems(found, stripe.SearchResultObject[stripe.Invoice]) == []
    for path, value in (("/object", "list"), ("/data/0/total", None), ("/next_page", 2)):
        wrong = problems(changed(found, path, value), stripe.SearchResultObject[stripe.Invoice])
        assert [each.pointer for each in wrong] == [path]


@pytest.mark.parametrize(
    ("body", "fits"),
    [
        ({"id": "cus_1", "object": "customer", "deleted": True}, True),
        ({"id": "cus_1", "object": "customer", "deleted": False}, False),
        ({"id": "cus_1", "object": "invoice", "deleted": True}, False),
        ({"id": "cus_1", "object": "customer", "deleted": True, "email": None}, False),
        ({"id": "cus_1", "object": "customer"}, False),
        ({"object": "customer", "deleted": True}, False),
    ],
)
def test_of_a_deleted_object_nothing_else_is_told(body, fits):
    assert (problems(body, stripe.Customer) == []) is fits


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("/type", "bank_error"),
        ("/code", "bad_luck"),
        ("/charge", 1),
        ("/payment_intent/amount", "1"),
        ("/advice", None),
    ],
)
def test_an_error_and_what_is_attached_to_it_are_looked_at(decline, path, value):
    pointer = path if path != "/advice" else ""
    assert [problem.pointer for problem in problems(changed(decline, path, value), stripe.ErrorObject)] == [pointer]


def test_a_choice_of_classes_takes_each_of_them_and_no_other():
    sources = str | stripe.Account | stripe.LoginLink | None
    link = {"object": "login_link", "created": 1, "url": "https://connect.stripe.com/x"}
    account = {"object": "account", "id": "acct_1"}
    for body in ("acct_1", None, link, account):
        assert problems(body, sources) == []
    for body in (7, {**link, "id": "x"}, {**account, "object": "login_link"}, {}):
        assert len(problems(body, sources)) == 1


def test_every_annotation_of_the_sdk_is_understood():
    """Every class is read: one that cannot be resolved or read raises."""
    roots = [class_called(name) for name in OBJECT_CLASSES if name not in ("list", "search_result")]
    whole = document([*roots, stripe.ErrorObject])
    assert len(whole["$defs"]) > 2000
    with pytest.raises(TypeError, match="no schema for"):
        schema_of(complex)


def test_it_is_standard_json_schema(invoice):
    """Any JSON Schema validator accepts it: ours is only faster, and checks the objects in events."""
    whole = document([stripe.Invoice])
    for name in ("stripe._invoice:Invoice", "stripe._customer:Customer", "stripe._event:Event.Data"):
        Draft202012Validator.check_schema(definition(name))
    # The classes that an invoice refers to are enough; checking all takes seconds.
    standard = Draft202012Validator(whole)
    assert standard.is_valid(invoice)
    assert not standard.is_valid({**invoice, "total": "500"})


def test_it_is_of_the_version_that_the_stand_in_speaks():
    assert stripe.api_version == API_VERSION


@pytest.mark.parametrize("cls", CORRECTIONS)
def test_a_correction_that_the_sdk_has_made_itself_is_to_go(cls):
    declared = typing.get_type_hints(cls, localns=sdk_schema.names_of(cls.__module__))
    for name, corrected in CORRECTIONS[cls].items():
        assert declared.get(name) != corrected


@pytest.mark.parametrize("operation", ROUTES)
def test_the_sdk_has_a_method_for_every_route(operation):
    assert class_answering(operation) is not None


def test_a_route_that_the_sdk_does_not_know_has_no_class():
    assert class_answering("POST /v1/payment_intents/{id}/explode") is None
