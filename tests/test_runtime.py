"""A process put together from its settings: what it does when its key changes under it."""

from pathlib import Path

import pytest
from service import Service, eventually

from billing.gateway import Budget, NotSent, Request, boot_clock
from billing.states import WorkState
from jobs.config.settings import Settings
from jobs.process.service import ServiceProcess

GET = Request("GET", "/v1/account")


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "stripe_key"
    path.touch(mode=0o600)
    path.write_text("sk_test_old")
    return path


def _runtime(service: Service, key_file: Path) -> ServiceProcess:
    settings = Settings(
        environment="test",
        database_url=service.url,
        redis_url=service.redis_url,
        stripe_api_base=service.stripe_api_base,
        stripe_key=f"file:{key_file}",  # type: ignore[arg-type]
        timing="short",
    )
    return ServiceProcess(settings, "test")


def test_a_key_that_was_replaced_in_its_file_is_used_after_a_401_and_nothing_is_lost(
    service: Service, key_file: Path
) -> None:
    """[42] The old key is refused, the account is switched off; the new key lies in the file, and a probe finds out."""
    gateway = _runtime(service, key_file).gateway(4)
    service.standin.set_keys(accepted=["sk_test_new"])
    capture = service.ask_for_capture(service.intents()[0])
    service.plan()
    service.work_off(gateway=gateway)
    assert service.work(capture).state == WorkState.HELD
    key_file.write_text("sk_test_new")
    assert service.settle(capture, gateway=gateway) == ["captured"]
    assert service.captured(capture) == {1999: 1}
    assert service.work(capture).attempts == 0
    service.standin.set_keys()


def test_a_live_key_that_is_put_in_the_place_of_a_test_key_is_never_used(service: Service, key_file: Path) -> None:
    """[39]"""
    gateway = _runtime(service, key_file).gateway(4)
    service.standin.set_keys(accepted=["sk_live_mistake"])
    before = len(service.standin.requests())
    key_file.write_text("sk_live_mistake")

    def refused() -> bool:
        return isinstance(gateway.send(GET, Budget(boot_clock() + 5, boot_clock() + 5)), NotSent)

    eventually(refused, "the live key is noticed")
    assert not any(request["status"] == 200 for request in service.standin.requests(after=before))
    service.standin.set_keys()
