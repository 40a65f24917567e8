"""Who may do what in S3: the policies that are written for AWS, enforced by a real server with Object Lock."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from archive.s3 import abilities
from archive.s3.store import Store
from jobs.access import credentials
from jobs.access.kinds import S3_KINDS, S3_POLICIES, s3_policy
from jobs.local.seaweed import REGION, SeaweedFS
from jobs.local.supervisor import Supervisor

BUCKET = "evidence"
Call = Callable[[Any, "Bucket"], object]


@dataclass
class Bucket:
    """What lies there: a locked object, and one that is not, in both places. Anew for every try."""

    locked: str
    loose: str
    probe: str


@dataclass(frozen=True)
class Try:
    what: str
    call: Call
    may: frozenset[str]


def one(what: str, call: Call, may: str = "") -> Try:
    return Try(what, call, frozenset(may.split()))


def soon(seconds: int = 60) -> datetime:
    return datetime.now(UTC) + timedelta(seconds=seconds)


LOCK = {"ObjectLockMode": "GOVERNANCE", "ObjectLockRetainUntilDate": soon(3600)}
HERE = {"Bucket": BUCKET}
READERS = "archiver reader operator holder raiser"
RULES = "setup operator"

TRIES = [
    one("read an object", lambda s3, b: s3.get_object(**HERE, Key="locked"), READERS),
    one(
        "read a version",
        lambda s3, b: s3.get_object(**HERE, Key="locked", VersionId=b.locked),
        READERS,
    ),
    one("read a lock", lambda s3, b: s3.get_object_retention(**HERE, Key="locked"), READERS),
    one(
        "read a version's lock",
        lambda s3, b: s3.get_object_retention(**HERE, Key="locked", VersionId=b.locked),
        READERS,
    ),
    one("list objects", lambda s3, b: s3.list_objects_v2(**HERE), READERS),
    one("list versions", lambda s3, b: s3.list_object_versions(**HERE), "setup reader operator"),
    one("read the bucket's tag", lambda s3, b: s3.get_bucket_tagging(**HERE), f"setup documents {READERS}"),
    one(
        "see whether the bucket locks",
        lambda s3, b: s3.get_object_lock_configuration(**HERE),
        f"setup documents {READERS}",
    ),
    one("write a locked object", lambda s3, b: s3.put_object(**HERE, Key="new", Body=b"", **LOCK), "archiver"),
    # Below documents/ its own login may write and read, and an archiver, which may write everywhere.
    one(
        "write a document",
        lambda s3, b: s3.put_object(**HERE, Key="documents/new", Body=b"", **LOCK),
        "archiver documents",
    ),
    one("read a document", lambda s3, b: s3.get_object(**HERE, Key="documents/1"), f"documents {READERS}"),
    one(
        "read a document's lock",
        lambda s3, b: s3.get_object_retention(**HERE, Key="documents/1"),
        f"documents {READERS}",
    ),
    one("hide a document", lambda s3, b: s3.delete_object(**HERE, Key="documents/1")),
    one(
        "probe the lock",
        lambda s3, b: s3.put_object(**HERE, Key="probes/new", Body=b"", **LOCK),
        "setup archiver operator",
    ),
    one("clear a probe", lambda s3, b: s3.delete_object(**HERE, Key="probes/1", VersionId=b.probe), "setup operator"),
    one("delete a version", lambda s3, b: s3.delete_object(**HERE, Key="loose", VersionId=b.loose)),
    one("hide an object", lambda s3, b: s3.delete_object(**HERE, Key="locked")),
    one(
        "go around a lock",
        lambda s3, b: s3.delete_object(**HERE, Key="locked", VersionId=b.locked, BypassGovernanceRetention=True),
    ),
    one(
        "shorten a lock",
        lambda s3, b: s3.put_object_retention(
            **HERE,
            Key="locked",
            Retention={"Mode": "GOVERNANCE", "RetainUntilDate": soon(30)},
            BypassGovernanceRetention=True,
        ),
        "raiser",
    ),
    one(
        "raise a lock",
        lambda s3, b: s3.put_object_retention(
            **HERE,
            Key="locked",
            VersionId=b.locked,
            Retention={"Mode": "COMPLIANCE", "RetainUntilDate": soon(3660)},
            BypassGovernanceRetention=True,
        ),
        "raiser",
    ),
    one("set a legal hold", lambda s3, b: _hold(s3, b, "ON"), "holder"),
    one("lift a legal hold", lambda s3, b: _hold(s3, b, "OFF"), "holder"),
    one("see the bucket's versioning", lambda s3, b: s3.get_bucket_versioning(**HERE), RULES),
    one("see what expires", lambda s3, b: s3.get_bucket_lifecycle_configuration(**HERE), RULES),
    one("see the bucket's policy", lambda s3, b: s3.get_bucket_policy(**HERE), RULES),
    one("make a bucket", lambda s3, b: s3.create_bucket(Bucket=f"made-{datetime.now(UTC):%H%M%S%f}"), "setup"),
    one("tag the bucket", lambda s3, b: s3.put_bucket_tagging(**HERE, Tagging=_tag("x")), "setup"),
    one("give the bucket a policy", lambda s3, b: s3.put_bucket_policy(**HERE, Policy=_harmless()), "setup"),
    one(
        "have objects expire",
        lambda s3, b: s3.put_bucket_lifecycle_configuration(**HERE, LifecycleConfiguration=_ends()),
        "setup",
    ),
]


def _hold(s3: Any, bucket: "Bucket", status: str) -> Any:
    return s3.put_object_legal_hold(**HERE, Key="locked", VersionId=bucket.locked, LegalHold={"Status": status})


def _tag(value: str) -> Any:
    return {"TagSet": [{"Key": "x", "Value": value}]}


def _ends() -> Any:
    return {"Rules": [{"ID": "1", "Status": "Enabled", "Filter": {"Prefix": "x/"}, "Expiration": {"Days": 1}}]}


def _harmless() -> str:
    nothing = {"Effect": "Deny", "Principal": "*", "Action": "s3:GetObject", "Resource": f"arn:aws:s3:::{BUCKET}/none"}
    return json.dumps({"Version": "2012-10-17", "Statement": [nothing]})


@dataclass(frozen=True)
class Server:
    seaweed: SeaweedFS
    keys: dict[str, tuple[str, str]]

    def client(self, name: str) -> Any:
        access, secret = self.keys[name]
        session = boto3.session.Session(aws_access_key_id=access, aws_secret_access_key=secret, region_name=REGION)
        config = Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1})
        return session.client("s3", endpoint_url=self.seaweed.url, config=config)

    def store(self, name: str) -> Store:
        access, secret = self.keys[name]
        return Store(BUCKET, endpoint=self.seaweed.url, region=REGION, access_key=access, secret_key=secret)


RAISER = ("AKRAISER", "r" * 30)


def add_raiser(path: Path) -> None:
    """Somebody makes these keys by hand, as docs/finance/aws.md says."""
    known = json.loads(path.read_text())
    keys = {"accessKey": RAISER[0], "secretKey": RAISER[1]}
    known["identities"].append({"name": "raiser", "credentials": [keys], "policyNames": ["raiser"]})
    known["policies"].append({"name": "raiser", "content": json.dumps(s3_policy("raiser"))})
    path.chmod(0o600)
    path.write_text(json.dumps(known))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    secrets = tmp_path_factory.mktemp("s3") / "secrets"
    list(credentials.for_s3(secrets))
    with Supervisor() as supervisor:
        seaweed = SeaweedFS(supervisor, durable=False, environment={})
        seaweed.identities = secrets / "s3.json"
        add_raiser(secrets / "s3.json")
        seaweed.start()
        keys = {
            name: ((secrets / f"{name}_s3_access_key").read_text(), (secrets / f"{name}_s3_secret_key").read_text())
            for name in S3_KINDS
        }
        keys["raiser"] = RAISER
        keys |= {"administrator": (seaweed.access_key, seaweed.secret_key), "nobody": ("AKNOBODY", "x" * 30)}
        yield Server(seaweed, keys)
    seaweed.remove_sockets()


@pytest.fixture(scope="module")
def clients(server: Server) -> Iterator[dict[str, Any]]:
    with_store = server.store("setup")
    assert with_store.set_up("test")
    with_store.close()
    clients = {name: server.client(name) for name in server.keys}
    clients["setup"].put_bucket_policy(**HERE, Policy=_harmless())
    clients["setup"].put_bucket_lifecycle_configuration(**HERE, LifecycleConfiguration=_ends())
    yield clients
    for client in clients.values():
        client.close()


@pytest.fixture
def bucket(clients: dict[str, Any]) -> Bucket:
    put = clients["administrator"].put_object
    put(**HERE, Key="documents/1", Body=b"x", **LOCK)
    return Bucket(
        put(**HERE, Key="locked", Body=b"x", **LOCK)["VersionId"],
        put(**HERE, Key="loose", Body=b"x")["VersionId"],
        put(**HERE, Key="probes/1", Body=b"x")["VersionId"],
    )


def allowed(client: Any, attempt: Try, bucket: Bucket) -> bool:
    try:
        attempt.call(client, bucket)
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] != 403:
            raise
        return False
    return True


@pytest.mark.parametrize("name", S3_POLICIES)
@pytest.mark.parametrize("attempt", TRIES, ids=lambda attempt: attempt.what)
def test_a_kind_of_process_may_do_what_its_row_says_and_nothing_else(clients, bucket, name, attempt):
    assert allowed(clients[name], attempt, bucket) is (name in attempt.may)


@pytest.mark.parametrize("attempt", TRIES, ids=lambda attempt: attempt.what)
def test_an_administrator_may_do_all_of_it_and_a_stranger_nothing(clients, bucket, attempt):
    """The control."""
    assert not allowed(clients["nobody"], attempt, bucket)
    assert allowed(clients["administrator"], attempt, bucket)


def test_the_doctor_s_probe_is_refused_by_the_lock_and_not_by_a_missing_right(server, clients):
    """Whoever may not delete at all is refused whether the bucket locks or not, and would prove nothing."""
    operator = server.store("operator")
    assert abilities.all_of_them(operator) == []
    version = clients["operator"].put_object(**HERE, Key="probes/loose", Body=b"")["VersionId"]
    clients["operator"].delete_object(**HERE, Key="probes/loose", VersionId=version)
    operator.close()


def test_each_login_that_tries_what_the_bucket_does_may_try_it(server, clients):
    """Else what it lacks would be said of the bucket."""
    for name, attempt in (("archiver", abilities.when_writing), ("setup", abilities.all_of_them)):
        store = server.store(name)
        assert attempt(store) == []
        store.close()


def test_with_a_key_in_kms_whoever_writes_may_encrypt_and_all_who_read_decrypt():
    key = "arn:aws:kms:eu-central-1:123456789012:key/1234abcd"
    for name in S3_POLICIES:
        granted = s3_policy(name, BUCKET, key)["Statement"][-1]
        assert granted["Resource"] == [key]
        assert ("kms:GenerateDataKey" in granted["Action"]) is (name in ("archiver", "documents", "operator", "setup"))
        assert "kms:Decrypt" in granted["Action"]


def test_a_policy_for_one_bucket_names_no_other():
    for name in S3_POLICIES:
        for statement in s3_policy(name, BUCKET)["Statement"]:
            assert all(resource.split("/")[0] == f"arn:aws:s3:::{BUCKET}" for resource in statement["Resource"])
            assert not any("*" in action for action in statement["Action"])
