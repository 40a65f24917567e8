"""A neighbor named like us puts variables into our environment: they are no settings, and a misspelt one still is."""

import random
import string
from collections.abc import Callable, Iterator

import pytest

from jobs.config.loading import load
from jobs.config.service_links import is_link
from jobs.config.settings import Settings
from jobs.config.sources import SettingsError, variable

pytestmark = pytest.mark.usefixtures("nothing_set")

SEED = 20261129
WORDS = ("relay", "service", "port", "env", "name", "http", "log-level", "tcp", "web2", "s3", "database", "x")
ADDRESSES = ("10.0.171.239", "172.20.0.1", "fd00:10:96::a", "2001:db8::1")


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch):
    def loaded(variables: dict[str, str]) -> Settings:
        sufficient = {"BILLING_ENVIRONMENT": "test", "DATABASE_URL": "postgresql://app:pw@db.example/billing"}
        for name, value in {**sufficient, **variables}.items():
            monkeypatch.setenv(name, value)
        return load()

    return loaded


def links(service: str, address: str, ports: list[tuple[str, int, str]]) -> dict[str, str]:
    """What a kubelet gives a pod for a Service with these ports: name, number, protocol."""
    name = service.upper().replace("-", "_")
    host = f"[{address}]" if ":" in address else address
    made = {f"{name}_SERVICE_HOST": address, f"{name}_SERVICE_PORT": str(ports[0][1])}
    made[f"{name}_PORT"] = f"{ports[0][2]}://{host}:{ports[0][1]}"
    for port_name, number, protocol in ports:
        if port_name:
            made[f"{name}_SERVICE_PORT_{port_name.upper().replace('-', '_')}"] = str(number)
        place = f"{name}_PORT_{number}_{protocol.upper()}"
        made[place] = f"{protocol}://{host}:{number}"
        made[f"{place}_PROTO"] = protocol
        made[f"{place}_PORT"] = str(number)
        made[f"{place}_ADDR"] = address
    return made


def services() -> Iterator[tuple[str, str, list[tuple[str, int, str]]]]:
    yield "billing", "10.0.171.239", [("http", 8080, "tcp")]
    yield "billing-service", "10.0.171.239", [("", 80, "tcp")]
    yield "billing-relay", "fd00::1", [("metrics", 9090, "tcp"), ("dns-udp", 53, "udp")]
    rng = random.Random(SEED)
    for _ in range(300):
        name = "-".join(["billing", *rng.choices(WORDS, k=rng.randint(0, 3))])[:63].rstrip("-")
        ports = [
            (
                "".join(rng.choices(string.ascii_lowercase, k=rng.randint(0, 6))),
                rng.randint(1, 65535),
                rng.choice(("tcp", "udp", "sctp")),
            )
            for _ in range(rng.randint(1, 3))
        ]
        yield name, rng.choice(ADDRESSES), ports


def test_a_process_starts_beside_a_service_of_any_name_that_begins_like_ours(loaded):
    """Each generated Service by itself, and all of them in one namespace."""
    everything = {}
    for service in services():
        made = links(*service)
        assert [name for name in made if not is_link(name, made)] == []
        everything |= made
    settings = loaded({**everything, "BILLING_SERVICE": "shop", "BILLING_LOG_LEVEL": "debug"})
    assert (settings.service, settings.log_level) == ("shop", "debug")


def test_a_container_that_is_linked_as_billing_keeps_no_process_from_starting(loaded):
    """Docker's links: name, ports, ranges of ports, and every variable of the other container."""
    loaded(
        {
            "BILLING_DB_NAME": "/shop_web_1/billing_db",
            "BILLING_DB_PORT": "tcp://172.17.0.5:5432",
            "BILLING_DB_PORT_5432_TCP": "tcp://172.17.0.5:5432",
            "BILLING_DB_PORT_5432_TCP_PROTO": "tcp",
            "BILLING_DB_PORT_5432_TCP_PORT": "5432",
            "BILLING_DB_PORT_5432_TCP_PORT_START": "5432",
            "BILLING_DB_PORT_5432_TCP_ADDR": "172.17.0.5",
            "BILLING_DB_ENV_POSTGRES_PASSWORD": "anything at all",
            "BILLING_1_NAME": "/shop_web_1/billing_1",
            "BILLING_1_ENV_LANG": "C.UTF-8",
        }
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("BILLING_PORT", "8080"),
        ("BILLING_HOST", "10.0.0.1"),
        ("BILLING_REDIS_PORT", "6379"),
        ("BILLING_SERVICE_HOST", "shop"),
        ("BILLING_SERVICE_NAME", "shop"),
        ("BILLING_SERVICE_PORT", "shop"),
        ("BILLING_SERVICES", "shop"),
        ("BILLING_ENV", "production"),
        ("BILLING_ENV_NAME", "production"),
        ("BILLING_DATABASE_NAME", "shop"),
        ("BILLING_WORKERS_CAPTURE", "4"),
        ("BILLING_TIMNG", "short"),
    ],
)
def test_a_misspelt_setting_is_refused_as_ever(loaded, name, value):
    with pytest.raises(SettingsError, match=f"^{name}: no such setting; "):
        loaded({name: value})


def test_no_setting_of_ours_could_be_taken_for_a_link_or_the_other_way_round():
    """Whoever adds a setting that ends like one is told here: its value would decide whether a misspelling is seen."""
    endings = ("_PORT", "_SERVICE_HOST", "_PROTO", "_ADDR", "_NAME", "_TCP", "_UDP", "_SCTP")
    ours = [variable(field) for field in Settings.model_fields]
    ours.remove("BILLING_METRICS_PORT")  # told apart by its value; the next test
    assert [name for name in ours if name.endswith(endings) or "_ENV_" in name or "_SERVICE_PORT" in name] == []
    made = {name for service in services() for name in links(*service)}
    assert made.isdisjoint(ours)


def test_a_neighbor_called_like_a_setting_sets_nothing_and_the_setting_itself_does(
    loaded: Callable[[dict[str, str]], Settings],
) -> None:
    """A Service that is made for scraping us is likely to be called `billing-metrics`."""
    neighbor = links("billing-metrics", "10.0.171.239", [("metrics", 9464, "tcp")])
    assert neighbor["BILLING_METRICS_PORT"] == "tcp://10.0.171.239:9464"
    assert loaded(neighbor).metrics_port is None
    assert loaded({**neighbor, "BILLING_METRICS_PORT": "9464"}).metrics_port == 9464
