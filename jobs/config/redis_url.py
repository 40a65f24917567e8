"""Makes a REDIS_URL from a hosting provider into one for redis-py. The tables are in docs/settings.md, too.

redis-py passes an unknown parameter to a function that does not take it, and lets a known one replace a value of our
code. A URL must not change how long a relay waits for an answer.
Source: `redis.connection.parse_url` of redis-py 8; the manuals of Celery, ioredis, Rails and phpredis.
"""

import re
from collections.abc import Mapping
from urllib.parse import quote, urlencode

from jobs.config.connection_strings import (
    ANYTHING,
    OFF,
    ON,
    Address,
    BadConnectionString,
    Dialect,
    Expected,
    check_values,
    hosts_of,
    one_of,
    take_apart,
)

FORM = "redis://user:password@host:6379/0"
_KEPT: Mapping[str, Expected] = {
    "ssl_cert_reqs": one_of("none", "optional", "required"),
    "ssl_check_hostname": one_of("true", "false"),
    **dict.fromkeys(("ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile", "ssl_password"), ANYTHING),
}
_TRANSLATED: Mapping[str, str] = {
    "ssl": "`true` is `rediss://`",
    "tls": "`true` is `rediss://`",
    "ssl_cert_reqs": "`CERT_NONE` is `none`, `CERT_OPTIONAL` is `optional`, `CERT_REQUIRED` is `required`",
    "db": "as after the `/`",
    "database": "as after the `/`",
    "username": "as before the `@`",
    "password": "as before the `@`",
}
_IGNORED = frozenset(
    # redis-py
    "socket_timeout socket_connect_timeout socket_keepalive socket_read_size timeout retry_on_timeout max_connections"
    " health_check_interval decode_responses encoding client_name protocol"
    # ioredis, Rails, phpredis
    " family lazyconnect maxretriesperrequest enablereadycheck enableofflinequeue connecttimeout connect_timeout"
    " read_timeout write_timeout reconnect_attempts retry_interval persistent pool pool_size".split()
)


DIALECT = Dialect(
    form=FORM,
    schemes={"redis": "redis", "rediss": "rediss", "valkey": "redis", "valkeys": "rediss", "unix": "unix"},
    wrong_scheme=f"not a URL of Redis; write {FORM}, or rediss://… for TLS",
    user="username",
    kept=_KEPT,
    translated=_TRANSLATED,
    ignored=_IGNORED,
)


def read(text: str) -> Address:
    """The URL for `redis.Redis.from_url`. Raises BadConnectionString."""
    if re.match(r"[a-z+]*(?:sentinel|cluster)[a-z+]*://", text, re.IGNORECASE):
        raise BadConnectionString(f"Sentinel and Cluster are not supported; write the primary's own URL, {FORM}")
    parts = take_apart(text, DIALECT)
    parameters, user, password = parts.parameters, parts.user, parts.password
    scheme = _scheme(parts.scheme, parameters)
    if user and not password:
        raise BadConnectionString("holds a user and no password; for a password alone write redis://:password@host")
    number = _number("" if scheme == "unix" else parts.path.strip("/"), parameters)
    for name in {"ssl_cert_reqs", "ssl_check_hostname"} & parameters.keys():
        parameters[name] = parameters[name].lower().removeprefix("cert_")
    check_values(parameters, DIALECT)
    if parameters and scheme != "rediss":
        raise BadConnectionString(f"?{min(parameters)}= is for TLS; write rediss:// in place of {scheme}://")
    login = f"{quote(user, safe='')}:{quote(password, safe='')}@" if password else ""
    if scheme == "unix":
        return Address(f"unix://{login}{_socket(parts.hosts, parts.path)}?db={number}", parts.ignored)
    query = f"?{urlencode(parameters)}" if parameters else ""
    return Address(f"{scheme}://{login}{_host(parts.hosts)}/{number}{query}", parts.ignored)


def _scheme(scheme: str, parameters: dict[str, str]) -> str:
    values = {parameters.pop(name).lower() for name in ("ssl", "tls") if name in parameters}
    if not values:
        return scheme
    if not (values <= ON or values <= OFF) or (scheme == "rediss" and values <= OFF) or scheme == "unix":
        raise BadConnectionString(
            "?ssl= or ?tls= does not agree with the rest; write rediss:// for TLS and redis:// without, and remove it"
        )
    return "rediss" if values <= ON else scheme


def _number(path: str, parameters: dict[str, str]) -> int:
    values = {number for number in (path, parameters.pop("db", ""), parameters.pop("database", "")) if number}
    if len(values) > 1 or not all(re.fullmatch(r"[0-9]{1,4}", number) for number in values):
        raise BadConnectionString(f"its database must be one number; write {FORM}")
    return int(values.pop()) if values else 0


def _host(authority: str) -> str:
    hosts, ports = hosts_of(authority)
    if len(hosts) > 1:
        raise BadConnectionString(f"names several hosts; write the primary's own URL, {FORM}")
    host = hosts[0] if hosts else ""
    if host.startswith("/"):
        raise BadConnectionString("a socket is written as unix:///run/redis.sock?db=0")
    port = f":{ports[0]}" if ports and ports[0] else ""
    return (f"[{host}]" if ":" in host else host or "localhost") + port


def _socket(authority: str, path: str) -> str:
    if authority or not path.strip("/"):
        raise BadConnectionString("a socket is written as unix:///run/redis.sock?db=0")
    return quote(path)
