"""What `billing housekeeping` and `billing growth` print, and that the numbers are those of the rows."""

import re
import shlex
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from command import Run
from long_ago import archived_without_a_bucket, make_older
from service import Service
from sqlalchemy import text

from billing import database
from jobs.growth import redis_memory, tables
from jobs.rq import bells

PAGE = (Path(__file__).parents[2] / "docs" / "operate" / "housekeeping.md").read_text()


def long_over(service: Service) -> list[str]:
    """A capture and an invoice that ended 91 days ago, and are archived."""
    ids = [service.ask_for_capture(), service.ask_for_invoice()]
    service.settle(*ids)
    archived_without_a_bucket(service)
    make_older(service)
    return ids


def examples() -> list[tuple[str, str]]:
    """(command, what it prints) of every example of the page."""
    blocks = re.findall(r"^```console\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    parts = [part for block in blocks for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]]
    return [(part.partition("\n")[0], part.partition("\n")[2]) for part in parts]


def plain(words: str) -> list[str]:
    """Without the rows of tables, and without what differs from run to run: sizes, numbers, how wide a column is."""
    words = re.sub(r"^[a-z_]+  .*\d.*\n", "", words, flags=re.MULTILINE)
    words = re.sub(r"\d+(\.\d+)?( ([kMG]?B)\b)?", "N", words)
    return [re.sub(r" +", " ", line).strip() for line in words.splitlines()]


def test_the_examples_of_the_page_print_what_it_shows(run: Run, service: Service) -> None:
    long_over(service)
    service.redis.flushall()
    bells.ring(service.redis, "test", "captures")
    service.execute("UPDATE billing.installation SET created_at = created_at - interval '8 days'")
    assert len(examples()) == 4
    for command, shown in examples():
        ran = run(*shlex.split(command)[1:])
        assert ran.status == 0, ran.err
        assert plain(ran.out) == plain(shown), command
        if "housekeeping" in command:
            assert ran.out == shown


def test_a_dry_run_removes_nothing_and_is_no_change(run: Run, service: Service) -> None:
    long_over(service)
    for _ in range(2):
        assert run("housekeeping", "run", "--dry-run", "--json").json["removed"]["operations"] == 2
    assert run("audit", "--json").json == []


def test_a_run_is_a_command_with_who_and_how_many_and_an_empty_one_is_none(run: Run, service: Service) -> None:
    long_over(service)
    for _ in range(2):
        assert run("housekeeping", "run", "--actor", "grace").status == 0
    (told,) = run("audit", "--json").json
    assert (told["actor"], told["command"], told["count"], told["outcome"]) == ("grace", "housekeeping run", 2, "done")


def test_the_setting_keeps_for_longer(run: Run, service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    long_over(service)
    monkeypatch.setenv("BILLING_KEEP_DAYS", "365")
    assert "ended 365 days ago" in run("housekeeping", "run").out
    monkeypatch.setenv("BILLING_KEEP_DAYS", "30")
    assert "BILLING_KEEP_DAYS" in run("housekeeping", "run").err


def test_what_was_removed_is_explained_by_its_facts(run: Run, service: Service) -> None:
    capture, invoice = long_over(service)
    (story,) = run("explain", capture, "--json").json["operations"]
    request_id = next(call["request_ids"][0] for call in story["calls"])
    run("housekeeping", "run")
    told = run("explain", capture).out
    assert "work and calls were removed long after the end" in told
    assert request_id in told
    assert run("status", invoice, "--json").json["state"] == "sent"
    refused = run("invoice", "reopen", invoice, "--reason", "why not")
    assert refused.status == 2


# How large it is.


def test_rows_of_each_day_are_counted_by_their_ids_and_facts_by_their_times(service: Service) -> None:
    service.execute("UPDATE billing.installation SET created_at = created_at - interval '30 days'")
    now = datetime.now(UTC)
    for day, count in reversed(list(enumerate((3, 0, 5, 1, 0, 2, 4, 7)))):
        at = now - timedelta(days=day, hours=1)
        for number in range(count):
            service.execute(
                "INSERT INTO billing.captures (id, request_id, payment_intent, amount_minor, currency)"
                " VALUES (:id, :id, :intent, 1, 'USD')",
                id=f"cap_{int(at.timestamp() * 1000) + number:012x}00",
                intent=f"pi_{day}x{number}",
            )
            # Its number was drawn by a transaction that was rolled back.
            service.execute("SELECT nextval(pg_get_serial_sequence('billing.facts', 'id'))")
            service.execute(
                "INSERT INTO billing.facts (topic, entity_type, entity_id, entity_version, actor, payload, happened_at)"
                " VALUES ('a.b', 'a', :id, 1, 'a', '{}', :at)",
                id=f"a_{day}x{number}",
                at=at,
            )
    found = {of.size.name: of for of in tables.growth(service.engines["operator"])}
    for table in ("captures", "facts"):
        assert found[table].by_day == [3, 0, 5, 1, 0, 2, 4]
        assert found[table].per_day == 15 / 7
    assert found["installation"].by_day is None


def test_a_forecast_goes_on_as_it_went(service: Service) -> None:
    size = tables.Size("facts", 1000, 0, 60_000, 30_000, 10_000)
    (ahead,) = tables._of(size, [10, 20, 30], [30]).forecasts
    assert (ahead.rows, ahead.bytes) == (1600, 160_000)
    # Of a table that Postgres has not counted yet.
    (ahead,) = tables._of(tables.Size("facts", 0, 0, 1000, 0, 0), [10], [1]).forecasts
    assert (ahead.rows, ahead.bytes) == (10, 2000)


def test_a_new_installation_is_not_said_to_have_been_idle_for_a_week(service: Service) -> None:
    service.ask_for_capture()
    found = {of.size.name: of for of in tables.growth(service.engines["operator"])}
    assert (found["captures"].by_day, found["captures"].per_day) == ([1], 1)


def test_a_count_that_takes_too_long_is_left_out_and_the_others_are_shown(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.ask_for_capture()
    monkeypatch.setitem(tables.SQL, "facts", "SELECT pg_sleep(60), %(lows)s, %(highs)s, %(most)s")
    found = {of.size.name: of for of in tables.growth(service.engines["operator"])}
    assert (found["facts"].by_day, found["facts"].forecasts) == (None, [])
    assert found["captures"].by_day == [1]


def test_growth_shows_every_table_and_what_could_be_removed(run: Run, service: Service) -> None:
    long_over(service)
    service.redis.flushall()
    bells.ring(service.redis, "test", "captures", 2)
    told = run("growth", "--json").json
    with database.transaction(service.engine) as session:
        query = "SELECT tablename FROM pg_tables WHERE schemaname = 'billing' AND tablename <> 'alembic_version'"
        assert {of["size"]["name"] for of in told["tables"]} == set(session.scalars(text(query)))
    assert told["removable"]["operations"] == 2
    assert told["redis_keys"]["by_kind"]["job"] == 2
    assert told["redis"]["used_bytes"] > 0
    assert "2 job" in run("growth").out


def test_growth_without_redis_shows_the_tables(run: Run, service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1/0")
    ran = run("growth")
    assert (ran.status, "redis: not known (ConnectionError)" in ran.out) == (0, True)


# What the doctor says of it.


@pytest.fixture
def doctor(run: Run, service: Service, monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    """Its finding of one part, while Redis says this of its memory."""

    def found(part: str, **said: object) -> tuple[str, str]:
        memory = redis_memory.memory
        if said:
            monkeypatch.setattr(redis_memory, "memory", lambda _: redis_memory.Memory(**said))  # type: ignore[arg-type]
        finding = next(each for each in run("doctor", "--json").json if each["part"] == part)
        monkeypatch.setattr(redis_memory, "memory", memory)
        return finding["level"], finding["message"]

    return found


def test_the_doctor_warns_of_a_redis_that_is_full_or_has_no_limit_or_throws_keys_away(doctor) -> None:
    def said(used: int, limit: int, policy: str = "noeviction") -> str:
        return str(doctor("redis memory", used_bytes=used, limit_bytes=limit, policy=policy)[0])

    assert doctor("redis memory")[0] == "ok"
    assert said(79, 100) == "ok"
    assert said(81, 100) == "warn"
    assert said(1, 0) == "warn"
    assert said(1, 100, "allkeys-lru") == "warn"


def test_the_doctor_says_what_could_be_removed_and_warns_where_nobody_does(
    doctor, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert doctor("housekeeping") == ("ok", "nothing could be removed")
    long_over(service)
    assert doctor("housekeeping") == ("ok", "the work of 2 operations could be removed")
    monkeypatch.setattr("jobs.checkup.growth.REMOVABLE_WARN", 2)
    assert doctor("housekeeping")[0] == "warn"
