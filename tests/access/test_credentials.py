"""Secrets are made once and kept, and logins are made of them; whatever does not fit is refused in one line."""

import json
import os
import stat

import psycopg
import pytest
from logins import set_up, tear_down
from service import make_database
from sqlalchemy.engine import make_url

from jobs.access import credentials
from jobs.access.errors import AccessError
from jobs.access.kinds import KINDS, S3_KINDS, S3_POLICIES
from jobs.config.secrets import Secret

FILES = {
    "postgres_password",
    "owner_database_url",
    "redis.acl",
    "s3.json",
    "archiver_signing_key",
    *(f"{kind}_database_url" for kind in ("application", "operator", "relay", "worker", "archiver", "web", "reader")),
    *(f"{kind}_redis_url" for kind in ("operator", "relay", "worker")),
    *(
        f"{name}_s3_{which}_key"
        for name in ("setup", "operator", "archiver", "documents", "reader", "holder")
        for which in ("access", "secret")
    ),
}


@pytest.fixture
def secrets(tmp_path):
    return tmp_path / "secrets"


@pytest.fixture
def billing(run, monkeypatch):
    """`billing ...` without any setting: `generate` needs none."""
    for name in list(os.environ):
        if name.startswith("BILLING_") or name in ("DATABASE_URL", "REDIS_URL"):
            monkeypatch.delenv(name)
    return run


def contents(directory):
    return {path.name: path.read_text() for path in directory.iterdir()}


def test_every_file_is_there_for_all_to_read_in_a_directory_for_one(billing, secrets):
    assert billing("access", "generate", str(secrets)).status == 0
    assert {path.name for path in secrets.iterdir()} == FILES
    assert stat.S_IMODE(secrets.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in secrets.iterdir()} == {0o444}
    told = contents(secrets)
    assert told["worker_database_url"].startswith("postgresql://billing_worker_billing:")
    assert told["worker_database_url"].endswith("@postgres:5432/billing")
    assert told["relay_redis_url"].endswith("@valkey:6379/0")
    assert told["owner_database_url"] == f"postgresql://postgres:{told['postgres_password']}@postgres:5432/billing"


def test_no_secret_is_there_twice(billing, secrets):
    billing("access", "generate", str(secrets))
    urls = [make_url(text) for name, text in contents(secrets).items() if name.endswith("_url")]
    keys = [text for name, text in contents(secrets).items() if name.endswith("_key")]
    made = [url.password for url in urls] + keys
    assert len(made) == len(set(made))
    assert all(len(secret or "") >= 20 for secret in made)


def test_what_is_there_stays_and_only_what_is_missing_is_made(billing, secrets):
    billing("access", "generate", str(secrets))
    before = contents(secrets)
    again = billing("access", "generate", str(secrets), "--json").json
    assert not any(each["new"] for each in again["files"])
    assert contents(secrets) == before
    (secrets / "worker_redis_url").unlink()
    again = billing("access", "generate", str(secrets), "--json").json
    # By hand, a password is changed in this way: remove its file, generate, tell the servers.
    assert {each["name"] for each in again["files"] if each["new"]} == {"worker_redis_url", "redis.acl"}
    after = contents(secrets)
    assert {name for name in FILES if after[name] != before[name]} == {"worker_redis_url", "redis.acl"}


def test_the_places_are_those_that_were_named(billing, secrets):
    named = ("--postgres", "db.internal:6543/shop", "--redis", "10.0.0.7:6380", "--environment", "production")
    assert billing("access", "generate", str(secrets), *named).status == 0
    told = contents(secrets)
    assert told["reader_database_url"].startswith("postgresql://billing_reader_shop:")
    assert told["reader_database_url"].endswith("@db.internal:6543/shop")
    assert told["operator_redis_url"].endswith("@10.0.0.7:6380/0")
    assert "~billing-production:*" in told["redis.acl"]


def test_a_generated_secret_can_be_referred_to_where_it_lies(billing, secrets):
    """Readable files, in a directory that lets nobody pass."""
    billing("access", "generate", str(secrets))
    reference = f"file:{secrets / 'worker_database_url'}"
    assert Secret.referred(reference, "DATABASE_URL").reveal() == contents(secrets)["worker_database_url"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (
            ("--postgres", "postgresql://a:hidden@b/c"),
            "--postgres must be written as HOST:PORT/DATABASE, without user",
        ),
        (("--postgres", "db"), "--postgres must be written as HOST:PORT/DATABASE"),
        (("--redis", "cache"), "--redis must be written as HOST:PORT, without user or password"),
        (("--environment", "prod"), "--environment must be one of development, test, staging, production"),
        (("--postgres", f"db:5432/{'x' * 60}"), "would be longer than 63 bytes; rename the database"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_is_written(billing, secrets, arguments, told):
    ran = billing("access", "generate", str(secrets), *arguments)
    assert ran.status == 2
    assert told in ran.err
    assert "hidden" not in ran.err
    assert len(ran.err.splitlines()) == 1
    assert not (secrets / "worker_database_url").exists()


def test_a_directory_of_somebody_else_s_is_left_alone(billing, secrets):
    secrets.mkdir(mode=0o755)
    (secrets / "something").touch()
    ran = billing("access", "generate", str(secrets))
    assert ran.status == 2
    assert "is open to others, and not empty; name a new directory, or chmod 700 it" in ran.err
    assert [path.name for path in secrets.iterdir()] == ["something"]
    (secrets / "something").unlink()
    assert billing("access", "generate", str(secrets)).status == 0
    assert stat.S_IMODE(secrets.stat().st_mode) == 0o700


def test_the_users_of_one_environment_are_not_made_those_of_another(billing, secrets):
    billing("access", "generate", str(secrets), "--environment", "production")
    before = contents(secrets)
    ran = billing("access", "generate", str(secrets))
    assert ran.status == 2
    assert "redis.acl is for another environment than development; name it with --environment" in ran.err
    assert contents(secrets) == before


def test_logins_are_made_with_their_passwords_and_nothing_but_their_group(template, new_place):
    assert all(login.new for login in set_up(template, new_place.owner, new_place.secrets))
    for name, kind in KINDS.items():
        with new_place.connect(name) as connection:
            (user,) = connection.execute("SELECT current_user").fetchone()
            assert str(user).startswith(f"{kind.role}_access_")
            groups = connection.execute(
                "SELECT roleid::regrole::text FROM pg_auth_members WHERE member = current_user::regrole"
            ).fetchall()
            assert groups == [(kind.role,)]


def test_a_password_is_never_sent_and_its_verifier_is_no_password(template, new_place):
    set_up(template, new_place.owner, new_place.secrets)
    with new_place.connect("owner") as connection:
        stored = connection.execute(
            "SELECT rolpassword FROM pg_authid WHERE rolname LIKE 'billing\\_%\\_' || current_database()"
        ).fetchall()
    assert len(stored) == len(KINDS)
    assert all(str(verifier).startswith("SCRAM-SHA-256$") for (verifier,) in stored)


def test_applying_again_sets_what_the_files_say(template, new_place):
    set_up(template, new_place.owner, new_place.secrets)
    with new_place.connect("owner") as connection:
        (login,) = connection.execute("SELECT 'billing_worker_' || current_database()").fetchone()
        connection.execute(psycopg.sql.SQL("ALTER ROLE {} PASSWORD 'other'").format(psycopg.sql.Identifier(login)))
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        new_place.connect("worker")
    assert not any(login.new for login in set_up(template, new_place.owner, new_place.secrets))
    new_place.connect("worker").close()


def test_logins_of_two_databases_of_one_cluster_are_two(template, new_place, tmp_path):
    other = make_database(template, f"{make_url(new_place.owner).database}_too")
    try:
        set_up(template, new_place.owner, new_place.secrets)
        assert all(login.new for login in set_up(template, other, tmp_path / "others"))
        new_place.connect("worker").close()
    finally:
        tear_down(template, other)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("ALTER ROLE {} SUPERUSER", r"exists and has rights beyond its group \(SUPERUSER\)"),
        ("ALTER ROLE {} CREATEROLE", r"exists and has rights beyond its group \(CREATEROLE\)"),
        ("GRANT billing_relay TO {}", r"exists and belongs to billing_relay; revoke that, or drop the login"),
    ],
)
def test_a_login_with_extra_rights_is_refused(template, new_place, change, told):
    set_up(template, new_place.owner, new_place.secrets)
    with new_place.connect("owner") as connection:
        (login,) = connection.execute("SELECT 'billing_worker_' || current_database()").fetchone()
        connection.execute(psycopg.sql.SQL(change).format(psycopg.sql.Identifier(login)))
    with pytest.raises(AccessError, match=told):
        set_up(template, new_place.owner, new_place.secrets)


def test_apply_says_what_it_did_and_says_it_as_json_too(run, monkeypatch, template, new_place):
    name, port = make_url(new_place.owner).database, template.postgres.port
    run("access", "generate", str(new_place.secrets), "--postgres", f"127.0.0.1:{port}/{name}")
    monkeypatch.setenv("DATABASE_URL", new_place.owner)
    told = run("access", "apply", str(new_place.secrets), "--reason", "a test")
    assert told.status == 0, told.err
    assert told.out.splitlines()[0] == f"billing_application_{name} is new; it has the rights of application"
    again = run("access", "apply", str(new_place.secrets), "--reason", "a test", "--json").json
    assert [(each["kind"], each["new"]) for each in again] == [(kind, False) for kind in KINDS]
    audited = run("audit", "--json").json
    assert [(row["command"], row["about"], row["count"]) for row in audited] == 2 * [("access apply", name, len(KINDS))]
    assert {row["outcome"] for row in audited} == {"done"}


def test_logins_that_are_refused_leave_neither_logins_nor_a_fact(run, monkeypatch, template, new_place):
    name, port = make_url(new_place.owner).database, template.postgres.port
    run("access", "generate", str(new_place.secrets), "--postgres", f"127.0.0.1:{port}/{name}")
    # The last kind of all: the others come before it, in the same transaction.
    (new_place.secrets / f"{list(KINDS)[-1]}_database_url").unlink()
    monkeypatch.setenv("DATABASE_URL", new_place.owner)
    assert run("access", "apply", str(new_place.secrets), "--reason", "a test").status == 2
    assert run("audit", "--json").json == []
    with new_place.connect("owner") as connection:
        (logins,) = connection.execute(
            "SELECT count(*) FROM pg_roles WHERE rolname LIKE 'billing\\_%\\_' || current_database()"
        ).fetchone()
    assert logins == 0


def test_apply_without_what_it_needs_says_what_to_do(run, monkeypatch, template, new_place, tmp_path):
    monkeypatch.setenv("DATABASE_URL", new_place.owner)
    missing = run("access", "apply", str(tmp_path / "nowhere"), "--reason", "a test")
    assert missing.status == 2
    assert f"`billing access generate {tmp_path / 'nowhere'}` makes it" in missing.err
    run("access", "generate", str(new_place.secrets))
    other = run("access", "apply", str(new_place.secrets), "--reason", "a test")
    assert other.status == 2
    assert "leads to the database 'billing', and DATABASE_URL to 'access_" in other.err
    assert "make one directory for each database" in other.err
    (new_place.secrets / "application_database_url").chmod(0o600)
    (new_place.secrets / "application_database_url").write_text("no url")
    broken = run("access", "apply", str(new_place.secrets), "--reason", "a test")
    assert broken.status == 2
    assert "is not a URL; remove the file, and `billing access generate` makes a new one" in broken.err


def test_whoever_may_not_make_logins_is_told_so_in_one_line(run, monkeypatch, template, new_place):
    set_up(template, new_place.owner, new_place.secrets)
    monkeypatch.setenv("DATABASE_URL", (new_place.secrets / "operator_database_url").read_text())
    ran = run("access", "apply", str(new_place.secrets), "--reason", "a test")
    assert ran.status == 2
    assert ran.err.startswith("billing: DATABASE_URL: permission denied")
    assert ran.err.endswith("use a login with this right (docs/access.md)\n")


@pytest.mark.parametrize("name", S3_POLICIES)
def test_a_policy_is_printed_for_aws(billing, name):
    told = billing("access", "policy", name, "--bucket", "evidence")
    assert told.status == 0
    assert told.json["Version"] == "2012-10-17"
    assert "arn:aws:s3:::evidence" in told.out


def test_a_kind_without_s3_has_no_policy(billing):
    told = billing("access", "policy", "worker", "--bucket", "evidence")
    assert told.status == 2
    assert (
        "'worker' has no policy; choose one of: archiver, documents, holder, operator, raiser, reader, setup"
        in told.err
    )


def test_every_kind_that_goes_to_s3_has_keys(secrets):
    list(credentials.for_s3(secrets))
    known = json.loads((secrets / "s3.json").read_text())
    assert [each["name"] for each in known["identities"]] == list(S3_KINDS)
    assert all("actions" not in each for each in known["identities"])
    assert {policy["name"] for policy in known["policies"]} == set(S3_KINDS)
