"""Every service of docker-compose.yml does its work with the command, the settings and the secrets of the file.

No container engine is needed: `bring_up.py` says what stands for what.
"""

import json
import re
import sys
import urllib.request
from collections.abc import Iterator

import pytest
from bring_up import Deployment
from files import LASTING, OURS, SERVICES
from service import eventually
from sqlalchemy.engine import make_url

import billing
from billing import database
from billing.timing import PRODUCTION
from jobs.local.supervisor import Supervisor
from jobs.metrics.instruments import instruments

# What has a profile is started by hand: a worker of e-mails wants a mail server.
LASTING_OURS = [name for name in OURS if name in LASTING and not SERVICES[name].get("profiles")]
# A machine with everything starting at once may be slow; nothing here measures it.
PATIENT_S = 90.0

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def deployment() -> Iterator[Deployment]:
    deployment = Deployment(Supervisor())
    try:
        deployment.up()
        yield deployment
    finally:
        deployment.close()


def test_what_runs_once_has_ended_well(deployment: Deployment) -> None:
    assert deployment.ended == {"migrate": 0, "access": 0, "bucket": 0}


def test_the_owner_is_who_the_image_makes(deployment: Deployment) -> None:
    owner = make_url(deployment.url("owner_database_url"))
    assert owner.username == SERVICES["postgres"]["environment"].get("POSTGRES_USER", "postgres")
    assert (owner.password, owner.database) == (deployment.url("postgres_password"), "billing")


@pytest.mark.parametrize("name", [*LASTING_OURS, "standin"])
def test_a_service_is_healthy_by_its_own_health_check(deployment: Deployment, name: str) -> None:
    eventually(lambda: deployment.healthy(name), f"{name} is healthy", PATIENT_S)


def test_a_health_check_finds_no_relay_where_none_runs(deployment: Deployment) -> None:
    asked = deployment.run("archiver", "health", "relay")
    assert asked.wait(PATIENT_S) == 1
    assert "no such process runs" in asked.output()


def test_a_capture_and_an_invoice_go_through(deployment: Deployment) -> None:
    (intent,) = deployment.standin.authorizations(count=1, amount=1999, currency="usd")
    made = deployment.run("operator", "standin", "customer")
    assert made.wait(60.0) == 0, made.output()
    application = database.open_engine(deployment.url("application_database_url"), PRODUCTION, name="application")
    with database.transaction(application) as session:
        money = billing.Money(1999, "USD")
        capture = billing.request_capture(session, payment_intent=intent, amount=money, request_id="order-1")
        invoice = billing.issue_invoice(
            session,
            customer=made.output().strip(),
            lines=[billing.Line("3 seats", billing.Money(4500, "EUR"))],
            collect=billing.SendInvoice(days_until_due=14),
            request_id="seats-1",
        )
    asked = {"captured": capture.capture_id, "sent": invoice.invoice_id}

    def states() -> set[str]:
        with database.transaction(application) as session:
            return {str(billing.status(session, one).state) for one in asked.values()}

    eventually(lambda: states() == set(asked), "both are final", PATIENT_S)
    application.dispose()
    assert [effect["amount"] for effect in deployment.standin.effects("capture")] == [1999]


def test_what_happened_is_archived_and_finance_can_verify_it(deployment: Deployment) -> None:
    archived = deployment.run("archiver", "archive", "run", "--once", "--json")
    assert archived.wait(PATIENT_S) == 0, archived.output()
    verified = deployment.run("finance", *SERVICES["finance"]["command"], "--json")
    assert verified.wait(PATIENT_S) == 0, verified.output()
    assert json.loads(verified.output())["facts"] > 0


def test_the_operator_s_terminal_finds_everything_in_order(deployment: Deployment) -> None:
    doctor = deployment.run("operator")
    assert doctor.wait(PATIENT_S) == 0, doctor.output()


@pytest.mark.parametrize("name", LASTING_OURS)
def test_a_service_with_a_broken_variable_does_not_start(deployment: Deployment, name: str) -> None:
    broken = deployment.run(name, BILLING_CREW_CAPTURES="many")
    assert broken.wait(PATIENT_S) == 2
    assert "BILLING_CREW_CAPTURES" in broken.output()


@pytest.mark.parametrize(
    ("name", "secret", "setting"),
    [
        ("relay", "redis_url", "REDIS_URL"),
        ("worker-captures", "stripe_key", "BILLING_STRIPE_KEY"),
        ("archiver", "s3_secret_key", "BILLING_S3_SECRET_KEY"),
    ],
)
def test_a_service_without_one_of_its_secrets_does_not_start(
    deployment: Deployment, name: str, secret: str, setting: str
) -> None:
    without = deployment.run(name, without=secret)
    assert without.wait(PATIENT_S) == 2
    assert setting in without.output()


def test_nothing_shows_a_secret_in_its_log(deployment: Deployment) -> None:
    passwords = {make_url(deployment.url(one.name)).password for one in deployment.secrets.glob("*_url")}
    keys = {deployment.url(one.name) for one in deployment.secrets.glob("*_secret_key")}
    logs = "".join(log.read_text() for log in deployment.directory.glob("*.log"))
    assert len(passwords | keys) > 8
    assert [secret for secret in passwords | keys if str(secret) in logs] == []


def test_nothing_is_written_where_a_command_is_run(deployment: Deployment) -> None:
    """In the container nothing but /tmp can be written."""
    assert list(deployment.directory.glob("containers/*/empty/*")) == []
    assert list(deployment.directory.glob("containers/*/tmp/*")) != []


@pytest.mark.parametrize("name", LASTING_OURS)
def test_a_service_exports_the_numbers_of_its_kind_and_no_other(deployment: Deployment, name: str) -> None:
    """So what the alerts and dashboards in deploy/ ask for is there."""
    served = [line for line in deployment.children[name].output().splitlines() if '"metrics.served"' in line]
    url = f"http://127.0.0.1:{json.loads(served[0])['port']}/metrics"
    with urllib.request.urlopen(url, timeout=60) as answer:
        found = set(re.findall(r"^# TYPE (\w+) ", answer.read().decode(), re.MULTILINE))
    kind = name.partition("-")[0]
    assert {each for each in found if each.startswith("billing_")} == {
        each.name for each in instruments() if kind in each.roles
    }
    assert {"process_cpu_seconds_total", "process_resident_memory_bytes"} <= found or sys.platform != "linux"


# The last: from here on nothing runs.
@pytest.mark.parametrize("name", [*LASTING_OURS, "standin"])
def test_a_service_that_is_stopped_ends_well_within_its_time(deployment: Deployment, name: str) -> None:
    assert deployment.children[name].poll() is None
    assert deployment.stop(name) == 0, deployment.children[name].output()
