"""`billing archive restore`: verified facts in a Postgres of an investigator's own, or nothing there at all."""

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from command import Run
from psycopg import sql
from service import Service, drop_database, eventually
from sqlalchemy.engine import make_url

from archive.queries import views
from archive.scratch import restoring, schemas
from jobs.config.loading import load
from jobs.local.servers import LocalServers
from jobs.process import archiving, buckets, scratch

PAGE = (Path(__file__).parents[2] / "docs" / "finance" / "investigating.md").read_text()
BECAUSE = ("--reason", "LEGAL-7")
SETTING = "BILLING_SCRATCH_URL"


@pytest.fixture
def place(template: LocalServers, settings: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A database of the investigator's, with a login that owns it and has no right anywhere else."""
    name = f"scratch_{uuid4().hex}"
    owner = make_url(template.environment["DATABASE_URL"])
    plain = owner.set(drivername="postgresql")
    with psycopg.connect(plain.render_as_string(hide_password=False), autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'scratch'").format(sql.Identifier(name)))
        admin.execute(sql.SQL("CREATE DATABASE {0} OWNER {0}").format(sql.Identifier(name)))
    url = plain.set(database=name, username=name, password="scratch").render_as_string(hide_password=False)
    monkeypatch.setenv(SETTING, url)
    yield url
    drop_database(template, name)
    with psycopg.connect(plain.render_as_string(hide_password=False), autocommit=True) as admin:
        admin.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(name)))


CAPTURE, OTHER, INVOICE = (f"{kind}_{'0' * 31}{n}" for n, kind in enumerate(("cap", "cap", "inv")))
MONEY = {"minor": 1999, "currency": "USD", "account": "own", "payment_intent": "pi_7"}
FACTS = [
    (CAPTURE, "capture.requested", MONEY),
    (CAPTURE, "capture.attempted", {"step": "capture", "outcome": "definite", "request_id": "req_1"}),
    (CAPTURE, "capture.captured", MONEY),
    (OTHER, "capture.requested", MONEY | {"payment_intent": "pi_8"}),
    (OTHER, "capture.captured", MONEY | {"payment_intent": "pi_8"}),
    (INVOICE, "invoice.requested", {"minor": 4501, "currency": "EUR", "customer": "cus_1"}),
    (INVOICE, "invoice.sent", {"minor": 4501, "currency": "EUR", "number": "AB-1"}),
]


@pytest.fixture
def archived(service: Service, made: str, run: Run) -> Service:
    """Two captures and an invoice, of which only the facts exist, in Postgres and in the archive."""
    for number, (entity_id, topic, payload) in enumerate(FACTS):
        service.execute(
            "INSERT INTO billing.facts (topic, entity_type, entity_id, entity_version, actor, correlation_id, payload,"
            " planned_version) VALUES (:topic, :kind, :id, :version, 'billing', :correlation,"
            " CAST(:payload AS jsonb), 1)",
            topic=topic,
            kind=topic.partition(".")[0],
            id=entity_id,
            version=1 + sum(each[0] == entity_id for each in FACTS[:number]),
            correlation=f"order-{entity_id[-1]}",
            payload=json.dumps(payload),
        )
    assert run("archive", "run", "--once").status == 0
    return service


def asked(place: str, query: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(place) as connection:
        return connection.execute(query).fetchall()  # type: ignore[call-overload,no-any-return]


def schemas_at(place: str) -> list[str]:
    rows = asked(place, "SELECT nspname FROM pg_namespace WHERE nspname LIKE 'billing%' ORDER BY 1")
    return [row[0] for row in rows]


def test_everything_about_a_payment_is_there_with_types_indexes_and_where_it_comes_from(
    run: Run, place: str, archived: Service
) -> None:
    done = run("archive", "restore", "case_7", "--id", "pi_7", *BECAUSE, "--actor", "grace", "--json").json
    facts = archived.facts(CAPTURE)
    assert (done["schema"], done["facts"]) == ("billing_scratch_case_7", len(facts))
    rows = asked(
        place,
        "SELECT topic, entity_version, happened_at, payload FROM billing_scratch_case_7.facts"
        " WHERE entity_id = '" + CAPTURE + "' ORDER BY entity_version",
    )
    assert [row[:3] for row in rows] == [(fact.topic, fact.entity_version, fact.happened_at) for fact in facts]
    # JSON is JSON, and each key is a column as well.
    assert asked(
        place,
        "SELECT minor, currency, payload ->> 'account', account FROM billing_scratch_case_7.facts"
        " WHERE topic = 'capture.captured'",
    ) == [(1999, "USD", "own", "own")]
    types = dict(
        asked(
            place,
            "SELECT column_name, data_type FROM information_schema.columns WHERE table_name = 'facts'"
            " ORDER BY ordinal_position",
        )
    )
    assert list(types) == [name for name, _ in views.columns()]
    wanted = {"happened_at": "timestamp with time zone", "payload": "jsonb", "minor": "bigint", "event_date": "date"}
    assert wanted.items() <= types.items()
    indexes = asked(place, "SELECT indexdef FROM pg_indexes WHERE tablename = 'facts'")
    for column in ("entity_id", "payment_intent", "customer", "correlation_id"):
        assert any(f"({column})" in row[0] for row in indexes)
    (source,) = asked(
        place, "SELECT made_by, reason, bucket, facts, query_sha256, parameters FROM billing_scratch_case_7.source"
    )
    assert source[:2] == ("grace", "LEGAL-7")
    assert source[3:5] == (len(facts), done["query_sha256"])
    heads = dict(asked(place, "SELECT retention_class, head FROM billing_scratch_case_7.source_manifests"))
    assert heads == done["heads"]
    assert heads == {
        each["retention_class"]: each["head"] for each in run("archive", "status", "--json").json["classes"]
    }
    (told,) = run("audit", "--command", "archive restore", "--json").json
    assert (told["actor"], told["about"], told["reason"], told["outcome"]) == (
        "grace",
        "billing_scratch_case_7",
        "LEGAL-7",
        "done",
    )


def test_a_select_a_class_a_time_or_several_ids_choose(run: Run, place: str, archived: Service) -> None:
    def restored(*choice: str) -> list[tuple[Any, ...]]:
        ran = run("archive", "restore", "case", "--replace", *choice, *BECAUSE)
        assert ran.status == 0, ran.err
        return asked(place, "SELECT topic, retention_class FROM billing_scratch_case.facts ORDER BY 1, 2")

    captured = ("capture.captured", "capture")
    assert restored("--query", "SELECT * FROM facts WHERE topic = 'capture.captured'") == [captured] * 2
    assert {each[1] for each in restored("--class", "invoice", "--class", "attempt")} == {"invoice", "attempt"}
    assert len(restored("--since", "2020-01-01")) == len(FACTS)
    assert len(restored("--id", "order-1")) == 2
    assert len(restored("--id", "pi_7", "--id", "cus_1")) == 5


WRONG = [
    (("--id", "pi_unknown"), "the archive has no such fact"),
    (("--query", "SELECT topic FROM facts"), "no column retention_class"),
    (("--query", "SELECT * FROM read_csv('/etc/passwd')"), "no file"),
    (("--class", "refunds"), "is no class"),
    (("--id", "two words"), "--id"),
    (("--id", "pi_1", "--query", "SELECT 1"), "one of --id and --query"),
    ((), "say which facts"),
]


def test_what_chooses_nothing_or_is_wrong_leaves_nothing(run: Run, place: str, archived: Service) -> None:
    for choice, why in WRONG:
        ran = run("archive", "restore", "case_7", *choice, *BECAUSE)
        assert (ran.status, why in ran.err, len(ran.err.splitlines())) == (2, True, 1), ran.err
    for name in ("Case", 'x"; DROP SCHEMA billing; --', "a" * 41, "7", ""):
        assert run("archive", "restore", name, "--id", CAPTURE, *BECAUSE).status == 2
    assert run("archive", "restore", "case_7", "--id", CAPTURE).status == 2
    assert schemas_at(place) == []


def test_a_name_that_exists_is_refused_and_what_is_not_ours_is_never_dropped(
    run: Run, place: str, archived: Service
) -> None:
    asked_for = ("archive", "restore", "case_7", "--id", CAPTURE, *BECAUSE)
    assert run(*asked_for).status == 0
    again = run(*asked_for)
    assert (again.status, "--replace" in again.err) == (2, True)
    assert run(*asked_for, "--replace").status == 0
    assert len(run("audit", "--command", "archive restore", "--json").json) == 2
    with psycopg.connect(place) as investigator:
        investigator.execute("CREATE VIEW billing_scratch_case_7.mine AS SELECT 1 AS x")
        investigator.execute("CREATE SCHEMA billing_scratch_mine")
    for refused in ((*asked_for, "--replace"), ("archive", "restore", "--drop", "case_7", *BECAUSE)):
        ran = run(*refused)
        assert (ran.status, "something of yours" in ran.err) == (2, True), ran.err
    assert asked(place, "SELECT count(*) FROM billing_scratch_case_7.facts") != [(0,)]
    for name in ("mine", "none"):
        assert run("archive", "restore", "--drop", name, *BECAUSE).status == 2
    assert schemas_at(place) == ["billing_scratch_case_7", "billing_scratch_mine"]
    assert [each["name"] for each in run("archive", "restore", "--list", "--json").json] == ["case_7"]
    with psycopg.connect(place) as investigator:
        investigator.execute("DROP VIEW billing_scratch_case_7.mine")
    assert run("archive", "restore", "--drop", "case_7", *BECAUSE).out == "billing_scratch_case_7 is dropped\n"
    assert schemas_at(place) == ["billing_scratch_mine"]


def test_a_restore_that_dies_on_its_way_leaves_what_was_there_before(run: Run, place: str, archived: Service) -> None:
    assert run("archive", "restore", "case_7", "--id", CAPTURE, *BECAUSE).status == 0
    before = asked(place, "SELECT * FROM billing_scratch_case_7.facts")
    settings = load()

    def dies(_: int) -> None:
        raise KeyboardInterrupt

    def restore(name: str) -> None:
        maker = restoring.Maker("grace", "LEGAL-7", "test", "evidence")
        with buckets.opened(settings) as store, scratch.connected(settings) as connection:
            cache = archiving.cache(settings, store)
            restoring.restore(cache, connection, name, restoring.Choice(), maker, replace=True, progress=dies)

    for name in ("billing_scratch_case_7", "billing_scratch_new"):
        with pytest.raises(KeyboardInterrupt):
            restore(name)
    eventually(lambda: schemas_at(place) == ["billing_scratch_case_7"], "nothing new is there")
    assert asked(place, "SELECT * FROM billing_scratch_case_7.facts") == before


def test_the_database_of_the_service_is_refused(run: Run, service: Service, place: str, made: str, monkeypatch) -> None:
    monkeypatch.setenv(SETTING, service.url)
    for command in (("case_7", "--id", "pi_1", *BECAUSE), ("--list",), ("--drop", "case_7", *BECAUSE)):
        ran = run("archive", "restore", *command)
        assert (ran.status, "leads to the database of the service" in ran.err) == (2, True)
    assert run("audit", "--json").json == []


def test_a_place_that_cannot_be_reached_is_named_by_its_setting_without_its_password(
    run: Run, made: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for url in ("postgresql://nobody:canary@127.0.0.1:1/none", "mysql://canary", "env:NOWHERE", ""):
        monkeypatch.setenv(SETTING, url)
        ran = run("archive", "restore", "case_7", "--id", "pi_1", *BECAUSE)
        assert (ran.status, SETTING in ran.err, "canary" in ran.err) == (2, True, False), ran.err


def test_the_doctor_and_the_list_name_what_is_older_than_thirty_days(run: Run, place: str, archived: Service) -> None:
    def finding() -> tuple[str, str]:
        (found,) = (each for each in run("doctor", "--json").json if each["part"] == "scratch")
        return found["level"], found["message"] + found["fix"]

    assert run("archive", "restore", "--list").out == "there is no scratch schema\n"
    assert run("archive", "restore", "case_7", "--id", CAPTURE, *BECAUSE).status == 0
    assert finding()[0] == "ok"
    assert "OLD" not in run("archive", "restore", "--list").out
    with psycopg.connect(place) as investigator:
        days = schemas.OLD.days + 1
        investigator.execute(f"UPDATE billing_scratch_case_7.source SET made_at = now() - interval '{days} days'")
    level, said = finding()
    assert (level, "case_7" in said, "--drop case_7" in said) == ("warn", True, True)
    assert "OLD" in run("archive", "restore", "--list").out


def test_each_command_of_the_page_does_what_it_says(run: Run, place: str, archived: Service) -> None:
    """docs/finance/investigating.md: its commands in their order, about a capture that there is."""
    commands = re.findall(r"^\$ billing (archive restore .*?[^\\])\n", PAGE, re.MULTILINE | re.DOTALL)
    assert len(commands) >= 4
    for command in commands:
        ran = run(*shlex.split(command.replace("\\\n", " ").replace("pi_123", CAPTURE)))
        assert ran.status == 0, ran.err
    assert schemas_at(place) != []
