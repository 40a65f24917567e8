"""Thirteen kinds of what must not get out, different at every place where they are planted, and the search for them."""

import base64
import random
import re
import urllib.parse
from dataclasses import dataclass
from functools import cache

from stripe_secrets import stripe_secrets

KINDS = (
    *("stripe_key", "stripe_secret", "dsn_password", "redis_password", "s3_secret", "bearer"),
    *("card", "cvc", "iban", "email", "name", "address", "phone"),
)
_PREFIXES = {
    "visa": ("4", 16),
    "mastercard": ("53", 16),
    "amex": ("37", 15),
    "discover": ("6011", 16),
    "visa_long": ("4", 19),
}


def card(brand: str, rng: random.Random) -> str:
    prefix, length = _PREFIXES[brand]
    digits = prefix + "".join(rng.choice("0123456789") for _ in range(length - len(prefix) - 1))
    return digits + str(next(n for n in range(10) if luhn(digits + str(n))))


def luhn(digits: str) -> bool:
    """By a table, and not as billing.cards counts."""
    table = {1: "0123456789", 0: "0246813579"}
    return sum(int(table[n % 2][int(d)]) for n, d in enumerate(reversed(digits), start=1)) % 10 == 0


@dataclass(frozen=True)
class Canaries:
    """All kinds for one place. `text` has all of them in it, the card's number in three spellings."""

    place: str

    @property
    def cards(self) -> list[str]:
        rng = random.Random(f"card {self.place}")
        return [card(brand, rng) for brand in _PREFIXES]

    @property
    def secret_word(self) -> str:
        return "".join(random.Random(f"secret {self.place}").choices("bcdfghjklmnpqrstvwxz", k=9))

    @property
    def secrets(self) -> dict[str, str]:
        """Every kind that Stripe hands out."""
        return stripe_secrets(self.secret_word)

    def __getitem__(self, kind: str) -> str:
        own = "".join(random.Random(self.place).choices("bcdfghjklmnpqrstvwxz", k=8))
        digits = "".join(random.Random(f"{kind} {self.place}").choices("0123456789", k=9))
        return {
            "stripe_key": f"sk_test_canary{own}",
            "stripe_secret": self.secrets["payment intent"],
            "dsn_password": f"dsnpw-{own}",
            "redis_password": f"redispw-{own}",
            "s3_secret": f"s3secret-{own}",
            "bearer": f"bearer-{own}",
            "card": self.cards[0],
            "cvc": f"cvc 7{digits[:3]}",
            "iban": f"DE89{digits}{digits}",
            "email": f"{own}@canary.example",
            "name": f"Ada {own.title()}",
            "address": f"{own.title()} Street 7, 10115 Berlin",
            "phone": f"+4930{digits}",
        }[kind]

    @property
    def text(self) -> str:
        """Also as long as people write it: short enough for a line's description."""
        spellings = [grouped(number, mark) for number, mark in zip(self.cards, ["", " ", "-", "", " "], strict=True)]
        return "; ".join([self[kind] for kind in KINDS if kind != "card"] + spellings)

    @property
    def uncarded(self) -> str:
        """Without what is refused at the border."""
        return "; ".join(self[kind] for kind in KINDS if kind not in ("card", "stripe_key", "stripe_secret"))


def grouped(number: str, mark: str) -> str:
    return mark.join(number[n : n + 4] for n in range(0, len(number), 4))


def search(canaries: Canaries, written: bytes) -> list[str]:
    """The kinds that stand in these bytes: as they are, in capitals or not, and as they are written in URLs, in JSON,
    in hex, and in base64."""
    lower = written.lower()
    return [kind for kind, forms in _forms(canaries).items() if any(form in lower for form in forms)]


@cache
def _forms(canaries: Canaries) -> dict[str, set[bytes]]:
    values = {kind: [canaries[kind], canaries[kind].replace(" ", "")] for kind in KINDS}
    values["stripe_secret"].append(canaries.secret_word)
    values["card"] = [grouped(number, mark) for number in canaries.cards for mark in ("", " ", "-")]
    return {kind: {form for value in several for form in _written(value)} for kind, several in values.items()}


def _written(value: str) -> list[bytes]:
    plain = value.encode()
    forms = [plain, urllib.parse.quote_plus(value).encode(), urllib.parse.quote(value).encode(), plain.hex().encode()]
    return [form.lower() for form in (*forms, base64.b64encode(plain)[:-4])]


# The second search knows nothing of what was planted: any card number, by network, length and check digit.

_ROW = re.compile(r"(?<![\d.+])(?:\d[ -]?){12,18}\d(?![\d.])", re.ASCII)
_OF_A_NETWORK = re.compile(r"(?:4|5[0-8]|2[2-7]|3\d|6)\d+", re.ASCII)
# What we write ourselves and what may have such a row in it by chance: ids and digests in hex (a UUID in them), times,
# and the numbers of objects in the bucket. They are taken out by their whole form, and nothing else is.
_OURS = re.compile(
    r"\b(?:[a-z]{3,8}_|g|b)?(?:[0-9a-f]{32}(?:[0-9a-f]{8}|[0-9a-f]{32})?)\b"
    # An id of the provider's, with letters in it.
    r"|\b[a-z]{2,8}_(?=[0-9A-Za-z]*[A-Za-z])[0-9A-Za-z]{14,}\b"
    r"|\b[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}\b"
    r"|\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d{1,6})?(?:Z|[+-]\d\d(?::?\d\d)?)?"
    r"|\bb?\d{12}(?:-\d{12}-\d{12}\.parquet|\.json)",
    re.ASCII,
)


def card_numbers(text: str) -> list[str]:
    """Every row of 13 to 19 digits that a network could have given out, check digit included."""
    rows = [re.sub("[ -]", "", row) for row in _ROW.findall(_OURS.sub("#", text))]
    return [row for row in rows if _OF_A_NETWORK.fullmatch(row) and luhn(row)]
