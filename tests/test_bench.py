"""The benchmark still runs, whatever its numbers are on a busy machine."""

import json
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4
from xml.etree import ElementTree

import psycopg
import pytest
from keeping import finalized, keeping, row_of
from mailing import ask_for_email
from service import Service
from sqlalchemy.engine import make_url

from archive.policy.retention import Lock
from bench import capacity, documents, emails, invoice_mix, invoice_run, invoices
from bench.archive import Life
from bench.growth import Growth
from bench.purge import Purge
from billing import database
from billing.schedules import SCHEDULES
from jobs.local.seaweed import SeaweedFS
from jobs.road import shift, ticks

ROOT = Path(__file__).parents[1]
WITHIN_S = 800
"""Each takes a minute on a quiet machine; on a busy one nothing is wrong with five or ten."""
pytestmark = pytest.mark.timeout(WITHIN_S + 60)


@pytest.mark.skipif(sys.platform != "linux", reason="it reads /proc")
def test_the_tiniest_benchmark_measures_every_side() -> None:
    program = [sys.executable, "-m", "bench", "--tiny", "--json"]
    run = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, timeout=WITHIN_S, check=False)
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout)
    assert set(found["added_ms"]) == {"ours", "baseline", "rival", "floor"}
    runs = [run for load in found["loads"] for runs in load["runs"].values() for run in runs]
    assert all(run["per_second"] > 0 and run["together"] >= 1 for run in runs)
    # CPU is counted in ticks of 10 ms, and a few captures of the cheapest side may take none.
    assert sum(sum(run["cpu_ms"].values()) for run in runs) > 0
    assert {goal["what"] for goal in found["goals"] if goal["value"] is None} == {
        "kill -9 of a worker → its calls made again"
    }


def test_how_soon_a_pulled_switch_stops_is_measured() -> None:
    program = [sys.executable, "-m", "bench.switch_pulls", "--tiny", "--json"]
    run = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, timeout=WITHIN_S, check=False)
    assert run.returncode == 0, run.stderr
    (pulls,) = json.loads(run.stdout)
    assert (pulls["side"], len(pulls["last_call_ms"]), len(pulls["taken_back"])) == ("ours", 1, 1)
    assert hasattr(shift, "SWITCHES_EVERY_S"), "the control of that program sets it"


def test_the_lag_against_the_load_is_measured_tabled_and_drawn(tmp_path: Path) -> None:
    program = [sys.executable, "-m", "bench.capacity", "--tiny", "--json", "--into", str(tmp_path)]
    run = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, timeout=WITHIN_S, check=False)
    assert run.returncode == 0, run.stderr
    steps = json.loads(run.stdout)
    assert len(steps) == 6
    assert all(step["lag_p99_s"] >= step["lag_p50_s"] > 0 and step["asked_per_s"] > 0 for step in steps)
    written = (tmp_path / "capacity.md").read_text()
    assert all(f"| {step['provider']} | {step['asked_per_s']:.0f} |" in written for step in steps)
    drawing = ElementTree.parse(tmp_path / "capacity.svg")  # noqa: S314 - our own
    kinds = [element.tag.partition("}")[2] for element in drawing.iter()]
    assert (kinds.count("polyline"), kinds.count("circle")) == (3, 6)
    committed = (ROOT / "docs" / "capacity.md").read_text()
    assert committed.partition("\n\n![")[0].splitlines()[0] == written.splitlines()[0]


def test_no_program_waits_for_the_run_of_a_schedule_that_no_worker_of_its_own_takes(service: Service) -> None:
    with database.transaction(service.engine) as session:
        for schedule in SCHEDULES:
            if schedule.queue == "maintenance":
                ticks.ask_for(session, schedule, actor="anna")
    service.relay.round()
    url = make_url(service.url).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(url) as postgres:
        assert postgres.execute("SELECT FROM billing.work WHERE state = 'ready'").rowcount == 7
        assert postgres.execute(capacity.UNSTARTED).fetchone() == (0,)
        assert postgres.execute(invoice_run.LEFT).fetchall() == []
        assert postgres.execute(documents.LEFT).fetchall() == []


@pytest.mark.skipif(sys.platform != "linux", reason="it reads /proc")
def test_what_the_stand_in_costs_is_measured() -> None:
    program = [sys.executable, "stripe_standin/bench/costs.py", "--tiny", "--json"]
    run = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, timeout=WITHIN_S, check=False)
    assert run.returncode == 0, run.stderr
    assert all(goal["value"] > 0 for goal in json.loads(run.stdout)["goals"])


@pytest.mark.skipif(sys.platform != "linux", reason="it reads /proc")
def test_invoices_of_every_kind_under_faults_are_made_once_and_as_asked() -> None:
    """[48, 54] As ten thousand, with another seed and workers that are killed more often."""
    program = [sys.executable, "-m", "bench.invoices", "--count", "40", "--seed", "7", "--kill-every-s", "3", "--json"]
    run = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, timeout=WITHIN_S, check=False)
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout)
    assert (found["invoices"], found["differences"]) == (40, [])
    assert found["lines"] > 1000
    assert set(found["cpu_ms_an_invoice"]) == {"relay", "worker", "postgres", "redis", "stand-in", "asking"}


@pytest.mark.skipif(sys.platform != "linux", reason="it reads /proc")
def test_emails_to_a_server_that_fails_come_once_or_are_known_to_be_in_doubt() -> None:
    """As ten thousand, with another seed and workers that are killed more often."""
    program = [sys.executable, "-m", "bench.emails", "--count", "120", "--seed", "7", "--kill-every-s", "2", "--json"]
    run = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, timeout=WITHIN_S, check=False)
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout)
    assert (found["emails"], found["differences"]) == (120, [])
    assert found["came"] <= 120
    assert found["met"]
    assert found["undecided"] >= found["met"].get("taken, and the answer lost", 0)
    assert set(found["cpu_ms_an_email"]) == {"relay", "worker", "postgres", "redis", "stand-in"}


@pytest.mark.skipif(sys.platform != "linux", reason="it reads /proc")
def test_documents_from_links_that_fail_are_each_stored_once_as_they_were_served() -> None:
    """As ten thousand, with another seed, more faults, and workers that are killed more often."""
    told = ["--count", "12", "--seed", "7", "--kill-every", "3", "--trouble", "10", "--json"]
    program = [sys.executable, "-m", "bench.documents", *told]
    run = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, timeout=WITHIN_S, check=False)
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout)
    assert (found["documents"], found["differences"]) == (12, [])
    roles = {"relay", "worker", "document", "postgres", "redis", "s3", "stand-in"}
    assert set(found["cpu_ms_a_document"]) == roles
    assert found["cpu_ms_a_document"]["document"] > 0


def test_a_document_that_is_missing_or_forged_is_a_difference(service: Service, s3: SeaweedFS) -> None:
    """The control of the comparison that the test above ends with."""
    store = s3.store(f"bench-{uuid4().hex}")
    store.set_up("test")
    stored, gone, forged = finalized(service, 3)
    assert service.settle(stored, gone, forged, gateway=keeping(service, store)) == ["stored"] * 3
    service.execute("UPDATE billing.documents SET sha256 = repeat('0', 64) WHERE id = :id", id=forged)
    key, version = str(row_of(service, gone).object_key), str(row_of(service, gone).object_version)
    store.client.delete_object(Bucket=store.bucket, Key=key, VersionId=version, BypassGovernanceRetention=True)
    lock = Lock("GOVERNANCE", datetime.now(UTC) + timedelta(minutes=5))
    store.put_once("documents/invoice_pdf/doc_nobodys.pdf", b"%PDF-1.4\n%%EOF\n", lock)
    stripe = invoice_run.Stripe(service.gateway(), service.standin)
    url = make_url(service.url).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(url, autocommit=True) as postgres:
        found = documents.differences(4, postgres, stripe, service.stripe_api_base, store)
    store.close()
    assert {each.partition(": ")[2] or each for each in found} == {
        "3 invoices with a document each, of 4",
        f"{gone}: its object is gone",
        f"{forged}: bytes",
        "nobody's",
    }


def test_an_email_that_came_twice_or_is_lost_is_a_difference(service: Service) -> None:
    """The control of the comparison that the test above ends with."""
    lost, twice, well, unasked = (ask_for_email(service) for _ in range(4))
    sent = "UPDATE billing.emails SET state = 'sent' WHERE id = :id"
    told = (
        "INSERT INTO billing.facts (topic, entity_type, entity_id, entity_version, actor, payload)"
        " VALUES ('email.sent', 'email', :id, 2, 'test', '{}')"
    )
    for email in (lost, twice, well):
        service.execute(sent, id=email)
        service.execute(told, id=email)
    came = Counter({f"{twice}.g1": 2, f"{well}.g1": 1, f"{unasked}.g1": 1, "eml_other.g1": 1})
    with psycopg.connect(make_url(service.url).set(drivername="postgresql").render_as_string(False)) as postgres:
        found = emails.differences({lost, twice, well, unasked, "eml_gone"}, postgres, came)
    assert {each.partition(":")[0] for each in found} == {lost, twice, unasked, "eml_other", "eml_gone"}


def test_an_invoice_that_is_there_twice_or_is_not_as_asked_is_a_difference(service: Service) -> None:
    """The control of the comparison that the test above ends with."""
    stripe = invoice_run.Stripe(service.gateway(), service.standin)
    customer, mixed = service.customer(), invoice_mix.Mixed({"currency": "EUR"}, amounts=[4500, 1])
    asked = {service.ask_for_invoice(customer): mixed}
    (invoice,) = asked
    service.settle(invoice)
    url = make_url(service.url).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(url, autocommit=True) as postgres:

        def found() -> set[str]:
            return {each.split(": ")[1] for each in invoices.differences(asked, postgres, stripe)}

        assert found() == set()
        mixed.amounts[1] = 2
        assert found() == {"total", "lines"}
        mixed.amounts[1] = 1
        draft = {"customer": customer, "currency": "eur", "collection_method": "send_invoice", "days_until_due": 3}
        twin = stripe.make("/v1/invoices", {**draft, "metadata": {"billing_operation": invoice}})
        assert found() == {"drafts"}
        stripe.make(f"/v1/invoices/{twin}/add_lines", {"lines": [{"amount": 5, "description": "a"}]})
        stripe.make(f"/v1/invoices/{twin}/finalize", {"auto_advance": False})
        assert found() == {"drafts", "at Stripe"}


def test_what_removing_old_rows_costs_is_measured(database_url: str) -> None:
    phases = Growth(database_url, 0.2).run(facts=2000, operations=100, deleted=500)
    # A piece of work and two calls of each operation.
    assert {phase.name: phase.removed for phase in phases} == {"alone": 0, "clean-up": 300, "delete": 499, "drop": 499}
    assert all(phase.shown() for phase in phases)


def test_what_purging_costs_is_measured(database_url: str, s3: SeaweedFS) -> None:
    store = s3.store(f"bench-{uuid4().hex}")
    store.set_up("test")
    phases, sizes = Purge(database_url, 0.2, store).measure(facts=2000, purged=500)
    store.close()
    assert {phase.name: phase.removed for phase in phases} == {"alone": 0, "purge": 500, "drop": 499}
    assert all(phase.shown() for phase in phases)
    assert all(size > 0 for size in sizes.values())


def test_the_life_of_an_archive_is_measured_and_its_counts_and_sums_are_compared(
    database_url: str, s3: SeaweedFS, tmp_path: Path
) -> None:
    told: list[str] = []
    life = Life(database_url, s3, f"bench-{uuid4().hex}", tmp_path, captures=500, days=2, progress=told.append)
    life.run(most_answers=1)
    assert told[-1] == "counts and sums agree: made, archived, purged"
    assert [step.name.split()[0] for step in life.steps] == ["made", "archived", "verified", "verified", "purged"]
    assert life.steps[1].remark.startswith("4 objects, ")
    assert all(step.row for step in life.steps)
    assert [(answer["state"], answer["rows"]) for answer in life.answers] == [("cold", 4)]
    assert life.bytes_of_a_capture["facts, after the purge"] < life.bytes_of_a_capture["facts"]
