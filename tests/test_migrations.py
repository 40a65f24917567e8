"""Migrations wait for nobody long, run one at a time, and refuse a database of another environment."""

import psycopg
import pytest
import sqlalchemy.exc
from house import House
from sqlalchemy import create_engine
from sqlalchemy.engine import make_url

from billing.errors import WrongDatabase
from jobs import migrate
from jobs.local.servers import LocalServers


def test_a_migration_that_cannot_have_its_lock_gives_up_while_the_other_holds_it(house: House) -> None:
    """[82] Another migration runs, or hangs: this one ends with an error, and the application never waits behind it."""
    plain = make_url(house.url).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(plain) as other:
        other.execute("SELECT pg_advisory_lock(hashtextextended('billing.migrations', 0))")
        with pytest.raises(sqlalchemy.exc.OperationalError, match="lock timeout"):
            migrate.upgrade(house.url, environment="test", livemode=False)


def test_a_database_may_be_migrated_twice_and_stands_at_the_newest_revision(house: House) -> None:
    assert migrate.upgrade(house.url, environment="test", livemode=False) == migrate.head()
    engine = create_engine(make_url(house.url).set(drivername="postgresql+psycopg"))
    with engine.connect() as connection:
        assert migrate.revision_of(connection) == migrate.head()
    engine.dispose()


def test_a_database_of_another_environment_is_not_migrated(template: LocalServers, house: House) -> None:
    """[39]"""
    with pytest.raises(WrongDatabase, match="belongs to environment 'test'"):
        migrate.upgrade(house.url, environment="staging", livemode=False)


def test_everything_of_ours_lies_in_our_schema(template: LocalServers, house: House) -> None:
    """The database is the application's: its `public` schema holds nothing of ours, not even alembic's table."""
    plain = make_url(house.url).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(plain) as connection:
        schemas = connection.execute(
            "SELECT DISTINCT schemaname FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"
        ).fetchall()
    assert schemas == [("billing",)]
