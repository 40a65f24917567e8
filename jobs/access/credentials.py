"""The secrets of every kind of process: made once, in one directory, and set as passwords in the database.

One file holds one secret and nothing else, so that each can be mounted where its process reads it. What is there
stays; running it again makes only what is missing. Two files give the same to servers, and are rewritten when they no
longer agree: `redis.acl`, an aclfile that holds digests only, and `s3.json`, which SeaweedFS takes as `-s3.config`.
"""

import hashlib
import json
import os
import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import psycopg
from psycopg import sql
from sqlalchemy import URL, Connection, make_url, text
from sqlalchemy.exc import ArgumentError

from jobs.access.errors import AccessError
from jobs.access.kinds import KINDS, S3_KINDS, Kind, redis_keys, redis_rule, s3_policy

OWNER = "postgres"
"""The superuser of a Postgres that was made for this service alone, as in its official image."""
# Every user may read a file, because a container that mounts it runs as a user with another number than ours. Only we
# may enter the directory, so no other user of this machine reaches the files.
_DIRECTORY_MODE, _FILE_MODE = 0o700, 0o444
_LONGEST_NAME = 63  # bytes of a name in Postgres; it would cut a longer one silently


@dataclass(frozen=True, slots=True)
class Written:
    """One file, and whether it was written now. If not, it existed and is unchanged."""

    name: str
    new: bool


@dataclass(frozen=True, slots=True)
class Login:
    """One login in Postgres, and whether it was created now. If not, its password was set to the one in the file."""

    kind: str
    login: str
    new: bool


def for_owner(directory: Path, host: str, port: int, database: str) -> Iterator[Written]:
    """The owner's password for a new Postgres, and the owner's URL for migrations. Raises AccessError."""
    _make(directory)
    yield _once(directory, "postgres_password", _password())
    owner = URL.create("postgresql", OWNER, _read(directory, "postgres_password"), host, port, database)
    yield _once(directory, "owner_database_url", _shown(owner))


def for_postgres(directory: Path, host: str, port: int, database: str) -> Iterator[Written]:
    """A URL for each kind. Raises AccessError."""
    # A login is valid in the whole cluster. The name of the database, which belongs to one environment, makes it
    # unique.
    logins = {name: f"{kind.role}_{database}" for name, kind in KINDS.items()}
    if longest := next((login for login in logins.values() if len(login.encode()) > _LONGEST_NAME), None):
        raise AccessError(
            f"--postgres: the login {longest} would be longer than {_LONGEST_NAME} bytes; rename the database"
        )
    _make(directory)
    for name, login in logins.items():
        url = URL.create("postgresql", login, _password(), host, port, database)
        yield _once(directory, f"{name}_database_url", _shown(url))


def for_redis(directory: Path, host: str, port: int, environment: str) -> Iterator[Written]:
    """A URL for each kind that uses Redis, and the aclfile. Raises AccessError."""
    _make(directory)
    users = directory / "redis.acl"
    if users.exists() and f"~{redis_keys(environment)} " not in users.read_text():
        raise AccessError(f"{users} is for another environment than {environment}; name it with --environment")
    # Without a password a client may only PING, for a health check.
    lines = ["user default on nopass resetkeys resetchannels -@all +ping"]
    for name, kind in KINDS.items():
        if kind.redis is None:
            continue
        url = URL.create("redis", kind.role, _password(), host, port, "0")
        yield _once(directory, f"{name}_redis_url", _shown(url))
        digest = hashlib.sha256((_url(directory, f"{name}_redis_url").password or "").encode()).hexdigest()
        lines.append(f"user {kind.role} on #{digest} {redis_rule(kind, environment)}")
    yield _always(directory, "redis.acl", "".join(f"{line}\n" for line in lines))


def for_s3(directory: Path) -> Iterator[Written]:
    """Two keys for each kind that uses S3, and for `setup`; the configuration for a SeaweedFS; and the private key with
    which archivers sign."""
    from archive.signing.ed25519 import new_private_key  # noqa: PLC0415 - lazy: only here is a key made

    _make(directory)
    yield _once(directory, "archiver_signing_key", new_private_key())
    for name in S3_KINDS:
        yield _once(directory, f"{name}_s3_access_key", f"AK{secrets.token_hex(9).upper()}")
        yield _once(directory, f"{name}_s3_secret_key", _password())
    yield _always(directory, "s3.json", json.dumps(_identities(directory), indent=2) + "\n")


def references(directory: Path, name: str, s3: str | None = None) -> dict[str, str]:
    """The environment of a process of this kind: for each variable, the reference to its file in this directory. `s3`:
    the kind whose keys it has there, if that is another one."""
    in_s3 = s3 or name
    files = {
        "DATABASE_URL": directory / f"{name}_database_url",
        "REDIS_URL": directory / f"{name}_redis_url",
        "BILLING_S3_ACCESS_KEY": directory / f"{in_s3}_s3_access_key",
        "BILLING_S3_SECRET_KEY": directory / f"{in_s3}_s3_secret_key",
        "BILLING_SIGNING_KEY": directory / f"{name}_signing_key",
    }
    return {variable: f"file:{path}" for variable, path in files.items() if path.exists()}


def apply(connection: Connection, directory: Path) -> list[Login]:
    """Create a login for each kind in its group role, or set its password anew, in the caller's transaction.

    `connection` is that of the owner, or of a login that may create roles and grant these groups. It sends a verifier,
    never the password. Raises AccessError, and what Postgres raises.
    """
    database = connection.scalar(text("SELECT current_database()"))
    known = set(connection.scalars(text("SELECT rolname FROM pg_roles")))
    if missing := sorted(kind.role for kind in KINDS.values() if kind.role not in known):
        raise AccessError(f"DATABASE_URL: this server has no role {missing[0]}; run `billing migrate` first")
    applied = []
    for name, kind in KINDS.items():
        url = _url(directory, f"{name}_database_url")
        if url.database != database:
            raise AccessError(
                f"{directory / f'{name}_database_url'} leads to the database {url.database!r}, and DATABASE_URL to "
                f"{database!r}; make one directory for each database"
            )
        login = url.username or ""
        new = login not in known
        if not new:
            _check_login(connection, kind, login)
        _set_login(connection, kind, login, url.password or "", str(database), new=new)
        applied.append(Login(name, login, new))
    return applied


def _check_login(connection: Connection, kind: Kind, login: str) -> None:
    """Refuse a login with extra rights: another program uses it, or an administrator has changed it."""
    more = connection.scalars(_MAY_MORE, {"login": login, "role": kind.role}).all()
    if more:
        raise AccessError(f"the login {login} exists and {more[0]}; revoke that, or drop the login, and run this again")


_MAY_MORE = text(
    """
    SELECT 'has rights beyond its group (' || a.what || ')'
      FROM pg_roles AS r,
           LATERAL (VALUES ('SUPERUSER', rolsuper), ('CREATEROLE', rolcreaterole), ('CREATEDB', rolcreatedb),
                           ('REPLICATION', rolreplication), ('BYPASSRLS', rolbypassrls)) AS a (what, has)
     WHERE r.rolname = :login AND a.has
    UNION ALL
    SELECT 'belongs to ' || g.rolname
      FROM pg_auth_members AS m JOIN pg_roles AS r ON r.oid = m.member JOIN pg_roles AS g ON g.oid = m.roleid
     WHERE r.rolname = :login AND g.rolname <> :role
    """
)


def _set_login(connection: Connection, kind: Kind, login: str, password: str, database: str, *, new: bool) -> None:
    raw = cast("psycopg.Connection[Any]", connection.connection.driver_connection)
    verifier = raw.pgconn.encrypt_password(password.encode(), login.encode(), b"scram-sha-256").decode()
    names = {"login": sql.Identifier(login), "role": sql.Identifier(kind.role), "database": sql.Identifier(database)}
    for statement in (
        sql.SQL(
            "CREATE ROLE {login} LOGIN PASSWORD {verifier}" if new else "ALTER ROLE {login} LOGIN PASSWORD {verifier}"
        ),
        sql.SQL("GRANT {role} TO {login}"),
        # Every role may connect to a new database. Where the owner has revoked that, these logins still may.
        sql.SQL("GRANT CONNECT ON DATABASE {database} TO {login}"),
    ):
        composed = statement.format(**names, verifier=sql.Literal(verifier))
        connection.exec_driver_sql(composed.as_string(raw))


def place(option: str, value: str, pattern: str) -> tuple[str, ...]:
    """The parts of `HOST:PORT/DATABASE` or `HOST:PORT`. Raises AccessError."""
    found = re.fullmatch(pattern, value)
    if found is None:
        # Not shown: it may be a URL with a password.
        raise AccessError(f"{option} must be written as {_FORMS[pattern]}, without user or password")
    return found.groups()


AT_POSTGRES = r"([\w.-]+):(\d{1,5})/([\w-]+)"
AT_REDIS = r"([\w.-]+):(\d{1,5})"
_FORMS = {AT_POSTGRES: "HOST:PORT/DATABASE", AT_REDIS: "HOST:PORT"}


def _identities(directory: Path) -> dict[str, Any]:
    return {
        "identities": [
            {
                "name": name,
                "credentials": [
                    {
                        "accessKey": _read(directory, f"{name}_s3_access_key"),
                        "secretKey": _read(directory, f"{name}_s3_secret_key"),
                    }
                ],
                "policyNames": [name],
            }
            for name in S3_KINDS
        ],
        "policies": [{"name": name, "content": json.dumps(s3_policy(name))} for name in S3_KINDS],
    }


def _password() -> str:
    return secrets.token_urlsafe(24)


def _shown(url: URL) -> str:
    return url.render_as_string(hide_password=False)


def _url(directory: Path, name: str) -> URL:
    try:
        return make_url(_read(directory, name))
    except (ArgumentError, ValueError):
        # Not chained, because that error shows the URL, and in it the password.
        raise AccessError(
            f"{directory / name} is not a URL; remove the file, and `billing access generate` makes a new one"
        ) from None


def _read(directory: Path, name: str) -> str:
    try:
        return (directory / name).read_text().strip()
    except OSError as error:
        raise AccessError(
            f"{directory / name}: {error.strerror}; `billing access generate {directory}` makes it"
        ) from None


def _make(directory: Path) -> None:
    """Make the directory for this user only. One that is open to others and not empty is refused: it may be in use."""
    try:
        directory.mkdir(mode=_DIRECTORY_MODE, parents=True, exist_ok=True)
        if directory.stat().st_mode & 0o077:
            if any(directory.iterdir()):
                raise AccessError(
                    f"{directory} is open to others, and not empty; name a new directory, or chmod 700 it"
                )
            directory.chmod(_DIRECTORY_MODE)
    except OSError as error:
        raise AccessError(f"{directory}: {error.strerror}; name a directory that can be made") from None


def _once(directory: Path, name: str, content: str) -> Written:
    if (directory / name).exists():
        return Written(name, new=False)
    return _always(directory, name, content)


def _always(directory: Path, name: str, content: str) -> Written:
    path = directory / name
    if path.exists() and path.read_text() == content:
        return Written(name, new=False)
    # Written whole or not at all, because half a secret would be kept.
    unnamed = path.with_name(f".{name}.new")
    unnamed.unlink(missing_ok=True)
    with os.fdopen(os.open(unnamed, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(content)
        os.fchmod(file.fileno(), _FILE_MODE)
    unnamed.rename(path)
    return Written(name, new=True)
