"""What docs/access.md says of a Postgres that was there before: its owners, its cluster, its application."""

import psycopg
import pytest
from logins import set_up, tear_down
from psycopg import sql
from service import make_database
from sqlalchemy import create_engine
from sqlalchemy.engine import make_url
from sqlalchemy.orm import Session

import billing
from billing.states import WorkState
from jobs.access.migrate import wrong_grants
from jobs.local.postgres import Postgres
from jobs.local.supervisor import Supervisor

KINDS = ("application", "operator", "relay", "worker", "archiver", "web", "reader")


@pytest.fixture
def elsewhere():
    """A cluster without one role of ours, and a database whose owner may create none."""
    with Supervisor() as supervisor:
        postgres = Postgres(supervisor, durable=False, environment={})
        postgres.start()
        as_administrator(
            postgres, "CREATE ROLE shop_owner LOGIN PASSWORD 'shop'", "CREATE DATABASE shop OWNER shop_owner"
        )
        yield postgres


def as_administrator(postgres: Postgres, *statements: str) -> None:
    with psycopg.connect(postgres.url, autocommit=True) as administrator:
        for statement in statements:
            administrator.execute(statement)  # type: ignore[call-overload]


def as_owner(postgres: Postgres) -> str:
    url = make_url(postgres.url).set(username="shop_owner", password="shop", database="shop")
    return url.render_as_string(hide_password=False)


def test_an_owner_who_may_create_no_roles_migrates_once_an_administrator_has_made_them(elsewhere, run, monkeypatch):
    monkeypatch.setenv("DATABASE_URL", as_owner(elsewhere))
    refused = run("migrate")
    assert refused.status == 2
    assert refused.err.startswith("billing: DATABASE_URL: permission denied to create role; ")
    assert len(refused.err.splitlines()) == 1
    as_administrator(elsewhere, *(f"CREATE ROLE billing_{kind} NOLOGIN" for kind in KINDS))
    done = run("migrate")
    assert done.status == 0, done.err
    assert wrong_grants(as_owner(elsewhere)) == []


def test_an_owner_who_may_create_roles_does_all_of_it_without_being_a_superuser(elsewhere, run, monkeypatch, tmp_path):
    """As the first login of a managed Postgres is."""
    as_administrator(elsewhere, "ALTER ROLE shop_owner CREATEROLE")
    monkeypatch.setenv("DATABASE_URL", as_owner(elsewhere))
    where = ("--postgres", f"127.0.0.1:{elsewhere.port}/shop")
    commands = [("migrate",), ("access", "generate", str(tmp_path / "secrets"), *where)]
    commands += 2 * [("access", "apply", str(tmp_path / "secrets"), "--reason", "a test")]
    for command in commands:
        ran = run(*command)
        assert ran.status == 0, ran.err
    for kind in KINDS:
        psycopg.connect((tmp_path / "secrets" / f"{kind}_database_url").read_text()).close()
    assert wrong_grants(as_owner(elsewhere)) == []


def test_an_application_asks_with_its_own_login_in_its_own_transaction(template, new_place, service):
    """`GRANT billing_application TO shop` is all that it needs."""
    shop = f"shop_{make_url(new_place.owner).database}"
    with new_place.connect("owner") as owner:
        owner.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'shop'").format(sql.Identifier(shop)))
        owner.execute(sql.SQL("GRANT billing_application TO {}").format(sql.Identifier(shop)))
        owner.execute(sql.SQL("CREATE SCHEMA shop AUTHORIZATION {}").format(sql.Identifier(shop)))
    engine = create_engine(make_url(new_place.owner).set(username=shop, password="shop"))
    try:
        with Session(engine) as session, session.begin():
            session.connection().exec_driver_sql("CREATE TABLE shop.orders (number int)")
            asked = {"payment_intent": "pi_1", "amount": billing.Money(1999, "USD"), "request_id": "order-1"}
            receipt = billing.request_capture(session, **asked)
            assert billing.request_capture(session, **asked).capture_id == receipt.capture_id
            with pytest.raises(billing.AuthorizationTaken):
                billing.request_capture(session, **asked | {"request_id": "order-2"})
            assert billing.status(session, receipt.capture_id).state == "requested"
    finally:
        engine.dispose()
        with new_place.connect("owner") as owner:
            owner.execute(sql.SQL("DROP OWNED BY {0}").format(sql.Identifier(shop)))
            owner.execute(sql.SQL("DROP ROLE {0}").format(sql.Identifier(shop)))


def test_where_a_database_is_closed_to_all_its_own_logins_still_come_in_and_others_do_not(
    template, new_place, tmp_path
):
    other = make_database(template, f"{make_url(new_place.owner).database}_too")
    try:
        set_up(template, new_place.owner, new_place.secrets)
        set_up(template, other, tmp_path / "others")
        theirs = make_url((tmp_path / "others" / "worker_database_url").read_text())
        wrong = theirs.set(database=make_url(new_place.owner).database).render_as_string(hide_password=False)
        # The control: until then they share a cluster, and so a group.
        psycopg.connect(wrong).close()
        with new_place.connect("owner") as owner:
            name = sql.Identifier(str(make_url(new_place.owner).database))
            owner.execute(sql.SQL("REVOKE CONNECT ON DATABASE {} FROM PUBLIC").format(name))
        new_place.connect("worker").close()
        with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
            psycopg.connect(wrong)
    finally:
        tear_down(template, other)


def test_a_false_fact_of_an_application_takes_no_money_and_is_left_to_a_person(service):
    """It takes the number of the next true one. The answer about it is kept, and the money was taken once at most."""
    capture = service.ask_for_capture()
    service.execute(
        "INSERT INTO billing.facts (topic, entity_type, entity_id, entity_version, actor, payload)"
        " VALUES ('capture.captured', 'capture', :id, 2, 'application', '{}')",
        id=capture,
    )
    service.plan()
    service.work_off()
    assert service.work(capture).state == WorkState.QUARANTINED
    assert sum(service.captured(capture).values()) <= 1
    assert service.status(capture).state != "captured"
