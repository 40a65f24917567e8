"""The connection to the Postgres of investigations, which is another than the service's: BILLING_SCRATCH_URL.

It is a setting and not an argument, because it holds a password. No login of the service has a right there, and that
of an investigation needs none in the service's database.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from archive.errors import BadScratch
from archive.scratch import schemas
from archive.scratch.schemas import Connection
from jobs.config import postgres_url
from jobs.config.connection_strings import BadConnectionString
from jobs.config.settings import Settings
from jobs.config.sources import SettingsError

CONNECT_S = 5


@contextmanager
def connected(settings: Settings) -> Iterator[Connection]:
    """One transaction there: committed at the end, taken back on any error.

    Raises BadScratch, also for every error of that Postgres; SettingsError, SecretError.
    """
    try:
        url = postgres_url.read(settings.scratch_url.reveal()).url
    except BadConnectionString as error:
        raise SettingsError(f"{settings.scratch_url.setting}: {error}") from None
    try:
        with psycopg.connect(url, connect_timeout=CONNECT_S, application_name="billing-scratch") as connection:
            schemas.check_place(connection)
            yield connection
    except psycopg.Error as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise BadScratch(f"{settings.scratch_url.setting}: {lines[0]}; nothing was changed there") from None
