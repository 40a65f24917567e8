"""Texts: what people write in any language is taken, what has no meaning is made alike, and controls are named."""

import unicodedata
from typing import Any
from urllib.parse import parse_qs

import pytest
from cases import case
from sqlalchemy import select
from sqlalchemy.orm import Session
from test_issue_invoice import ask

import billing
from billing.invoice_line_steps import ADD_LINES
from billing.steps import LoadedOperation
from billing.tables.entities import Invoice, InvoiceLine
from billing.texts import plain_text

ONE_EURO = billing.Money(100, "EUR")

TAKEN = {
    "no-break space, as Babel and ICU write French prices": "3 places à 12\u00a0€",
    "narrow no-break space": "1\u202f234,50\u00a0€",
    "soft hyphen": "Donau\u00addampf\u00adschiff",
    "emoji of several, with joiners": "\U0001f468\u200d\U0001f469\u200d\U0001f467 family",
    "Persian, with a non-joiner": "می\u200cخواهم",
    "Hebrew, with a mark of direction": "חולצה\u200f (XL)",
    "ideographic space": "請求書\u3000一月",
    "tab": "seats\t3",
    "newline": "3 seats\nJanuary",
    "an isolate, as Fluent puts around what it fills in": "\u2068Ada\u2069's seats",
    "an embedding": "\u202babc\u202c",
    "characters of private use": "\ue000 \uf8ff",
    "a flag of tags": "\U0001f3f4\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f",
    "a character newer than this Python": "\U0001fbff\U0001faef",
    "combining marks": "e\u0301 Z\u0351\u036b",
    "a replacement character": "\ufffd",
}


def test_what_people_write_is_taken_and_kept_as_it_is(session: Session):
    for number, (name, description) in enumerate(TAKEN.items()):
        asked = {"lines": [billing.Line(description, ONE_EURO)], "request_id": f"order-{number}"}
        with case(name):
            made = ask(session, **asked)
            session.commit()
            kept = select(InvoiceLine.description).where(InvoiceLine.invoice_id == made.invoice_id)
            assert session.scalars(kept).all() == [description]
            assert not ask(session, **asked).new


@pytest.mark.parametrize("description", TAKEN.values(), ids=TAKEN)
def test_what_is_taken_is_sent_as_it_is(description: str):
    row, line = Invoice(id="inv_1", stripe_invoice="in_1"), InvoiceLine(position=0, description=description)
    line.amount_minor = 100
    body = ADD_LINES.ask(LoadedOperation(row, [], "wrk_1", "invoices", [line])).body
    assert parse_qs(body, strict_parsing=True)["lines[0][description]"] == [description]


ALIKE = {
    "byte-order mark": ("\ufeff3 seats", "3 seats"),
    "byte-order mark within": ("3\ufeff seats", "3 seats"),
    "Windows' line end": ("a\r\nb", "a\nb"),
    "old Macintosh's": ("a\rb", "a\nb"),
    "NEL": ("a\x85b", "a\nb"),
    "line separator": ("a\u2028b", "a\nb"),
    "paragraph separator": ("a\u2029b", "a\nb"),
}


@pytest.mark.parametrize(("written", "kept"), ALIKE.values(), ids=ALIKE)
def test_what_has_no_meaning_is_made_alike(session: Session, written: str, kept: str):
    first = ask(session, lines=[billing.Line(written, ONE_EURO)])
    session.commit()
    assert session.scalar(select(InvoiceLine.description)) == kept
    # So the same line, read from another system, is the same request.
    assert ask(session, lines=[billing.Line(kept, ONE_EURO)]).invoice_id == first.invoice_id
    assert plain_text("reason", written, 500) == kept.replace("\n", " ")


REFUSED = {
    "a\x00": "the control character U+0000 (NULL), which is character 2 of it",
    "\x1b[31m": "the control character U+001B (ESCAPE), which is character 1 of it",
    "ab\x7f": "U+007F (DELETE), which is character 3",
    "\x96": "the control character U+0096",
    "\x01x": "the control character U+0001",
    "\ud800x": "U+D800, half of a surrogate pair",
    "x\ufdd0": "U+FDD0, which is not a character",
    "x\uffff": "U+FFFF, which is not a character",
    "x\U0010fffe": "U+10FFFE, which is not a character",
    "a\u202eb": "U+202E (RIGHT-TO-LEFT OVERRIDE)",
    "a\u202db": "U+202D (LEFT-TO-RIGHT OVERRIDE)",
    "": "1 to 500 characters",
    "x" * 501: "1 to 500 characters",
    "   ": "can be seen",
    "\u00a0\u3000\n": "can be seen",
    "\u200d\u00ad": "can be seen",
}


@pytest.mark.parametrize(("description", "said"), REFUSED.items(), ids=lambda value: ascii(value)[:40])
def test_what_cannot_be_stored_or_sent_is_refused_by_name_and_position(description: str, said: str):
    with pytest.raises(billing.InvalidText) as refused:
        billing.Line(description, ONE_EURO)
    assert said in str(refused.value)
    assert str(refused.value).startswith("a line's description must ")
    # It may go to a terminal.
    assert str(refused.value).isprintable()


@pytest.mark.parametrize("description", [None, 5, b"seats", ["seats"]])
def test_what_is_no_text_is_refused_by_its_type(description: Any):
    with pytest.raises(billing.InvalidText, match=f"must be text, not {type(description).__name__}"):
        billing.Line(description, ONE_EURO)


def test_every_character_but_controls_halves_and_overrides_is_text():
    def taken(character: str) -> bool:
        try:
            return bool(plain_text("reason", f"a{character}b", 500, lines=True))
        except billing.InvalidText:
            return False

    refused = [code for code in range(0x110000) if not chr(code).isprintable() and not taken(chr(code))]
    kinds = {unicodedata.category(chr(code)) for code in refused} - {"Cf"}
    assert kinds == {"Cc", "Cs", "Cn"}
    assert [code for code in refused if unicodedata.category(chr(code)) == "Cf"] == [0x202D, 0x202E]
    assert len([code for code in refused if unicodedata.category(chr(code)) == "Cn"]) == 66
    assert len([code for code in refused if unicodedata.category(chr(code)) == "Cc"]) == 65 - len("\t\n\r\x85")


def test_a_card_number_is_seen_however_it_is_spaced():
    for mark in ("", " ", "\u00a0", "\u202f", "\u3000", "\n", "\t", "-"):
        with pytest.raises(billing.InvalidText, match="may be a card number"):
            billing.Line(f"Paid by {mark.join(('4539', '1488', '0343', '6467'))}", ONE_EURO)
