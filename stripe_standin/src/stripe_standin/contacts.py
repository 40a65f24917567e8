"""Parameters for e-mail addresses, postal addresses, and where goods are sent.

They are shown as they are read: fields that were not given are there, and null.
"""

import re
from typing import Any

from .errors import bad_request
from .objects import Json
from .objects.parts import null
from .parameters import Table, nested, short_text, text

EMAIL_MAX, PHONE_MAX = 512, 20
_text = short_text(EMAIL_MAX)
# As recorded refusals show: no blanks, nothing beyond ASCII, and a dot in the domain (fjordllc/bootcamp
# #3927, #4134, #7638; exercism/website#7721; mysociety/alaveteli#8591).
_EMAIL = re.compile(r"[!-?A-~]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+")

_ADDRESS = ("city", "country", "line1", "line2", "postal_code", "state")
_address = nested(Table(dict.fromkeys(_ADDRESS, text)))


def email(value: Any, name: str) -> str | None:
    """Raises `email_invalid` (docs.stripe.com/error-codes)."""
    read: str | None = _text(value, name)
    if read is not None and not _EMAIL.fullmatch(read):
        raise bad_request(f"Invalid email address: {read}", name, "email_invalid")
    return read


def address(value: Any, name: str) -> Json | None:
    return None if value == "" else {**null(*_ADDRESS), **_address(value, name)}


_PERSON = {"address": address, "name": text, "phone": short_text(PHONE_MAX)}
_person = nested(Table(_PERSON, required=("address", "name")))
_parcel = nested(Table({**_PERSON, "carrier": text, "tracking_number": text}, required=("address", "name")))


def shipping(value: Any, name: str) -> Json | None:
    """A customer's shipping address."""
    return None if value == "" else {"phone": None, **_person(value, name)}


def parcel(value: Any, name: str) -> Json | None:
    """The shipping address of a payment, and the carrier."""
    return None if value == "" else {**null("carrier", "phone", "tracking_number"), **_parcel(value, name)}
