"""Card numbers, so that none is stored: what counts as one depends on the kind of field.

A system that stores, logs or archives one card number must protect all of its data as card data. But an order number
may have a card number's digits by chance: of random rows of 16 digits, one in forty. So there are two rules:

* An **id** is refused only if it is certainly a card number (`is_card_number`). If it may be one, it is accepted with a
  warning, because a false alarm would stop a shop's payment.
* A **text** (a description, a reason), a provider's value, and everything that goes into the archive or an error's
  message is refused or left out if it may hold a card number (`may_hold_card_number`).

`make false-alarms` prints how often other numbers are taken for one. docs/inputs.md says what these rules miss.
"""

import re
import unicodedata
from collections.abc import Iterator

# First digits and lengths of the numbers that networks issue: ISO/IEC 7812, and each network's own pages. Visa has
# issued no numbers of 13 digits for decades. Maestro's are the ranges that its issuers use.
_NETWORKS = re.compile(
    r"4(?:\d{15}|\d{18})"  # Visa
    r"|(?:5[1-5]\d{2}|222[1-9]|22[3-9]\d|2[3-6]\d{2}|27[01]\d|2720)\d{12}"  # Mastercard
    r"|3[47]\d{13}"  # American Express
    r"|3(?:0[0-5]|[689]\d)\d{11}|3(?:0[0-5]|[89]\d)\d{13}"  # Diners Club
    r"|(?:6011|64[4-9]\d|65\d{2})\d{12}"  # Discover
    r"|62\d{14,17}"  # UnionPay
    r"|35(?:2[89]|[3-8]\d)\d{12}"  # JCB
    r"|(?:5018|5020|5038|5893|6304|6759|676[1-3])\d{12,15}",  # Maestro
    re.ASCII,
)

# Numbers that are published for tests. A program that passes card numbers by mistake passes one of these first, in
# its own tests.
# Source: docs.stripe.com/testing and the networks' own pages.
_TEST_NUMBERS = frozenset(
    """
    4242424242424242 4000056655665556 5555555555554444 2223003122003222 5200828282828210 5105105105105100
    378282246310005 371449635398431 6011111111111117 6011000990139424 6011981111111113 3056930009020004
    36227206271667 3566002020360505 6200000000000005 6205500000000000004 4111111111111111 4012888888881881
    4222222222222 30569309025904 38520000023237 3530111333300000 4000000000000002 4000000000009995
    4000000000009987 4000000000009979 4000000000006975 4000000000000069 4000000000000127 4000000000000119
    4100000000000019 4000000000009235 4000000000000341 4000000000000259 4000000000007726 4000000000005126
    4000002760003184 4000002500003155 4000003800000446 4000008260003178 4000000000003220 4000000000003063
    4000008400001629 4000000000003055 4000058260000005
    """.split()
)

# The mark between two groups: a space of any width, a dash, a dot.
_MARK = r"[\W_]"
# How card numbers are embossed and typed: in fours, and American Express and Diners Club in 4-6-5 and 4-6-4.
_GROUPED = re.compile(
    rf"(?<![0-9A-Za-z])[0-9]{{4}}(?P<mark>{_MARK})"
    r"(?:(?:[0-9]{4}(?P=mark)){2}(?:[0-9]{2,4}|[0-9]{4}(?P=mark)[0-9]{3})|[0-9]{6}(?P=mark)[0-9]{4,5})"
    r"(?!(?P=mark)?[0-9A-Za-z])"
)
_GROUP_LENGTHS = frozenset({(4, 4, 4, 4), (4, 4, 4, 4, 3), (4, 4, 4, 3), (4, 4, 4, 2), (4, 6, 5), (4, 6, 4)})

_SHORTEST = 13
_MANY_DIGITS = re.compile(rf"(?:[0-9]{_MARK}?){{{_SHORTEST}}}")
# Groups of digits; letters may stand directly before them. Digits with letters behind them are a part of some opaque
# id, and after a plus they are a telephone number.
_ROW = re.compile(rf"(?<![0-9A-Za-z+])[A-Za-z]*([0-9]+(?:{_MARK}[0-9]+)*)(?![0-9A-Za-z])")
# Not card numbers, although their digits may look like one: UUIDs, digests, IBANs, and numbers whose kind is written
# right before them.
_OTHERWISE_KNOWN = re.compile(
    r"(?i:[0-9a-f]{32}|[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12})"
    r"|\b[A-Z]{2}\d\d(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,4})?\b"
    r"|\b(?i:EAN|GTIN|ISBN|IMEI|ICCID|KID|OCR|FIK|orders?|invoice|reference|ref|shipment|tracking"
    r"|bestellung|auftrag|rechnung|sendung|commande|facture|pedido|factura|ordine|fattura|bestelling|factuur)"
    r"(?i:[ -]?(?:id|no?|nr|number|nummer))?[ .:#°º\u00a0\u202f]{0,3}[0-9]{13,19}\b",
    re.ASCII,
)


def is_card_number(value: str) -> bool:
    """Whether this id is, or holds, certainly a card number: a published test number, or digits that are grouped as on
    a card and have a network's first digits and a correct check digit."""
    if not _MANY_DIGITS.search(value):
        return False
    if any(row in _TEST_NUMBERS for row in re.findall(r"[0-9]{13,}", value)):
        return True
    for found in _GROUPED.finditer(value):
        mark = found["mark"]
        # After more digits and the same mark it is the end of a longer number.
        if not re.search(rf"[0-9]{re.escape(mark)}$", value[: found.start()]) and _is_valid(
            found.group().replace(mark, "")
        ):
            return True
    return False


def may_hold_card_number(text: str) -> bool:
    """Whether this text may hold a card number: in one row or in groups, in digits of any script."""
    if len(text) < _SHORTEST:
        return False
    text = text if text.isascii() else _with_ascii_digits(text)
    # An id has few digits. To count them takes a third of the time of a search for a row of them.
    encoded = text.encode(errors="replace")
    if len(encoded) - len(encoded.translate(None, b"0123456789")) < _SHORTEST:
        return False
    if not _MANY_DIGITS.search(text):
        return False
    # Removing the numbers that are known to be something else costs most, and is seldom needed.
    return is_card_number(text) or (_holds_valid_row(text) and _holds_valid_row(_OTHERWISE_KNOWN.sub("#", text)))


def _holds_valid_row(text: str) -> bool:
    return any(_is_valid(number) for row in _ROW.findall(text) for number in _numbers(re.split(_MARK, row)))


def _numbers(groups: list[str]) -> Iterator[str]:
    """Each group, and each run of groups that are as long as a card's: a day or a count may stand before the number."""
    for first in range(len(groups)):
        yield groups[first]
        for after in range(first + 3, min(first + 5, len(groups)) + 1):
            chosen = groups[first:after]
            if tuple(map(len, chosen)) in _GROUP_LENGTHS:
                yield "".join(chosen)


def _is_valid(digits: str) -> bool:
    """It is a published test number; or it has a network's first digits and length and a correct check digit."""
    return digits in _TEST_NUMBERS or (_NETWORKS.fullmatch(digits) is not None and _checks(digits))


def _checks(digits: str) -> bool:
    """Whether the check digit is correct. Source: ISO/IEC 7812-1, annex B (Luhn)."""
    doubled = [int(digit) * (1 + place % 2) for place, digit in enumerate(reversed(digits))]
    return sum(value - 9 * (value > 9) for value in doubled) % 10 == 0


def _with_ascii_digits(text: str) -> str:
    """Arabic, Devanagari, full-width and other decimal digits become ASCII; invisible characters are removed."""
    shown = (character for character in text if unicodedata.category(character) != "Cf")
    return "".join(str(unicodedata.decimal(character, character)) for character in shown)
