"""Options at the start, and the headers that say which account and which version a request is for."""

import socket
import subprocess
import sys

import pytest
import stripe

from stripe_standin import errors, parameters
from stripe_standin.versions import possible

NOTE = "not modeled or mistyped; the README lists what is"


def run(*options):
    program = [sys.executable, "-m", "stripe_standin", *options]
    return subprocess.run(program, capture_output=True, text=True, check=False, timeout=200)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--port", "99999"], "argument --port: `N` is a whole number from 0 to 65,535"),
        (["--port=-1"], "argument --port: `N` is a whole number from 0 to 65,535"),
        (["--port", "http"], "argument --port: `N` is a whole number from 0 to 65,535"),
        (["--requests-kept=-5"], "argument --requests-kept: `N` is a whole number from 0 to 100,000,000"),
        (
            ["--rate-limit", "strpe"],
            "argument --rate-limit: `N` is a number from 0.001 to 1,000,000, or off, or stripe",
        ),
        (["--search-lag=-1"], "argument --search-lag: `SECONDS` is a number from 0 to 31,536,000"),
        (["--seed", "x"], "argument --seed: `N` is a whole number from 0"),
        (["--api-key", "pk_test_x"], "argument --api-key: `KEY` is a secret or restricted API key such as sk_test_"),
        (["--api-key", "sk_foo"], "argument --api-key: `KEY` is a secret or restricted API key such as sk_test_"),
        (["--account", "foo"], "argument --account: `ID` is an account's id such as acct_anything"),
        (["--country", "XX"], "argument --country: invalid choice: 'XX' (choose from"),
        (["--rate", "5"], "unrecognized arguments: --rate 5"),
    ],
)
def test_a_wrong_option_is_one_line_and_exit_code_2(options, says):
    ran = run(*options)
    assert ran.returncode == 2
    assert says in ran.stderr.splitlines()[-1]
    assert "Traceback" not in ran.stderr


def test_currencies_with_three_decimals_are_taken_in_the_united_arab_emirates_alone():
    try:
        parameters.take_currencies_of("AE")
        assert (parameters.currency("KWD", "currency"), parameters.currency("usd", "currency")) == ("kwd", "usd")
    finally:
        parameters.take_currencies_of("US")
    with pytest.raises(errors.StripeError, match="Invalid currency: kwd"):
        parameters.currency("kwd", "currency")


def test_an_address_in_use_is_one_line_and_exit_code_1():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ran = run("--port", str(taken.getsockname()[1]))
    assert (ran.returncode, len(ran.stderr.splitlines()), ran.stdout) == (1, 1, "")
    assert "address already in use" in ran.stderr


def test_the_account_asked_for_is_echoed_and_no_other(raw, client_for):
    answer = client_for(stripe_account="acct_theirs").v1.accounts.retrieve_current()
    assert (answer.id, answer.last_response.headers["Stripe-Account"]) == ("acct_theirs", "acct_theirs")
    assert "Stripe-Account" not in raw("GET", "/v1/account").headers
    for _ in range(2):
        made = raw("POST", "/v1/customers", {}, key="k", Stripe_Account="acct_theirs")
        assert made.headers["Stripe-Account"] == "acct_theirs"
    assert made.headers["Idempotent-Replayed"] == "true"
    assert raw("GET", "/v1/customers/cus_x", Stripe_Account="acct_theirs").headers["Stripe-Account"] == "acct_theirs"


def test_a_wrong_account_is_a_403_with_stripes_text(client_for, raw):
    with pytest.raises(stripe.PermissionError) as refused:
        client_for("sk_test_4eC39HqLyjWDarjtT1zdp7dc", stripe_account="foo").v1.accounts.retrieve_current()
    error = refused.value.error
    assert (refused.value.http_status, error.type, error.code) == (403, "invalid_request_error", "account_invalid")
    assert error.message == (
        "The provided key 'sk_test_********p7dc' does not have access to account 'foo' (or that account does not "
        "exist). Application access may have been revoked."
    )
    assert "Stripe-Account" not in raw("GET", "/v1/account", Stripe_Account="foo").headers


CAN_BE = ["2011-06-21", "2022-11-15", "2024-06-20", "2024-09-30.acacia", "2025-03-31.basil", "2026-10-28.endive"]
CANNOT = ["2019-2-19", "2023-02-30", "2010-12-31", "2024-06-20.acacia", "2024-09-30", "2026-10-28", "2026-10-28.dahlia"]
CANNOT += ["2026-10-29.endive", "2027-01-01", "2025-03-31.", "2025-03-31.BASIL", "2025-03-31.basil.1", "latest", ""]
CANNOT += ["2022-11-15 ", "2022-11-15; a=v1", "\u0662022-11-15", "2022-W46-2"]


@pytest.mark.parametrize("version", CAN_BE)
def test_a_possible_version_is_accepted_and_echoed(raw, version):
    answer = raw("GET", "/v1/account", Stripe_Version=version)
    assert (answer.status, answer.headers["Stripe-Version"]) == (200, version)


@pytest.mark.parametrize("version", [each for each in CANNOT if each.isascii() and each == each.strip()])
def test_an_impossible_version_is_refused(raw, version):
    answer = raw("GET", "/v1/account", Stripe_Version=version)
    error = answer.json()["error"]
    assert (answer.status, error["type"]) == (400, "invalid_request_error")
    assert error["message"] == f"Invalid Stripe API version: {version}"
    assert answer.headers["Stripe-Version"] == "2026-10-28.endive"


@pytest.mark.parametrize("version", CANNOT)
def test_an_endpoints_version_has_to_be_possible_too(raw, version):
    form = {"url": "https://example.com/", "enabled_events[0]": "*", "api_version": version}
    refused = raw("POST", "/v1/webhook_endpoints", form)
    assert (refused.status, refused.json()["error"]["param"]) == (400, "api_version")
    assert not possible(version)


def test_what_is_not_modeled_has_a_note_beside_stripes_own_text(raw, control):
    route, parameter = raw("GET", "/v1/prices"), raw("POST", "/v1/customers", {"nothing": "1"}, key="k")
    assert [route.headers["X-Standin-Note"], parameter.headers["X-Standin-Note"]] == [NOTE, NOTE]
    assert set(route.json()) == set(parameter.json()) == {"error"}
    for other in (
        raw("GET", "/v1/customers/cus_x"),
        raw("GET", "/v1/customers"),
        raw("POST", "/v1/payment_intents", {}),
    ):
        assert "X-Standin-Note" not in other.headers


def test_the_page_of_an_invoice_leads_nowhere(client, customer):
    invoice = client.v1.invoices.create(params={"customer": customer, "pending_invoice_items_behavior": "include"})
    final = client.v1.invoices.finalize_invoice(invoice.id)
    assert final.hosted_invoice_url == f"https://invoice.standin.invalid/{invoice.id}"
