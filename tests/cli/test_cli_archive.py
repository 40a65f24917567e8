"""`billing archive`: the bucket is set up, facts are archived, finance asks, and what is wrong is said in one line."""

import csv
import io
import itertools
import json
import re
import shlex
import signal
import stat
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import boto3
import pytest
from cases import case
from service import eventually

from archive import queries
from archive.s3.store import Store
from jobs.cli import archive_verify, output
from jobs.local.supervisor import Supervisor


def parts(ran) -> dict[str, tuple[str, str]]:
    return {finding["part"]: (finding["level"], finding["message"]) for finding in ran.json}


def test_from_an_empty_bucket_to_an_answer(run, run_apart, service, bucket, taken):
    today = datetime.now(UTC).date()
    assert run("archive", "setup", "--reason", "a test").out == f"{bucket} was made, with Object Lock, for test\n"
    again = run("archive", "setup", "--reason", "a test", "--json").json
    assert again == {"bucket": bucket, "environment": "test", "made": False, "lacks": []}
    # Two of the facts are about the bucket itself.
    service.plan()
    assert run("archive", "status").out.startswith("5 facts wait to be archived, the oldest for ")
    assert run_apart("archive", "run", "--once", "--json").json == {"archived": 5}
    told = run("archive", "status", "--json").json
    assert told["lag"] == {"waiting": 0, "oldest_age_s": 0.0, "unplanned": 0}
    heads = {each["retention_class"]: each["head"] for each in told["classes"]}
    # No invoice was asked for yesterday: a manifest says so.
    assert heads.keys() == {"admin", "attempt", "capture", "invoice"}
    answer = run("archive", "query", "captures_by_day", "--json").json
    assert answer["rows"] == [{"day": str(today), "account": "own", "currency": "USD", "captures": 1, "minor": 1999}]
    assert [(read["retention_class"], read["head"]) for read in answer["evidence"]] == [("capture", heads["capture"])]
    as_csv = run("archive", "query", "captures_by_day", "--csv", "--since", str(today))
    assert list(csv.reader(io.StringIO(as_csv.out))) == [
        ["day", "account", "currency", "captures", "minor", "amount"],
        [str(today), "own", "USD", "1", "1999", "19.99"],
    ]
    assert f"head {heads['capture']}" in as_csv.err
    assert run("archive", "query", "captures_by_day", "--until", str(today), "--csv").out.count("\n") == 1
    assert "provider success" in run("archive", "query", "duplicate_proof").out
    verified = run("archive", "verify")
    assert verified.out.splitlines()[0] == "5 facts in 3 objects agree with their manifests and Postgres"
    assert verified.out.splitlines()[1].startswith("NOT SEEN If the newest batches were cut off")
    assert verified.err == ""


FIRST = "manifests/v1/capture/000000000001.json"


def test_verify_names_what_differs_and_ends_with_1(run, service, bucket, made, taken, administrator):
    run("archive", "run", "--once")
    before = run("archive", "verify", "--json").json
    heads = {each["retention_class"]: each["head"] for each in run("archive", "status", "--json").json["classes"]}
    assert before == {
        "facts": 3,
        "objects": 2,
        "unfinished": 0,
        "documents": 0,
        "disposed": [],
        "from_cache": False,
        "signed": {},
        "unsigned": 4,
        "differences": [],
        "differences_left_out": 0,
        "heads": [
            {"retention_class": name, "number": 1, "head": heads[name]}
            for name in ("attempt", "capture", "invoice", "admin")
        ],
        "cannot_see": before["cannot_see"],
    }
    assert "only a head that was stored elsewhere shows it" in before["cannot_see"][0]
    service.execute("UPDATE billing.archive_batches SET manifest_sha256 = 'x' WHERE class = 'capture'")
    version = administrator.head_object(Bucket=bucket, Key=FIRST)["VersionId"]
    ran = run("archive", "verify", "--json")
    assert ran.status == 1
    assert ran.json["differences"] == [
        {
            "key": FIRST,
            "version": version,
            "expected": "as Postgres says digest x",
            "found": f"digest {heads['capture']}",
        }
    ]
    ran = run("archive", "verify")
    assert ran.status == 1
    assert ran.out.splitlines()[:2] == [
        f"DIFFERS {FIRST} (version {version}): expected as Postgres says digest x; found digest {heads['capture']}",
        "1 difference; 3 facts in 2 objects were checked",
    ]


def test_verify_asks_s3_and_from_cache_asks_the_copies(run, bucket, made, taken, administrator):
    run("archive", "run", "--once")
    quick = run("archive", "verify", "--from-cache")
    assert (quick.status, quick.out.splitlines()[0]) == (0, run("archive", "verify").out.splitlines()[0])
    for version in administrator.list_object_versions(Bucket=bucket, Prefix="v1/class=capture/")["Versions"]:
        administrator.delete_object(
            Bucket=bucket, Key=version["Key"], VersionId=version["VersionId"], BypassGovernanceRetention=True
        )
    ran = run("archive", "verify")
    assert ran.status == 1
    assert "found no such version" in ran.out
    quick = run("archive", "verify", "--from-cache", "--json")
    assert quick.status == 0
    assert quick.json["from_cache"]
    assert "With --from-cache: " in quick.json["cannot_see"][-1]


def test_verify_compares_with_heads_that_were_kept_elsewhere(run, made, taken):
    run("archive", "run", "--once")
    told = run("archive", "status", "--json").json["classes"]
    kept = [f"--expect-head={each['retention_class']}={each['head'].upper()}" for each in told]
    for form in ((), ("--from-cache",)):
        ran = run("archive", "verify", *form, *kept)
        assert ran.status == 0
        assert "after the stored heads (attempt 1, capture 1, invoice 1, admin 1)" in ran.out
        ran = run("archive", "verify", *form, *kept, f"--expect-head=capture={'0' * 64}")
        assert ran.status == 1
        assert f"expected a manifest with digest {'0' * 64}, the head that was stored; found 1 manifests" in ran.out


def test_a_head_that_is_none_is_refused(run, bucket):
    for head in ("capture", "capture=", "capture=abc", f"refund={'0' * 64}", f"capture={'g' * 64}"):
        with case(head):
            ran = run("archive", "verify", "--expect-head", head)
            assert ran.status == 2
            assert "write CLASS=DIGEST" in ran.err


def test_verify_ends_with_2_where_it_cannot_ask(run, made, monkeypatch):
    monkeypatch.setenv("DATABASE_URL", "postgresql://nobody@127.0.0.1:1/none")
    assert run("archive", "verify").status == 2


def test_verify_names_a_bounded_number_of_differences_in_json(run, bucket, made, administrator, monkeypatch):
    monkeypatch.setattr(archive_verify, "MOST_IN_JSON", 2)
    for n in range(3):
        administrator.put_object(Bucket=bucket, Key=f"stray-{n}", Body=b"")
    told = run("archive", "verify", "--json").json
    assert [each["key"] for each in told["differences"]] == ["stray-0", "stray-1"]
    assert told["differences_left_out"] == 1


def test_verify_says_how_far_it_is_on_standard_error(run, made, taken, monkeypatch):
    monkeypatch.setattr(output, "PROGRESS_S", 0.0)
    run("archive", "run", "--once")
    told = run("archive", "verify", "--json").err.splitlines()
    classes = [f"{name}: 1 batches checked" for name in ("attempt", "capture", "invoice", "admin")]
    assert told == ["7 versions listed", *classes]


SETUP = ("setup", "--reason", "a test")


@pytest.mark.parametrize(
    ("arguments", "variable", "value", "told"),
    [
        (SETUP, "BILLING_ARCHIVE_BUCKET", "", "BILLING_ARCHIVE_BUCKET is not set"),
        (SETUP, "BILLING_S3_SECRET_KEY", "", "BILLING_S3_SECRET_KEY is not set, and BILLING_S3_ACCESS_KEY is"),
        (SETUP, "S3_ENDPOINT_URL", "http://127.0.0.1:1", "S3 cannot be reached"),
        (("query", "captures_by_day"), "", "", "run `billing archive setup`"),
        (("run",), "", "", "run `billing archive setup`"),
        (("run",), "BILLING_ARCHIVE_RETENTION", "/nowhere.toml", "BILLING_ARCHIVE_RETENTION names the retention file"),
    ],
)
def test_what_is_missing_is_said_in_one_line_with_status_2(
    run, run_apart, bucket, monkeypatch, arguments, variable, value, told
):
    if variable:
        monkeypatch.setenv(variable, value)
    ran = (run_apart if arguments == ("run",) else run)("archive", *arguments)
    assert ran.status == 2
    assert told in ran.err
    assert len(ran.err.splitlines()) == 1


NO_QUESTIONS = [
    (("nothing",), "not a query; choose one of"),
    ((), "--list shows all"),
    (("captures_by_day", "--tz", "Berlin"), "is no time zone; write one like Europe/Berlin"),
    (("captures_by_day", "--set", "colour=red"), "no parameter colour here; it takes: since, until, tz"),
    (("captures_by_day", "--set", "colour"), "write NAME=VALUE"),
    (("captures_by_day", "--csv", "--json"), "choose one of --json and --csv"),
    (("captures_by_day", "--xlsx", "nowhere/november.xlsx"), "--xlsx nowhere/november.xlsx: No such file"),
    (("captures_by_day", "--since", "yesterday"), "is not a time"),
    (("captures_by_day", "--since", "2026-11-02", "--until", "2026-11-01"), "is not before"),
]


def test_a_question_that_is_none_is_refused(run, made):
    for arguments, told in NO_QUESTIONS:
        with case(*arguments):
            ran = run("archive", "query", *arguments)
            assert ran.status == 2
            assert told in " ".join(ran.err.replace("│", "").split())


def test_a_fact_that_cannot_be_archived_is_named_by_status_and_doctor(run, run_apart, service, made, taken):
    for check in service.checks_of("facts"):
        service.execute(f'ALTER TABLE billing.facts DROP CONSTRAINT "{check}"')
    assert run("archive", "status", "--json").json["set_aside"] == {"count": 0, "facts": []}
    assert parts(run("doctor", "--json"))["facts not archived"] == ("ok", "none")
    service.execute("UPDATE billing.facts SET payload = '[]' WHERE topic = 'capture.attempted'")
    ran = run_apart("archive", "run", "--once", "--json")
    assert ran.json == {"archived": 2}
    (line,) = [json.loads(line) for line in ran.err.splitlines() if "fact.set_aside" in line]
    (fact,) = run("archive", "status", "--json").json["set_aside"]["facts"]
    assert fact == {"fact_id": line["fact_id"], "topic": "capture.attempted", "why": "payload_not_an_object"}
    assert "its payload is not a JSON object" in run("archive", "status").out
    level, told = parts(run("doctor", "--json"))["facts not archived"]
    assert level == "warn"
    assert told.endswith(f": fact {fact['fact_id']}: its payload is not a JSON object")
    # Said once, and tried again as soon as its row is mended.
    assert "fact.set_aside" not in run_apart("archive", "run", "--once").err
    service.execute("UPDATE billing.facts SET payload = '{}' WHERE topic = 'capture.attempted'")
    assert "mended" in run("archive", "status").out
    assert run_apart("archive", "run", "--once", "--json").json == {"archived": 1}
    assert run("archive", "status", "--json").json["set_aside"]["count"] == 0


def test_once_archives_everything_else_before_it_says_that_a_class_stands_still(
    run, run_apart, service, bucket, made, s3
):
    client = boto3.session.Session(s3.access_key, s3.secret_key, region_name="us-east-1").client(
        "s3", endpoint_url=s3.url
    )
    client.put_object(Bucket=bucket, Key="manifests/v1/capture/000000000001.json", Body=b"{}")
    client.close()
    service.execute(
        "INSERT INTO billing.facts (topic, entity_type, entity_id, entity_version, actor, payload,"
        " planned_version, happened_at)"
        " SELECT entity || '.refused', entity, entity || n, 1, 'billing', '{}', 1, now() - n * interval '1 day'"
        "  FROM generate_series(1, 3) AS n, unnest(ARRAY['capture', 'invoice']) AS entity"
    )
    ran = run_apart("archive", "run", "--once")
    assert ran.status == 2
    assert "manifests/v1/capture/000000000001.json" in ran.err
    archived = {each["retention_class"]: each["archived_facts"] for each in told_classes(run)}
    assert archived == {"admin": 0, "attempt": 0, "capture": 0, "invoice": 3}


def told_classes(run) -> list[dict[str, Any]]:
    classes: list[dict[str, Any]] = run("archive", "status", "--json").json["classes"]
    return classes


def test_a_bucket_of_another_environment_is_refused(run, made, monkeypatch):
    """[39]"""
    monkeypatch.setenv("BILLING_ENVIRONMENT", "development")
    ran = run("archive", "query", "captures_by_day")
    assert ran.status == 2
    assert "belongs to environment 'test'" in ran.err


def test_a_bucket_is_recorded_before_it_is_made_and_not_where_nothing_is_missing(run, bucket):
    for _ in range(2):
        assert run("archive", "setup", "--reason", "OPS-7", "--actor", "grace").status == 0
    (command,) = run("audit", "--json").json
    assert (command["actor"], command["reason"], command["command"]) == ("grace", "OPS-7", "archive setup")
    assert (command["about"], command["count"], command["outcome"], command["error"]) == (bucket, 1, "done", None)
    assert command["at"] < command["ended_at"]


def test_a_bucket_of_another_environment_is_not_set_up_and_that_is_recorded(run, bucket, s3):
    others = Store(bucket, endpoint=s3.url, region="us-east-1", access_key=s3.access_key, secret_key=s3.secret_key)
    others.set_up("staging")
    others.close()
    ran = run("archive", "setup", "--reason", "OPS-7")
    assert ran.status == 2
    assert "belongs to environment 'staging'" in ran.err
    (command,) = run("audit", "--json").json
    assert (command["outcome"], command["error"]) == ("failed", "WrongBucket")


def test_a_bucket_without_object_lock_is_refused(run, bucket, s3):
    client = boto3.session.Session(s3.access_key, s3.secret_key, region_name="us-east-1").client(
        "s3", endpoint_url=s3.url
    )
    client.create_bucket(Bucket=bucket)
    client.close()
    ran = run("archive", "setup", "--reason", "a test")
    assert ran.status == 2
    assert "was made without Object Lock" in ran.err


def test_an_archiver_beats_archives_and_ends_with_0(run, made, service, settings):
    with Supervisor() as supervisor:
        archiver = supervisor.spawn("archiver", [sys.executable, "-m", "jobs.cli", "archive", "run"])
        eventually(lambda: run("health", "archiver").status == 0, "it beats")
        service.settle(service.ask_for_capture())
        service.plan()
        eventually(lambda: run("archive", "status", "--json").json["lag"]["waiting"] == 0, "all is archived")
        archiver.send(signal.SIGTERM)
        assert archiver.wait() == 0
        assert run("health", "archiver").status == 1


def test_the_doctor_probes_the_lock_and_tells_the_lag(run, bucket, service, request):
    assert parts(run("doctor", "--json"))["bucket"][0] == "fail"
    request.getfixturevalue("made")
    for _ in range(2):
        told = parts(run("doctor", "--json"))
        assert told["bucket"] == ("ok", f"{bucket}, for test; keys from the settings (explicit)")
        assert told["bucket's lock"][0] == "ok"
        assert told["retention"][0] == "ok"
        assert told["archive"] == ("ok", "everything is archived")
    service.ask_for_capture()
    service.plan()
    service.execute("UPDATE billing.facts SET happened_at = happened_at - interval '1 hour'")
    assert parts(run("doctor", "--json"))["archive"][0] == "warn"


def test_the_doctor_says_so_when_the_lock_is_not_enforced(run, bucket, made, monkeypatch):
    """Our server enforces it, so one that does not is played: its deletions bypass the lock."""
    import botocore.client

    honest = botocore.client.BaseClient._make_api_call

    def lax(client, operation, arguments):
        more = {"BypassGovernanceRetention": True} if operation == "DeleteObject" else {}
        return honest(client, operation, {**arguments, **more})

    monkeypatch.setattr(botocore.client.BaseClient, "_make_api_call", lax)
    ran = run("doctor", "--json")
    assert parts(ran)["bucket's locked versions"] == ("fail", "a version with a GOVERNANCE lock was deleted")
    assert ran.status == 1


def test_without_keys_of_ours_the_sdk_s_own_are_used(run, bucket, s3, monkeypatch):
    """A role, a profile or its own variables: here those."""
    monkeypatch.delenv("BILLING_S3_ACCESS_KEY")
    monkeypatch.delenv("BILLING_S3_SECRET_KEY")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3.secret_key)
    assert run("archive", "setup", "--reason", "a test").out == f"{bucket} was made, with Object Lock, for test\n"


def test_without_any_keys_both_settings_are_named(run, bucket, monkeypatch, tmp_path):
    for name in ("BILLING_S3_ACCESS_KEY", "BILLING_S3_SECRET_KEY", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    ran = run("archive", "setup", "--reason", "a test")
    assert ran.status == 2
    assert ran.err.startswith("billing: BILLING_S3_ACCESS_KEY and BILLING_S3_SECRET_KEY: ")
    assert "neither is set, and AWS's SDK finds none" in ran.err


@pytest.mark.parametrize("name", ["BILLING_S3_ACCESS_KEY", "BILLING_S3_SECRET_KEY"])
def test_a_wrong_key_is_named_by_the_settings_of_the_keys_and_not_by_the_endpoint(run, bucket, monkeypatch, name):
    monkeypatch.setenv(name, "canary")
    ran = run("archive", "setup", "--reason", "a test")
    assert ran.status == 2
    assert ran.err.startswith("billing: BILLING_S3_ACCESS_KEY and BILLING_S3_SECRET_KEY: ")
    assert "S3 answers 403 " in ran.err
    assert "canary" not in ran.err


def test_keys_are_taken_without_the_newline_of_the_place_where_they_lie(run, bucket, s3, monkeypatch):
    monkeypatch.setenv("THE_ACCESS_KEY", f"{s3.access_key}\n")
    monkeypatch.setenv("THE_SECRET_KEY", f' "{s3.secret_key}"\r\n')
    monkeypatch.setenv("BILLING_S3_ACCESS_KEY", "env:THE_ACCESS_KEY")
    monkeypatch.setenv("BILLING_S3_SECRET_KEY", "env:THE_SECRET_KEY")
    monkeypatch.setenv("S3_ENDPOINT_URL", f"{s3.url}/")
    assert run("archive", "setup", "--reason", "a test").out == f"{bucket} was made, with Object Lock, for test\n"


def test_a_key_that_no_header_can_carry_is_refused_by_its_name(run, bucket, monkeypatch):
    monkeypatch.setenv("BILLING_S3_ACCESS_KEY", "cänary")
    ran = run("archive", "setup", "--reason", "a test")
    assert ran.status == 2
    assert ran.err == (
        "billing: BILLING_S3_ACCESS_KEY: not an S3 key; those have only ASCII letters, digits and signs\n"
    )


def test_the_pages_for_finance_run_from_their_first_command_to_their_last(
    run, run_apart, made, taken, tmp_path, monkeypatch
):
    """docs/finance: each command is taken from the page, and each file that it names is written."""
    run_apart("archive", "run", "--once")
    monkeypatch.chdir(tmp_path)
    pages = Path(__file__).parents[2] / "docs" / "finance"
    texts = [(pages / f"{name}.md").read_text() for name in ("queries", "pictures")]
    of_each = [re.findall(r"^\$ billing (.*)$", text, re.MULTILINE) for text in texts]
    assert list(map(len, of_each)) == [11, 4]
    for command in itertools.chain(*of_each):
        ran = run(*shlex.split(command))
        assert (ran.status, bool(ran.out)) == (0, True), f"{command}: {ran.err}"
    written = {"november.source.json", "november.xlsx", "november.parquet", "november.png", "latency.svg", "doubt.png"}
    assert written <= {path.name for path in tmp_path.iterdir()}
    source = json.loads((tmp_path / "november.source.json").read_text())
    assert source["evidence"][0]["facts"] == 2
    most = "SELECT currency, max(minor) AS minor FROM facts WHERE minor IS NOT NULL GROUP BY ALL"
    assert run("archive", "sql", most, "--csv").out.splitlines() == ["currency,minor,amount", "USD,1999,19.99"]


def test_the_list_of_queries_says_what_each_answers_and_a_description_what_it_returns(run):
    """Without a bucket, a database or settings."""
    listed = {each["name"]: each for each in run("archive", "query", "--list", "--json").json}
    assert sorted(listed) == queries.NAMES
    assert listed["captures_by_day"] == run("archive", "query", "captures_by_day", "--describe", "--json").json
    told = " ".join(run("archive", "query", "captures_by_day", "--describe").out.split())
    assert "What was captured, by local day" in told
    assert "--tz the time zone of days and times Europe/Berlin" in told
    assert "minor money minor units, as a whole number" in told
    assert "captures_by_day" in run("archive", "query", "--list").out


REFUSED_SQL = [
    (("SELECT 1; SELECT 2",), "it holds 2 statements; write one SELECT"),
    (("DROP VIEW facts",), "DROP is not allowed; write one SELECT"),
    (("SELECT * FROM read_text('/etc/passwd')",), "it may read the views facts and batches, and no file"),
    (("SELECT nothing FROM facts",), 'Referenced column "nothing" not found'),
    (("SELECT 1", "--class", "refund"), "--class 'refund' is no class; there are: attempt, capture"),
    (("SELECT 1", "--since", "yesterday"), "--since 'yesterday' is not a time"),
]


def test_sql_that_cannot_be_run_is_refused_in_one_line(run, made):
    for arguments, told in REFUSED_SQL:
        with case(*arguments):
            ran = run("archive", "sql", *arguments)
            assert (ran.status, ran.out) == (2, "")
            assert told in ran.err
            assert len(ran.err.splitlines()) == 1


def test_manifests_are_signed_with_a_key_that_a_command_makes(
    run, run_apart, made, taken, service, monkeypatch, tmp_path
):
    """From no key to a verified signature, with what the commands say on the way."""
    run("archive", "run", "--once")
    unsigned = "manifests are not signed"
    assert unsigned in run("archive", "status").out
    assert unsigned in parts(run("doctor", "--json"))["signatures"][1]
    assert unsigned in run("archive", "keys").out
    file = tmp_path / "signing_key.pem"
    new = run("archive", "key", "new", str(file), "--reason", "OPS-9", "--json").json
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    again = run("archive", "key", "new", str(file), "--reason", "OPS-9")
    assert (again.status, again.err) == (
        2,
        f"billing: {file} exists, and a key is never overwritten; name another file\n",
    )
    (command,) = run("audit", "--json").json
    told = (command["command"], command["about"], command["reason"], command["outcome"])
    assert told == ("archive key new", f"key_{new['key_id']}", "OPS-9", "done")
    monkeypatch.setenv("BILLING_SIGNING_KEY", f"file:{file}")
    service.plan()
    assert run_apart("archive", "run", "--once", "--json").json == {"archived": 2}
    told = run("archive", "status", "--json").json["classes"]
    assert {each["retention_class"]: each["key_id"] for each in told}["admin"] == new["key_id"]
    told = run("archive", "keys", "--json").json
    assert told["public_keys"] == {new["key_id"]: new["public_key"]}
    assert [(use["key_id"], use["retention_class"], use["first"]) for use in told["used"]] == [
        (new["key_id"], "admin", 2)
    ]
    assert new["public_key"].splitlines()[1] in run("archive", "keys").out
    verified = run("archive", "verify", "--expect-key", new["key_id"].upper())
    assert verified.status == 0
    assert f"1 manifest is signed by key {new['key_id']}\n" in verified.out
    assert "NOT SEEN 4 manifests are not signed" in verified.out
    assert "NOT SEEN The keys come from the bucket" in run("archive", "verify").out
    for form in ((), ("--from-cache",)):
        other = run("archive", "verify", *form, "--expect-key", "0" * 16)
        assert other.status == 1
        assert f"a signature by key {new['key_id']}, which is not one of the expected keys" in other.out


@pytest.mark.parametrize("key_id", ["", "5c9a", "g" * 16])
def test_a_key_id_that_is_none_is_refused(run, bucket, key_id):
    ran = run("archive", "verify", "--expect-key", key_id)
    assert ran.status == 2
    assert "16 hexadecimal digits" in " ".join(ran.err.replace("│", "").split())


def test_a_signing_key_that_is_none_is_refused_in_one_line_that_does_not_show_it(
    run_apart, made, monkeypatch, tmp_path
):
    file = tmp_path / "key.pem"
    file.write_text("canary")
    file.chmod(0o600)
    monkeypatch.setenv("BILLING_SIGNING_KEY", f"file:{file}")
    ran = run_apart("archive", "run", "--once")
    assert ran.status == 2
    assert ran.err.startswith("billing: BILLING_SIGNING_KEY: not a private key in PEM without a passphrase")
    assert "canary" not in ran.err


def test_heads_are_published_and_expected_by_verify(run, run_apart, made, taken, moto, monkeypatch, tmp_path):
    """To a bucket of another provider, and to a directory; what fails is named by status and doctor."""
    assert "published nowhere but in Postgres" in parts(run("doctor", "--json"))["heads"][1]
    monkeypatch.setenv("BILLING_HEADS_ENDPOINT_URL", moto.url)
    monkeypatch.setenv("BILLING_HEADS_REGION", "eu-west-1")
    for name, key in {"ACCESS": moto.access_key, "SECRET": moto.secret_key}.items():
        file = tmp_path / name
        file.write_text(key)
        file.chmod(0o600)
        monkeypatch.setenv(f"BILLING_HEADS_{name}_KEY", f"file:{file}")
    monkeypatch.setenv("BILLING_HEADS_BUCKET", second := f"second-{uuid4().hex}")
    monkeypatch.setenv("BILLING_HEADS_DIRECTORY", str(tmp_path / "heads"))
    (tmp_path / "heads").mkdir()
    assert run_apart("archive", "run", "--once").status == 0
    told = {each["place"]: each for each in run("archive", "status", "--json").json["published"]}
    assert (told["directory"]["behind"], told["bucket"]["behind"]) == (0, 1)
    assert "NoSuchBucket" in told["bucket"]["problem"]
    level, message = parts(run("doctor", "--json"))["heads"]
    assert level == "warn"
    assert message.startswith("bucket: 1 missing (BILLING_HEADS_ENDPOINT_URL: heads/test/")
    store = Store(second, endpoint=moto.url, region="eu-west-1", access_key=moto.access_key, secret_key=moto.secret_key)
    store.set_up("test")
    store.close()
    assert run_apart("archive", "run", "--once").status == 0
    assert "heads published" in run("archive", "status").out
    assert parts(run("doctor", "--json"))["heads"][0] == "ok"
    ran = run("archive", "verify", "--expect-heads", str(tmp_path / "heads"))
    assert (ran.status, "after the stored heads (attempt 1, capture 1, invoice 1, admin 1)" in ran.out) == (0, True)
    (file,) = (tmp_path / "heads").iterdir()
    document = json.loads(file.read_text())
    document["heads"]["capture"][1] = "0" * 64
    file.write_text(json.dumps(document, sort_keys=True, separators=(",", ":")) + "\n")
    for form in ((), ("--from-cache",)):
        ran = run("archive", "verify", *form, "--expect-heads", str(file))
        assert ran.status == 1
        assert f"expected a manifest with digest {'0' * 64}, the head of {document['date']} in {file}" in ran.out
    ran = run("archive", "verify", "--expect-heads", str(tmp_path / "nothing"))
    assert (ran.status, "name a file or a directory of published heads" in ran.err) == (2, True)
