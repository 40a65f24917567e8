"""A URL as hosting gives it works, or is refused in one line that names the part and shows no piece of a password."""

import re
import string
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from psycopg.conninfo import make_conninfo
from psycopg.pq import Conninfo
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.engine import make_url

from jobs.config import connection_strings, postgres_url, redis_url
from jobs.config.connection_strings import BadConnectionString
from jobs.rq.bells import open_redis

POSTGRES, REDIS = postgres_url.DIALECT, redis_url.DIALECT
DOC = Path(__file__).parents[1] / "docs" / "settings.md"


def to_postgres(text: str) -> dict[str, Any]:
    """What psycopg is given in the end."""
    url = make_url(postgres_url.read(text).url).set(drivername="postgresql+psycopg")
    _, arguments = PGDialect_psycopg().create_connect_args(url)
    make_conninfo(**arguments)
    return dict(arguments)


def to_redis(text: str) -> dict[str, Any]:
    """What a connection of redis-py is made with, after one was made."""
    with open_redis(redis_url.read(text).url) as client:
        client.connection_pool.make_connection()
        arguments = dict(client.connection_pool.connection_kwargs)
    arguments["class"] = client.connection_pool.connection_class.__name__
    wanted = ("class", "host", "port", "path", "db", "username", "password", "socket_timeout")
    return {name: value for name, value in arguments.items() if name in wanted or name.startswith("ssl_")}


PLAIN = {"user": "app", "password": "pw", "host": "db.example", "port": 5432, "dbname": "shop"}
_AT = "postgresql://app:pw@db.example:5432/shop"


@pytest.mark.parametrize(
    ("text", "more"),
    [
        (_AT, {}),
        ("postgres://app:pw@db.example:5432/shop", {}),
        ("POSTGRES://app:pw@db.example:5432/shop/", {}),
        ("postgresql+asyncpg://app:pw@db.example:5432/shop", {}),
        ("postgresql://app:pw@db.example/shop", {"port": None}),
        ("postgresql://app:@db.example:5432/shop", {"password": None}),
        ("postgresql://app:p%40s%2Fw%23%25@db.example:5432/shop", {"password": "p@s/w#%"}),
        ("postgresql://app:p:w@db.example:5432/shop", {"password": "p:w"}),
        ("postgresql://app:pw@[2001:db8::1]:5432/shop", {"host": "2001:db8::1"}),
        # Prisma, Supabase
        (f"{_AT}?pgbouncer=true&connection_limit=1", {}),
        (f"{_AT}?schema=public&connection_limit=1&pool_timeout=20&sslmode=require", {"sslmode": "require"}),
        # node-postgres
        (f"{_AT}?ssl=true", {"sslmode": "require"}),
        (f"{_AT}?ssl=0", {"sslmode": "disable"}),
        (f"{_AT}?sslmode=no-verify", {"sslmode": "require"}),
        (f"{_AT}?uselibpqcompat=true&sslmode=verify-full", {"sslmode": "verify-full"}),
        (f"{_AT}?ssl=true&sslmode=verify-full", {"sslmode": "verify-full"}),
        (f"{_AT}?statement_timeout=5000&application_name=shop", {}),
        # Neon
        (f"{_AT}?sslmode=require&channel_binding=require", {"sslmode": "require", "channel_binding": "require"}),
        (f"{_AT}?options=endpoint%3Dep-x-1", {"options": "endpoint=ep-x-1"}),
        # JDBC's way to name a user, pgx, Rails, Django, Doctrine
        ("postgresql://db.example:5432/shop?user=app&password=pw&currentSchema=x", {}),
        (f"{_AT}?pool_max_conns=4&pool_max_conn_lifetime=1h", {}),
        (f"{_AT}?pool=5&prepared_statements=false&conn_max_age=600&serverVersion=16&charset=utf8", {}),
        # several hosts, in libpq's form and in SQLAlchemy's
        (
            "postgresql://app:pw@a.example:5432,b.example:5433/shop?target_session_attrs=read-write",
            {"host": "a.example,b.example", "port": "5432,5433", "target_session_attrs": "read-write"},
        ),
        ("postgresql://app:pw@a.example,b.example/shop", {"host": "a.example,b.example", "port": "5432,5432"}),
        (
            "postgresql://app:pw@/shop?host=a.example:5432&host=b.example:5433",
            {"host": "a.example,b.example", "port": "5432,5433"},
        ),
        (
            "postgresql://app:pw@[::1]:5432,b.example:5433/shop",
            {"host": "::1,b.example", "port": "5432,5433"},
        ),
        # a directory of sockets, also with colons in its name
        ("postgresql://app:pw@%2Frun%2Fpostgresql/shop", {"host": "/run/postgresql", "port": "5432"}),
        ("postgresql://app:pw@/shop?host=/sql/a:b:c&port=5433", {"host": "/sql/a:b:c", "port": "5433"}),
    ],
)
def test_a_database_url_as_hosting_gives_it_is_what_its_owner_means(text, more):
    assert to_postgres(text) == {name: value for name, value in {**PLAIN, **more}.items() if value is not None}


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("jdbc:postgresql://db.example/canary", "not a URL of Postgres"),
        ("mysql://app:canary@db.example/shop", "not a URL of Postgres"),
        ("postgresql://app:can@ary@db.example/shop", "write %40 for @, %2F for /"),
        ("postgresql://app:can/ary@db.example/shop", "write %40 for @, %2F for /"),
        ("postgresql://app:can#ary@db.example/shop", "write %40 for @, %2F for /"),
        ("postgresql://app:can?ary@db.example/shop", "write %40 for @, %2F for /"),
        ("postgresql://app:can%ary@db.example/shop", "a % in it is not followed by"),
        ("postgresql://app:can%FFary@db.example/shop", "is not UTF-8"),
        ("postgresql://app:can%00ary@db.example/shop", "a control character"),
        ("postgresql://app:canary@db.example/shop?sslmode=canary", "?sslmode= must be one of disable, allow, prefer"),
        (f"{_AT}?ssl=true&sslmode=disable", "?ssl= and ?sslmode= say opposite things"),
        (f"{_AT}?sslaccept=strict", "?sslaccept= is not a known parameter"),
        (f"{_AT}?canary%40x=1", "a parameter of its is not a known parameter"),
        (f"{_AT}?replication=database", "?replication= is not a known parameter"),
        (f"{_AT}?keepalives_idle=canary", "?keepalives_idle= must be a whole number"),
        (f"{_AT}?sslmode=require&sslmode=prefer", "?sslmode= is in it twice"),
        (f"{_AT}?dbname=canary", "?dbname= contradicts"),
        (f"{_AT}?host=canary", "names a host before and after the ?"),
        (f"{_AT}?port=1", "names a port before and after the ?"),
        ("postgresql://app:canary@db.example:x/shop", "the port is not a number"),
        ("postgresql://app:canary@db.example:99999/shop", "the port is not a number"),
        ("postgresql://app:canary@a,b/shop?port=1,2,3", "more or fewer ports than hosts"),
        ("postgresql://app:canary@[zz]:1/shop", "not a host and port"),
        ("postgresql://app:can ary@db.example/shop", "holds a blank"),
        ("postgresql://app:canary@db.example/shop/public", "more than a database's name"),
        ("db.example:5432/canary", "not a URL; write postgresql://"),
    ],
)
def test_a_database_url_that_cannot_be_meant_is_refused_by_the_part(text, named):
    with pytest.raises(BadConnectionString) as refused:
        postgres_url.read(text)
    assert named in str(refused.value)
    assert "can" not in re.sub(r"cannot be parsed", "", str(refused.value)).replace("canary%40x", "")
    assert "\n" not in str(refused.value)


SIMPLE = {"class": "Connection", "host": "r.example", "port": 6379, "db": 0, "socket_timeout": 1.0}
TLS = {"class": "SSLConnection", "port": 6380}


@pytest.mark.parametrize(
    ("text", "more"),
    [
        ("redis://r.example:6379/0", {}),
        ("redis://r.example:6379", {}),
        ("redis://r.example:6379/", {}),
        ("REDIS://r.example:6379/3/", {"db": 3}),
        ("redis://r.example:6379?db=3", {"db": 3}),
        ("valkey://r.example:6379/0", {}),
        ("redis://:pw@r.example:6379", {"password": "pw"}),
        ("redis://app:p%40%2F%23w@r.example:6379", {"username": "app", "password": "p@/#w"}),
        ("redis://r.example:6379?password=pw", {"password": "pw"}),
        ("redis://[::1]:6379/0", {"host": "::1"}),
        ("rediss://r.example:6380", TLS),
        ("valkeys://r.example:6380", TLS),
        ("redis://r.example:6380?ssl=true", TLS),
        ("redis://r.example:6380?tls=1", TLS),
        ("rediss://r.example:6380?ssl_cert_reqs=none", {**TLS, "ssl_cert_reqs": "none"}),
        ("rediss://r.example:6380?ssl_cert_reqs=CERT_NONE", {**TLS, "ssl_cert_reqs": "none"}),
        (
            "rediss://r.example:6380?ssl_cert_reqs=CERT_REQUIRED&ssl_ca_certs=/ca.pem&ssl_check_hostname=False",
            {**TLS, "ssl_cert_reqs": "required", "ssl_ca_certs": "/ca.pem", "ssl_check_hostname": False},
        ),
        # ioredis on a host of two kinds of addresses; and what would replace how long our clients wait
        ("redis://r.example:6379?family=0", {}),
        ("redis://r.example:6379/0?socket_timeout=600&decode_responses=true&max_connections=1", {}),
        ("unix:///run/redis.sock?db=2", {"class": "UnixDomainSocketConnection", "path": "/run/redis.sock", "db": 2}),
    ],
)
def test_a_redis_url_as_hosting_gives_it_is_what_its_owner_means(text, more):
    expected = {**SIMPLE, **more}
    if text.startswith("unix"):
        expected = {name: value for name, value in expected.items() if name not in ("host", "port")}
    assert to_redis(text) == expected


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("http://canary", "not a URL of Redis"),
        ("redis+sentinel://canary:26379/mymaster/0", "Sentinel and Cluster are not supported; write the primary's"),
        ("sentinel://canary:26379/mymaster", "Sentinel and Cluster are not supported"),
        ("redis+cluster://canary:6379", "Sentinel and Cluster are not supported"),
        ("redis://r.example/canary", "its database must be one number"),
        ("redis://r.example/1?db=2", "its database must be one number"),
        ("redis://:can@ary@r.example/0", "write %40 for @"),
        ("redis://:can/ary@r.example/0", "write %40 for @"),
        ("redis://:can#ary@r.example/0", "write %40 for @"),
        ("redis://canary@r.example/0", "holds a user and no password"),
        ("redis://r.example?ssl=canary", "?ssl= or ?tls= does not agree"),
        ("rediss://r.example?ssl=false", "?ssl= or ?tls= does not agree"),
        ("redis://r.example?ssl_cert_reqs=none", "?ssl_cert_reqs= is for TLS; write rediss:// in place of redis://"),
        ("rediss://r.example?ssl_cert_reqs=canary", "?ssl_cert_reqs= must be one of none, optional, required"),
        ("redis://r.example?canary=1", "is not a known parameter"),
        ("redis://a.example,b.example/0", "names several hosts"),
        ("redis://r.example:port/0", "the port is not a number"),
        ("unix://canary/redis.sock", "a socket is written as unix:///"),
        ("r.example:6379", "not a URL; write redis://"),
    ],
)
def test_a_redis_url_that_cannot_be_meant_is_refused_by_the_part(text, named):
    with pytest.raises(BadConnectionString) as refused:
        redis_url.read(text)
    assert named in str(refused.value)
    # The name of a parameter is shown, and it is all that is.
    assert "canary" not in str(refused.value) or "?canary=" in text
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("text", "base"),
    [
        ("https://api.stripe.com", "https://api.stripe.com"),
        ("https://api.stripe.com/", "https://api.stripe.com"),
        ("HTTPS://api.stripe.com//", "https://api.stripe.com"),
        ("http://stand_in:12111/", "http://stand_in:12111"),
        ("http://[::1]:9000/", "http://[::1]:9000"),
    ],
)
def test_a_slash_at_the_end_of_an_address_is_no_path(text, base):
    assert connection_strings.http(text) == base


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("s3.example", "does not begin with https:// or http://"),
        ("minio:9000", "does not begin with https:// or http://"),
        ("ftp://s3.example", "does not begin with https:// or http://"),
        ("https://s3.example/evidence", "must end after the host or the port; a bucket is named by"),
        ("https://key:canary@s3.example", "must not hold a user or password"),
        ("https://s3.example?x=1", "not a host and port"),
        ("https://", "not a host and port"),
        ("https://-x.example", "not a host and port"),
        ("https://a,b", "not a host and port"),
        ("https://s3.example:0", "the port is not a number"),
    ],
)
def test_an_address_that_cannot_be_meant_is_refused_by_the_part(text, named):
    with pytest.raises(BadConnectionString, match=re.escape(named)) as refused:
        connection_strings.http(text, no_path="a bucket is named by BILLING_ARCHIVE_BUCKET")
    assert "canary" not in str(refused.value)


# Whatever stands there.

CANARY = "QzX7canaryV9"
_SIGNS = st.text(alphabet=string.ascii_letters + string.digits + "@/#?%:&=+,;[]. \t\n\x00é\u202e'\"\\", max_size=12)
_NAMES = st.sampled_from(
    sorted({*POSTGRES.kept, *POSTGRES.translated, *POSTGRES.ignored, *REDIS.kept, *REDIS.translated})
)
_PARAMETERS = st.lists(st.tuples(st.one_of(_NAMES, _SIGNS), st.one_of(_SIGNS, st.sampled_from(["true", "1", "none"]))))
_SCHEMES = st.sampled_from(
    ["postgresql", "postgres", "redis", "rediss", "valkey", "unix", "https", "redis+sentinel", ""]
)


@st.composite
def urls(draw: Any) -> str:
    """Something like a URL, with the canary where a password stands, and hostile signs around and within it."""
    password = draw(_SIGNS) + CANARY + draw(_SIGNS)
    query = "&".join(f"{name}={value}" for name, value in draw(_PARAMETERS))
    hosts = ",".join(draw(st.lists(st.sampled_from(["h", "h:1", "[::1]:2", "%2Frun", ":3", "h:x", "[x]"]), max_size=3)))
    user, path = draw(_SIGNS), draw(_SIGNS)
    return f"{draw(_SCHEMES)}://{user}:{password}@{hosts}/{path}" + (f"?{query}" if query else "")


@pytest.mark.parametrize("read", [to_postgres, to_redis, connection_strings.http], ids=["postgres", "redis", "http"])
@settings(max_examples=400, deadline=None, derandomize=True)
@given(text=st.one_of(urls(), _SIGNS, st.text(max_size=30)))
@example(text="postgresql://u:p@h/%ff")
@example(text="unix:///x?db=1&ssl=0")
def test_whatever_stands_there_is_a_url_that_our_client_takes_or_one_line_without_a_secret(read, text):
    """The seed is the test's own: hypothesis derives it from the test."""
    told = ""
    try:
        read(text)
    except BadConnectionString as refused:
        told = str(refused)
    assert told.isprintable()
    assert CANARY not in told


@settings(max_examples=300, deadline=None, derandomize=True)
@given(user=st.text(min_size=1, max_size=8), password=st.text(min_size=1, max_size=12))
def test_a_user_and_a_password_of_any_letters_arrive_as_they_are_once_they_are_encoded(user, password):
    from urllib.parse import quote

    if not (user.isprintable() and password.isprintable()):
        return
    login = f"{quote(user, safe='')}:{quote(password, safe='')}"
    arguments = to_postgres(f"postgresql://{login}@h/d")
    assert (arguments["user"], arguments["password"]) == (user, password)
    arguments = to_redis(f"redis://{login}@h")
    assert (arguments["username"], arguments["password"]) == (user, password)


# The tables.


def test_libpq_knows_every_parameter_that_is_kept():
    assert POSTGRES.kept.keys() <= {option.keyword.decode() for option in Conninfo.get_defaults()}


def documented(heading: str) -> dict[str, set[str]]:
    """By what becomes of them, the names in the table below this heading."""
    section = DOC.read_text().partition(f"### {heading}\n")[2].partition("\n#")[0]
    rows = re.findall(r"^\| *(\w[^|]*?) *\| *([^|]+?) *\|", section, re.MULTILINE)
    return {what: set(re.findall(r"`\?(\w+)`", cell)) for what, cell in rows if "`?" in cell}


@pytest.mark.parametrize(("heading", "dialect"), [("DATABASE_URL", POSTGRES), ("REDIS_URL", REDIS)])
def test_the_page_of_settings_has_the_tables_of_parameters(heading, dialect):
    assert documented(heading) == {
        "kept": set(dialect.kept),
        "translated": set(dialect.translated),
        "ignored": set(dialect.ignored),
    }
