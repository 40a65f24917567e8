"""The URL of the mail server, with our login in it: where e-mails are handed over, always over TLS."""

import re
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

FORM = "smtps://user:password@host:465, smtp://user:password@host:587 (with STARTTLS) or ses://region"
_PORTS = {"smtps": 465, "smtp": 587}
_REGION = re.compile(r"[a-z]{2}(?:-[a-z]{2,9}){1,3}-\d")


@dataclass(frozen=True, slots=True)
class Place:
    """A mail server, and our login to it. `tls_at_once`: not by STARTTLS."""

    host: str
    port: int
    tls_at_once: bool
    user: str = field(default="", repr=False)
    password: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Region:
    """Amazon SES in this region."""

    name: str


def read(url: str) -> Place | Region:
    """Raises ValueError, which does not show the URL."""
    try:
        parts = urlsplit(url)
        port = parts.port or _PORTS.get(parts.scheme, 0)
    except ValueError:
        raise ValueError(f"write {FORM}") from None
    if parts.path.strip("/") or parts.query or parts.fragment or not parts.hostname:
        raise ValueError(f"write {FORM}")
    if parts.scheme == "ses" and _REGION.fullmatch(parts.netloc):
        return Region(parts.netloc)
    if parts.scheme not in _PORTS or (parts.username is None) != (parts.password is None):
        raise ValueError(f"write {FORM}")
    login = unquote(parts.username or ""), unquote(parts.password or "")
    return Place(parts.hostname, port, parts.scheme == "smtps", *login)
