"""Parses URLs as hosting providers write them; `postgres_url` and `redis_url` build the URLs for our clients.

Other clients write parameters into the same URL. What ours knows is kept; what has one meaning here is translated; what
only tells another client how to behave is ignored, and its name returned; everything else is refused in one line that
names the part. `docs/settings.md` has the tables, and a test compares them.

No message shows a value, not even a host: if a password contains an unencoded @, / or #, a part of it is read as the
host.
"""

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NoReturn
from urllib.parse import unquote

ON, OFF = frozenset({"true", "1", "on", "yes"}), frozenset({"false", "0", "off", "no"})

_ENCODE = "in a user or password write %40 for @, %2F for /, %23 for #, %3F for ? and %25 for %"
_LABEL = r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)"
_HOST_IN_HTTP = re.compile(rf"{_LABEL}(?:\.{_LABEL})*\.?")


class BadConnectionString(ValueError):
    """This URL cannot be used. The message is one line without the setting's name, and shows no value."""


@dataclass(frozen=True, slots=True)
class Address:
    """A URL for our client, and the names of the parameters that were left out of it."""

    url: str
    ignored: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Expected:
    """What a parameter's value must be: a pattern, and the words for it in a message."""

    pattern: re.Pattern[str]
    words: str


ANYTHING = Expected(re.compile(r".+"), "anything")
NUMBER = Expected(re.compile(r"[0-9]{1,9}"), "a whole number")


def one_of(*values: str) -> Expected:
    return Expected(re.compile("|".join(map(re.escape, values))), f"one of {', '.join(values)}")


@dataclass(frozen=True, slots=True)
class Dialect:
    """How the URLs of one kind of server are written, and what becomes of each parameter."""

    form: str
    """How such a URL is written, for messages."""
    schemes: Mapping[str, str]
    """As they are written -> as our client takes them."""
    wrong_scheme: str
    """The message for any other scheme."""
    user: str
    """The name of the parameter for the user."""
    kept: Mapping[str, Expected]
    translated: Mapping[str, str]
    """What each means here, for the documentation."""
    ignored: frozenset[str]


@dataclass(frozen=True, slots=True)
class Parts:
    """scheme://user:password@hosts/path?parameters, percent-decoded but for the hosts."""

    scheme: str
    """As our client takes it."""
    user: str
    password: str
    hosts: str
    path: str
    parameters: dict[str, str]
    """Those that have a meaning here, without user and password."""
    ignored: tuple[str, ...]
    """The names of the ignored parameters."""


def take_apart(text: str, dialect: Dialect) -> Parts:
    """Raises BadConnectionString. The values of parameters are not checked yet: what another client writes may have to
    be translated first."""
    scheme, separator, rest = text.partition("://")
    if not separator:
        raise BadConnectionString(f"not a URL; write {dialect.form}")
    if not rest.isprintable() or " " in rest:
        raise BadConnectionString("holds a blank or a control character; remove it, or write %20 for a blank")
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    login, _, hosts = authority.rpartition("@")
    behind = rest[len(authority) :]
    if "@" in login or "#" in behind or ("@" in behind and not login):
        raise BadConnectionString(f"cannot be parsed; {_ENCODE}")
    user, _, password = login.partition(":")
    path, _, query = behind.partition("?")
    ours = dialect.schemes.get(scheme.lower())
    if ours is None:
        raise BadConnectionString(dialect.wrong_scheme)
    parameters, ignored = _sorted_out(_pairs(query), dialect)
    return Parts(
        ours,
        once(dialect.user, _plain(user), parameters.pop(dialect.user, "")),
        once("password", _plain(password), parameters.pop("password", "")),
        hosts,
        _plain(path),
        parameters,
        ignored,
    )


def _sorted_out(query: Mapping[str, str], dialect: Dialect) -> tuple[dict[str, str], tuple[str, ...]]:
    """The parameters that have a meaning here and a value, and the names of the ignored ones."""
    for name in query:
        if name not in dialect.kept and name not in dialect.translated and name not in dialect.ignored:
            raise BadConnectionString(f"{_shown(name)} is not a known parameter; remove it")
    used = {name: value for name, value in query.items() if name not in dialect.ignored and value}
    return used, tuple(sorted(name for name in query if name in dialect.ignored))


def check_values(values: Mapping[str, str], dialect: Dialect) -> None:
    """Raises BadConnectionString. Our client would refuse a wrong value only when it connects, and the process would
    then wait as for a server that is away."""
    for name, value in values.items():
        if not dialect.kept[name].pattern.fullmatch(value):
            raise BadConnectionString(f"?{name}= must be {dialect.kept[name].words}")


def once(name: str, before: str, after: str) -> str:
    """A value that may be written before the ? and as a parameter after it. Raises BadConnectionString if they
    differ."""
    if before and after and before != after:
        raise BadConnectionString(f"?{name}= contradicts the part before the ?; remove one")
    return before or after


def hosts_of(authority: str, advice: str = _ENCODE) -> tuple[list[str], list[int | None]]:
    """`host:port,[::1]:port,%2Fdirectory`: the hosts, and the port of each. Raises BadConnectionString."""
    hosts: list[str] = []
    ports: list[int | None] = []
    for each in authority.split(",") if authority else ():
        found = re.fullmatch(r"(?:\[([^\[\]]*)\]|([^\[\]:]*))(?::(.*))?", each)
        if found is None:
            _no_host(advice)
        six, name, port = found.groups()
        host = _plain(name if six is None else six)
        if not (is_address(host) if six is not None else host.startswith("/") or re.fullmatch(r"[\w.-]*", host)):
            _no_host(advice)
        hosts.append(host)
        ports.append(port_of(port, advice) if port else None)
    if len(hosts) > 1 and not all(hosts):
        _no_host(advice)
    return hosts, ports


def port_of(text: str, advice: str = _ENCODE) -> int:
    if not re.fullmatch(r"[0-9]{1,5}", text) or not 0 < int(text) < 65536:
        raise BadConnectionString(f"the port is not a number from 1 to 65535; {advice}")
    return int(text)


def is_address(host: str) -> bool:
    """True for an IP address, of either kind."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def http(text: str, *, no_path: str = "remove its path") -> str:
    """The base of an HTTP server's URLs, without a slash at its end. Raises BadConnectionString."""
    scheme, separator, rest = text.partition("://")
    if not separator or scheme.lower() not in ("http", "https"):
        raise BadConnectionString("does not begin with https:// or http://; write https://host or http://host:port")
    if "@" in rest:
        raise BadConnectionString("must not hold a user or password; remove it")
    authority, _, path = rest.partition("/")
    if path.strip("/"):
        raise BadConnectionString(f"must end after the host or the port; {no_path}")
    hosts, ports = hosts_of(authority, "write https://host or http://host:port")
    if len(hosts) != 1 or not (is_address(hosts[0]) or _HOST_IN_HTTP.fullmatch(hosts[0])):
        _no_host("write https://host or http://host:port")
    host = f"[{hosts[0]}]" if ":" in hosts[0] else hosts[0]
    return f"{scheme.lower()}://{host}" + (f":{ports[0]}" if ports[0] else "")


def _pairs(query: str) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for pair in filter(None, query.split("&")):
        name, _, value = pair.partition("=")
        key, read = _plain(name).lower(), _plain(value.replace("+", " "))
        if pairs.setdefault(key, read) == read:
            continue
        if key != "host":
            raise BadConnectionString(f"{_shown(key)} is in it twice, with two values; remove one")
        # SQLAlchemy's form of several hosts.
        pairs[key] += f",{read}"
    return pairs


def _plain(text: str) -> str:
    """Percent-decoded. A % that begins no code is refused: some programs read it as it is, and others fail."""
    if re.search(r"%(?![0-9A-Fa-f]{2})", text):
        raise BadConnectionString(f"a % in it is not followed by two hexadecimal digits; {_ENCODE}")
    try:
        plain = unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise BadConnectionString("a % code in it is not UTF-8; encode it again") from None
    if not plain.isprintable():
        raise BadConnectionString("holds a control character; remove it")
    return plain


def _shown(name: str) -> str:
    """A parameter's name, unless it may be part of a password."""
    return f"?{name}=" if re.fullmatch(r"[a-z][a-z_]{1,40}", name) else "a parameter of its"


def _no_host(advice: str) -> NoReturn:
    raise BadConnectionString(f"the part after // is not a host and port; {advice}")
