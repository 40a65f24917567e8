"""What a capture may ask for beside its amount: what becomes of the rest, a fee or a transfer, and texts.

The two texts are shown on the customer's bank statement. Metadata is the caller's own, and anybody who reads the
payment at Stripe sees it. Texts stay out of facts, and so out of the archive, because they may name a person.
"""

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from billing.asking import Differing
from billing.errors import InvalidAmount, InvalidRequest, InvalidText
from billing.money import Money
from billing.steps import METADATA_KEY
from billing.tables.entities import MAX_DESCRIPTOR, Capture
from billing.texts import opaque_id, plain_text

Remainder = Literal["release", "keep"]
"""What becomes of the part that is not captured: Stripe releases it, or keeps it for another capture."""

METADATA_KEYS_MOST, METADATA_KEY_MOST, METADATA_VALUE_MOST = 20, 40, 500
"""Stripe takes 50 keys (docs.stripe.com/api/metadata). Ours, and those that the intent has already, need room."""
_RESERVED = METADATA_KEY.partition("_")[0] + "_"
_DESCRIPTOR_LEAST = 5
_EMAIL = re.compile(r"[^\s@]+@[^\s@]+\.[^\s@]+")
_FORBIDDEN = re.compile(r"""[<>\\'"*]""")


@dataclass(frozen=True, slots=True)
class CaptureTerms:
    """Sent with a capture, and part of what a repeated request must share.

    `application_fee` and `transfer` are amounts in the capture's currency, not more than it, and exclude each other:
    the platform's fee, or what the connected account gets. Stripe takes them only for a payment with a connected
    account. `statement_descriptor` (5 to 22 characters) and `statement_descriptor_suffix` (1 to 22): Latin letters, at
    least one, and none of `< > \\ ' " *`. `metadata`: up to 20 keys of up to 40 characters, with values of up to 500.

    Raises InvalidAmount, InvalidText and InvalidRequest.
    """

    application_fee: Money | None = None
    transfer: Money | None = None
    statement_descriptor: str | None = None
    statement_descriptor_suffix: str | None = None
    metadata: Mapping[str, str] | None = None

    def __post_init__(self) -> None:
        for name in ("application_fee", "transfer"):
            money: object = getattr(self, name)
            if money is not None and not isinstance(money, Money):
                raise InvalidAmount(name, f"must be billing.Money, not {type(money).__name__}")
        if self.application_fee is not None and self.transfer is not None:
            raise InvalidRequest("application_fee", "and transfer exclude each other at Stripe; pass one of them")
        for name, least in (("statement_descriptor", _DESCRIPTOR_LEAST), ("statement_descriptor_suffix", 1)):
            if (text := getattr(self, name)) is not None:
                object.__setattr__(self, name, _descriptor(name, text, least))
        if self.metadata is not None:
            object.__setattr__(self, "metadata", _metadata(self.metadata))

    def amounts(self, amount: Money) -> dict[str, int | None]:
        """The columns of its amounts, for a capture of this amount. Raises InvalidAmount."""
        for name, part in (("application_fee", self.application_fee), ("transfer", self.transfer)):
            if part is None:
                continue
            if part.currency != amount.currency:
                raise InvalidAmount(name, f"must be in {amount.currency}, as the amount, not in {part.currency}")
            if part.minor > amount.minor:
                raise InvalidAmount(name, f"{part} is more than the {amount} that is captured")
        return {
            "application_fee_minor": None if self.application_fee is None else self.application_fee.minor,
            "transfer_minor": None if self.transfer is None else self.transfer.minor,
        }

    def texts(self) -> dict[str, Any]:
        """The columns of its texts."""
        return {
            "statement_descriptor": self.statement_descriptor,
            "statement_descriptor_suffix": self.statement_descriptor_suffix,
            "callers_metadata": self.metadata or None,
        }

    def differing(self, first: Capture) -> Differing:
        """The texts in which the first request with this id differs. They are not repeated: an error is logged."""
        pairs = {name: (getattr(first, name), now) for name, now in self.texts().items()}
        return {name: (_described(was), _described(now, "another")) for name, (was, now) in pairs.items() if was != now}


def keeps_remainder(remainder: object) -> bool:
    """Whether the rest is kept for another capture. Raises InvalidRequest for what is not one of `Remainder`."""
    if remainder not in ("release", "keep"):
        raise InvalidRequest(
            "remainder", "must be 'release' (Stripe releases the rest) or 'keep' (for another capture)"
        )
    return remainder == "keep"


def needs_newer_workers(row: Capture) -> bool:
    """Whether an older worker would send something else than was asked, or misread the answer."""
    plain = row.capture_no in (None, 1) and not row.keeps_remainder
    return not plain or any(value is not None for value in _asked(row).values())


def parameters(row: Capture) -> dict[str, Any]:
    """What is sent for it, beside amount and metadata. None of it for a plain capture."""
    sent: dict[str, Any] = {"final_capture": False} if row.keeps_remainder else {}
    if row.application_fee_minor is not None:
        sent["application_fee_amount"] = row.application_fee_minor
    if row.transfer_minor is not None:
        sent["transfer_data"] = {"amount": row.transfer_minor}
    for name in ("statement_descriptor", "statement_descriptor_suffix"):
        if (text := getattr(row, name)) is not None:
            sent[name] = text
    return sent


def callers_metadata(row: Capture) -> dict[str, str]:
    """In the order of its keys, so that every send has the same bytes. Postgres keeps an order of its own."""
    return dict(sorted((row.callers_metadata or {}).items()))


def unfit(row: Capture) -> str | None:
    """Why they cannot be sent, of a row that was written without `CaptureTerms`; None if they can."""
    given: object = row.callers_metadata
    if given is None:
        return None
    if not isinstance(given, Mapping) or not all(isinstance(value, str) for value in given.values()):
        return "callers_metadata does not map texts to texts"
    if any(not isinstance(key, str) or key.startswith(_RESERVED) for key in given):
        return f"callers_metadata has a key that begins with {_RESERVED}"
    return None


def _asked(row: Capture) -> dict[str, Any]:
    names = ("application_fee_minor", "transfer_minor", "statement_descriptor", "statement_descriptor_suffix")
    return {name: getattr(row, name) for name in (*names, "callers_metadata")}


def _described(value: object, other: str = "a") -> str | None:
    if isinstance(value, Mapping):
        return f"{other} mapping with the keys {', '.join(sorted(value))}" if value else None
    return None if value is None else f"{other} text of {len(str(value))} characters"


def _descriptor(name: str, given: object, least: int) -> str:
    """Rules: docs.stripe.com/get-started/account/statement-descriptors."""
    text = plain_text(name, given, MAX_DESCRIPTOR)
    if len(text) < least:
        raise InvalidText(name, f"must be {least} to {MAX_DESCRIPTOR} characters long")
    if _FORBIDDEN.search(text):
        raise InvalidText(name, "must not hold any of < > \\ ' \" *, which banks do not print")
    letters = [character for character in text if unicodedata.category(character).startswith("L")]
    if not letters or not all(unicodedata.name(letter, "").startswith("LATIN") for letter in letters):
        raise InvalidText(name, "must hold at least one letter, and Latin letters only")
    return text


def _metadata(given: object) -> dict[str, str]:
    if not isinstance(given, Mapping):
        raise InvalidRequest("metadata", f"must map texts to texts, not be {type(given).__name__}")
    if len(given) > METADATA_KEYS_MOST:
        raise InvalidRequest("metadata", f"must have at most {METADATA_KEYS_MOST} keys, not {len(given)}")
    kept = {}
    for number, (name, value) in enumerate(given.items(), start=1):
        named = f"key {number} of metadata"
        key = opaque_id(named, name, METADATA_KEY_MOST)
        if key.startswith(_RESERVED):
            raise InvalidText(named, f"must not begin with {_RESERVED}: such keys are this service's own")
        if "[" in key or "]" in key:
            raise InvalidText(named, "must not hold [ or ], which Stripe refuses")
        named = f"the value of {named}"
        kept[key] = plain_text(named, value, METADATA_VALUE_MOST)
        if _EMAIL.search(kept[key]):
            raise InvalidText(named, "must not hold an e-mail address; use an id of your own instead")
    return kept
