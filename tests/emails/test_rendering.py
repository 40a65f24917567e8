"""Templates: what every reader sees, in every language, and what a template or a value cannot do."""

from pathlib import Path
from typing import Any

import pytest

from jobs.config.sources import SettingsError
from jobs.email.messages import compose, own_id, sender
from jobs.email.recipients import Recipients, Unresolved, one_line, resolver
from jobs.email.rendering import OURS, NotRendered, Rendered, Templates

DATA = {"amount": {"minor": 123456, "currency": "EUR"}, "order": "order-42", "date": "2026-11-30"}
TEMPLATES = ("capture_receipt", "invoice_sent", "refund_made")
"""Those that need nothing but `data`."""
LANGUAGES = tuple(sorted(path.name.split(".")[1] for path in OURS.glob("words.*.toml")))


def render(template: str = "refund_made", *, folder: Path | None = None, **more: Any) -> Rendered:
    wanted: dict[str, Any] = {"data": DATA, "locale": "en", "sender": "Shop", **more}
    return Templates(str(folder) if folder else None).render(template, **wanted)


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("locale", LANGUAGES)
def test_every_template_is_whole_in_every_language(template: str, locale: str) -> None:
    data = DATA | {"number": "INV-1", "due_date": "2026-12-24"}
    made, bare = (render(template, locale=locale, data=each) for each in (data, {"amount": DATA["amount"]}))
    assert made.locale == locale
    assert made.subject
    assert f'<html lang="{locale}" dir="{"rtl" if locale == "ar" else "ltr"}">' in made.html
    for page in (made.text, made.html):
        assert "2026" in page
        assert "%(" not in page
        assert "{{" not in page
    assert "order-42" not in bare.html
    assert Templates().names() == sorted((*TEMPLATES, "invoice"))


@pytest.mark.parametrize(
    ("locale", "amount", "day"),
    [
        ("en", "€1,234.56", "November 30, 2026"),
        ("de", "1.234,56\xa0€", "30. November 2026"),
        ("ar", "1,234.56", "30 نوفمبر 2026"),
        ("fr", "€1,234.56", "November 30, 2026"),
        ("nonsense", "€1,234.56", "November 30, 2026"),
        (None, "€1,234.56", "November 30, 2026"),
    ],
)
def test_money_and_days_are_as_the_reader_writes_them_and_no_email_mixes_languages(
    locale: str | None, amount: str, day: str
) -> None:
    made = render(locale=locale)
    assert amount in made.text
    assert day in made.text


@pytest.mark.parametrize(
    ("minor", "currency", "shown"), [(500, "JPY", "¥500"), (1500, "KWD", "KWD\xa01.500"), (50000, "ISK", "ISK\xa0500")]
)
def test_an_amount_has_the_decimals_of_its_currency(minor: int, currency: str, shown: str) -> None:
    assert shown in render(data={"amount": {"minor": minor, "currency": currency}}).text


@pytest.mark.parametrize("name", ["<script>x</script>", "{{ 7*7 }}", "%(sender)s %s %", "</style>", "A" * 5000])
def test_a_name_is_shown_as_it_is_and_nothing_of_it_is_carried_out(name: str) -> None:
    made = render(name=name)
    assert name in made.text
    body = made.html.partition("</style>")[2]
    assert "<script>" not in body
    assert "49" not in body


@pytest.mark.parametrize(
    ("source", "code"),
    [
        ("{{ data.absent }}", "template_failed"),
        ("{{ ''.__class__.__mro__ }}", "template_failed"),
        ("{{ self.__init__.__globals__ }}", "template_failed"),
        ("{% for n in range(10**9) %}x{% endfor %}", "template_failed"),
        ("{{ 'x' * 3000000 }}", "template_failed"),
        ("{% if %}", "template_failed"),
        ("{% include '/etc/passwd' %}", "no_such_template"),
        ("{% include '../rendering.py' %}", "no_such_template"),
        ("{{ data.amount.minor|money }}", "template_failed"),
    ],
)
def test_a_template_that_fails_or_reaches_for_more_is_not_rendered(tmp_path: Path, source: str, code: str) -> None:
    (tmp_path / "own.txt").write_text("Subject: x\n\nx\n")
    (tmp_path / "own.html").write_text(source)
    with pytest.raises(NotRendered) as refused:
        render("own", folder=tmp_path)
    assert refused.value.code == code
    assert "1234" not in str(refused.value)


def test_a_template_that_is_not_there_or_has_no_subject_says_so(tmp_path: Path) -> None:
    with pytest.raises(NotRendered, match="no_such_template"):
        render("absent")
    (tmp_path / "own.txt").write_text("Hello\n")
    (tmp_path / "own.html").write_text("x")
    with pytest.raises(NotRendered, match="first line"):
        render("own", folder=tmp_path)
    (tmp_path / "words.en.toml").write_text("= no toml")
    with pytest.raises(NotRendered, match=r"words\.en\.toml"):
        render(folder=tmp_path)
    with pytest.raises(SettingsError, match="is no folder"):
        Templates("/nowhere")


def test_words_of_the_application_replace_single_sentences_in_their_language_only(tmp_path: Path) -> None:
    (tmp_path / "words.en.toml").write_text('[refund_made]\nsubject = "Money!"\n')
    assert render(folder=tmp_path).subject == "Money!"
    assert render(folder=tmp_path, locale="de").subject == "Erstattung von Shop"
    (tmp_path / "words.fr.toml").write_text('[refund_made]\nsubject = "Remboursement"\n')
    french = render(folder=tmp_path, locale="fr-CA")
    assert (french.subject, french.locale) == ("Remboursement", "fr-CA")


def test_a_header_is_one_line_whatever_stands_in_it() -> None:
    rendered = Rendered("Hi\r\nBcc: eve@example.org\x00\u2028x", "text", "<p>", "en")
    to = Recipients(None, lambda _: {"address": "a@example.org", "name": "A\nB"})  # type: ignore[arg-type]
    from billing.gateway import Budget

    person = to.find("user-1", None, Budget(1, 1))
    message = compose(rendered, key="b:t:eml_1:send_email:g2", sent_by=sender("Shop <b@example.com>"), to=person)
    headers = message.bytes_.partition(b"\r\n\r\n")[0].decode()
    assert "\nBcc" not in headers
    assert "Message-ID: <eml_1.g2@example.com>" in headers
    assert "a@example.org" not in repr(person)
    assert own_id("b:t:eml_1:send_email:g2") == "eml_1.g2"
    assert one_line("a\r\n\tb\u202ec") == "a b c"
    for bad in ("b@example.com\nX: y", "Shop <bä@example.com>", ""):
        with pytest.raises(ValueError, match=r".*"):
            sender(bad)


def test_a_function_for_recipients_is_found_or_refused_at_the_start() -> None:
    assert resolver(None) is None
    assert resolver("json:loads") is not None
    for named in ("no_such_module_1:f", "json:absent", "json:__name__"):
        with pytest.raises(SettingsError, match="BILLING_EMAIL_RECIPIENTS"):
            resolver(named)
    nobody = Recipients(None)  # type: ignore[arg-type]
    from billing.gateway import Budget, Response

    with pytest.raises(Unresolved) as unresolved:
        nobody.find("user-1", None, Budget(1, 1))
    assert isinstance(unresolved.value.answer, Response)
    assert unresolved.value.answer.error_code == "no_function_for_recipients"
