"""An application whose login is called `billing`: its tables and ours stay apart, in whichever order they are made."""

from pathlib import Path

import psycopg
import pytest
from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from psycopg import sql
from sqlalchemy import Column, Integer, MetaData, Table, create_engine, inspect
from sqlalchemy.engine import Engine, make_url

from billing.errors import WrongDatabase
from jobs.access import migrate
from jobs.local.postgres import Postgres
from jobs.local.supervisor import Supervisor

ENV = """
from alembic import context
connection = context.config.attributes["connection"]
context.configure(connection=connection)
with context.begin_transaction():
    context.run_migrations()
"""
VERSION = """
import sqlalchemy as sa
from alembic import op
revision, down_revision = {revision!r}, {before!r}
def upgrade():
    op.create_table({table!r}, sa.Column("id", sa.Integer, primary_key=True))
"""
# As an ORM has them: the second is called like one of ours, and holds something else.
OTHERS = MetaData()
for _name in ("customers", "invoices"):
    Table(_name, OTHERS, Column("id", Integer, primary_key=True))


@pytest.fixture(scope="module")
def cluster():
    """Of its own: a role belongs to all of a cluster."""
    with Supervisor() as supervisor:
        postgres = Postgres(supervisor, durable=False, environment={})
        postgres.start()
        yield postgres


class Shop:
    """An application on a database of its own, with its ORM's tables and its own Alembic."""

    def __init__(self, cluster: Postgres, directory: Path) -> None:
        self.administrator = make_url(cluster.url).set(database="shop").render_as_string(hide_password=False)
        self.url = make_url(self.administrator).set(username="billing", password="pw").render_as_string(False)
        self._directory = directory
        (directory / "versions").mkdir()
        (directory / "env.py").write_text(ENV)
        for revision, before, table in (("a1", None, "orders"), ("b2", "a1", "carts")):
            text = VERSION.format(revision=revision, before=before, table=table)
            (directory / "versions" / f"{revision}.py").write_text(text)

    def engine(self) -> Engine:
        return create_engine(make_url(self.url).set(drivername="postgresql+psycopg"))

    def migrate(self, to: str) -> None:
        config = Config()
        config.set_main_option("script_location", str(self._directory))
        config.set_main_option("path_separator", "os")
        engine = self.engine()
        try:
            with engine.connect() as connection:
                config.attributes["connection"] = connection
                command.upgrade(config, to)
                connection.commit()
        finally:
            engine.dispose()

    def create_all(self) -> None:
        engine = self.engine()
        OTHERS.create_all(engine)
        engine.dispose()

    def tables(self, schema: str) -> set[str]:
        engine = create_engine(make_url(self.administrator).set(drivername="postgresql+psycopg"))
        found = set(inspect(engine).get_table_names(schema=schema))
        engine.dispose()
        return found

    def run(self, *statements: str) -> None:
        with psycopg.connect(self.administrator, autocommit=True) as connection:
            for statement in statements:
                connection.execute(sql.SQL(statement))  # type: ignore[arg-type]


@pytest.fixture
def shop(cluster, tmp_path, monkeypatch):
    with psycopg.connect(cluster.url, autocommit=True) as connection:
        connection.execute("CREATE ROLE billing LOGIN PASSWORD 'pw'")
        connection.execute("CREATE DATABASE shop OWNER billing")
    yield Shop(cluster, tmp_path)
    with psycopg.connect(cluster.url, autocommit=True) as connection:
        connection.execute("DROP DATABASE shop WITH (FORCE)")
        connection.execute("DROP ROLE billing")


def install(url: str) -> str:
    return migrate.upgrade(url, environment="test", livemode=False)


OURS = {"captures", "invoices", "facts", "work", "alembic_version"}
ITS = {"orders", "carts", "customers", "invoices", "alembic_version"}


@pytest.mark.parametrize("installs", ["administrator", "url"], ids=["an-administrator-installs", "the-login-installs"])
@pytest.mark.parametrize("first", ["application", "service"])
def test_its_tables_and_ours_lie_apart_in_whichever_order_they_are_made(shop, first, installs):
    """With its ORM and its Alembic, before and after; also where the service is installed by that login itself."""
    owner = getattr(shop, installs)
    shop.run("ALTER ROLE billing CREATEROLE")
    if first == "application":
        shop.migrate("a1")
        shop.create_all()
    install(owner)
    shop.migrate("b2")
    shop.create_all()
    assert shop.tables("public") == ITS
    assert shop.tables("billing") >= OURS
    assert shop.tables("billing") & {"orders", "carts", "customers"} == set()
    assert install(owner) == migrate.head()
    assert migrate.wrong_grants(owner) == []
    migrate.check(owner)


def test_without_it_the_application_s_alembic_would_read_our_version_table(shop):
    """The control: what the path of such a login does."""
    install(shop.administrator)
    shop.run("ALTER ROLE billing IN DATABASE shop RESET search_path", "GRANT ALL ON SCHEMA billing TO billing")
    shop.run("GRANT SELECT ON ALL TABLES IN SCHEMA billing TO billing")
    with pytest.raises(CommandError, match="Can't locate revision"):
        shop.migrate("a1")


def test_a_path_of_its_own_is_left_as_it_is_but_for_the_user(shop):
    shop.run(
        "CREATE SCHEMA own AUTHORIZATION billing",
        'ALTER ROLE billing SET search_path = own, "$user", public, "Odd one"',
    )
    install(shop.administrator)
    with psycopg.connect(shop.url) as connection:
        assert connection.execute("SHOW search_path").fetchone() == ('own, public, "Odd one"',)
    shop.run("ALTER ROLE billing IN DATABASE shop SET search_path = own")
    install(shop.administrator)
    with psycopg.connect(shop.url) as connection:
        assert connection.execute("SHOW search_path").fetchone() == ("own",)


def test_a_schema_of_our_name_that_holds_somebody_s_tables_is_not_taken_over(shop):
    shop.run("CREATE SCHEMA billing AUTHORIZATION billing")
    shop.migrate("a1")
    assert shop.tables("billing") == {"orders", "alembic_version"}
    with pytest.raises(WrongDatabase, match=r"it holds orders; move it: ALTER TABLE billing\.orders SET"):
        install(shop.administrator)
    assert shop.tables("billing") == {"orders", "alembic_version"}


def test_an_owner_who_may_not_change_that_login_is_told_what_an_administrator_runs(shop):
    shop.run("CREATE ROLE keeper LOGIN PASSWORD 'pw' CREATEROLE", "GRANT CREATE ON DATABASE shop TO keeper")
    keeper = make_url(shop.administrator).set(username="keeper", password="pw").render_as_string(False)
    try:
        with pytest.raises(WrongDatabase, match="ALTER ROLE billing IN DATABASE shop SET search_path = public"):
            install(keeper)
        assert shop.tables("billing") == set()
        shop.run("ALTER ROLE billing IN DATABASE shop SET search_path = public")
        assert install(keeper) == migrate.head()
    finally:
        shop.run("DROP OWNED BY keeper", "DROP ROLE keeper")


def test_a_version_table_that_something_else_wrote_into_is_no_bug_of_ours(shop):
    install(shop.administrator)
    shop.run("UPDATE billing.alembic_version SET version_num = 'a1'")
    with pytest.raises(WrongDatabase, match="has a revision that this version does not know"):
        install(shop.administrator)


def test_the_doctor_names_what_lies_in_our_schema_and_a_login_that_looks_there(shop, run, monkeypatch):
    install(shop.administrator)
    monkeypatch.setenv("DATABASE_URL", shop.administrator)
    doctor = lambda: " ".join(run("doctor").out.split())  # noqa: E731 - how wide its columns are is no matter
    assert "ok neighbors the schema billing holds only our tables" in doctor()
    shop.run("ALTER ROLE billing IN DATABASE shop RESET search_path")
    mend = "run `billing migrate`, or ALTER ROLE billing IN DATABASE shop SET search_path = public"
    assert f"WARN neighbors the login billing searches our schema for its own tables -> {mend}" in doctor()
    shop.run("CREATE TABLE billing.orders (id int)")
    told = "WARN neighbors the schema billing holds orders, which is not ours -> ALTER TABLE billing.orders SET"
    assert told in doctor()
