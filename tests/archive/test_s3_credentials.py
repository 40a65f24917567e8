"""Keys that no setting has: AWS's SDK finds them, and fetches new ones before they end.

moto's IAM gives the keys, and its S3 checks every signature and session with them.
"""

import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from uuid import uuid4

import boto3
import pytest
from evidence import Archive
from http_server import HttpServer
from moto_server import REGION, MotoServer
from service import Service
from test_verification import verify

from archive.errors import StoreAway, StoreRefused
from archive.s3 import abilities
from archive.s3.store import Store

ANYTHING = json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]})
NOTHING = json.dumps({"Version": "2012-10-17", "Statement": []})


class Iam:
    """The administrator of the account, who gives keys and takes them away."""

    def __init__(self, moto: MotoServer) -> None:
        session = boto3.session.Session("AKADMIN", "x", region_name=REGION)
        self.client: Any = session.client("iam", endpoint_url=moto.url)
        self.user, self.role = f"user-{uuid4().hex}", f"role-{uuid4().hex}"
        self.client.create_user(UserName=self.user)
        self.client.put_user_policy(UserName=self.user, PolicyName="all", PolicyDocument=ANYTHING)
        made = self.client.create_role(RoleName=self.role, AssumeRolePolicyDocument=NOTHING)
        self.client.put_role_policy(RoleName=self.role, PolicyName="all", PolicyDocument=ANYTHING)
        self.arn: str = made["Role"]["Arn"]

    def key(self) -> tuple[str, str]:
        made = self.client.create_access_key(UserName=self.user)["AccessKey"]
        return made["AccessKeyId"], made["SecretAccessKey"]

    def take_away(self, key: tuple[str, str]) -> None:
        self.client.delete_access_key(UserName=self.user, AccessKeyId=key[0])


@pytest.fixture
def iam(moto: MotoServer) -> Iterator[Iam]:
    iam = Iam(moto)
    yield iam
    iam.client.close()


@pytest.fixture(autouse=True)
def profiles(monkeypatch: pytest.MonkeyPatch, moto: MotoServer, tmp_path: Path) -> Path:
    """A machine where the SDK finds nothing: this file of profiles is not there yet."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "profiles"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", moto.url)
    return tmp_path / "profiles"


@pytest.fixture
def opened(moto: MotoServer) -> Iterator[Callable[..., Store]]:
    """A bucket without keys of ours."""
    made = moto.store(f"test-{uuid4().hex}")
    made.set_up("test")
    stores = [made]

    def opened(**how: Any) -> Store:
        terms = {"endpoint": moto.url, "region": REGION, "access_key": None, "secret_key": None, **how}
        stores.append(Store(made.bucket, **terms))
        return stores[-1]

    yield opened
    for store in stores:
        store.close()


def write(store: Store) -> None:
    assert store.put_once(abilities.fresh_key(), b"", abilities.soon())


def test_where_the_sdk_finds_nothing_both_settings_are_named(opened: Callable[..., Store]) -> None:
    store = opened()
    with pytest.raises(
        StoreRefused, match=r"^BILLING_S3_ACCESS_KEY and BILLING_S3_SECRET_KEY: .* give this process a role"
    ):
        write(store)
    assert store.credentials() == "nowhere: AWS's SDK finds none"


def test_keys_of_a_profile_are_found(moto, iam, opened, profiles, monkeypatch) -> None:
    key = iam.key()
    profiles.write_text(f"[finance]\naws_access_key_id = {key[0]}\naws_secret_access_key = {key[1]}\n")
    monkeypatch.setenv("AWS_PROFILE", "finance")
    named = opened(profile="finance")
    with moto.checking_keys():
        write(opened())
        write(named)
        with pytest.raises(StoreRefused, match="SignatureDoesNotMatch"):
            write(opened(access_key=key[0], secret_key="another"))
    assert opened().credentials() == named.credentials() == "a profile (shared-credentials-file)"
    assert opened(access_key=key[0], secret_key=key[1]).credentials() == "the settings (explicit)"


def test_a_profile_that_is_not_there_is_said_in_one_line(opened, monkeypatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "finanec")
    with pytest.raises(
        StoreRefused, match=r"cannot use its own configuration \(ProfileNotFound\); correct AWS_PROFILE"
    ):
        opened()


def test_a_role_by_web_identity_is_assumed_and_its_session_is_used(
    moto, iam, opened, monkeypatch, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text("eyJhbGciOi.e30.c2ln")
    monkeypatch.setenv("AWS_ROLE_ARN", iam.arn)
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(tmp_path / "token"))
    monkeypatch.setenv("AWS_ROLE_SESSION_NAME", "archiver")
    store = opened()
    store.check("test")  # moto gives no session while it checks keys
    with moto.checking_keys():
        write(store)
    assert store.credentials() == "a role, by web identity (assume-role-with-web-identity)"
    (tmp_path / "token").unlink()
    with pytest.raises(StoreRefused, match=f"^AWS_WEB_IDENTITY_TOKEN_FILE: .*{tmp_path}/token: No such file"):
        write(opened())


def test_a_role_that_cannot_be_assumed_is_not_taken_for_a_refusal_of_s3(
    opened, s3, monkeypatch, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text("eyJhbGciOi.e30.c2ln")
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(tmp_path / "token"))
    monkeypatch.setenv("AWS_ROLE_ARN", "short")
    with pytest.raises(StoreRefused, match="correct AWS_PROFILE, AWS_ROLE_ARN and the file of profiles"):
        write(opened())
    monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/archiver")
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", s3.url)
    with pytest.raises((StoreRefused, StoreAway), match=r"^AWS_ROLE_ARN: .* cannot be assumed: STS answers \d\d\d "):
        write(opened())


# Keys of a container, which end.


@dataclass
class Container:
    """What a container's agent answers: keys that end in five minutes, so the SDK asks again before each request."""

    key: tuple[str, str]
    url: str = ""
    asked: list[str | None] = field(default_factory=list)
    ends: timedelta = timedelta(minutes=5)
    status: int = 200

    def answer(self, authorization: str | None) -> bytes:
        self.asked.append(authorization)
        ends = f"{datetime.now(UTC) + self.ends:%Y-%m-%dT%H:%M:%SZ}"
        told = {"AccessKeyId": self.key[0], "SecretAccessKey": self.key[1], "Token": "", "Expiration": ends}
        return json.dumps(told).encode()


@pytest.fixture
def container(iam: Iam, monkeypatch: pytest.MonkeyPatch) -> Iterator[Container]:
    container = Container(iam.key())

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = container.answer(self.headers.get("Authorization"))
            self.send_response(container.status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    server = HttpServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"http://127.0.0.1:{server.server_port}/keys")
    monkeypatch.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN", "of-this-container")
    yield container
    server.shutdown()
    thread.join()
    server.server_close()


def test_keys_that_end_are_fetched_anew_while_an_archiver_runs(
    moto: MotoServer, iam: Iam, container: Container, service: Service, opened: Callable[..., Store], tmp_path: Path
) -> None:
    theirs = moto.store("ready")
    archive = Archive(service, moto, theirs, tmp_path / "caches")
    store = opened()
    store.bucket = archive.bucket
    archive.tell("capture.requested", at="'2026-11-02 10:00+00'", minor=1999, currency="USD")
    with moto.checking_keys():
        assert archive.round(store) == 1
    assert store.credentials() == "the role of this container (container-role)"
    assert set(container.asked) == {"of-this-container"}
    first, container.key = container.key, iam.key()
    iam.take_away(first)
    archive.tell("capture.captured", at="'2026-11-02 11:00+00'", minor=1999, currency="USD")
    with moto.checking_keys():
        with pytest.raises(StoreRefused, match="InvalidAccessKeyId"):
            write(opened(access_key=first[0], secret_key=first[1]))
        assert archive.round(store) == 1
    verified = verify(archive)
    assert (verified.told, verified.counts.facts) == ([], 2)
    archive.close()
    theirs.close()


def test_an_agent_that_gives_no_keys_is_waited_for(container: Container, opened: Callable[..., Store]) -> None:
    container.status = 500
    with pytest.raises(StoreAway, match="neither is set, and the role that AWS's SDK finds gives no keys now"):
        write(opened())


def test_keys_that_have_ended_already_point_to_the_clock(container: Container, opened: Callable[..., Store]) -> None:
    store = opened()
    write(store)
    container.ends = -timedelta(hours=1)
    with pytest.raises(StoreAway, match="gives keys that have ended; check the clock"):
        write(store)


# Where a request names the bucket.


@pytest.mark.parametrize(
    ("endpoint", "addressing", "url"),
    [
        ("https://s3.other.example", "auto", "https://s3.other.example/evidence/x"),
        ("https://s3.other.example", "path", "https://s3.other.example/evidence/x"),
        ("https://s3.other.example", "virtual", "https://evidence.s3.other.example/x"),
        (None, "auto", "https://evidence.s3.amazonaws.com/x"),
        (None, "path", "https://s3.eu-central-1.amazonaws.com/evidence/x"),
    ],
)
def test_a_request_names_the_bucket_in_its_path_or_in_its_host(endpoint, addressing, url) -> None:
    keys = {"access_key": "AK1", "secret_key": "x"}
    store = Store("evidence", endpoint=endpoint, region="eu-central-1", addressing=addressing, **keys)
    signed = store.client.generate_presigned_url("get_object", Params={"Bucket": "evidence", "Key": "x"})
    assert signed.partition("?")[0] == url
    store.close()


def test_a_bucket_in_the_host_is_reached(moto: MotoServer, opened: Callable[..., Store], monkeypatch) -> None:
    """moto finds the bucket in the host. No name server knows these hosts."""
    real = socket.getaddrinfo

    def resolved(host: Any, *rest: Any, **more: Any) -> Any:
        return real("127.0.0.1" if str(host).endswith(".s3.test") else host, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", resolved)
    store = opened(endpoint=f"http://s3.test:{moto.port}", addressing="virtual", access_key="AK1", secret_key="x")
    key = abilities.fresh_key()
    assert store.put_once(key, b"evidence", abilities.soon())
    assert moto.store(store.bucket).get(key).body == b"evidence"
