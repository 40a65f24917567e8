"""The doctor reaches every part, says how it is mended, and never falls over a sick one."""

import re

import pytest
from sqlalchemy.engine import make_url

from billing import audit, database
from billing.cards import may_hold_card_number
from jobs.rq import bells

PARTS = [
    "python",
    "settings",
    "stripe key",
    "postgres",
    "clock",
    "schema",
    "installation",
    "access",
    "neighbors",
    "lineage",
    "facts",
]
PARTS += ["facts set aside", "ready work", "quarantine", "undecided", "unanswered", "differences"]
PARTS += ["switches", "commands"]
PARTS += [
    "parked work",
    "running work",
    "ids",
    "housekeeping",
    "redis",
    "redis memory",
    "stripe",
    "archive",
    "documents",
]


def parts(ran) -> dict[str, dict[str, str]]:
    return {finding["part"]: finding for finding in ran.json}


def sick(ran, level: str) -> list[str]:
    return [part for part, finding in parts(ran).items() if finding["level"] == level]


def test_a_healthy_service_is_ok_in_every_part(run, service):
    bells.write_stamp(service.redis, "test")
    ran = run("doctor", "--json")
    assert list(parts(ran)) == PARTS
    assert (sick(ran, "warn"), sick(ran, "fail"), ran.status) == ([], [], 0)
    told = run("doctor")
    assert told.status == 0
    assert len(told.out.splitlines()) == len(PARTS)


def test_what_waits_for_a_person_or_a_process_is_a_warning_with_its_mend(run, service):
    first, second, third = (service.ask_for_capture() for _ in range(3))
    service.plan()
    service.ask_for_capture()
    service.execute(
        "UPDATE billing.facts SET happened_at = happened_at - interval '1 min' WHERE planned_version IS NULL"
    )
    service.standin.add_fault("drop_before", method="POST")
    service.work_off()
    service.execute("UPDATE billing.work SET state = 'quarantined' WHERE entity_id = :id", id=first)
    service.execute("UPDATE billing.idempotency_records SET parked_at = now() WHERE operation_id = :id", id=second)
    service.execute(
        "UPDATE billing.idempotency_records SET lease_until = now() - interval '1 min' WHERE operation_id = :id",
        id=third,
    )
    service.execute(
        "UPDATE billing.work SET state = 'running', record_id = (SELECT id FROM billing.idempotency_records"
        " WHERE operation_id = :id) WHERE entity_id = :id",
        id=third,
    )
    run("switch", "pull", "invoices", "--reason", "INC-12")
    ran = run("doctor", "--json")
    assert sick(ran, "warn") == ["facts", "quarantine", "undecided", "switches", "running work", "redis"]
    told = parts(ran)
    assert second in told["undecided"]["message"]
    assert f"billing explain {second}" in told["undecided"]["fix"]
    assert told["undecided"]["message"].startswith("1 call could not be decided")
    assert told["quarantine"]["message"] == "1 piece of work needs a decision"
    assert ran.status == 0
    assert all(finding["fix"] for finding in parts(ran).values() if finding["level"] != "ok")
    assert "billing quarantine list" in run("doctor").out


def test_card_numbers_that_are_passed_as_ids_are_told_from_order_numbers_that_look_like_them(run, service):
    insert = (
        "INSERT INTO billing.captures (id, request_id, payment_intent, amount_minor, currency)"
        " SELECT 'cap_' || id, 'order-' || id, 'pi_' || id, 1, 'USD' FROM unnest(CAST(:ids AS text[])) AS id"
    )
    series = [str(number) for number in range(4539148803436000, 4539148803436400)]
    service.execute(insert, ids=series[:100])
    # A tenth of them may be card numbers, as of any such series.
    assert parts(run("doctor", "--json"))["ids"]["level"] == "ok"
    service.execute("DELETE FROM billing.captures")
    service.execute(insert, ids=[number for number in series if may_hold_card_number(number)])
    told = parts(run("doctor", "--json"))["ids"]
    assert told["level"] == "warn"
    assert told["message"].startswith("40 of the newest 40 ")
    assert "4539" not in told["message"] + told["fix"]


def test_unanswered_calls_are_counted_with_the_age_of_the_oldest(run, service):
    service.standin.add_fault("drop_after_commit", method="POST")
    ids = [service.ask_for_capture() for _ in range(5)]
    service.plan()
    service.work_off()
    young = parts(run("doctor", "--json"))["unanswered"]
    assert young["level"] == "ok"
    assert young["message"].startswith("5 calls, the oldest for ")
    for number, capture_id in enumerate(ids):
        service.age(capture_id, 1000 - number)
    old = parts(run("doctor", "--json"))["unanswered"]
    assert old["level"] == "warn"
    assert old["message"].endswith(f": {', '.join(ids[:3])} and 2 more")
    assert ids[0] in old["fix"]


@pytest.mark.parametrize(
    ("name", "value", "failing"),
    [
        ("BILLING_ENVIRONMENT", None, ["settings"]),
        ("BILLING_STRIPE_KEY", "env:NOT_SET_ANYWHERE", ["stripe key"]),
        ("DATABASE_URL", "postgresql://127.0.0.1:1/x", ["postgres"]),
        ("DATABASE_URL", "postgresql://127.0.0.1:port/x", ["settings"]),
        ("DATABASE_URL", "env:A_WRONG_URL", ["postgres"]),
        ("REDIS_URL", "redis://127.0.0.1:1/0", ["redis"]),
        ("REDIS_URL", "redis://127.0.0.1:port/0", ["settings"]),
        ("REDIS_URL", "env:A_WRONG_URL", ["redis"]),
        ("STRIPE_API_BASE", "http://127.0.0.1:1", ["stripe"]),
        ("BILLING_ENVIRONMENT", "development", ["installation"]),
    ],
)
def test_a_part_that_fails_is_named_with_its_mend_and_ends_with_status_1(run, monkeypatch, name, value, failing):
    monkeypatch.setenv("A_WRONG_URL", "redis+sentinel://127.0.0.1:port/x")
    if value is None:
        monkeypatch.delenv(name)
    else:
        monkeypatch.setenv(name, value)
    ran = run("doctor", "--json")
    assert sick(ran, "fail") == failing
    assert parts(ran)[failing[0]]["fix"]
    assert ran.status == 1
    assert run("doctor").status == 1


def test_a_key_that_stripe_refuses_fails(run, service):
    service.standin.set_keys(expired=["sk_test_house"])
    ran = run("doctor", "--json")
    assert sick(ran, "fail") == ["stripe"]
    assert "BILLING_STRIPE_KEY" in parts(ran)["stripe"]["fix"]


def test_a_database_without_tables_fails(run, stack, monkeypatch):
    monkeypatch.setenv("DATABASE_URL", stack.environment["DATABASE_URL"])
    ran = run("doctor", "--json")
    assert sick(ran, "fail") == ["schema"]
    assert parts(ran)["schema"]["fix"] == "run `billing migrate`"


def test_a_database_of_an_older_or_newer_version_fails(run, service):
    service.execute("UPDATE billing.alembic_version SET version_num = '0000'")
    assert parts(run("doctor", "--json"))["schema"]["fix"] == "run `billing migrate`"
    service.execute("UPDATE billing.alembic_version SET version_num = '9999'")
    assert "install the version" in parts(run("doctor", "--json"))["schema"]["fix"]


def test_another_environments_redis_fails(run, service):
    service.redis.set(bells.STAMP, "staging")
    ran = run("doctor", "--json")
    assert sick(ran, "fail") == ["redis"]
    assert ran.status == 1


def test_work_that_no_worker_takes_is_counted_by_queue_with_the_age_of_the_oldest(run, service):
    for _ in range(2):
        service.ask_for_capture()
    invoice = service.ask_for_invoice()
    service.plan()
    assert parts(run("doctor", "--json"))["ready work"]["level"] == "ok"
    service.execute("UPDATE billing.work SET state_since = state_since - interval '10 min'")
    told = parts(run("doctor", "--json"))["ready work"]
    assert told["level"] == "warn"
    assert re.sub(r"\d+ s", "N s", told["message"]) == (
        "no worker takes it: 2 on captures, the oldest for N s; 1 on invoices, the oldest for N s"
    )
    assert "billing health worker-captures" in told["fix"]
    service.execute("UPDATE billing.work SET state_since = '-infinity' WHERE entity_id = :id", id=invoice)
    assert "invoices" not in parts(run("doctor", "--json"))["ready work"]["message"]


def test_parked_work_is_named_with_the_command_that_names_its_version(run, service):
    service.ask_for_capture()
    service.plan()
    service.execute("UPDATE billing.work SET version = 7")
    service.relay.round()
    told = parts(run("doctor", "--json"))["parked work"]
    assert (told["level"], told["fix"]) == ("warn", "billing contracts check --database")
    assert "take_capture:7: 1 parked" in run("contracts", "check", "--database").out


def test_a_command_that_began_and_did_not_end_is_named_until_it_was_done_again(run, service):
    def transact(write):
        with database.transaction(service.engines["operator"]) as session:
            write(session)

    setup = audit.command("archive setup", actor="grace", reason="OPS-7")
    with pytest.raises(KeyboardInterrupt), audit.around(transact, setup, about="evidence"):
        raise KeyboardInterrupt
    assert parts(run("doctor", "--json"))["commands"]["level"] == "ok", "it may still run"
    service.execute(
        "UPDATE billing.facts SET happened_at = happened_at - interval '1 hour' WHERE topic = 'command.begun'"
    )
    told = parts(run("doctor", "--json"))["commands"]
    message = re.sub(r"\d+ s", "N s", told["message"])
    assert (told["level"], message) == ("warn", "1 begun and not finished: archive setup by grace, N s ago")
    assert told["fix"].startswith("billing audit")
    with audit.around(transact, setup, about="evidence"):
        pass
    assert parts(run("doctor", "--json"))["commands"]["level"] == "ok"


def test_a_trigger_that_bounds_a_right_and_is_gone_or_off_is_named(run, service):
    service.execute("ALTER TABLE billing.work DISABLE TRIGGER work_keeps_scopes")
    service.execute("DROP TRIGGER switches_released ON billing.switches")
    told = parts(run("doctor", "--json"))["access"]
    assert told["level"] == "warn"
    assert told["message"] == "the trigger work_keeps_scopes of work is missing or off, and 1 more"
    assert "ENABLE" in told["fix"]


def test_a_postgres_that_takes_no_writes_fails(run, service):
    database = make_url(service.url).database
    service.execute(f'ALTER DATABASE "{database}" SET default_transaction_read_only = on')
    ran = run("doctor", "--json")
    assert sick(ran, "fail") == ["postgres"]
    assert "takes no writes" in parts(ran)["postgres"]["message"]


def test_rows_that_a_migration_had_to_leave_are_named_by_their_constraint(run, service):
    service.execute(
        "ALTER TABLE billing.captures ADD CONSTRAINT captures_new_shape CHECK (currency <> 'USD') NOT VALID"
    )
    schema = parts(run("doctor", "--json"))["schema"]
    assert (schema["level"], "captures_new_shape" in schema["message"]) == ("warn", True)
    assert "VALIDATE CONSTRAINT" in schema["fix"]
