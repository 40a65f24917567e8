"""What a route accepts, and how each value is read.

A route's table names every parameter that it takes. Any other parameter is refused by name. So a parameter that Stripe
knows and the stand-in does not model is an error, and is not ignored.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

from .errors import StripeError, amount_below_one, bad_request, missing_parameter, unknown_parameter
from .history import API_VERSION

Reader = Callable[[Any, str], Any]

AMOUNT_MAX = 99_999_999  # eight digits (docs.stripe.com, currencies)
METADATA_KEYS_MAX, METADATA_NAME_MAX, METADATA_VALUE_MAX = 50, 40, 500
TEXT_MAX = 5_000
EXPAND_LEVELS_MAX = 4  # docs.stripe.com/expand
# What an account in the US can take (docs.stripe.com/currencies; the message's own list, as recorded in 2026).
CURRENCIES = (
    "usd aed afn all amd ang aoa ars aud awg azn bam bbd bdt bif bmd bnd bob brl bsd bwp byn bzd cad cdf chf clp cny "
    "cop crc cve czk djf dkk dop dzd egp etb eur fjd fkp gbp gel gip gmd gnf gtq gyd hkd hnl hrk htg huf idr ils inr "
    "isk jmd jpy kes kgs khr kmf krw kyd kzt lak lbp lkr lrd lsl mad mdl mga mkd mmk mnt mop mur mvr mwk mxn myr mzn "
    "nad ngn nio nok npr nzd pab pen pgk php pkr pln pyg qar ron rsd rub rwf sar sbd scr sek sgd shp sle sos srd std "
    "szl thb tjs top try ttd twd tzs uah ugx uyu uzs vnd vuv wst xaf xcd xcg xof xpf yer zar zmw"
).split()
_CURRENCIES = set(CURRENCIES)
# What an account in another country can take besides (docs.stripe.com/currencies, "special cases"). Of those with
# three decimals the last digit must be 0, which only the caller checks here.
FURTHER: Mapping[str, Sequence[str]] = {"US": (), "AE": ("bhd", "jod", "kwd", "omr", "tnd")}
_DECIMAL = re.compile(r"-?[0-9]{1,12}(?:\.[0-9]{1,12})?")
_INTEGER = re.compile(r"-?[0-9]{1,12}")  # twelve digits: times and days added up still fit 64 bits


class Removed(NamedTuple):
    """A parameter that Stripe has removed: since which API version, how it was read before, and the refusal since."""

    since: str
    reader: Reader
    refusal: Callable[[], StripeError]


class Table(NamedTuple):
    """The parameters of one route: how each is read, which are required, which were removed."""

    readers: Mapping[str, Reader]
    required: tuple[str, ...] = ()
    removed: Mapping[str, Removed] = {}


def read(table: Table, form: Mapping[str, Any], under: str = "", version: str = API_VERSION) -> dict[str, Any]:
    """Read the form by the table of that API version. Raises Stripe's 400.

    Execution has not begun yet, so the refusal is not saved.
    """
    values: dict[str, Any] = {}
    for name, value in form.items():
        full = f"{under}[{name}]" if under else name
        reader = table.readers.get(name)
        if reader is None:
            removed = table.removed.get(name)
            if removed is None:
                raise unknown_parameter(full)
            if version[:10] >= removed.since:
                raise removed.refusal()
            reader = removed.reader
        values[name] = reader(value, full)
    for name in table.required:
        if values.get(name) in (None, ""):
            raise missing_parameter(f"{under}[{name}]" if under else name)
    return values


def text(value: Any, name: str) -> str | None:
    """A string; an empty one unsets. At most 5,000 characters."""
    if not isinstance(value, str):
        raise bad_request("Invalid string: you passed a hash or a list.", name)
    if len(value) > TEXT_MAX:
        raise bad_request(f"Invalid string: must be at most {TEXT_MAX} characters", name)
    return value or None


def short_text(length: int) -> Reader:
    def reader(value: Any, name: str) -> str | None:
        read_text = text(value, name)
        if read_text and len(read_text) > length:
            raise bad_request(f"Invalid string: must be at most {length} characters", name)
        return read_text

    return reader


def integer(value: Any, name: str) -> int:
    if not isinstance(value, str) or not _INTEGER.fullmatch(value):
        raise bad_request(f"Invalid integer: {_shown(value)}", name, "parameter_invalid_integer")
    return int(value)


def natural(value: Any, name: str) -> int:
    number = integer(value, name)
    if number < 0:
        raise bad_request("Invalid non-negative integer", name)
    return number


def amount(value: Any, name: str) -> int:
    """An amount in minor units, from 1 to eight digits. Zero names `amount`, whatever the parameter (recorded)."""
    number = natural(value, name)
    if number == 0:
        raise amount_below_one()
    if number > AMOUNT_MAX:
        raise bad_request("Amount must be no more than 99999999.", name, "amount_too_large")
    return number


def line_amount(value: Any, name: str) -> int:
    """An amount that may be a credit."""
    number = integer(value, name)
    if abs(number) > AMOUNT_MAX:
        raise bad_request("Amount must be no more than 99999999.", name, "amount_too_large")
    return number


def decimal(value: Any, name: str) -> Decimal:
    """Up to twelve digits, and up to twelve places."""
    if not isinstance(value, str) or not _DECIMAL.fullmatch(value):
        raise bad_request(f"Invalid decimal: {_shown(value)}", name)
    return Decimal(value)


def boolean(value: Any, name: str) -> bool:
    if value not in ("true", "false"):
        raise bad_request(f"Invalid boolean: {_shown(value)}", name)
    return bool(value == "true")


def take_currencies_of(country: str) -> None:
    """From now on, in this process."""
    _CURRENCIES.clear()
    _CURRENCIES.update(CURRENCIES, FURTHER[country])


def currency(value: Any, name: str) -> str:
    code = value.lower() if isinstance(value, str) else ""
    if code not in _CURRENCIES:
        raise bad_request(
            f"Invalid currency: {_shown(value).lower()}. Stripe currently supports these currencies: "
            f"{', '.join(CURRENCIES)}",
            name,
        )
    return code


def one_of(*choices: str) -> Reader:
    def reader(value: Any, name: str) -> Any:
        if value not in choices:
            listed = ", ".join(choices[:-1]) + f" or {choices[-1]}" if len(choices) > 1 else choices[0]
            raise bad_request(f"Invalid {name}: must be one of {listed}", name)
        return value

    return reader


def metadata(value: Any, name: str) -> dict[str, str] | None:
    """A hash of strings, as Stripe limits it; None (an empty string was sent) unsets everything."""
    if value == "":
        return None
    if not isinstance(value, dict):
        raise bad_request("Invalid hash", name)
    if len(value) > METADATA_KEYS_MAX:
        raise bad_request(f"You can have at most {METADATA_KEYS_MAX} metadata keys.", name)
    for key, content in value.items():
        if not isinstance(content, str):
            raise bad_request("Metadata values must be strings, but for some key you passed a hash.", f"{name}[{key}]")
        if len(key) > METADATA_NAME_MAX:
            raise bad_request(f"Metadata keys may be at most {METADATA_NAME_MAX} characters.", f"{name}[{key}]")
        if len(content) > METADATA_VALUE_MAX:
            raise bad_request(f"Metadata values may be at most {METADATA_VALUE_MAX} characters.", f"{name}[{key}]")
    return value


def nested(table: Table) -> Reader:
    def reader(value: Any, name: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise bad_request("Invalid hash", name)
        return read(table, value, name)

    return reader


def list_of(item: Reader, *, most: int) -> Reader:
    def reader(value: Any, name: str) -> list[Any]:
        if value == "":
            return []
        if not isinstance(value, dict) or not all(_INTEGER.fullmatch(index) for index in value):
            raise bad_request("Invalid array", name)
        if len(value) > most:
            raise bad_request(f"Array too long: at most {most} elements.", name)
        items = [item(value[index], f"{name}[{index}]") for index in sorted(value, key=int)]
        if None in items:
            raise bad_request("Invalid array: an element is empty.", name)
        return items

    return reader


def expand(*fields: str) -> Reader:
    """The fields of this route's answer that can be expanded; in a list they begin with `data.`."""

    def field(value: Any, name: str) -> Any:
        if isinstance(value, str) and value.count(".") >= EXPAND_LEVELS_MAX:
            raise bad_request(
                f"You cannot expand more than {EXPAND_LEVELS_MAX} levels of a property. Property: {_shown(value)}", name
            )
        if value not in fields:
            raise bad_request(f"This property cannot be expanded ({_shown(value)}).", name)
        return value

    return list_of(field, most=20)


def moment(value: Any, name: str) -> dict[str, int]:
    """A time, or bounds on it: {"gte": ..., "lt": ...}. A bare time is both bounds."""
    if isinstance(value, str):
        at = integer(value, name)
        return {"gte": at, "lte": at}
    if not isinstance(value, dict):
        raise bad_request("Invalid timestamp", name)
    return read(_BOUNDS, value, name)


_BOUNDS = Table({"gt": integer, "gte": integer, "lt": integer, "lte": integer})

# Every list takes these.
PAGE: Mapping[str, Reader] = {"limit": integer, "starting_after": text, "ending_before": text}


def merged(before: dict[str, str], change: dict[str, str] | None) -> dict[str, str]:
    """Metadata after a change: named keys are set, empty ones removed; None removes all."""
    if not change:
        return {} if change is None else before
    after = {**before, **change}
    if "" in after.values():
        after = {name: value for name, value in after.items() if value}
    if len(after) > METADATA_KEYS_MAX:
        raise bad_request(f"You can have at most {METADATA_KEYS_MAX} metadata keys.", "metadata")
    return after


def _shown(value: Any) -> str:
    return value[:50] if isinstance(value, str) else "a hash or a list"
