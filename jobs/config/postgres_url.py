"""Makes a DATABASE_URL from a hosting provider into one for SQLAlchemy and libpq. The tables are in docs/settings.md,
too.

Source: postgresql.org/docs/current/libpq-connect.html; for what other clients write, the manuals of Prisma,
node-postgres, JDBC, pgx, lib/pq, Rails, Django, Doctrine and SQLAlchemy.
"""

import re
from collections.abc import Mapping

from sqlalchemy import URL

from jobs.config.connection_strings import (
    ANYTHING,
    NUMBER,
    OFF,
    ON,
    Address,
    BadConnectionString,
    Dialect,
    Expected,
    check_values,
    hosts_of,
    once,
    one_of,
    port_of,
    take_apart,
)

FORM = "postgresql://user:password@host/database"

_SWITCH = one_of("0", "1")
_TLS = one_of("TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3")
_KEPT: Mapping[str, Expected] = {
    "sslmode": one_of("disable", "allow", "prefer", "require", "verify-ca", "verify-full"),
    "sslnegotiation": one_of("postgres", "direct"),
    **dict.fromkeys(("sslcert", "sslkey", "sslpassword", "sslrootcert", "sslcrl", "sslcrldir"), ANYTHING),
    "sslcertmode": one_of("disable", "allow", "require"),
    "sslsni": _SWITCH,
    "ssl_min_protocol_version": _TLS,
    "ssl_max_protocol_version": _TLS,
    "channel_binding": one_of("disable", "prefer", "require"),
    "require_auth": Expected(re.compile(r"!?[a-z0-9-]+(,!?[a-z0-9-]+)*"), "names of methods with commas between"),
    "gssencmode": one_of("disable", "prefer", "require"),
    **dict.fromkeys(("requirepeer", "passfile", "service", "krbsrvname"), ANYTHING),
    "keepalives": _SWITCH,
    **dict.fromkeys(("keepalives_idle", "keepalives_interval", "keepalives_count", "tcp_user_timeout"), NUMBER),
    "target_session_attrs": one_of("any", "read-write", "read-only", "primary", "standby", "prefer-standby"),
    "load_balance_hosts": one_of("disable", "random"),
    "client_encoding": Expected(re.compile(r"utf-?8|unicode", re.IGNORECASE), "UTF8"),
    # Sent before our own options: if both name a setting, ours is used.
    "options": ANYTHING,
}
_TRANSLATED: Mapping[str, str] = {
    "ssl": "`true` is `sslmode=require`, `false` is `sslmode=disable`, another word is taken as an `sslmode`",
    "sslmode": "`no-verify` is `require`: encrypted, and the certificate is not checked",
    "user": "as before the `@`",
    "password": "as before the `@`",
    "host": "as after the `@`; a directory is one of sockets",
    "port": "as after the host; several with commas between, or one for all hosts",
    "dbname": "as after the `/`",
}
# These tell other clients how to keep connections or name tables. Our code sets all of that itself.
_IGNORED = frozenset(
    # Prisma
    "pgbouncer connection_limit pool_timeout socket_timeout statement_cache_size schema connect_timeout"
    # node-postgres, JDBC, pgx, lib/pq
    " statement_timeout query_timeout lock_timeout idle_in_transaction_session_timeout application_name"
    " fallback_application_name uselibpqcompat currentschema search_path applicationname preparethreshold"
    " pool_max_conns pool_min_conns pool_max_conn_lifetime pool_max_conn_idle_time pool_health_check_period"
    " default_query_exec_mode statement_cache_capacity binary_parameters timezone"
    # Rails, Django, Doctrine, SQLAlchemy
    " pool pool_size max_overflow pool_recycle pool_min_size pool_max_size max_connections min_connections"
    " prepared_statements prepared_statement_cache_size reaping_frequency checkout_timeout idle_timeout"
    " conn_max_age conn_health_checks serverversion charset encoding"
    # Supabase
    " supa workaround".split()
)


DIALECT = Dialect(
    form=FORM,
    schemes=dict.fromkeys(
        ("postgresql", "postgres", "postgresql+psycopg", "postgresql+psycopg2", "postgresql+asyncpg"), "postgresql"
    ),
    wrong_scheme=f"not a URL of Postgres; write {FORM}",
    user="user",
    kept=_KEPT,
    translated=_TRANSLATED,
    ignored=_IGNORED,
)


def read(text: str) -> Address:
    """The URL for `sqlalchemy.make_url`. Raises BadConnectionString."""
    parts = take_apart(text, DIALECT)
    parameters = parts.parameters
    if mode := _sslmode(parameters.pop("ssl", None), parameters.pop("sslmode", None)):
        parameters["sslmode"] = mode
    database = once("dbname", _database(parts.path), parameters.pop("dbname", ""))
    hosts, ports = _hosts(parts.hosts, parameters.pop("host", ""), parameters.pop("port", ""))
    check_values(parameters, DIALECT)
    if len(hosts) > 1 or any(host.startswith("/") for host in hosts):
        # SQLAlchemy accepts these only as parameters.
        parameters["host"] = ",".join(hosts)
        parameters["port"] = ",".join(str(port or 5432) for port in ports)
        hosts, ports = [], []
    url = URL.create(
        parts.scheme,
        parts.user or None,
        parts.password or None,
        hosts[0] if hosts else None,
        ports[0] if ports else None,
        database or None,
        parameters,
    )
    return Address(url.render_as_string(hide_password=False), parts.ignored)


def _hosts(authority: str, named: str, numbered: str) -> tuple[list[str], list[int | None]]:
    """Host and port may stand after the @, or as parameters, or one here and one there."""
    if authority and named:
        raise BadConnectionString("names a host before and after the ?; remove one of them")
    if named.startswith("/"):
        # A directory may have colons in its name.
        hosts, ports = [named], list[int | None]([None])
    else:
        hosts, ports = hosts_of(authority or named)
    if not numbered:
        return hosts, ports
    if any(ports):
        raise BadConnectionString("names a port before and after the ?; remove one of them")
    numbers: list[int | None] = [port_of(number) for number in numbered.split(",")]
    if len(numbers) == 1:
        numbers *= max(1, len(hosts))
    if len(numbers) != max(1, len(hosts)):
        raise BadConnectionString("has more or fewer ports than hosts; write one for each, or one for all")
    return hosts, numbers


def _sslmode(ssl: str | None, sslmode: str | None) -> str | None:
    words = [word.lower() for word in (sslmode, ssl) if word is not None]
    modes = ["require" if word in {*ON, "no-verify"} else "disable" if word in OFF else word for word in words]
    if len(modes) == 2 and (modes[0] == "disable") != (modes[1] == "disable"):
        raise BadConnectionString("?ssl= and ?sslmode= say opposite things; remove one")
    return modes[0] if modes else None


def _database(path: str) -> str:
    name = path.strip("/")
    if "/" in name:
        raise BadConnectionString(f"has more than a database's name after the host; write {FORM}")
    return name
