"""Card numbers, so that none is taken in: what holds one is refused at the border, or left out.

Who stores, logs or archives a single one has to guard all of it as card data.
"""

import re

# Groups of digits, after a word or nothing: next to letters otherwise, they are a part of some opaque id. After a plus
# they are a telephone number.
_DIGITS = re.compile(r"(?<![0-9A-Za-z+])[A-Za-z]*(\d+(?:[ -]\d+)*)(?![0-9A-Za-z])", re.ASCII)
# UUIDs, digests and IBANs have such groups by chance, and are no card's number.
_NONE = re.compile(
    r"(?i:[0-9a-f]{32}|[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12})"
    r"|\b[A-Z]{2}\d\d(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,4})?\b",
    re.ASCII,
)
# First digits and lengths of the networks' numbers: ISO/IEC 7812, and each network's own pages.
_NETWORKS = re.compile(
    r"4(?:\d{12}|\d{15}|\d{18})"  # Visa
    r"|(?:5[1-5]\d{2}|222[1-9]|22[3-9]\d|2[3-6]\d{2}|27[01]\d|2720)\d{12}"  # Mastercard
    r"|3[47]\d{13}"  # American Express
    r"|3(?:0[0-5]|[689]\d)\d{11,16}"  # Diners Club
    r"|(?:6011|64[4-9]\d|65\d{2}|62\d{2}|81\d{2})\d{12,15}"  # Discover, UnionPay
    r"|35(?:2[89]|[3-8]\d)\d{12,15}"  # JCB
    r"|(?:50|5[6-9]|6\d)\d{11,17}",  # Maestro
    re.ASCII,
)


def holds_card_number(text: str) -> bool:
    """Whether this text has 13 to 19 digits in it that a network could have given out, check digit included."""
    if len(text) < 13:
        return False
    return any(map(_is_one, _DIGITS.findall(_NONE.sub("#", text))))


def _is_one(groups: str) -> bool:
    """Any groups that stand together: a day or a count may stand before the number."""
    parts = re.split("[ -]", groups)
    for first in range(len(parts)):
        digits = ""
        for part in parts[first:]:
            digits += part
            if len(digits) > 19:
                break
            if _NETWORKS.fullmatch(digits) and _checks(digits):
                return True
    return False


def _checks(digits: str) -> bool:
    """The check digit is right. Source: ISO/IEC 7812-1, annex B (Luhn)."""
    doubled = [int(digit) * (1 + place % 2) for place, digit in enumerate(reversed(digits))]
    return sum(value - 9 * (value > 9) for value in doubled) % 10 == 0
