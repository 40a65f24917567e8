"""The processes of the last release run beside those of this version, on one database with this version's migrations.

That is every rollout, and every rollback: `make release` keeps the wheel.
"""

import json
import subprocess
import sys
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from service import Service, eventually

from billing.states import WorkState
from jobs.local.supervisor import Child

(WHEEL,) = (Path(__file__).parent / "releases").glob("billing_reference-*.whl")
CAPTURES, INVOICES = 25, 3
"""Of each, requested by each of the two versions."""
ASK = """
import json, sys
import billing
from sqlalchemy import create_engine
from sqlalchemy.orm import Session

database_url, asked = sys.argv[1], json.loads(sys.argv[2])
engine, made = create_engine(database_url), []
for number, intent in enumerate(asked["intents"]):
    with Session(engine) as session, session.begin():
        made.append(billing.request_capture(
            session, payment_intent=intent, amount=billing.Money(1999, "USD"), request_id=f"{asked['by']}-c{number}"
        ).capture_id)
for number, customer in enumerate(asked["customers"]):
    with Session(engine) as session, session.begin():
        made.append(billing.issue_invoice(
            session, customer=customer, lines=[billing.Line("3 seats", billing.Money(4500, "EUR"))],
            collect=billing.SendInvoice(days_until_due=14), request_id=f"{asked['by']}-i{number}",
        ).invoice_id)
print(json.dumps({"from": billing.__file__, "made": made}))
"""


@pytest.fixture(scope="module")
def last_release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of its packages. It runs with the libraries that are installed here."""
    folder = tmp_path_factory.mktemp("last-release")
    with zipfile.ZipFile(WHEEL) as wheel:
        wheel.extractall(folder)
    return folder


class Versions:
    """Programs of both versions. `-P`: the working directory, which is this checkout, is not searched."""

    def __init__(self, release: Path, service: Service, spawn: Callable[..., Child]) -> None:
        self._path = {"last": {"PYTHONPATH": str(release)}, "this": {}}
        self._service, self._spawn = service, spawn

    def start(self, version: str, *arguments: str) -> Child:
        if version == "this":
            return self._spawn(*arguments)
        # The last release refuses settings that it does not know.
        unknown = ("BILLING_STRIPE_RATE", "BILLING_FUNCTION_NICENESS")
        program = ("env", *(f"--unset={each}" for each in unknown), sys.executable, "-P", "-m", "jobs.cli")
        return self._spawn(*arguments, program=program, **self._path[version])

    def asking(self, version: str, intents: list[str], customers: list[str]) -> subprocess.Popen[str]:
        asked = json.dumps({"by": version, "intents": intents, "customers": customers})
        program = [sys.executable, "-P", "-c", ASK, self._service.url, asked]
        return subprocess.Popen(program, env=self._path[version] or None, stdout=subprocess.PIPE, text=True)

    def answer(self, version: str, *arguments: str) -> Any:
        ran = self.start(version, *arguments, "--json")
        assert ran.wait(90.0) == 0, ran.output()
        return json.loads(ran.output())


@pytest.mark.timeout(300)
def test_both_versions_work_side_by_side_and_nothing_is_lost_or_done_twice(
    last_release: Path, service: Service, spawn: Callable[..., Child]
) -> None:
    versions = Versions(last_release, service, spawn)
    roles = [("relay",), ("worker", "captures"), ("worker", "invoices")]
    running = {(version, role): versions.start(version, *role) for version in ("last", "this") for role in roles}
    intents = service.intents(2 * CAPTURES)
    customers = [service.customer() for _ in range(2 * INVOICES)]
    asking = {
        version: versions.asking(version, intents[n::2], customers[n::2]) for n, version in enumerate(("last", "this"))
    }
    eventually(lambda: service.effects("capture"), "the first capture")
    running["last", ("worker", "captures")].kill()  # the other version takes its calls over
    running["last", ("relay",)].kill()
    answers = {version: json.loads(process.communicate(timeout=90)[0]) for version, process in asking.items()}
    assert str(last_release) in answers["last"]["from"]
    assert str(last_release) not in answers["this"]["from"]
    running["last", ("worker", "captures")] = versions.start("last", "worker", "captures")
    running["this", ("worker", "captures")].kill()  # and the other way round: a rollback
    running["last", ("relay",)] = versions.start("last", "relay")
    made = [operation for answer in answers.values() for operation in answer["made"]]
    assert len(made) == len(intents) + len(customers)
    eventually(lambda: all(service.status(operation).final for operation in made), "all are final", within_s=240)

    assert Counter(service.status(operation).state for operation in made) == {
        "captured": 2 * CAPTURES,
        "sent": 2 * INVOICES,
    }
    assert Counter(effect["id"] for effect in service.effects("capture")) == dict.fromkeys(intents, 1)
    assert len(service.effects("invoice.finalized")) == len(customers)
    assert versions.answer("last", "status", answers["this"]["made"][-1])["final"] is True


def test_each_version_obeys_the_switch_that_the_other_one_pulled(
    last_release: Path, service: Service, spawn: Callable[..., Child]
) -> None:
    versions = Versions(last_release, service, spawn)
    versions.answer("last", "switch", "pull", "currency:USD", "--reason", "a drill")
    capture = service.ask_for_capture()
    service.plan()
    service.work_off()
    assert service.work(capture).state == WorkState.HELD
    versions.answer("last", "switch", "release", "currency:USD", "--reason", "over")
    assert service.settle(capture) == ["captured"]

    service.pull("currency:USD")
    other = service.ask_for_capture()
    versions.start("last", "worker", "captures")
    versions.start("last", "relay")
    eventually(lambda: service.states_of_work()[WorkState.HELD], "it is held")
    assert service.captured(other) == {}
    service.release("currency:USD")
    eventually(lambda: service.status(other).final, "it is captured")
    assert service.captured(other) == {1999: 1}
