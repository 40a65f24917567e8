"""Every command that changes something is a fact with actor, reason and count, and `billing audit` lists it."""

import ast
import inspect
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from cases import case
from http_server import HttpServer
from psycopg import sql
from service import PATIENCE_S, drop_database
from sqlalchemy import URL, text
from sqlalchemy.engine import make_url
from test_cli_help import COMMANDS
from test_cli_json import ARGUMENTS

from archive.format import comparing, records
from billing import database
from jobs.access import migrate
from jobs.config.settings import Settings, variable
from jobs.local.servers import LocalServers

PAGE = (Path(__file__).parents[2] / "docs" / "operate" / "audit.md").read_text()
VERSIONS = Path(__file__).parents[2] / "billing" / "migrations" / "versions"

CHANGING = {
    "access apply",
    "archive key new",
    "archive hold place",
    "archive hold release",
    "archive policy apply",
    "archive policy raise",
    # With a name or --drop; --list only reads.
    "archive restore",
    "archive setup",
    "capture",
    # With a reason; without one it only reads.
    "close",
    "compensate",
    "differences close",
    "document request",
    "email send",
    "erase customer",
    "housekeeping run",
    "invoice capture",
    "invoice captures",
    "invoice credit",
    "invoice credit-void",
    "invoice issue",
    "invoice issue-many",
    "invoice mark-paid",
    "invoice mark-uncollectible",
    "invoice pay",
    "invoice reopen",
    "invoice void",
    "migrate",
    "quarantine assign",
    "quarantine conclude",
    "quarantine discard",
    "quarantine replay",
    # The mirror of Stripe's records, and the differences.
    "reconcile",
    "recover",
    "refund",
    "schedule pause",
    "schedule resume",
    "schedule run",
    "switch pull",
    "switch release",
    "void",
}
READING = {
    "access policy",
    "archive keys",
    "archive hold list",
    "archive policy diff",
    "archive policy show",
    # It asks Stripe, which creates nothing for it.
    "invoice preview",
    # They write a file of what they read.
    "export archive",
    "export ours",
    "export stripe",
    "prove",
    # It writes what anybody can make again from the archive, into a place of its own.
    "archive compact",
    "archive ddl",
    "archive plot",
    "archive query",
    "archive sql",
    "archive status",
    "archive verifier",
    "archive verify",
    "audit",
    "bulks",
    "catalog",
    "contracts check",
    "contracts drained",
    "contracts list",
    "differences list",
    "differences show",
    # Except for one empty object, which tests that the bucket refuses to delete it.
    "doctor",
    "email bounces",
    "email list",
    "email preview",
    "explain",
    "growth",
    "health",
    "limits",
    "quarantine list",
    "quarantine show",
    "quarantine stats",
    "queues",
    "retries",
    "schedule list",
    "status",
    "switch list",
    "document get",
    "document link",
    "document list",
}
PROCESSES = {"archive run", "relay", "serve", "worker"}
"""What they do are facts of their operations."""
BEFORE_OR_BESIDE = {
    # Files, before there is a database.
    "access generate",
    # Servers of their own.
    "demo",
    "up",
    # The stand-in is nobody's money.
    "standin authorize",
    "standin customer",
}
NEED_A_REASON = {
    "access apply",
    "archive key new",
    "archive hold place",
    "archive hold release",
    "archive policy apply",
    "archive policy raise",
    "archive setup",
    "compensate",
    "differences close",
    "document request",
    "erase customer",
    "invoice reopen",
    "quarantine conclude",
    "quarantine discard",
    "quarantine replay",
    "schedule pause",
    "schedule resume",
    "switch pull",
    "switch release",
}
"""What changes money, rights or evidence, and has no other name for why."""


def listed(run, *arguments: str) -> list[dict[str, Any]]:
    ran = run("audit", "--json", *arguments)
    assert ran.status == 0, ran.err
    return ran.json


# The list of commands is complete.


def test_every_command_reads_or_is_audited():
    kinds = (CHANGING, READING, PROCESSES, BEFORE_OR_BESIDE)
    assert set().union(*kinds) == set(COMMANDS)
    assert sum(map(len, kinds)) == len(COMMANDS)


def test_a_command_acts_under_its_own_name_if_it_changes_something_and_else_not_at_all():
    for name in COMMANDS:
        with case(name):
            tree = ast.parse(inspect.getsource(COMMANDS[name].callback).strip())
            calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)]
            names = {
                argument.value
                for call in calls
                if call.func.id in ("acting", "as_command")  # type: ignore[attr-defined]
                for argument in call.args
                if isinstance(argument, ast.Constant)
            }
            assert names == ({name} if name in CHANGING else set())


def test_who_and_why_can_be_said_and_why_must_be_where_it_matters():
    for name in sorted(CHANGING):
        with case(name):
            options = {option: each for each in COMMANDS[name].params for option in each.opts}
            assert "--actor" in options
            assert ("--reason" in options and options["--reason"].required) == (name in NEED_A_REASON)


def test_a_command_s_name_is_archived():
    for name in CHANGING:
        assert set(records.members({"command": name, "count": 2})) == {"command", "count"}, name


def test_the_page_names_every_command_that_changes_something():
    table = PAGE.partition("| command | changes |")[2]
    assert set(re.findall(r"`([a-z -]+)`", table.partition("\n\n")[0])) - {"done", "begun", "failed"} == CHANGING


# Each of them is recorded.


# `housekeeping run` makes many transactions, and tests/cli/test_cli_housekeeping.py says what is listed of it.
@pytest.mark.parametrize("name", sorted(CHANGING & ARGUMENTS.keys() - {"migrate", "housekeeping run"}))
def test_a_command_is_listed_with_who_what_on_what_how_many_and_why(run, service, name):
    run("switch", "pull", "invoices", "--reason", "INC-1")
    if name.startswith("invoice"):
        run("switch", "release", "invoices", "--reason", "mended")
    arguments = ARGUMENTS[name](service)
    ran = run(*name.split(), *arguments, "--actor", "grace")
    assert ran.status == 0, ran.err
    told = listed(run)[0]
    assert (told["actor"], told["command"], told["count"], told["outcome"]) == ("grace", name, 1, "done")
    reason = arguments[arguments.index("--reason") + 1] if "--reason" in arguments else None
    assert told["reason"] == reason
    changed = ran.json
    assert told["about"] in (arguments[0], *(changed.get(key) for key in ("id", "entity_id")))
    assert told["at"] == told["ended_at"]


def test_what_changes_nothing_is_not_recorded(run, service):
    (intent,) = service.intents()
    asked = ("capture", "--payment-intent", intent, "--amount", "1999", "--currency", "USD", "--request-id", "order-x")
    for command in (asked, ("switch", "pull", "captures", "--reason", "INC-12"), ("migrate",)):
        for _ in range(2):
            assert run(*command).status == 0
    assert [row["command"] for row in listed(run)] == ["switch pull", "capture"]


def test_an_operator_who_takes_over_what_the_service_pulled_is_recorded(run, service):
    from billing import switches

    with database.transaction(service.engine) as session:
        switches.pull(session, "captures", actor="billing", reason="our key is refused", probes=True)
    run("switch", "pull", "captures", "--reason", "INC-12", "--actor", "grace")
    assert [row["actor"] for row in listed(run)] == ["grace"]


def test_a_refused_command_leaves_no_fact(run, service):
    assert run("quarantine", "replay", "wrk_1", "--reason", "INC-12").status == 2
    assert run("switch", "release", "captures", "--reason", "INC-12").status == 2
    assert run("audit").out == "no command has changed anything yet\n"


def test_what_cannot_be_recorded_is_not_done(run, service):
    service.execute("ALTER TABLE billing.facts ADD CHECK (entity_type <> 'command')")
    assert run("switch", "pull", "captures", "--reason", "INC-12").status != 0
    assert run("switch", "list", "--json").json == []


# Who it was.


def test_production_refuses_the_user_of_the_shell_in_one_line(run, monkeypatch, tmp_path):
    monkeypatch.setenv("BILLING_ENVIRONMENT", "production")
    monkeypatch.setenv("BILLING_STRIPE_KEY", "env:A_KEY")
    for setting in ("BILLING_TIMING", "STRIPE_API_BASE"):
        monkeypatch.delenv(setting)
    for name in sorted(CHANGING):
        with case(name), monkeypatch.context() as here:
            command = (*name.split(), *LEAST.get(name, ()), *(("--reason", "INC-12") if name in NEED_A_REASON else ()))
            ran = run(*command)
            assert (ran.status, ran.out) == (2, "")
            (line,) = ran.err.splitlines()
            assert line.startswith(f"billing {name}: production must know who does this")
            assert line.removeprefix(f"billing {name}: ") in PAGE
            # Named, it goes on, and finds that this is no database of production.
            assert "belongs to environment 'test'" in run(*command, "--actor", "grace").err
            here.setenv("BILLING_ACTOR", "grace")
            assert "belongs to environment 'test'" in run(*command).err


LEAST = {
    "archive key new": ("/nowhere/key.pem",),
    "access apply": ("secrets",),
    "differences close": ("dif_1",),
    "archive hold place": ("--name", "CASE-7", "--where", "payment-intent=pi_1"),
    "archive hold release": ("--name", "CASE-7"),
    "archive policy raise": ("--class", "capture"),
    "archive restore": ("case_7", "--id", "pi_1", "--reason", "INC-12"),
    "document request": ("inv_1",),
    "email send": ("refund_made", "--to", "cus_1", "--data", "/dev/null", "--request-id", "mail-1"),
    "erase customer": ("cus_1",),
    "void": ("--payment-intent", "pi_1", "--request-id", "order-1", "--reason", "abandoned"),
    "capture": ("--payment-intent", "pi_1", "--amount", "1", "--currency", "USD", "--request-id", "order-1"),
    "close": ("2026-10", "--reason", "INC-12"),
    "compensate": ("cap_1",),
    "invoice capture": ("cap_1", "--customer", "cus_1", "--description", "a seat"),
    "invoice captures": ("--period", "2025-10"),
    "invoice credit": ("inv_1", "--amount", "1", "--settle", "reduce", "--request-id", "credit-1"),
    "invoice credit-void": ("crn_1", "--request-id", "act-1"),
    "invoice issue": (
        *("--customer", "cus_1", "--line", "a seat=1", "--currency", "EUR"),
        *("--days-until-due", "14", "--request-id", "seat-1"),
    ),
    "invoice issue-many": ("--from-file", "/dev/null", "--reason", "INC-12"),
    "invoice reopen": ("inv_1",),
    **{
        f"invoice {each}": ("inv_1", "--request-id", "act-1")
        for each in ("mark-paid", "mark-uncollectible", "pay", "void")
    },
    "quarantine assign": ("wrk_1", "--to", "grace"),
    "quarantine conclude": ("ref_1",),
    "quarantine discard": ("wrk_1",),
    "quarantine replay": ("wrk_1",),
    "recover": ("--apply", "--reason", "INC-17"),
    "refund": ("--payment-intent", "pi_1", "--request-id", "return-1"),
    "schedule pause": ("snapshot_queues",),
    "schedule resume": ("snapshot_queues",),
    "schedule run": ("snapshot_queues",),
    "switch pull": ("captures",),
    "switch release": ("captures",),
}


def test_elsewhere_the_user_of_the_shell_is_kept_as_such_and_the_setting_goes_before_him(run, service, monkeypatch):
    monkeypatch.setenv("LOGNAME", "anna")
    run("switch", "pull", "captures", "--reason", "INC-12")
    monkeypatch.setenv("BILLING_ACTOR", "grace")
    run("switch", "pull", "invoices", "--reason", "INC-12")
    run("switch", "pull", "everything", "--reason", "INC-12", "--actor", "ada")
    assert [row["actor"] for row in listed(run)] == ["ada", "grace", "shell:anna"]
    with service.engine.connect() as connection:
        pulled = connection.scalars(text("SELECT actor FROM billing.facts WHERE topic = 'switch.pulled' ORDER BY id"))
        assert list(pulled) == ["shell:anna", "grace", "ada"]


@pytest.mark.parametrize("name", ["billing", " Billing ", "shell:anna", "a\x1bname", "4242 4242 4242 4242", "x" * 256])
def test_a_name_that_names_nobody_or_cannot_be_stored_is_refused(run, service, name, monkeypatch):
    refused = run("switch", "pull", "captures", "--reason", "INC-12", "--actor", name)
    assert refused.status == 2
    assert refused.err.startswith("billing: --actor must ")
    monkeypatch.setenv("BILLING_ACTOR", name)
    refused = run("switch", "pull", "captures", "--reason", "INC-12")
    assert refused.err.startswith("billing: BILLING_ACTOR must ")
    assert run("switch", "list", "--json").json == []


# What lies outside of one transaction.


class SilentBucket(BaseHTTPRequestHandler):
    """An S3 that knows no bucket, and goes silent when one is to be made."""

    asked = threading.Event()
    over = threading.Event()

    def do_GET(self) -> None:
        body = b"<Error><Code>NoSuchBucket</Code></Error>"
        self.send_response(404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_PUT(self) -> None:
        self.asked.set()
        self.over.wait(PATIENCE_S)

    def log_message(self, *_: object) -> None:
        pass


def test_a_command_that_dies_on_its_way_is_listed_as_begun(run, service, settings, monkeypatch):
    server = HttpServer(("127.0.0.1", 0), SilentBucket)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("S3_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("BILLING_S3_ACCESS_KEY", "AK1")
    monkeypatch.setenv("BILLING_S3_SECRET_KEY", "secret")
    monkeypatch.setenv("BILLING_ARCHIVE_BUCKET", "evidence")
    arguments = ("archive", "setup", "--reason", "OPS-7", "--actor", "grace")
    process = subprocess.Popen([sys.executable, "-m", "jobs.cli", *arguments], stderr=subprocess.DEVNULL)
    try:
        # It is recorded before S3 is asked to make anything.
        assert SilentBucket.asked.wait(PATIENCE_S)
        (begun,) = listed(run)
        os.kill(process.pid, signal.SIGKILL)
        process.wait(PATIENCE_S)
    finally:
        process.kill()
        SilentBucket.over.set()
        server.shutdown()
        server.server_close()
    assert listed(run) == [begun]
    assert (begun["outcome"], begun["ended_at"], begun["about"], begun["reason"]) == (
        "begun",
        None,
        "evidence",
        "OPS-7",
    )
    told = run("audit").out
    assert "BEGUN, NOT FINISHED" in told
    assert "1 command was begun and not finished" in told


@pytest.fixture
def empty(template: LocalServers, run, monkeypatch) -> Iterator[str]:
    """The URL of a database with nothing in it, in which the commands of this test run."""
    name = f"test_{uuid4().hex}"
    owner = make_url(template.environment["DATABASE_URL"])
    with psycopg.connect(plain_url(owner), autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    url = plain_url(owner.set(database=name))
    monkeypatch.setenv("DATABASE_URL", url)
    yield url
    drop_database(template, name)


def plain_url(url: URL) -> str:
    return url.set(drivername="postgresql").render_as_string(hide_password=False)


def test_a_migration_is_recorded_before_and_after_it_and_not_where_nothing_is_missing(run, empty):
    migrate.upgrade(empty, environment="test", livemode=False, to="0010")
    for _ in range(2):
        ran = run("migrate", "--actor", "grace", "--reason", "version 0.2")
        assert ran.status == 0, ran.err
    (told,) = listed(run)
    assert (told["command"], told["about"], told["outcome"]) == ("migrate", migrate.head(), "done")
    # Their numbers may have gaps.
    later = [each for each in VERSIONS.glob("[0-9]*.py") if each.name[:4] > "0010"]
    assert told["count"] == len(later)
    assert told["at"] < told["ended_at"]


def test_the_first_migration_of_all_is_recorded_once_there_is_a_table_for_it(run, empty):
    assert run("migrate", "--actor", "grace").status == 0
    (told,) = listed(run)
    assert (told["actor"], told["about"], told["outcome"]) == ("grace", migrate.head(), "done")


def test_a_migration_that_fails_is_recorded_as_failed_with_the_class_of_its_error_alone(run, empty):
    migrate.upgrade(empty, environment="test", livemode=False, to="0010")
    with psycopg.connect(empty) as owner:
        # What migration 0011 renames something in.
        owner.execute("ALTER TABLE billing.invoices RENAME TO hidden")
    assert run("migrate", "--actor", "grace").status != 0
    (told,) = listed(run)
    assert (told["outcome"], told["error"]) == ("failed", "ProgrammingError")
    assert "FAILED ProgrammingError" in run("audit").out


# Looking.


def pulled_by(run, *actors: str) -> None:
    for actor, scope in zip(actors, ("captures", "invoices", "everything"), strict=False):
        assert run("switch", "pull", scope, "--reason", "INC-12", "--actor", actor).status == 0


def test_the_list_is_narrowed_by_time_actor_command_and_subject(run, service):
    pulled_by(run, "ada", "grace", "ada")
    run("switch", "release", "captures", "--reason", "mended", "--actor", "grace")
    about = [row["about"] for row in listed(run)]
    assert about == ["captures", "everything", "invoices", "captures"]
    assert [row["about"] for row in listed(run, "--actor", "ada")] == ["everything", "captures"]
    assert [row["actor"] for row in listed(run, "--command", "switch release")] == ["grace"]
    assert [row["command"] for row in listed(run, "--about", "captures")] == ["switch release", "switch pull"]
    assert [row["about"] for row in listed(run, "--most", "1")] == ["captures"]
    assert "these are the newest 1; --most lists more" in run("audit", "--most", "1").out
    middle = listed(run)[1]["at"]
    assert [row["about"] for row in listed(run, "--since", middle)] == ["captures", "everything"]
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).date()
    assert run("audit", "--since", str(tomorrow)).out == "no such command\n"
    assert run("audit", "--since", "1960-01-01", "--json").json == listed(run)


HOSTILE = [
    "{}",
    '{"command": 17, "about": ["x"], "count": "many", "reason": {"a": 1}}',
    '{"command": "a\\u001b[2Jb", "about": "x\\ny"}',
    '{"count": 1e9999}',
    '{"a": [[[[[[1]]]]]]}',
]


def test_a_fact_that_somebody_made_up_spoils_no_list(run, service):
    pulled_by(run, "ada")
    for number, payload in enumerate(HOSTILE):
        service.execute(
            "INSERT INTO billing.facts (topic, entity_type, entity_id, entity_version, actor, payload)"
            " VALUES ('command.celebrated', 'command', :id, 1, E'\\x1b[2J', CAST(:payload AS jsonb))",
            id=f"cmd_z{number}",
            payload=payload,
        )
    told = run("audit")
    assert told.status == 0, told.err
    assert "\x1b" not in told.out
    assert [row["actor"] for row in listed(run)][-1] == "ada"
    assert len(listed(run, "--about", "captures")) == 1


def test_what_is_archived_of_a_command_names_no_person_and_no_bucket():
    told = {"command": "archive setup", "about": "evidence-of-ada", "count": 1, "reason": "Ada asked", "error": "Ada"}
    assert set(records.members(told)) == {"command", "count"}
    for about in ("captures", "account:acct_1", "cap_" + "0" * 32, "0014", "key_5c9a0b1d2e3f4a5b"):
        assert set(records.members({"about": about})) == {"about"}
    assert records.members({"command": "jane doe"}) == {}


def test_an_archiver_finishes_what_one_wrote_that_knew_no_commands():
    payload = {"command": "switch pull", "about": "captures", "count": 1, "scope": "captures"}
    ours, earlier, other = (
        records.pa.table(
            {name: [records.canonical(told)] if name == "payload" else [None] for name in records.SCHEMA.names}
        )
        for told in (payload, {"scope": "captures"}, {"scope": "invoices"})
    )
    assert comparing.same(earlier, ours)
    assert not comparing.same(other, ours)
    # Whoever leaves out more, or tells more, did not write this.
    assert not comparing.same(ours, earlier)


# The page.


def examples() -> list[tuple[str, str]]:
    """(command, what it prints) of every example."""
    blocks = re.findall(r"^```console\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    parts = [part for block in blocks for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]]
    return [(part.partition("\n")[0], part.partition("\n")[2]) for part in parts]


def plain(words: str) -> str:
    """Without what differs from run to run: times, ids, and how wide a column is."""
    words = re.sub(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d[.\d]*(\+00:00)?", "TIME", words)
    return re.sub(r" +", " ", re.sub(r"cmd_[0-9a-f]{32}", "ID", words)).replace(" \n", "\n")


def test_the_examples_of_the_page_print_what_it_shows(run, service, monkeypatch):
    import shlex

    yesterday = str((datetime.now(UTC) - timedelta(days=1)).date())
    assert len(examples()) == 5
    for command, shown in examples():
        words = shlex.split(command.replace("--since 2026-11-29", f"--since {yesterday}"))
        with monkeypatch.context() as here:
            if words[0] != "billing":
                name, _, value = words.pop(0).partition("=")
                here.setenv(name, value)
                here.setenv("BILLING_STRIPE_KEY", "env:A_KEY")
                for setting in ("BILLING_TIMING", "STRIPE_API_BASE"):
                    here.delenv(setting)
            ran = run(*words[1:])
        assert plain(ran.out + ran.err) == plain(shown), command


def test_the_settings_of_the_page_exist():
    assert variable("actor") == "BILLING_ACTOR"
    assert set(re.findall(r"BILLING_[A-Z]+", PAGE)) <= set(map(variable, Settings.model_fields))
