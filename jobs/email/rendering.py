"""Templates become a subject, a text and a page: with Jinja, in a sandbox, and with Babel for money and dates.

A template is two files, `NAME.txt` and `NAME.html`; the first line of the text is the subject. What they say stands in
`words.LANGUAGE.toml`, by template. Files in the application's own folder replace those of the package, each by itself,
and its words go before ours, each by itself. A template sees: `data` (what was asked for), `recipient.name`, `words`,
`sender`, `locale`, `direction` (`ltr` or `rtl`), and the filters `money`, `unit`, `count`, `day`, `moment` and
`apart`. One that shows an invoice sees `invoice`, too (`jobs.email.invoices`).

Values in HTML are escaped, a name that a template does not get is an error, and a template reaches no attribute that
begins with an underscore: whoever may write a template may not run code here.
"""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from babel import Locale, UnknownLocaleError
from babel.dates import format_date, format_datetime
from babel.numbers import format_currency, format_decimal
from jinja2 import (
    BaseLoader,
    ChoiceLoader,
    FileSystemLoader,
    StrictUndefined,
    TemplateError,
    TemplateNotFound,
    pass_context,
)
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

from billing.currencies import CURRENCIES
from jobs.config.sources import SettingsError
from jobs.email.invoices import ShownInvoice

OURS = Path(__file__).parent / "templates"
DEFAULT = "en"
"""The language of whoever's own has no words."""
SUBJECT = "Subject: "
MOST = 1_000_000
"""Characters of a page: an invoice with 250 lines of 500 characters, each of them escaped. Mail programs cut what is
long (Gmail at 102 KB) and link to the rest, so what matters stands before the lines."""


@dataclass(frozen=True, slots=True)
class Rendered:
    subject: str
    text: str
    html: str
    locale: str
    """As HTML and Content-Language name it: `pt-BR`."""


class NotRendered(ValueError):
    """A template that is missing or cannot be filled. The message shows none of the values."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code, self.detail = code, detail


class Templates:
    """Those of the package, and of `folder`, which go first. Raises SettingsError if that is no folder."""

    def __init__(self, folder: str | None = None) -> None:
        if folder is not None and not Path(folder).is_dir():
            raise SettingsError(f"BILLING_EMAIL_TEMPLATES: {folder} is no folder")
        self._folders = [*([Path(folder)] if folder is not None else []), OURS]
        loaders: list[BaseLoader] = [FileSystemLoader(each) for each in self._folders]
        self._environment = ImmutableSandboxedEnvironment(
            loader=ChoiceLoader(loaders),
            autoescape=lambda name: name is None or not name.endswith(".txt"),
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=True,
        )
        self._environment.filters |= {
            "money": _money,
            "unit": _unit,
            "count": _count,
            "day": _day,
            "moment": _moment,
            "apart": _apart,
        }

    def names(self) -> list[str]:
        """Every template that can be rendered."""
        found = {each.stem for folder in self._folders for each in folder.glob("*.txt")}
        return sorted(found - {"layout"})

    def render(
        self,
        template: str,
        *,
        data: Mapping[str, Any],
        locale: str | None,
        sender: str,
        name: str = "",
        invoice: ShownInvoice | None = None,
    ) -> Rendered:
        """`name`: the recipient's. `invoice`: what `data` names, as it was read. Raises NotRendered."""
        language = self._locale(locale)
        seen = {
            "data": data,
            "recipient": {"name": name},
            "sender": sender,
            "words": self._words(language.language, template),
            "babel": language,
            "locale": str(language).replace("_", "-"),
            "direction": language.text_direction,
        }
        if invoice is not None:
            seen["invoice"] = invoice
        try:
            text = self._environment.get_template(f"{template}.txt").render(seen)
            html = self._environment.get_template(f"{template}.html").render(seen)
        except TemplateNotFound as error:
            raise NotRendered("no_such_template", str(error.name)) from None
        except TemplateError as error:
            raise NotRendered("template_failed", f"{type(error).__name__}: {error.message}") from None
        except Exception as error:  # noqa: BLE001 - whatever a template does with a value
            raise NotRendered("template_failed", type(error).__name__) from None
        first, _, rest = text.partition("\n")
        if not first.startswith(SUBJECT):
            raise NotRendered("template_failed", f"the first line of {template}.txt does not begin with {SUBJECT!r}")
        if max(len(text), len(html)) > MOST:
            raise NotRendered("template_failed", f"more than {MOST:,} characters")
        return Rendered(first.removeprefix(SUBJECT).strip(), rest.lstrip("\n"), html, str(seen["locale"]))

    def _locale(self, wanted: str | None) -> Locale:
        """The wanted one, if there are words in its language; no e-mail mixes two languages."""
        try:
            locale = Locale.parse((wanted or DEFAULT).replace("-", "_"))
        except (UnknownLocaleError, ValueError, TypeError):
            locale = None
        known = locale is not None and any((each / f"words.{locale.language}.toml").exists() for each in self._folders)
        return locale if locale is not None and known else Locale.parse(DEFAULT)

    def _words(self, language: str, template: str) -> dict[str, Any]:
        """Those that every template shares, and its own."""
        words: dict[str, Any] = {}
        for spoken in dict.fromkeys((DEFAULT, language)):
            for folder in reversed(self._folders):
                words |= _section(folder / f"words.{spoken}.toml", "every")
                words |= _section(folder / f"words.{spoken}.toml", template)
        return words


def _section(path: Path, name: str) -> dict[str, Any]:
    try:
        content = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    try:
        found = tomllib.loads(content).get(name, {})
    except tomllib.TOMLDecodeError as error:
        raise NotRendered("template_failed", f"{path.name}: {error}") from None
    return found if isinstance(found, dict) else {}


@pass_context
def _money(context: Context, value: Mapping[str, Any]) -> str:
    """`{"minor": 1999, "currency": "EUR"}` as the reader writes it."""
    currency = CURRENCIES[value["currency"]]
    amount = Decimal(value["minor"]).scaleb(-currency.decimals)
    # CLDR has a space between letters and digits, which Babel leaves out: `KWD 1.500`, not `KWD1.500`.
    return re.sub(r"(?<=[^\W\d_])(?=\d)", "\xa0", format_currency(amount, currency.code, locale=context["babel"]))


@pass_context
def _unit(context: Context, value: Mapping[str, Any]) -> str:
    """As `_money`, with all decimal places that the amount of one unit has."""
    currency = CURRENCIES[value["currency"]]
    amount = Decimal(value["minor"]).scaleb(-currency.decimals).normalize()
    shown = format_currency(amount, currency.code, locale=context["babel"], decimal_quantization=False)
    return re.sub(r"(?<=[^\W\d_])(?=\d)", "\xa0", shown)


@pass_context
def _count(context: Context, value: int) -> str:
    return format_decimal(value, locale=context["babel"])


@pass_context
def _apart(context: Context, value: str) -> str:
    """In a text from right to left: isolated, so that a number or a name in it does not turn the rest around. Source:
    Unicode's bidirectional algorithm, UAX #9, 2.6."""
    return f"\u2068{value}\u2069" if context["direction"] == "rtl" else value


@pass_context
def _day(context: Context, value: str) -> str:
    """`2026-11-30`, or the day of a time, in UTC."""
    return format_date(date.fromisoformat(value[:10]), format="long", locale=context["babel"])


@pass_context
def _moment(context: Context, value: str) -> str:
    return format_datetime(datetime.fromisoformat(value), format="long", locale=context["babel"])
