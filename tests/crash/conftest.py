"""The processes of the service, started for one test on its own house."""

import sys
from collections.abc import Callable, Iterator

import pytest
from house import House

from jobs.local.servers import LocalServers
from jobs.local.supervisor import Child


@pytest.fixture
def spawn(template: LocalServers, house: House) -> Iterator[Callable[..., Child]]:
    """Start a process of the service on this house: `spawn("worker", "captures")`."""
    started: list[Child] = []
    environment = {
        "DATABASE_URL": house.url,
        "BILLING_ENVIRONMENT": "test",
        "BILLING_STRIPE_KEY": "sk_test_processes",
        "BILLING_TIMING": "short",
        "BILLING_LOG_LEVEL": "warning",
        "BILLING_HEALTH_DIRECTORY": str(template.directory / "health"),
    }

    def start(*arguments: str) -> Child:
        program = [sys.executable, "-m", "jobs.cli", *arguments]
        started.append(template.spawn("-".join(arguments), program, environment))
        return started[-1]

    yield start
    for child in started:
        if child.poll() is None:
            child.terminate()
