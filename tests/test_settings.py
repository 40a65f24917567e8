"""Settings are complete and consistent, or the process does not start and says what to change."""

import json
import string

import hypothesis
import pytest
from hypothesis import strategies as st
from pydantic import ValidationError

from jobs.config.loading import load
from jobs.config.secrets import SecretMissing
from jobs.config.settings import Settings
from jobs.config.sources import SettingsError, variable

pytestmark = pytest.mark.usefixtures("nothing_set")

SUFFICIENT = {
    "BILLING_ENVIRONMENT": "test",
    "DATABASE_URL": "postgresql://app:canary@db.example/billing",
}


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch):
    """Load the settings from these variables, besides those that must be set."""

    def told(**variables: str) -> Settings:
        for name, value in {**SUFFICIENT, **variables}.items():
            monkeypatch.setenv(name, value)
        return load()

    return told


@pytest.fixture
def refused(told):
    """The message with which the settings are refused."""

    def refused(**variables: str) -> str:
        with pytest.raises(SettingsError) as refusal:
            told(**variables)
        message = str(refusal.value)
        assert "\n" not in message
        assert "canary" not in message
        assert refusal.value.__context__ is None or refusal.value.__suppress_context__
        return message

    return refused


def test_two_variables_are_enough(told):
    settings = told()
    assert settings.environment == "test"
    assert settings.database_url.reveal() == SUFFICIENT["DATABASE_URL"]
    with pytest.raises(SecretMissing, match=r"^REDIS_URL: not set, and needed here"):
        settings.redis_url.reveal()
    assert settings.stripe_api_base == "https://api.stripe.com"
    assert settings.crew_captures == 32
    assert not settings.livemode


@pytest.mark.parametrize("name", SUFFICIENT)
def test_each_of_the_two_is_missed_by_name(refused, name):
    assert refused(**{name: ""}).startswith(f"{name} is not set; expected ")


def test_with_nothing_set_the_first_is_named_and_the_others_counted():
    with pytest.raises(SettingsError, match=r"^BILLING_ENVIRONMENT is not set; expected one of dev.* \(and 1 more\)$"):
        load()


def test_settings_cannot_be_changed(told):
    settings = told()
    with pytest.raises(ValidationError, match="frozen"):
        settings.environment = "production"


def test_a_file_gives_what_the_environment_does_not(told, tmp_path):
    (tmp_path / "billing.toml").write_text('crew_captures = 16\ncrew_invoices = 4\nstripe_account = "acct_1"\n')
    settings = told(BILLING_CREW_INVOICES="2")
    assert (settings.crew_captures, settings.crew_invoices, settings.stripe_account) == (16, 2, "acct_1")


def test_a_file_alone_is_enough(monkeypatch, tmp_path):
    (tmp_path / "elsewhere.toml").write_text(
        'environment = "staging"\ndatabase_url = "file:/run/secrets/db"\nredis_url = "env:CACHE"\n'
    )
    monkeypatch.setenv("BILLING_CONFIG", str(tmp_path / "elsewhere.toml"))
    assert load().database_url.shown == "file:/run/secrets/db"


def test_a_file_that_was_named_and_is_not_there_is_an_error(refused):
    assert refused(BILLING_CONFIG="/nowhere/billing.toml").startswith("BILLING_CONFIG=/nowhere/billing.toml: there is")


def test_a_file_that_is_no_toml_is_an_error(refused, tmp_path):
    (tmp_path / "billing.toml").write_text('environment = "test"\nstripe_key = canary\n')
    assert refused().startswith("billing.toml: not TOML (")


def test_an_unknown_setting_is_an_error_that_knows_better(refused, tmp_path):
    assert refused(BILLING_CREW_CAPTURE="4") == (
        "BILLING_CREW_CAPTURE: no such setting; did you mean BILLING_CREW_CAPTURES?"
    )


def test_a_url_does_not_bear_the_prefix(refused):
    assert refused(BILLING_DATABASE_URL="x") == "BILLING_DATABASE_URL: no such setting; did you mean DATABASE_URL?"


def test_a_setting_like_no_other_is_to_be_removed(refused):
    assert refused(BILLING_XYZZY="canary") == "BILLING_XYZZY: no such setting; remove it"


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ("crew_capture = 4", "crew_captures"),
        ("CREW_CAPTURES = 4", "crew_captures"),
        ('BILLING_LOG_LEVEL = "info"', "log_level"),
        ('DATABASE_URL = "canary"', "database_url"),
    ],
)
def test_an_unknown_setting_in_the_file_is_an_error_that_knows_better(refused, tmp_path, line, meant):
    (tmp_path / "billing.toml").write_text(line)
    assert refused() == f"{line.split()[0]} in the settings file: no such setting; did you mean {meant}?"


def test_the_knobs_of_the_tests_are_not_taken_for_settings(told):
    told(BILLING_TEST_ROUNDS="3")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("BILLING_ENVIRONMENT", "prod"),
        ("BILLING_SERVICE", "Billing Service"),
        ("BILLING_SERVICE", "a" * 41),
        ("BILLING_CREW_CAPTURES", "0"),
        ("BILLING_CREW_CAPTURES", "canary"),
        ("BILLING_SLICE_CAPTURES_S", "601"),
        ("BILLING_SLICE_INVOICES_S", "nan"),
        ("BILLING_WORKERS_CAPTURES", "0"),
        ("BILLING_TIMING", "fast"),
        ("BILLING_LOG_LEVEL", "chatty"),
        ("BILLING_STRIPE_ACCOUNT", "canary"),
        ("BILLING_STRIPE_KEY", "canary"),
        ("BILLING_STRIPE_KEY", "sk_live_canary"),
        ("BILLING_STRIPE_KEY", "vault:canary"),
        ("DATABASE_URL", "mysql://canary"),
        ("DATABASE_URL", "canary"),
        ("REDIS_URL", "http://canary"),
        ("STRIPE_API_BASE", "api.stripe.com"),
        ("STRIPE_API_BASE", "https://api.stripe.com/v1"),
    ],
)
def test_a_bad_value_is_refused_by_name_and_not_repeated(refused, name, value):
    assert refused(**{name: value}).startswith(f"{name}: ")


def test_a_bad_value_in_the_file_is_found_there(refused, tmp_path):
    (tmp_path / "billing.toml").write_text("crew_captures = 1000\n")
    assert refused() == (
        "crew_captures in the settings file: not valid; expected provider calls that one captures worker has in "
        "flight, 1 to 256"
    )


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        ({"BILLING_TIMING": "short"}, "BILLING_TIMING=short is for tests and BILLING_ENVIRONMENT is production"),
        ({"STRIPE_API_BASE": "http://127.0.0.1:12111"}, "STRIPE_API_BASE must begin with https://"),
        ({"STRIPE_API_BASE": "http://stripe.example"}, "STRIPE_API_BASE must begin with https://"),
        ({"BILLING_STRIPE_KEY": "sk_test_canary"}, "BILLING_STRIPE_KEY: a literal key is refused"),
    ],
)
def test_production_refuses_what_is_for_tests(refused, variables, says):
    assert refused(BILLING_ENVIRONMENT="production", **variables).startswith(says)


def test_production_with_references_is_accepted(told):
    settings = told(
        BILLING_ENVIRONMENT="production",
        BILLING_STRIPE_KEY="file:/run/secrets/stripe_key",
        DATABASE_URL="file:/run/secrets/database_url",
    )
    assert settings.livemode
    assert settings.stripe_key.shown == "file:/run/secrets/stripe_key"


@pytest.mark.parametrize("environment", ["development", "test"])
def test_a_literal_test_key_is_for_development_and_test(told, environment):
    settings = told(BILLING_ENVIRONMENT=environment, BILLING_STRIPE_KEY="sk_test_canary")
    assert settings.stripe_key.reveal() == "sk_test_canary"


def test_a_literal_test_key_is_refused_in_staging(refused):
    message = refused(BILLING_ENVIRONMENT="staging", BILLING_STRIPE_KEY="rk_test_canary")
    assert message.startswith("BILLING_STRIPE_KEY: a literal key is refused where BILLING_ENVIRONMENT is staging")


def test_a_process_that_calls_nobody_needs_no_key(told):
    with pytest.raises(SecretMissing, match="BILLING_STRIPE_KEY: not set, and needed here"):
        told().stripe_key.reveal()


def test_a_password_does_not_belong_into_a_plain_url(refused):
    assert refused(STRIPE_API_BASE="http://user:canary@127.0.0.1:1").startswith("STRIPE_API_BASE")


def test_nothing_shows_a_secret(told):
    settings = told(BILLING_STRIPE_KEY="sk_test_canary")
    settings.stripe_key.reveal()
    shown = [repr(settings), str(settings), settings.model_dump_json(), repr(settings.model_dump())]
    assert not [text for text in shown if "canary" in text]
    with pytest.raises(ValidationError) as failed:
        Settings(**{**settings.model_dump(), "stripe_key": "canary", "database_url": "canary"})
    assert "canary" not in str(failed.value)


def test_every_setting_says_what_it_is():
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


# As hosting, shells, env files and web forms write them.


@pytest.mark.parametrize(
    ("variables", "field", "expected"),
    [
        ({"BILLING_LOG_LEVEL": "INFO"}, "log_level", "info"),
        ({"BILLING_LOG_LEVEL": "Warn"}, "log_level", "warning"),
        ({"BILLING_LOG_FORMAT": "JSON"}, "log_format", "json"),
        ({"BILLING_TIMING": "Short"}, "timing", "short"),
        ({"BILLING_ENVIRONMENT": "Staging\n"}, "environment", "staging"),
        ({"BILLING_ENVIRONMENT": '"test"'}, "environment", "test"),
        ({"BILLING_CREW_CAPTURES": " '16' \n"}, "crew_captures", 16),
        ({"BILLING_SERVICE": " shop\r\n"}, "service", "shop"),
        ({"BILLING_ARCHIVE_BUCKET": "  "}, "archive_bucket", None),
        ({"BILLING_ARCHIVE_BUCKET": '""'}, "archive_bucket", None),
        ({"BILLING_STRIPE_ACCOUNT": "'acct_1'"}, "stripe_account", "acct_1"),
        ({"STRIPE_API_BASE": "https://api.stripe.com/\n"}, "stripe_api_base", "https://api.stripe.com"),
        ({"S3_ENDPOINT_URL": "http://127.0.0.1:9000/"}, "s3_endpoint_url", "http://127.0.0.1:9000"),
    ],
)
def test_blanks_quotes_and_capitals_do_not_change_a_value(told, variables, field, expected):
    assert getattr(told(**variables), field) == expected


def test_a_value_in_the_file_may_be_written_like_one_in_the_environment(told, tmp_path):
    (tmp_path / "billing.toml").write_bytes('\ufefflog_level = "INFO\\n"\ncrew_captures = " 16 "\n'.encode())
    settings = told()
    assert (settings.log_level, settings.crew_captures) == ("info", 16)


def test_a_url_or_a_key_with_a_newline_and_quotes_is_the_url_or_the_key(told, monkeypatch):
    monkeypatch.setenv("SECRET_KEY", "'abc/def+1'\n")
    settings = told(
        DATABASE_URL='"postgresql://app:pw@db.example/billing"\n',
        REDIS_URL="'redis://r.example/0' ",
        BILLING_STRIPE_KEY="sk_test_1\n",
        BILLING_S3_ACCESS_KEY="AK1\r\n",
        BILLING_S3_SECRET_KEY="env:SECRET_KEY",
    )
    assert settings.database_url.reveal() == "postgresql://app:pw@db.example/billing"
    assert settings.redis_url.reveal() == "redis://r.example/0"
    assert settings.stripe_key.reveal() == "sk_test_1"
    assert (settings.s3_access_key.reveal(), settings.s3_secret_key.reveal()) == ("AK1", "abc/def+1")


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        (
            {"BILLING_S3_ACCESS_KEY": "canary"},
            "BILLING_S3_SECRET_KEY is not set, and BILLING_S3_ACCESS_KEY is; set both",
        ),
        (
            {"BILLING_S3_SECRET_KEY": "canary"},
            "BILLING_S3_ACCESS_KEY is not set, and BILLING_S3_SECRET_KEY is; set both",
        ),
        ({"BILLING_S3_ACCESS_KEY": "a\nb"}, "BILLING_S3_ACCESS_KEY: has more than one line"),
        ({"BILLING_S3_REGION": "-"}, "BILLING_S3_REGION: not valid"),
        ({"BILLING_S3_REGION": "123"}, "BILLING_S3_REGION: not valid"),
        ({"S3_ENDPOINT_URL": "s3.example"}, "S3_ENDPOINT_URL: does not begin with https:// or http://"),
        (
            {"S3_ENDPOINT_URL": "https://s3.example/canary"},
            "S3_ENDPOINT_URL: must end after the host or the port; a bucket",
        ),
        (
            {"S3_ENDPOINT_URL": "https://canary.s3.example", "BILLING_ARCHIVE_BUCKET": "canary"},
            "S3_ENDPOINT_URL: its host begins with the bucket of BILLING_ARCHIVE_BUCKET",
        ),
        ({"BILLING_S3_ADDRESSING": "canary"}, "BILLING_S3_ADDRESSING: "),
        ({"BILLING_S3_ENCRYPTION": "sse-c"}, "BILLING_S3_ENCRYPTION: "),
        ({"BILLING_S3_ENCRYPTION": "sse-kms"}, "BILLING_S3_KMS_KEY is needed where BILLING_S3_ENCRYPTION is sse-kms"),
        ({"BILLING_S3_KMS_KEY": "canary"}, "BILLING_S3_KMS_KEY is needed where BILLING_S3_ENCRYPTION is sse-kms"),
        (
            {"BILLING_HEADS_BUCKET": "h1x", "BILLING_HEADS_ENDPOINT_URL": "https://s3.other.example"},
            "BILLING_HEADS_ENDPOINT_URL is set, and no keys for that provider",
        ),
        (
            {"BILLING_HEADS_BUCKET": "h1x", "BILLING_HEADS_ENDPOINT_URL": "https://s3.other.example/h1x"},
            "BILLING_HEADS_ENDPOINT_URL: must end after the host or the port; a bucket is named by BILLING_HEADS_",
        ),
        (
            {
                "BILLING_HEADS_PROFILE": "auditor",
                "BILLING_HEADS_ACCESS_KEY": "env:A",
                "BILLING_HEADS_SECRET_KEY": "env:B",
            },
            "BILLING_HEADS_PROFILE and BILLING_HEADS_ACCESS_KEY are both set",
        ),
        (
            {"BILLING_HEADS_BUCKET": "evidence", "BILLING_ARCHIVE_BUCKET": "evidence"},
            "BILLING_HEADS_BUCKET is the archive's own bucket",
        ),
        ({"STRIPE_API_BASE": "https://u:canary@h"}, "STRIPE_API_BASE: must not hold a user or password"),
        ({"DATABASE_URL": "postgresql://u:can@ary@h/d"}, "DATABASE_URL: cannot be parsed; in a user or password"),
        ({"DATABASE_URL": "postgresql://u:canary@h/d?sslmode=x"}, "DATABASE_URL: ?sslmode= must be one of disable"),
        ({"REDIS_URL": "redis://:canary@h/cache"}, "REDIS_URL: its database must be one number"),
        ({"BILLING_CACHE_DIRECTORY": "/a\x1b[31m"}, "BILLING_CACHE_DIRECTORY: has a control character"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_the_part(refused, variables, says):
    assert refused(**variables).startswith(says)


def test_production_needs_no_keys_of_s3(told, monkeypatch):
    """A role has keys that end by themselves: nothing to store, to leak or to change."""
    monkeypatch.setenv("KEY", "sk_live_x")
    settings = told(
        BILLING_ENVIRONMENT="production",
        BILLING_STRIPE_KEY="env:KEY",
        BILLING_ARCHIVE_BUCKET="evidence",
        BILLING_HEADS_BUCKET="evidence",
        BILLING_HEADS_ENDPOINT_URL="https://s3.other.example",
        BILLING_HEADS_PROFILE="auditor",
    )
    assert not settings.s3_access_key.is_set
    assert not settings.heads_access_key.is_set


def test_a_reference_is_not_taken_for_a_url(told):
    assert (
        told(DATABASE_URL="file:///run/secrets/database_url").database_url.shown == "file:///run/secrets/database_url"
    )


HOSTILE = st.one_of(
    st.text(alphabet=st.characters(exclude_characters="\x00", exclude_categories=("Cs",)), max_size=40),
    st.text(alphabet=string.ascii_lowercase + string.digits + ":/@#?%=&._- \n\"'", max_size=40),
    st.sampled_from(
        ["0", "1", "-1", "1e9", "nan", "inf", "true", "٣", "1_0", "0x10", "env:A", "file:/x", "aws-sm:a#b"]
    ),
    st.integers().map(str),
)


@hypothesis.settings(
    max_examples=600,
    deadline=None,
    derandomize=True,
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
)
@hypothesis.given(
    name=st.sampled_from(sorted(map(variable, Settings.model_fields))), value=HOSTILE, before=st.booleans()
)
def test_whatever_a_setting_holds_is_a_setting_or_one_line_that_names_it(tmp_path, name, value, before):
    """In the environment, and in the file. Never another error, and never the value, which may be a secret."""
    value = f"QzX7canary{value}" if before else f"{value}QzX7canary"
    in_file = name.lower().removeprefix("billing_")
    written = json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    for variables, lines in (({name: value}, ""), ({name: ""}, f"{in_file} = {written}\n")):
        (tmp_path / "billing.toml").write_text(lines, encoding="utf-8")
        message = ""
        with pytest.MonkeyPatch.context() as environment:
            for each, its_value in {**SUFFICIENT, **variables}.items():
                environment.setenv(each, its_value)
            try:
                load()
            except SettingsError as error:
                message = str(error)
        assert message.isprintable()
        assert "QzX7canary" not in message
        assert not message or name in message or f"{in_file} in the settings file" in message
