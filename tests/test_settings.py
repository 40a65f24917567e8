"""Settings are complete and consistent, or the process does not start and says what to change."""

import pytest
from pydantic import ValidationError

from jobs.secrets import SecretMissing
from jobs.settings import Settings, SettingsError, load

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
        "the air, 1 to 256"
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
