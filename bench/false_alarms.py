"""How often a number that is no card number is taken for a card number: `make false-alarms`, or `python -m
bench.false_alarms`.

Each row is a scheme of order, article or payment numbers that shops use, made at random from a fixed seed, in their
usual form. For each it shows which share is refused as a caller's id, accepted with a warning, or
refused in a text. docs/inputs.md has this table; tests/test_cards.py compares it with this program.
"""

import random
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from billing.cards import is_card_number, may_hold_card_number

EACH = 10_000
SEED = 20261129

Scheme = Callable[[random.Random], str]


@dataclass(frozen=True, slots=True)
class Rate:
    """Of `EACH` numbers of this scheme: how many are refused as an id, accepted with a warning, refused in a text."""

    scheme: str
    refused_as_id: int
    warned_as_id: int
    refused_in_text: int


def digits(count: int, first: str = "") -> Scheme:
    """`first`, and then so many random digits that there are `count`."""
    return lambda rng: first + "".join(rng.choices("0123456789", k=count - len(first)))


def grouped(*lengths: int, mark: str = "-", first: str = "") -> Scheme:
    whole = digits(sum(lengths), first)

    def scheme(rng: random.Random) -> str:
        rest = iter(whole(rng))
        return mark.join("".join(next(rest) for _ in range(length)) for length in lengths)

    return scheme


def one_of(*schemes: Scheme) -> Scheme:
    return lambda rng: rng.choice(schemes)(rng)


def ean13(prefixes: range) -> Scheme:
    """Source: GS1 General Specifications, the check digit of GTINs."""

    def scheme(rng: random.Random) -> str:
        body = digits(12, str(rng.choice(prefixes)))(rng)
        weighed = sum(int(digit) * (3 if place % 2 else 1) for place, digit in enumerate(body))
        return body + str(-weighed % 10)

    return scheme


def luhn(count: int, first: str = "") -> Scheme:
    """Checked as card numbers are: Norway's KID (mod 10), Sweden's OCR, Denmark's FIK, and IMEIs."""

    def scheme(rng: random.Random) -> str:
        body = digits(count - 1, first)(rng)
        doubled = [int(digit) * (2 - place % 2) for place, digit in enumerate(reversed(body))]
        return body + str(-sum(value // 10 + value % 10 for value in doubled) % 10)

    return scheme


def finnish(rng: random.Random) -> str:
    """Source: Finance Finland, the check digit of the national reference: weights 7, 3, 1 from the right."""
    body = digits(rng.randrange(12, 20), str(rng.randrange(1, 10)))(rng)
    weighed = sum(int(digit) * (7, 3, 1)[place % 3] for place, digit in enumerate(reversed(body)))
    return body + str(-weighed % 10)


def swiss_qr(rng: random.Random) -> str:
    """Source: Swiss Payment Standards, QR reference: 27 digits, the last by a modulo 10, recursive."""
    table, carry, body = (0, 9, 4, 6, 8, 2, 7, 1, 3, 5), 0, digits(26)(rng)
    for digit in body:
        carry = table[(carry + int(digit)) % 10]
    return body + str((10 - carry) % 10)


def belgian(rng: random.Random) -> str:
    """Source: Febelfin, structured communication: ten digits and their remainder by 97."""
    body = digits(10)(rng)
    whole = f"{body}{int(body) % 97 or 97:02d}"
    return f"+++{whole[:3]}/{whole[3:7]}/{whole[7:]}+++"


def creditor(rng: random.Random) -> str:
    """Source: ISO 11649: RF, two check digits, and the reference."""
    body = digits(rng.randrange(12, 22))(rng)
    return f"RF{98 - int(body + '271500') % 97:02d}{body}"


def timestamp(rng: random.Random) -> str:
    return str(rng.randrange(1_500_000_000, 2_000_000_000) * 10 ** rng.choice((3, 6, 9)) + rng.randrange(1000))


SCHEMES: Mapping[str, Scheme] = {
    "hosted shop's order id, 13 digits": digits(13),
    "the same with a prefix": lambda rng: f"order-{digits(13)(rng)}",
    "marketplace order, 3-7-7": grouped(3, 7, 7),
    "marketplace order, 2-5-5": grouped(2, 5, 5),
    "marketplace order, 7-8": grouped(7, 8),
    "marketplace order, 6-8-10": grouped(6, 8, 10),
    "app store order, GPA.4-4-4-5": lambda rng: f"GPA.{grouped(4, 4, 4, 5)(rng)}",
    "order number of 12 digits": digits(12),
    "order number of 14 digits": digits(14),
    "order number of 15 digits": digits(15),
    "order number of 16 digits": digits(16),
    "order number of 17 to 19 digits": one_of(digits(17), digits(18), digits(19)),
    "16 digits that begin with 4": digits(16, "4"),
    "day and counter, 8-8": lambda rng: f"2026{rng.randrange(1, 13):02d}{rng.randrange(1, 29):02d}-" + digits(8)(rng),
    "milliseconds, micro- or nanoseconds": timestamp,
    "EAN-13, Germany": ean13(range(400, 441)),
    "EAN-13, Japan": ean13(range(450, 460)),
    "EAN-13, United Kingdom": ean13(range(500, 510)),
    "EAN-13, Denmark": ean13(range(570, 580)),
    "EAN-13, Poland": ean13(range(590, 591)),
    "EAN-13, China": ean13(range(690, 700)),
    "IMEI": one_of(luhn(15, "35"), luhn(15, "86")),
    "payment reference, Finland": finnish,
    "payment reference, Norway (KID), 13 to 19 digits": one_of(*(luhn(count) for count in range(13, 20))),
    "payment reference, Sweden (OCR), 16 digits": luhn(16),
    "payment reference, Denmark (FIK), 15 digits": luhn(15),
    "payment reference, Switzerland (QR)": swiss_qr,
    "payment reference, Belgium (+++)": belgian,
    "payment reference, Netherlands, 16 digits": digits(16),
    "payment reference, ISO 11649 (RF)": creditor,
    "UUID": lambda rng: "-".join(f"{rng.getrandbits(4 * n):0{n}x}" for n in (8, 4, 4, 4, 12)),
    "id of Stripe's kind": lambda rng: "pi_" + "".join(rng.choices("0123456789abcdefABCDEF", k=24)),
}
"""Schemes that exist: of each at most 1 in 10,000 may be refused as an id."""

WRITTEN_AS_A_CARD: Mapping[str, Scheme] = {
    "16 digits, 4-4-4-4": grouped(4, 4, 4, 4),
    "15 digits, 4-6-5": grouped(4, 6, 5),
    "19 digits, 4-4-4-4-3": grouped(4, 4, 4, 4, 3),
}
"""No known shop writes order numbers like this: what is lost by refusing them."""


ALL: Mapping[str, Scheme] = SCHEMES | WRITTEN_AS_A_CARD


def rate(name: str) -> Rate:
    rng = random.Random(f"{SEED} {name}")  # noqa: S311
    made = [ALL[name](rng) for _ in range(EACH)]
    refused = sum(map(is_card_number, made))
    suspected = sum(map(may_hold_card_number, made))
    in_text = sum(may_hold_card_number(f"Provision {each}, Position 1") for each in made)
    return Rate(name, refused, suspected - refused, in_text)


def row(rate: Rate) -> str:
    """The row in docs/inputs.md, in per cent of `EACH` numbers."""
    shown = (rate.refused_as_id, rate.warned_as_id, rate.refused_in_text)
    return f"| {rate.scheme} | {' | '.join(f'{100 * count / EACH:.2f} %' if count else '0' for count in shown)} |"


if __name__ == "__main__":
    sys.stdout.write("| scheme | refused as an id | accepted with a warning | refused in a text |\n|---|---|---|---|\n")
    for name in ALL:
        sys.stdout.write(f"{row(rate(name))}\n")
