"""Secrets that lie at AWS: read through boto3 from a server that speaks its protocols, and refused in one line."""

import inspect
import socket
import subprocess
import sys
import threading

import boto3.exceptions
import botocore.exceptions
import pytest
from aws_server import Aws, error, serving
from cases import case
from service import eventually

from billing.states import WorkState
from jobs.config import aws_secrets
from jobs.config.secrets import Secret, SecretAway, SecretMissing
from jobs.config.settings import Settings
from jobs.process.service import ServiceProcess
from jobs.process.waiting import Away, away

CANARY = "sk_test_canary7b2e"
VARIABLES = {
    "AWS_ACCESS_KEY_ID": "AKEXAMPLE",
    "AWS_SECRET_ACCESS_KEY": "x" * 30,
    "AWS_DEFAULT_REGION": "eu-central-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    # Neither profile nor configuration of the machine this runs on.
    "AWS_CONFIG_FILE": "/dev/null",
    "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
}


@pytest.fixture
def aws(monkeypatch):
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL", "AWS_REGION"):
        monkeypatch.delenv(name, raising=False)
    for name, value in VARIABLES.items():
        monkeypatch.setenv(name, value)
    with serving() as aws:
        monkeypatch.setenv("AWS_ENDPOINT_URL_SECRETS_MANAGER", aws.url)
        monkeypatch.setenv("AWS_ENDPOINT_URL_SSM", aws.url)
        yield aws


def refer(reference: str) -> Secret:
    return Secret.referred(reference, "BILLING_STRIPE_KEY")


def refused(reference: str) -> str:
    """The one line with which it is refused; it shows nothing of what lies there."""
    with pytest.raises(SecretMissing) as refusal:
        refer(reference).reveal()
    told = str(refusal.value)
    assert "\n" not in told
    assert "canary" not in told
    assert refusal.value.__suppress_context__
    return told


def test_a_field_of_a_secret_is_read(aws: Aws):
    aws.secrets["billing/live"] = {"SecretString": f'{{"stripe_key": "{CANARY}", "other": "no"}}'}
    assert refer("aws-sm:billing/live#stripe_key").reveal() == CANARY
    assert aws.asked == [("GetSecretValue", "billing/live", "AKEXAMPLE")]


def test_a_whole_secret_is_read_and_its_name_may_be_an_arn(aws: Aws):
    arn = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:billing-a1b2c3"
    aws.secrets[arn] = {"SecretString": CANARY + "\n"}
    assert refer(f"aws-sm:{arn}").reveal() == CANARY


def test_a_parameter_is_read_decrypted(aws: Aws):
    aws.parameters["/billing/live/stripe_key"] = CANARY
    assert refer("aws-ssm:/billing/live/stripe_key").reveal() == CANARY


def test_it_is_asked_for_at_the_first_use_once_and_again_on_demand(aws: Aws):
    aws.parameters["/key"] = "first"
    secret = refer("aws-ssm:/key")
    assert aws.asked == []
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(secret.reveal())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == ["first"] * 8
    assert len(aws.asked) == 1
    aws.parameters["/key"] = "second"
    assert secret.reload()
    assert secret.reveal() == "second"


@pytest.mark.parametrize(
    ("reference", "told"),
    [
        ("aws-sm:nowhere#key", "aws-sm:nowhere#key: AWS answers ResourceNotFoundException"),
        ("aws-ssm:/nowhere", "aws-ssm:/nowhere: AWS answers ParameterNotFound"),
        ("aws-sm:plain#key", "aws-sm:plain#key: it is not JSON; leave out #key, or store it as JSON"),
        ("aws-sm:list#key", "aws-sm:list#key: there is no field 'key' in it"),
        ("aws-sm:fields#key", "aws-sm:fields#key: there is no field 'key' in it"),
        ("aws-sm:fields#number", "aws-sm:fields#number: it is not text"),
        ("aws-sm:fields#empty", "aws-sm:fields#empty: what is stored there is empty"),
        ("aws-sm:bytes", "aws-sm:bytes: it is not text"),
        ("aws-sm:empty", "aws-sm:empty: what is stored there is empty"),
    ],
)
def test_what_is_not_there_or_not_usable_is_told_in_one_line(aws: Aws, reference: str, told: str):
    aws.secrets |= {
        "plain": {"SecretString": CANARY},
        "list": {"SecretString": f'["{CANARY}"]'},
        "fields": {"SecretString": f'{{"other": "{CANARY}", "number": 42, "empty": ""}}'},
        "bytes": {"SecretBinary": "Y2FuYXJ5"},
        "empty": {"SecretString": "\n"},
    }
    assert refused(reference) == f"BILLING_STRIPE_KEY: {told}"


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (error("AccessDeniedException", f"user canary may not read {CANARY}"), "AWS answers AccessDeniedException"),
        (error("InternalFailure", CANARY, 500), "AWS answers InternalFailure"),
        (error(f"not a name but {CANARY}", ""), "AWS answers with an error"),
        ((200, b'{"SecretString": canary'), "it is not text"),
        ((200, b'["canary"]'), "AWS could not be asked (AttributeError)"),
        ((502, b"<html>canary</html>"), "AWS answers 502"),
    ],
    ids=["denied", "failing", "no code", "no JSON", "no object", "a proxy"],
)
def test_an_answer_that_is_none_is_told_by_its_name_alone(aws: Aws, answer: tuple[int, bytes], told: str):
    aws.fails_with = answer
    assert told in refused("aws-sm:billing#key")


def test_a_server_that_is_away_or_silent_is_given_up(aws: Aws, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL_SSM", "http://127.0.0.1:1")
    assert refused("aws-ssm:/key").endswith("AWS could not be asked (EndpointConnectionError)")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("AWS_ENDPOINT_URL_SSM", f"http://127.0.0.1:{silent.getsockname()[1]}")
        quick = aws_secrets._CONFIG.merge(aws_secrets.Config(read_timeout=0.2))
        monkeypatch.setattr(aws_secrets, "_CONFIG", quick)
        assert refused("aws-ssm:/key").endswith("AWS could not be asked (ReadTimeoutError)")


def test_a_store_that_is_away_is_waited_for_at_the_start_and_one_that_says_no_is_not(
    aws: Aws, monkeypatch: pytest.MonkeyPatch
):
    secret = Secret.referred("aws-sm:billing#key", "BILLING_STRIPE_KEY")
    for fails_with in (error("InternalFailure", CANARY, 500), error("ThrottlingException", CANARY), (502, b"")):
        aws.fails_with = fails_with
        with pytest.raises(SecretAway) as raised:
            secret.reveal()
        assert away(raised.value) == Away("secrets", "BILLING_STRIPE_KEY")
    aws.fails_with = error("AccessDeniedException", CANARY)
    with pytest.raises(SecretMissing) as refusal:
        secret.reveal()
    assert away(refusal.value) is None
    monkeypatch.setenv("AWS_ENDPOINT_URL_SECRETS_MANAGER", "http://127.0.0.1:1")
    with pytest.raises(SecretAway):
        secret.reveal()


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"AWS_DEFAULT_REGION": None}, "AWS has many regions; set AWS_DEFAULT_REGION"),
        (
            {"AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None},
            "no credentials for AWS; give this process a role",
        ),
        ({"AWS_ENDPOINT_URL_SECRETS_MANAGER": "nowhere"}, "AWS could not be asked (ValueError)"),
        ({"AWS_PROFILE": "canary"}, "AWS could not be asked (ProfileNotFound)"),
    ],
    ids=["region", "credentials", "address", "profile"],
)
def test_what_is_missing_around_it_is_named(aws: Aws, monkeypatch: pytest.MonkeyPatch, changed, told):
    for name, value in changed.items():
        monkeypatch.delenv(name) if value is None else monkeypatch.setenv(name, value)
    assert told in refused("aws-sm:billing#key")
    assert aws.asked == []


ERRORS = {
    kind
    for module in (botocore.exceptions, boto3.exceptions)
    for kind in vars(module).values()
    if inspect.isclass(kind) and issubclass(kind, Exception)
}


def test_no_error_of_the_sdk_escapes_and_none_is_quoted(monkeypatch: pytest.MonkeyPatch):
    """The closed world: whatever class it is, one line, and nothing of what it says."""
    for kind in ERRORS:
        failure = kind.__new__(kind)
        failure.args = (CANARY,)
        if isinstance(failure, botocore.exceptions.ClientError):
            failure.response = {"Error": {"Message": CANARY}}  # type: ignore[assignment, typeddict-item]

        class Broken:
            _failure = failure

            def __getattr__(self, _: str):
                raise self._failure

        monkeypatch.setattr(aws_secrets.boto3.session, "Session", Broken)
        for reference in ("aws-sm:billing#key", "aws-ssm:/key"):
            with case(kind.__name__):
                assert refused(reference).startswith(f"BILLING_STRIPE_KEY: {reference}: ")


def test_the_closed_world_was_read():
    assert len(ERRORS) > 80


def test_boto3_is_loaded_by_whoever_refers_to_aws_and_by_nobody_else():
    script = (
        "import sys; from jobs.config.secrets import Secret\n"
        "Secret.referred('aws-sm:a#b', 'X'); Secret.referred('env:PATH', 'X').reveal()\n"
        "print('boto3' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout == "False\n"


def test_a_key_that_was_replaced_at_aws_is_used_after_a_401_and_nothing_is_lost(aws: Aws, service):
    aws.secrets["billing"] = {"SecretString": '{"stripe_key": "sk_test_old"}'}
    settings = Settings(
        environment="test",
        database_url=service.url,
        stripe_api_base=service.stripe_api_base,
        stripe_key="aws-sm:billing#stripe_key",  # type: ignore[arg-type]
        timing="short",
    )
    gateway = ServiceProcess(settings, "test").gateway(4)
    service.standin.set_keys(accepted=["sk_test_new"])
    try:
        capture = service.ask_for_capture(service.intents()[0])

        def held() -> bool:
            # On a busy machine a call may be prepared and not be sent in time: it then waits for another turn.
            service.relay.round()
            service.work_off(gateway=gateway)
            return service.work(capture).state == WorkState.HELD

        eventually(held, "the refused key has pulled the switch")
        aws.secrets["billing"] = {"SecretString": '{"stripe_key": "sk_test_new"}'}
        assert service.settle(capture, gateway=gateway) == ["captured"]
        assert service.captured(capture) == {1999: 1}
        asked = len(aws.asked)
        service.settle(service.ask_for_capture(service.intents()[0]), gateway=gateway)
        assert len(aws.asked) == asked
    finally:
        service.standin.set_keys()
