"""The local S3: its locks hold over a kill, nobody gets in without keys, and it leaves nothing."""

import socket
from datetime import UTC, datetime
from pathlib import Path

import pytest
import urllib3
from service import eventually

from archive.errors import StoreAway, StoreRefused
from archive.policy.retention import Lock, Mode
from archive.s3 import abilities
from archive.s3.store import Store, Stored
from jobs.local import seaweed
from jobs.local.seaweed import REGION, SeaweedFS
from jobs.local.servers import LocalServers
from jobs.local.supervisor import LocalServerError, Supervisor

ONLY_S3 = {"DATABASE_URL": "postgresql://x/x", "REDIS_URL": "redis://x/0", "STRIPE_API_BASE": "x"}


def sockets(server: SeaweedFS) -> list[Path]:
    ports = {str(port + 10_000) for port in (server.port, *server.parts.values())}
    return [path for path in seaweed._SOCKETS.glob("seaweedfs-*.sock") if path.stem.rpartition("-")[2] in ports]


def try_to_get(store: Store, key: str) -> Stored | None:
    """After a kill it takes new objects a moment before it finds the old ones."""
    try:
        return store.get(key)
    except StoreAway:
        return None


def test_it_is_there_for_whoever_asks_for_it_and_is_gone_in_the_end() -> None:
    with LocalServers(given=ONLY_S3, s3=True) as servers:
        server = servers.seaweedfs
        environment = servers.environment
        assert environment["S3_ENDPOINT_URL"] == server.url
        keys = (environment["BILLING_S3_ACCESS_KEY"], environment["BILLING_S3_SECRET_KEY"])
        store = Store("kept", endpoint=server.url, region=REGION, access_key=keys[0], secret_key=keys[1])
        assert store.set_up("test")
        lock = Lock(Mode.GOVERNANCE, datetime(2099, 1, 1, tzinfo=UTC))
        store.put_once("v1/x", b"evidence", lock)
        server.kill()
        assert sockets(server) == []
        server.start()
        assert server.url == environment["S3_ENDPOINT_URL"]
        found = eventually(lambda: try_to_get(store, "v1/x"), "what was written before")
        assert found.body == b"evidence"
        assert found.lock == lock
        assert abilities.all_of_them(store) == []
        store.close()
        pid = server.child.pid
    assert not Path("/proc", str(pid)).exists()
    assert sockets(server) == []
    assert not servers.directory.exists()


def test_nobody_gets_in_without_the_keys(s3: SeaweedFS) -> None:
    wrong = Store("any", endpoint=s3.url, region=REGION, access_key=s3.access_key, secret_key="wrong")
    with pytest.raises(StoreRefused, match="403"):
        wrong.set_up("test")
    wrong.close()
    assert urllib3.request("GET", f"{s3.url}/ready?list-type=2", retries=False).status == 403


def test_it_listens_on_loopback_only_and_its_keys_are_no_arguments(s3: SeaweedFS) -> None:
    arguments = Path(f"/proc/{s3.child.pid}/cmdline").read_bytes()
    assert s3.secret_key.encode() not in arguments
    addresses = [info[4][0] for info in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)]
    outside = [address for address in addresses if not address.startswith("127.")]
    for port in (s3.port, *s3.parts.values()):
        for address in outside:
            with pytest.raises(OSError, match="refused"):
                socket.create_connection((address, port), timeout=2)


def test_a_variable_replaces_it() -> None:
    given = {
        **ONLY_S3,
        "S3_ENDPOINT_URL": "http://s3.example",
        "BILLING_S3_ACCESS_KEY": "a",
        "BILLING_S3_SECRET_KEY": "b",
    }
    with LocalServers(given=given, s3=True) as servers:
        assert servers.environment == given
        with pytest.raises(LocalServerError, match="S3_ENDPOINT_URL is set"):
            _ = servers.seaweedfs


def test_a_platform_without_it_is_told_which_variable_to_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("jobs.local.seaweed.sysconfig.get_path", lambda _: str(tmp_path))
    with Supervisor() as supervisor, pytest.raises(LocalServerError, match="set S3_ENDPOINT_URL to an S3 of your own"):
        SeaweedFS(supervisor, durable=False, environment={}).start()
