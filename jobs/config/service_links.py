"""Variables that Kubernetes and Docker set for a service whose name begins like our settings.

A Service named `billing`, or `billing-relay`, puts BILLING_PORT, BILLING_SERVICE_HOST and others into every pod of its
namespace. They are neither settings nor mistakes. They are recognized by name and value together, so that a misspelled
setting is still refused: BILLING_PORT=tcp://10.0.0.1:80 is a link, and BILLING_PORT=8080 is not.

    NAME_SERVICE_HOST=10.0.0.1               NAME_PORT=tcp://10.0.0.1:80
    NAME_SERVICE_PORT=80                     NAME_PORT_80_TCP=tcp://10.0.0.1:80
    NAME_SERVICE_PORT_HTTP=80                NAME_PORT_80_TCP_PROTO=tcp, ..._PORT=80, ..._ADDR=10.0.0.1

Docker's links (`--link`) are of the same forms, and add NAME_NAME=/container/alias and NAME_ENV_ANYTHING.
Source: kubernetes.io/docs/concepts/services-networking/service, "Environment variables";
docs.docker.com/engine/network/links, "Environment variables".
"""

import ipaddress
import re
from collections.abc import Mapping

_PORT = r"[0-9]{1,5}"
_PROTOCOL = r"(?:tcp|udp|sctp)"
_URL = rf"{_PROTOCOL}://.+:{_PORT}"
_PLACE = r"_PORT_[0-9]+_(?:TCP|UDP|SCTP)"

_FORMS = tuple(
    (re.compile(rf"[A-Z0-9_]+{name}"), re.compile(value))
    for name, value in (
        (r"_SERVICE_PORT(?:_[A-Z0-9_]+)?", _PORT),
        (rf"(?:_PORT|{_PLACE}(?:_START|_END)?)", _URL),
        (rf"{_PLACE}_PROTO", _PROTOCOL),
        (rf"{_PLACE}_PORT(?:_START|_END)?", _PORT),
        # Docker: /the container/its alias
        (r"_NAME", r"/[^/]+/.+"),
    )
)
_HOST = re.compile(rf"[A-Z0-9_]+(?:_SERVICE_HOST|{_PLACE}_ADDR)")
_OF_A_CONTAINER = re.compile(r"([A-Z0-9_]+?)_ENV_.+")


def is_link(name: str, environment: Mapping[str, str]) -> bool:
    """True if Kubernetes or Docker set this variable for a neighbor."""
    value = environment[name]
    if any(names.fullmatch(name) and values.fullmatch(value) for names, values in _FORMS):
        return True
    if _HOST.fullmatch(name):
        return _is_address(value)
    # A neighbor's own variables have any form. They come with its NAME variable, whose form is known.
    neighbor = _OF_A_CONTAINER.fullmatch(name)
    its_name = f"{neighbor[1]}_NAME" if neighbor else ""
    return its_name in environment and is_link(its_name, environment)


def _is_address(value: str) -> bool:
    try:
        ipaddress.ip_address(value)
    except ValueError:
        return False
    return True
