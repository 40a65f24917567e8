"""A secret is read late, shown nowhere, and refused where it does not belong."""

import copy
import json
import os
import pickle
import shutil
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path

import pytest

from jobs.config import secrets
from jobs.config.secrets import (
    SCHEMES,
    BadReference,
    Secret,
    SecretExposed,
    SecretMissing,
    WrongStripeKey,
    check_stripe_key,
)

CANARY = "sk_test_canary4f1d"


@dataclass
class Surroundings:
    environment: str

    @property
    def livemode(self) -> bool:
        return self.environment == "production"


def a_file(tmp_path: Path, content: str | bytes = CANARY, mode: int = 0o600) -> str:
    path = tmp_path / "secret"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    path.chmod(mode)
    return f"file:{path}"


def refer(reference: str) -> Secret:
    return Secret.referred(reference, "BILLING_STRIPE_KEY")


def test_a_secret_in_the_environment_is_revealed(monkeypatch):
    monkeypatch.setenv("CANARY", CANARY)
    assert refer("env:CANARY").reveal() == CANARY


AROUND = ["{}", "{}\n", "{}\r\n", "  {}  ", "\t{}\n\n", "'{}'", '"{}"\n', "\ufeff{}", "'{}'\r\n "]


@pytest.mark.parametrize("written", AROUND)
@pytest.mark.parametrize("place", ["file", "environment", "literal"])
def test_blanks_newlines_and_quotes_around_a_secret_are_not_part_of_it(tmp_path, monkeypatch, place, written):
    """As editors, `echo`, env files and web forms leave them."""
    text = written.format(CANARY)
    monkeypatch.setenv("CANARY", text)
    secret = {
        "file": lambda: refer(a_file(tmp_path, text)),
        "environment": lambda: refer("env:CANARY"),
        "literal": lambda: Secret.literal(text, "BILLING_STRIPE_KEY"),
    }[place]()
    assert secret.reveal() == CANARY
    assert not secret.reload()


@pytest.mark.parametrize("inner", ["canary\nX-Header: y", "canary\x00", "can\tary", "canary\x1b[31m"])
def test_a_secret_of_several_lines_or_with_a_control_character_is_refused(tmp_path, inner):
    """It would end in a header."""
    with pytest.raises(
        SecretMissing, match=r"^BILLING_STRIPE_KEY: what is at file:.* has more than one line, or a"
    ) as no:
        refer(a_file(tmp_path, inner)).reveal()
    assert "canary" not in str(no.value)


def test_nothing_is_read_before_it_is_needed_and_then_only_once(tmp_path):
    secret = refer(f"file:{tmp_path}/secret")
    a_file(tmp_path, "first")
    assert secret.reveal() == "first"
    a_file(tmp_path, "second")
    assert secret.reveal() == "first"


def test_a_rotated_secret_is_there_after_a_reload(tmp_path):
    secret = refer(a_file(tmp_path, "first"))
    secret.reveal()
    assert not secret.reload()
    a_file(tmp_path, "second")
    assert secret.reload()
    assert secret.reveal() == "second"


def test_a_reload_that_fails_keeps_the_old_secret(tmp_path):
    secret = refer(a_file(tmp_path, "first"))
    secret.reveal()
    (tmp_path / "secret").unlink()
    with pytest.raises(SecretMissing):
        secret.reload()
    assert secret.reveal() == "first"


@pytest.mark.parametrize("made", ["referred", "literal"])
def test_no_way_of_showing_a_secret_shows_its_value(monkeypatch, made):
    monkeypatch.setenv("CANARY", CANARY)
    secret = refer("env:CANARY") if made == "referred" else Secret.literal(CANARY, "BILLING_STRIPE_KEY")
    secret.reveal()
    shown = [
        repr(secret),
        str(secret),
        f"{secret}",
        f"{secret!r:>40}",
        "%s" % secret,  # noqa: UP031
        json.dumps({"key": secret}, default=str),
        repr({"key": [secret]}),
        repr(copy.deepcopy(secret)),
    ]
    assert not [text for text in shown if "canary" in text]
    with pytest.raises(TypeError, match="not JSON serializable"):
        json.dumps(secret)
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with pytest.raises(TypeError, match="BILLING_STRIPE_KEY is a secret and is not pickled"):
            pickle.dumps(secret, protocol)
    with pytest.raises(TypeError):
        vars(secret)


@pytest.mark.parametrize("reference", [CANARY, "", "env:", "file:", "vault:x", "s3cr3t:canary", "ENV:CANARY"])
def test_what_is_no_reference_is_refused_without_repeating_it(reference):
    with pytest.raises(BadReference) as refused:
        refer(reference)
    assert str(refused.value) == f"BILLING_STRIPE_KEY: not a secret reference; write {secrets.SUPPORTED}"


def test_the_advice_names_every_scheme():
    assert all(f"{scheme}:" in secrets.SUPPORTED for scheme in SCHEMES)


def test_an_unset_secret_is_missed_only_where_it_is_needed():
    secret = Secret.unset("BILLING_STRIPE_KEY")
    with pytest.raises(SecretMissing, match=r"^BILLING_STRIPE_KEY: not set, and needed here; write env:NAME"):
        secret.reveal()


@pytest.mark.parametrize("value", [None, ""])
def test_a_missing_variable_is_named(monkeypatch, value):
    monkeypatch.delenv("CANARY", raising=False)
    if value is not None:
        monkeypatch.setenv("CANARY", value)
    with pytest.raises(SecretMissing, match=r"^BILLING_STRIPE_KEY: env:CANARY: the environment variable CANARY is"):
        refer("env:CANARY").reveal()


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(SecretMissing, match=r"^BILLING_STRIPE_KEY: file:.*/secret: No such file or directory$"):
        refer(f"file:{tmp_path}/secret").reveal()


@pytest.mark.parametrize(
    ("content", "problem"),
    [(b"", "the file is empty"), (b"\n", "the file is empty"), (b"\xff\xfe", "not text"), (b"x" * 70_000, "longer")],
    ids=["empty", "newline", "binary", "long"],
)
def test_a_file_without_a_usable_secret_is_refused(tmp_path, content, problem):
    with pytest.raises(SecretMissing, match=problem):
        refer(a_file(tmp_path, content)).reveal()


def test_what_is_no_file_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe", mode=0o600)
    for place, problem in ((tmp_path, "Is a directory"), (tmp_path / "pipe", "not a regular file")):
        with pytest.raises(SecretMissing, match=problem):
            refer(f"file:{place}").reveal()


@pytest.fixture
def open_place():
    """A directory that everybody may pass, as are all above it; pytest's own are private."""
    directory = Path(tempfile.mkdtemp())
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644])
def test_a_file_that_others_may_read_is_refused(open_place, mode):
    with pytest.raises(SecretExposed, match=r"other users can read it; chmod 600 .*/secret, or mount it below"):
        refer(a_file(open_place, mode=mode)).reveal()


@pytest.mark.parametrize("mode", [0o711, 0o701, 0o710, 0o755])
def test_a_directory_that_others_may_pass_protects_nothing(open_place, mode):
    (open_place / "inner").mkdir()
    (open_place / "inner").chmod(mode)
    with pytest.raises(SecretExposed, match="other users can read it"):
        refer(a_file(open_place / "inner", mode=0o444)).reveal()


@pytest.mark.parametrize("mode", [0o700, 0o500, 0o744])
def test_a_readable_file_is_safe_below_a_directory_that_nobody_else_may_pass(open_place, mode):
    (open_place / "closed" / "inner").mkdir(parents=True)
    (open_place / "closed").chmod(mode)
    assert refer(a_file(open_place / "closed" / "inner", mode=0o444)).reveal() == CANARY


@pytest.mark.parametrize("mode", [0o400, 0o444, 0o644])
def test_where_containers_mount_secrets_a_file_may_be_readable(tmp_path, monkeypatch, mode):
    monkeypatch.setattr(secrets, "MOUNTED", tmp_path)
    assert refer(a_file(tmp_path, mode=mode)).reveal() == CANARY


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_file_that_others_may_write_is_refused_everywhere(tmp_path, monkeypatch, mode):
    monkeypatch.setattr(secrets, "MOUNTED", tmp_path)
    with pytest.raises(SecretExposed, match="other users can write it"):
        refer(a_file(tmp_path, mode=mode)).reveal()


def test_a_link_from_the_mounted_place_does_not_open_another(open_place, monkeypatch):
    mounted = open_place / "mounted"
    mounted.mkdir()
    monkeypatch.setattr(secrets, "MOUNTED", mounted)
    a_file(open_place, mode=0o644)
    (mounted / "link").symlink_to(open_place / "secret")
    with pytest.raises(SecretExposed):
        refer(f"file:{mounted}/link").reveal()


def test_many_threads_get_the_same_secret(tmp_path):
    secret = refer(a_file(tmp_path))
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(secret.reveal())) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [CANARY] * 16


@pytest.mark.parametrize("environment", ["development", "test", "staging"])
@pytest.mark.parametrize("kind", ["sk", "rk"])
def test_a_live_key_is_refused_outside_production(environment, kind):
    key = Secret.literal(f"{kind}_live_canary", "BILLING_STRIPE_KEY")
    with pytest.raises(WrongStripeKey) as refused:
        check_stripe_key(key, Surroundings(environment))
    assert str(refused.value) == (
        f"BILLING_STRIPE_KEY: the literal is a live key and BILLING_ENVIRONMENT is {environment}; use a key "
        "that begins with sk_test_ or rk_test_, or set BILLING_ENVIRONMENT=production"
    )


def test_a_test_key_is_refused_in_production(tmp_path):
    key = refer(a_file(tmp_path))
    with pytest.raises(WrongStripeKey, match=r"at file:.* is a test key and BILLING_ENVIRONMENT is production; use"):
        check_stripe_key(key, Surroundings("production"))


@pytest.mark.parametrize(
    "value", ["pk_test_canary", "whsec_canary", "sk_canary", "sk_test_", "sk_test_can ary", "sk_test_canary'"]
)
def test_what_is_no_stripe_key_is_refused_without_repeating_it(value):
    with pytest.raises(WrongStripeKey, match="not a secret or restricted Stripe key") as refused:
        check_stripe_key(Secret.literal(value, "BILLING_STRIPE_KEY"), Surroundings("test"))
    assert "canary" not in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("environment", "key"), [("production", "sk_live_x1"), ("production", "rk_live_x1"), ("test", "sk_test_x1")]
)
def test_a_key_of_the_right_mode_is_accepted(environment, key):
    check_stripe_key(Secret.literal(key, "BILLING_STRIPE_KEY"), Surroundings(environment))
