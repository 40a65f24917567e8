"""A process whose servers are away when it starts waits for them, says so once, and is not ready meanwhile."""

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from proxy import Proxy
from service import Service, eventually
from sqlalchemy.engine import make_url
from typer.testing import CliRunner

from archive.errors import StoreAway, StoreRefused
from jobs.cli import app
from jobs.local.seaweed import SeaweedFS
from jobs.local.servers import LocalServers
from jobs.local.supervisor import Child
from jobs.process.health import Health, Heartbeat, State
from jobs.process.waiting import Away, away, until_ready

ROLES = {"relay": ("relay",), "worker-captures": ("worker", "captures"), "archiver": ("archive", "run")}
S3 = {"BILLING_ARCHIVE_BUCKET": "waiting", "S3_ENDPOINT_URL": "http://127.0.0.1:1"}
S3 |= {"BILLING_S3_ACCESS_KEY": "x", "BILLING_S3_SECRET_KEY": "x", "BILLING_LOG_LEVEL": "info"}


def events(process: Child, *names: str) -> list[dict[str, Any]]:
    # The last line may be half written.
    lines = [json.loads(line) for line in process.output().split("\n")[:-1] if line.startswith("{")]
    return [line for line in lines if line["event"] in names]


@pytest.mark.parametrize("role", ROLES)
def test_a_process_that_starts_while_postgres_is_away_waits_and_says_so_once(
    service: Service,
    spawn: Callable[..., Child],
    postgres: Proxy,
    through: dict[str, str],
    stands: Callable[[str], Health],
    template: LocalServers,
    monkeypatch: pytest.MonkeyPatch,
    role: str,
) -> None:
    postgres.refuse()
    process = spawn(*ROLES[role], **through, **S3)
    eventually(lambda: stands(role).state is State.WAITING, "it waits")
    monkeypatch.setenv("BILLING_ENVIRONMENT", "test")
    monkeypatch.setenv("DATABASE_URL", service.url)
    monkeypatch.setenv("BILLING_HEALTH_DIRECTORY", str(template.directory / "health"))
    told = CliRunner().invoke(app, ["health", role])
    assert told.exit_code == 1
    assert "not ready, it waits for postgres" in told.output
    assert CliRunner().invoke(app, ["health", role, "--alive"]).exit_code == 0
    told = CliRunner().invoke(app, ["health", role, "--json"])
    assert {"healthy": False, "state": "waiting", "waits_for": "postgres"}.items() <= json.loads(told.output).items()
    accepted = postgres.accepted
    postgres.heal()
    eventually(lambda: postgres.accepted > accepted, "it asks again")
    eventually(
        lambda: (
            events(process, "server.found", "server.awaited")[-1]["server"] != "postgres"
            or stands(role).state is State.BEATING
        ),
        "it goes on",
    )
    said = events(process, "server.awaited")
    assert [line["setting"] for line in said][:1] == ["DATABASE_URL"]
    assert [line["server"] for line in said].count("postgres") == 1
    assert process.poll() is None


@pytest.mark.parametrize("role", ROLES)
def test_a_process_that_waits_stops_at_once(
    spawn: Callable[..., Child], postgres: Proxy, through: dict[str, str], stands: Callable[[str], Health], role: str
) -> None:
    postgres.refuse()
    process = spawn(*ROLES[role], **through, **S3)
    eventually(lambda: stands(role).state is State.WAITING, "it waits")
    process.send(signal.SIGTERM)
    assert process.wait() == 0
    assert stands(role).state is State.ABSENT


@pytest.mark.parametrize("role", ["relay", "worker-captures"])
def test_a_process_that_starts_while_redis_is_away_waits_for_it(
    service: Service,
    spawn: Callable[..., Child],
    stands: Callable[[str], Health],
    template: LocalServers,
    role: str,
) -> None:
    template.valkey.kill()
    try:
        process = spawn(*ROLES[role])
        eventually(lambda: stands(role).waits_for == "redis", "it waits")
    finally:
        template.valkey.restart()
    eventually(lambda: stands(role).state is State.BEATING, "it goes on")
    (said,) = events(process, "server.awaited")
    assert (said["server"], said["setting"], said["level"]) == ("redis", "REDIS_URL", "warning")


def test_an_archiver_that_starts_while_s3_is_away_waits_for_it(
    service: Service, spawn: Callable[..., Child], s3: SeaweedFS, stands: Callable[[str], Health]
) -> None:
    from archive.s3.store import Store

    store = Store("waiting-s3", endpoint=s3.url, region="us-east-1", access_key=s3.access_key, secret_key=s3.secret_key)
    store.set_up("test")
    store.close()
    with Proxy("127.0.0.1", s3.port) as proxy:
        proxy.refuse()
        mine = {"BILLING_ARCHIVE_BUCKET": "waiting-s3", "S3_ENDPOINT_URL": f"http://127.0.0.1:{proxy.port}"}
        mine |= {"BILLING_S3_ACCESS_KEY": s3.access_key, "BILLING_S3_SECRET_KEY": s3.secret_key}
        process = spawn("archive", "run", **mine)
        eventually(lambda: stands("archiver").waits_for == "s3", "it waits")
        proxy.heal()
        eventually(lambda: stands("archiver").state is State.BEATING, "it goes on")
        assert process.poll() is None


def test_a_login_that_is_refused_is_told_as_an_error_and_read_again_when_it_changes(
    service: Service, spawn: Callable[..., Child], stands: Callable[[str], Health], tmp_path: Path
) -> None:
    file = tmp_path / "url"
    file.touch(mode=0o600)
    file.write_text(make_url(service.url).set(password="not-the-password").render_as_string(hide_password=False))
    process = spawn("relay", DATABASE_URL=f"file:{file}")
    eventually(lambda: stands("relay").waits_for == "postgres", "it waits")
    (said,) = events(process, "server.awaited", "server.refused")
    assert (said["event"], said["level"]) == ("server.refused", "error")
    assert said["message"].startswith("DATABASE_URL: Postgres cannot be used")
    assert "not-the-password" not in process.output()
    file.write_text(service.url)
    eventually(lambda: stands("relay").state is State.BEATING, "the new password is used")


def test_a_worker_that_starts_while_redis_takes_no_writes_waits_and_then_works(
    service: Service, spawn: Callable[..., Child], stands: Callable[[str], Health]
) -> None:
    service.redis.set("filling", "x" * 1000)
    limit = service.redis.config_get("maxmemory")["maxmemory"]
    service.redis.config_set("maxmemory", "1")
    try:
        worker, relay = spawn("worker", "captures"), spawn("relay")
        eventually(lambda: events(worker, "redis.lost"), "it has noticed")
        eventually(lambda: stands("relay").waits_for == "redis", "a relay cannot write its mark")
        assert events(worker, "redis.lost")[0]["reason"] == "OutOfMemoryError"
        assert stands("worker-captures").state is State.BEATING
    finally:
        service.redis.config_set("maxmemory", limit)
    capture = service.ask_for_capture()
    eventually(lambda: service.status(capture).state == "captured", "it works")
    assert (worker.poll(), relay.poll()) == (None, None)


def test_only_what_waiting_can_mend_is_waited_for(tmp_path: Path) -> None:
    assert away(StoreAway("x")) == Away("s3", "S3_ENDPOINT_URL")
    for final in (StoreRefused("x"), ValueError("x"), KeyError("x")):
        assert away(final) is None
        with Heartbeat("test", str(tmp_path)) as heartbeat, pytest.raises(type(final)):
            until_ready(lambda error=final: _raise(error), lambda: None, lambda: False, heartbeat)


def _raise(error: Exception) -> None:
    raise error
