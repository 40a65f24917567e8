"""What a bucket does is tried before a fact is written: by `archive setup`, an archiver that starts, and the doctor."""

from typing import Any
from uuid import uuid4

import pytest

from archive.s3 import store as store_room
from archive.s3.connection import Connection


def parts(ran) -> dict[str, tuple[str, str, str]]:
    return {each["part"]: (each["level"], each["message"], each["fix"]) for each in ran.json}


@pytest.fixture
def on_moto(settings, moto, monkeypatch) -> str:
    """A bucket that is not there yet, on a server that holds no evidence."""
    name = f"test-{uuid4().hex}"
    more = {
        "S3_ENDPOINT_URL": moto.url,
        "BILLING_S3_ACCESS_KEY": moto.access_key,
        "BILLING_S3_SECRET_KEY": moto.secret_key,
        "BILLING_ARCHIVE_BUCKET": name,
        "BILLING_ARCHIVE_WAIT_S": "0",
    }
    for variable, value in more.items():
        monkeypatch.setenv(variable, value)
    return name


def test_a_server_that_holds_evidence_is_ok_in_every_line(run, made):
    assert run("archive", "setup", "--reason", "OPS-7").out == f"{made} exists, with Object Lock, for test\n"
    told = parts(run("doctor", "--json"))
    assert told["bucket"][:2] == ("ok", f"{made}, for test; keys from the settings (explicit)")
    assert told["bucket's lock"][0] == "ok"


def test_setup_and_doctor_name_what_a_server_does_not_do_and_end_with_1(run, on_moto):
    ran = run("archive", "setup", "--reason", "OPS-7", "--json")
    assert ran.status == 1
    lacks = {lack["ability"]: (lack["needed"], lack["found"]) for lack in ran.json["lacks"]}
    assert lacks["lasting lock"] == (True, "a COMPLIANCE lock was shortened")
    assert lacks["checksum"][0] is False
    told = run("archive", "setup", "--reason", "OPS-7")
    assert told.status == 1
    assert "FAIL  lasting lock: a COMPLIANCE lock was shortened -> nobody may shorten a lock" in told.out
    assert "WARN  checksum: " in told.out
    ran = run("doctor", "--json")
    assert ran.status == 1
    assert parts(ran)["bucket's lasting lock"][0] == "fail"
    assert parts(ran)["bucket's checksum"][0] == "warn"
    assert "bucket's lock" not in parts(ran)


def test_an_archiver_writes_no_fact_to_a_bucket_without_conditional_put(
    run, service, made, taken, administrator, monkeypatch
):
    class Ignored(Connection):
        """As if the server did not read the condition."""

        def __init__(self, **terms: Any) -> None:
            super().__init__(**terms)
            self.client.meta.events.register("before-call.s3.PutObject", self._change)

        def _change(self, params: dict[str, Any], **_: Any) -> None:
            params["headers"].pop("If-None-Match", None)

    monkeypatch.setattr(store_room, "Connection", Ignored)
    refused = run("archive", "run", "--once")
    assert refused.status == 2
    assert refused.err.startswith(
        f"billing: BILLING_ARCHIVE_BUCKET: {made} cannot hold evidence: conditional put: an object was put twice under"
        " one key -> it must honor If-None-Match: *"
    )
    assert len(refused.err.splitlines()) == 1
    there = administrator.list_object_versions(Bucket=made)["Versions"]
    assert {version["Key"].partition("/")[0] for version in there} == {"probes"}
    assert run("archive", "status", "--json").json["lag"]["waiting"] > 0
    monkeypatch.undo()


def test_the_doctor_says_how_the_keys_were_found_and_shows_none(run, made, s3, monkeypatch, tmp_path):
    (tmp_path / "profiles").write_text(
        f"[on-call]\naws_access_key_id = {s3.access_key}\naws_secret_access_key = {s3.secret_key}\n"
    )
    for variable in ("BILLING_S3_ACCESS_KEY", "BILLING_S3_SECRET_KEY"):
        monkeypatch.delenv(variable)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "profiles"))
    monkeypatch.setenv("AWS_PROFILE", "on-call")
    ran = run("doctor", "--json")
    assert parts(ran)["bucket"][1].endswith("; keys from a profile (shared-credentials-file)")
    assert s3.access_key not in ran.out
    assert s3.secret_key not in ran.out
