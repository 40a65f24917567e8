"""The shapes of values that may be stored, from Stripe's answers and in our facts.

No text that fits one of them can be a sentence, a card number or one of Stripe's secrets.
`billing.excerpts` lists which fields of an answer are kept, and `archive.format.allowed` which of a fact are archived.
"""

import re
from collections.abc import Callable
from typing import Any

from billing.cards import may_hold_card_number
from billing.provider_ids import SHAPES, IdKind
from billing.provider_secrets import secret_in

Shape = Callable[[Any], bool]

MOST = 10**12
"""Above every amount and time that Stripe knows. Smaller numbers have fewer digits than a card number."""


def like(pattern: str) -> Shape:
    """A text that this pattern matches as a whole, and that may hold neither a card number nor a secret."""
    compiled = re.compile(pattern, re.ASCII)

    def fits(value: Any) -> bool:
        return (
            isinstance(value, str)
            and compiled.fullmatch(value) is not None
            and not may_hold_card_number(value)
            and secret_in(value) is None
        )

    return fits


def exactly(pattern: str) -> Shape:
    """A text that this pattern matches as a whole, of letters and digits that only we or S3 choose: a digest, a
    version."""
    compiled = re.compile(pattern, re.ASCII)
    return lambda value: isinstance(value, str) and compiled.fullmatch(value) is not None


def whole(value: Any) -> bool:
    """A whole number that is too small to be a card number: an amount, a count, a time in seconds."""
    return type(value) is int and abs(value) < MOST


def yes_or_no(value: Any) -> bool:
    return isinstance(value, bool)


def id_of(kind: IdKind) -> Shape:
    """An id of Stripe's of this kind. The shape of a charge's id fits every kind."""
    return like(SHAPES[kind])


template = like(r"[a-z][a-z0-9_]{0,39}")
"""The name of an e-mail's template: of its files, without their endings."""

reference = like(r"(?=.*\d)[A-Za-z0-9_.:-]{1,128}")
"""An opaque id that leads to a person: it has a digit, and is no address."""

locale = like(r"[a-z]{2,3}(?:[_-][A-Za-z0-9]{2,8}){0,3}")
"""A language, as `de`, `pt_BR` or `zh-Hant-TW`."""

message_id = like(r"[A-Za-z0-9](?:[A-Za-z0-9_.+-]{2,98}[A-Za-z0-9])")
"""What a mail server calls a message that it has accepted."""

invoice_number = like(r"[A-Z0-9]{1,32}-[0-9A-Z-]{1,30}")
"""A prefix of letters and digits, and a counter: Stripe's numbers for invoices."""

code = like(r"[a-z][a-z0-9_]{0,79}")
"""A word of ours or of Stripe's for a state, a reason or an outcome; never a sentence, and no name with a dot."""
