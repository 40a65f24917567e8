"""Ids and texts from callers, of one line or several. What cannot be stored or sent is refused."""

import re
import unicodedata
import warnings

from billing.cards import is_card_number, may_hold_card_number
from billing.errors import InvalidText, PossibleCardNumber
from billing.provider_secrets import instead_of, secret_in

# Printable ASCII, and no `@`: an e-mail address is not opaque.
_OPAQUE_ID = re.compile(r"[\x21-\x3f\x41-\x7e]+")

# Line ends as different systems write them: Windows, old Macintosh, NEL, and Unicode's own two.
_LINE_ENDS = re.compile("\r\n|[\r\x85\u2028\u2029]")
# It marks the encoding of a file, and means nothing inside a text.
_BYTE_ORDER_MARK = "\ufeff"
# They show what follows in another order than it is stored in, digits included. No language needs them: marks,
# embeddings and isolates of direction are accepted.
_OVERRIDES = {"\u202d", "\u202e"}
# Unicode names no control character; these are their usual names.
_CONTROLS = {
    0x00: "NULL",
    0x07: "BELL",
    0x08: "BACKSPACE",
    0x0B: "LINE TABULATION",
    0x0C: "FORM FEED",
    0x1B: "ESCAPE",
    0x7F: "DELETE",
}


def opaque_id(name: str, value: object, most: int = 255) -> str:
    """The value, if it is printable ASCII without spaces and `@`, of 1 to `most` characters; else InvalidText.

    255 because request and provider ids end up in idempotency keys, which Stripe caps there. No message of this page
    repeats the value: it may be a card number or a secret.
    """
    wanted = f"must be 1 to {most} printable ASCII characters without spaces and @"
    if not isinstance(value, str):
        raise InvalidText(name, f"{wanted}, not {type(value).__name__}")
    if len(value) > most or not _OPAQUE_ID.fullmatch(value):
        raise InvalidText(name, wanted)
    return _no_card_number(name, _no_secret(name, str.__str__(value)))


def plain_text(name: str, value: object, most: int, *, lines: bool = False) -> str:
    """The value as it is stored: text of 1 to `most` characters, of any language; else InvalidText.

    Byte-order marks are removed, and every line end becomes `\\n`. With `lines` line ends and tabs
    stay; without, each is a space. Spaces of every width, joiners, marks of direction and emoji are text. Refused are
    control characters, half surrogates, noncharacters and overrides of direction, by name and position.
    """
    if not isinstance(value, str):
        raise InvalidText(name, f"must be text, not {type(value).__name__}")
    text = _LINE_ENDS.sub("\n", value).replace(_BYTE_ORDER_MARK, "")
    if not lines:
        text = re.sub("[\n\t]", " ", text)
    if not 0 < len(text) <= most:
        raise InvalidText(name, f"must be 1 to {most} characters long")
    # Nearly every text is printable, and this is the quickest way to know.
    if not text.isprintable():
        for position, character in enumerate(text, start=1):
            if (what := _refused(character)) is not None:
                raise InvalidText(name, f"must not hold {what}, which is character {position} of it; leave it out")
    if all(character.isspace() or unicodedata.category(character) == "Cf" for character in text):
        raise InvalidText(name, "must hold something that can be seen, not only spaces and marks")
    return _no_card_number_in_text(name, _no_secret(name, text))


def _refused(character: str) -> str | None:
    """What this character is, with its code point, if no text may hold it."""
    code = ord(character)
    match unicodedata.category(character):
        case "Cc" if character not in "\n\t":
            return f"the control character U+{code:04X}" + (f" ({_CONTROLS[code]})" if code in _CONTROLS else "")
        case "Cs":
            return f"U+{code:04X}, half of a surrogate pair"
        case "Cn" if code & 0xFFFE == 0xFFFE or 0xFDD0 <= code <= 0xFDEF:
            return f"U+{code:04X}, which is not a character"
        case _ if character in _OVERRIDES:
            return f"U+{code:04X} ({unicodedata.name(character)})"
        case _:
            # Accepted, also if this version of Python does not know the character: there are new emoji every year.
            return None


def _no_card_number(name: str, value: str) -> str:
    """The id, if it is not certainly a card number; else InvalidText. Warns if it may be one: an order number may look
    the same, and to refuse it would stop a shop's payment."""
    if is_card_number(value):
        raise InvalidText(
            name,
            "must not be a card number, and this is one that is published for tests or is grouped as cards are; ids "
            "are stored and logged, so use another one (an order number of this form is taken without its separators)",
        )
    if may_hold_card_number(value):
        warnings.warn(
            PossibleCardNumber(name),
            # Past this function, `opaque_id`, `billing.asking` and the function that was asked.
            stacklevel=5,
        )
    return value


def _no_card_number_in_text(name: str, value: str) -> str:
    if may_hold_card_number(value):
        raise InvalidText(
            name,
            "must not hold a row of digits that may be a card number; leave it out, or, if it is another number, say "
            "which right before it, as in 'order 123'",
        )
    return value


def _no_secret(name: str, value: str) -> str:
    secret = secret_in(value)
    if secret is not None:
        raise InvalidText(name, f"must not hold {secret}; {instead_of(secret)}")
    return value
