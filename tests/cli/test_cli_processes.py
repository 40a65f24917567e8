"""Processes that the command starts: a relay and a worker carry out what is asked, beat, and stop politely."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from service import eventually

from jobs.local.supervisor import Supervisor
from jobs.process.health import YOUNG_S


@pytest.fixture
def start(spawn, settings):
    """A process with the settings that a command in this process has."""
    return lambda *arguments: spawn(*arguments, **settings)


@pytest.fixture
def up(settings):
    """`billing up`, in a terminal of its own."""
    with Supervisor() as supervisor:

        def up(*options: str):
            program = [sys.executable, "-m", "jobs.cli", "up", *options]
            return supervisor.spawn("up", program, {**os.environ, "PYTHONUNBUFFERED": "1"})

        yield up


def test_a_capture_is_carried_out_while_it_is_waited_for(start, run, service):
    processes = [start("relay"), start("worker", "captures")]
    (intent,) = service.intents()
    base = ("capture", "--payment-intent", intent, "--amount", "1999", "--currency", "USD")
    told = run(*base, "--request-id", "order-1", "--wait", "--timeout", "60")
    assert told.status == 0, told.err
    assert ": captured, since " in told.out
    assert "requested: " in told.err  # the progress
    for process in processes:
        process.send(signal.SIGTERM)
    assert [process.wait() for process in processes] == [0, 0]


def test_an_idle_process_is_healthy_and_one_that_ended_is_not(start, run, settings):
    assert run("health", "worker-captures").status == 1
    processes = {"relay": start("relay"), "worker-captures": start("worker", "captures")}
    for role, process in processes.items():
        eventually(lambda role=role: run("health", role).status == 0, f"{role} beats")
        heartbeat = Path(settings["BILLING_HEALTH_DIRECTORY"], role)
        first = heartbeat.stat().st_mtime_ns
        # It goes on beating while there is nothing to do.
        eventually(lambda heartbeat=heartbeat, first=first: heartbeat.stat().st_mtime_ns > first, f"{role} beats again")
        process.send(signal.SIGTERM)
        assert process.wait() == 0
        assert run("health", role).status == 1
    assert not Path(settings["BILLING_HEALTH_DIRECTORY"]).exists()


def test_a_process_that_no_longer_beats_is_not_healthy(start, run, settings):
    process = start("relay")
    eventually(lambda: run("health", "relay").status == 0, "the relay beats")
    process.send(signal.SIGSTOP)
    os.utime(Path(settings["BILLING_HEALTH_DIRECTORY"], "relay"), (time.time() - YOUNG_S - 1,) * 2)
    told = run("health", "relay")
    assert told.status == 1
    assert "30 s are allowed" in told.out


def test_migrating_twice_changes_nothing(run, service):
    first, second = (run("migrate", "--json").json for _ in range(2))
    assert first == second
    assert first["environment"] == "test"


def test_up_prints_what_another_terminal_needs_and_leaves_nothing(up, run, monkeypatch):
    for name in ("DATABASE_URL", "REDIS_URL", "STRIPE_API_BASE", "S3_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    process = up("--json")
    process.wait_until(lambda: process.output().rstrip().endswith("}"), "up to print", timeout_s=60)
    told = json.loads(process.output())
    for name, value in told["environment"].items():
        monkeypatch.setenv(name, value)
    eventually(lambda: run("doctor").status == 0, "everything is reached")
    eventually(lambda: run("health", "worker-invoices").status == 0, "the worker beats")
    process.send(signal.SIGINT)
    assert process.wait() == 0
    assert [pid for pid in told["processes"].values() if Path("/proc", str(pid)).exists()] == []
    assert not Path(told["environment"]["BILLING_HEALTH_DIRECTORY"]).parent.exists()


def test_up_shows_what_to_try_and_in_the_end_how_to_forget_it(up, run, monkeypatch):
    for name in ("DATABASE_URL", "REDIS_URL", "STRIPE_API_BASE", "S3_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    process = up()
    process.wait_until(lambda: "Ctrl-C ends everything" in process.output(), "up to print", timeout_s=60)
    exports = dict(re.findall(r"^export (\w+)='(.*)'$", process.output(), re.MULTILINE))
    # A file that is gone in the end would spoil every command of that terminal.
    assert "BILLING_CONFIG" not in exports
    examples = process.output().partition("# and then, for example:\n")[2].partition("\n\n")[0]
    ran = subprocess.run(
        ["sh", "-ec", examples], env={**os.environ, **exports}, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    for state in ("captured", "succeeded", "sent"):
        assert f": {state}, since " in ran.stdout
    process.send(signal.SIGINT)
    assert process.wait() == 0
    unset = process.output().strip().splitlines()[-1].split()
    # What was set by the terminal itself stays.
    assert unset == ["unset", *(name for name, value in exports.items() if os.environ.get(name) != value)]


@pytest.mark.parametrize("command", [("up",), ("demo", "--captures", "1")], ids=" ".join)
@pytest.mark.parametrize(
    ("variable", "url", "kind"),
    [
        ("DATABASE_URL", "postgresql://a:secret@127.0.0.1:1/x", "Postgres"),
        ("REDIS_URL", "redis://:secret@127.0.0.1:1/0", "Redis"),
    ],
)
def test_an_address_that_is_left_over_from_an_earlier_up_is_named(run, monkeypatch, command, variable, url, kind):
    monkeypatch.setenv(variable, url)
    told = run(*command)
    assert told.status == 2
    last = told.err.splitlines()[-1]
    assert last == f"billing: {variable} is set, and no {kind} answers there; unset it to have one started"


def test_a_card_and_a_customer_are_made_up_at_the_stand_in(run, service):
    intent = run("standin", "authorize", "1999", "usd").out.strip()
    assert [effect["amount"] for effect in service.effects("authorization", intent)] == [1999]
    assert run("standin", "customer").out.startswith("cus_")


@pytest.mark.parametrize("base", ["https://api.stripe.com", "http://127.0.0.1:1"])
@pytest.mark.parametrize("what", [("authorize", "1999", "USD"), ("customer",)], ids=lambda what: what[0])
def test_nothing_is_made_up_anywhere_else(run, monkeypatch, base, what):
    monkeypatch.setenv("STRIPE_API_BASE", base)
    told = run("standin", *what)
    assert told.status == 2
    assert f"STRIPE_API_BASE={base} is not the stand-in" in told.err
