"""Processes whose servers lie behind proxies that fail as a network does."""

from collections.abc import Callable, Iterator

import pytest
from proxy import Proxy
from service import Service
from sqlalchemy.engine import make_url

from jobs.local.servers import LocalServers
from jobs.process.health import Health, health_of


@pytest.fixture
def postgres(template: LocalServers, service: Service) -> Iterator[Proxy]:
    """Between a process and the real Postgres; the test's own connections go past it."""
    with Proxy("127.0.0.1", template.postgres.port) as proxy:
        yield proxy


@pytest.fixture
def through(service: Service, postgres: Proxy) -> dict[str, str]:
    """The setting by which a process goes through the proxy."""
    url = make_url(service.url).set(host="127.0.0.1", port=postgres.port)
    return {"DATABASE_URL": url.render_as_string(hide_password=False)}


@pytest.fixture
def stands(template: LocalServers) -> Callable[[str], Health]:
    """How a process that `spawn` has started stands, by its beats."""
    return lambda role: health_of(role, str(template.directory / "health"))
