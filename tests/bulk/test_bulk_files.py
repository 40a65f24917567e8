"""Files as people have them: read, or refused with what to do; never guessed at, and never held in memory."""

import contextlib
import io
import re
import resource
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from billing import CaptureTerms, Money
from billing.many import MOVABLE, Movable
from jobs.bulk.columns import Asked, asked_by, columns_of
from jobs.bulk.duplicates import Counted, Duplicate, Duplicates, Key
from jobs.bulk.errors import UnusableFile
from jobs.bulk.lines import LINE_MOST, BadLine, Lines, digest_of, refuse_strangers
from jobs.bulk.problems import Problem
from jobs.bulk.rows import rows

CAPTURE = MOVABLE["capture"]


def read(content: bytes, movable: Movable = CAPTURE) -> list[Asked | Problem]:
    """What the rows of a file ask for, and what is wrong with them."""
    stream = io.BytesIO(content)
    refuse_strangers(stream)
    found: list[Asked | Problem] = []
    for row in rows(Lines(stream), columns_of(movable)):
        asked = asked_by(row, movable, "june", None)
        found += [asked] if isinstance(asked, Asked) else asked
    return found


def told(content: bytes) -> list[Any]:
    """(line, payment intent, amount) of what is asked for, (line, column, problem) of what is wrong."""
    return [
        (each.line, each.arguments["payment_intent"], str(each.amount))
        if isinstance(each, Asked)
        else (each.line, each.column, each.why)
        for each in read(content)
    ]


TWO = [(2, "pi_1", "19.99 USD"), (3, "pi_2", "500 JPY")]
ROWS = ["pi_1,1999,USD", "pi_2,500,JPY"]
HEADER = "payment_intent,amount,currency"


@pytest.mark.parametrize(
    "content",
    [
        "\n".join([HEADER, *ROWS]),
        "\n".join([HEADER, *ROWS, "", ",,", "  ", ""]),
        "\r\n".join([HEADER, *ROWS, ""]),
        "\ufeff" + "\n".join([HEADER, *ROWS]),
        "\n".join([HEADER, *ROWS]).replace(",", ";"),
        "\n".join([HEADER, *ROWS]).replace(",", "\t"),
        "\n".join([HEADER, *ROWS]).replace(",", "|"),
        "\n".join(["Payment Intent,Amount-Minor, CURRENCY ", *ROWS]),
        "\n".join([f"{HEADER},,", *(f"{row},," for row in ROWS)]),
        'payment_intent,amount\n"pi_1","19.99 USD"\n"pi_2","500 JPY"\n',
    ],
)
def test_what_programs_write_is_read(content: str):
    assert told(content.encode()) == TWO


def test_a_first_line_of_excel_and_line_breaks_inside_of_cells_count_as_lines():
    content = b'sep=;\r\npayment_intent;correlation_id;amount\r\npi_1;"two\r\nlines";19.99 USD\r\npi_2;x;500 JPY\r\n'
    (first, second) = read(content)
    assert isinstance(first, Asked)
    assert (first.line, first.arguments["correlation_id"]) == (3, "two\r\nlines")
    assert isinstance(second, Asked)
    assert second.line == 5


def test_objects_of_json_one_a_line_are_read():
    content = (
        b'{"payment_intent": "pi_1", "amount": 1999, "currency": "USD"}\n\n'
        b'{"amount": "500 JPY", "payment_intent": "pi_2", "correlation_id": null, "request_id": ""}\r\n'
    )
    assert told(content) == [(1, "pi_1", "19.99 USD"), (3, "pi_2", "500 JPY")]


def test_a_row_without_a_name_of_its_own_is_named_by_the_bulk_and_its_line():
    content = b"payment_intent,amount,request_id\npi_1,19.99 USD,\npi_2,19.99 USD,order-2\n"
    assert [each.arguments["request_id"] for each in read(content) if isinstance(each, Asked)] == ["june:2", "order-2"]


def test_each_key_of_metadata_is_a_column_of_its_own_and_keeps_its_capital_letters():
    csv = b"payment_intent,amount,METADATA.Order,metadata.parcel\npi_1,19.99 USD,42,1 of 2\npi_2,19.99 USD,,\n"
    json = b'{"payment_intent": "pi_1", "amount": "19.99 USD", "metadata.Order": "42", "metadata.parcel": "1 of 2"}\n'
    for content in (csv, json):
        (first, *_) = read(content)
        assert isinstance(first, Asked)
        assert first.arguments["terms"] == CaptureTerms(metadata={"Order": "42", "parcel": "1 of 2"})
    (_, second) = read(csv)
    assert isinstance(second, Asked)
    assert "terms" not in second.arguments
    (problem,) = read(csv.replace(b"42", b"a@example.com").replace(b"pi_2,19.99 USD,,\n", b""))
    assert isinstance(problem, Problem)
    assert problem.column == "the value of key 1 of metadata"
    for header, why in (
        (b"metadata", "did you mean metadata.KEY?"),
        (b"metadata.a,metadata.a", "has metadata.a twice"),
    ):
        with pytest.raises(UnusableFile, match=re.escape(why)):
            read(b"payment_intent,amount," + header + b"\npi_1,19.99 USD,x,x\n")


def test_a_refund_of_all_that_is_left_needs_no_name_and_one_of_an_amount_does():
    """A corrected file would give the same amount back again under a made-up name; of what is left there is nothing."""
    content = b"capture,charge,amount,reason,request_id\ncap_1,,,duplicate,\n,ch_2,5.00 USD,,\n,ch_2,5.00 USD,,a\n"
    (left, problem, named) = read(content, MOVABLE["refund"])
    assert isinstance(left, Asked)
    assert left.arguments == {"capture": "cap_1", "reason": "duplicate", "request_id": "june:2"}
    assert (left.amount, problem.line) == (None, 3)
    assert isinstance(problem, Problem)
    assert "needs its own" in problem.why
    assert isinstance(named, Asked)
    assert (named.arguments["charge"], named.amount) == ("ch_2", Money(500, "USD"))


UNUSABLE = [
    (b"", "the file is empty"),
    (b"\n \n\r\n" * 1000, "the file is empty"),
    (b"\xef\xbb\xbf", "the file is empty"),
    ("pi_1,1999,USD".encode("utf-16"), "is UTF-16, as Excel writes"),
    ("pi_1,1999,USD".encode("utf-16-be"), "is UTF-16 without a mark, or no text"),
    (b"PK\x03\x04rest", "is a workbook"),
    (b"\x1f\x8brest", "unpack it first"),
    (b'[{"payment_intent": "pi_1"}]', "write one object a line"),
    (b"payment_intent,amuont\n", "line 1 must name the columns, and has no column amount; has the unknown column"),
    (b"payment_intent,amuont\n", "amuont (did you mean amount?)"),
    (b"payment_intent,amount,amount_minor\n", "has amount twice"),
    (b"payment_intent,amount,note\n", "the unknown column note. Columns: payment_intent, amount, currency"),
    (b"pi_1secretive,1999,USD\n", "has no column payment_intent and no amount; has a column that is no name"),
    (b'payment_intent,amount\npi_1,"19.99 USD\npi_2,500 JPY\n', 'line 2 begins a cell with " that ends in line 3'),
    (b'payment_intent,amount\npi_1,"19\npi_2,5" JPY\n', 'line 2 begins a cell with " that ends in line 3'),
    (b'payment_intent,amount\npi_1,"19\npi_2,5",JPY\n', "and then has 3 cells, and the header 2"),
    (b"payment_intent,amount\rpi_1,1\r", "ends lines with CR alone"),
    (b"x" * (LINE_MOST + 1), "has more than 65,536 bytes, so the names of the columns cannot be read"),
]  # fmt: skip


@pytest.mark.parametrize(("content", "why"), UNUSABLE, ids=[why[:30] for _, why in UNUSABLE])
def test_a_file_that_cannot_be_understood_as_a_whole_is_refused_with_what_to_do(content: bytes, why: str):
    with pytest.raises(UnusableFile) as refused:
        read(content)
    assert why in str(refused.value)
    assert "secretive" not in str(refused.value)


BAD = [
    (b"pi_9,1999", (2, "", "has 2 cells, and the header 3")),
    (b"pi_9,1,999,USD", (2, "", 'has 4 cells, and the header 3; a cell with commas inside needs " around it')),
    (b",1999,USD", (2, "payment_intent", "is missing")),
    (b"pi_9,,USD", (2, "currency", "stands there without an amount")),
    (b'pi_9,"1"9,USD', (2, "", 'has a " inside of a cell; write it twice, and " around the cell')),
    (b"pi_9,19\0,USD", (2, "", "holds a NUL byte, which no text has")),
    (b"pi_\xfc,1999,USD", (2, "", "is not UTF-8: byte 4 of it is 0xFC; save the file as 'CSV UTF-8'")),
    (b"pi_9,1999,USD" + b" " * 10_000_000, (2, "", "has more than 65,536 bytes")),
]


@pytest.mark.parametrize(("row", "problem"), BAD, ids=[problem[2][:30] for _, problem in BAD])
def test_a_bad_row_is_named_by_line_and_column_and_the_next_one_is_read(row: bytes, problem: Any):
    found = told(HEADER.encode() + b"\n" + row + b"\npi_2,500,JPY\n")
    assert problem in found
    assert found[-1] == (3, "pi_2", "500 JPY")


BAD_JSON = [
    (b'{"payment_intent": "pi_9", "amount": 19.99, "currency": "USD"}', "write 1999 (minor units)"),
    (b'{"payment_intent": "pi_9", "amount": 1e3, "currency": "USD"}', "may have lost digits"),
    (b'{"payment_intent": "pi_9", "amount": true, "currency": "USD"}', "is no number"),
    (b'{"payment_intent": "pi_9", "amount": NaN}', "holds NaN"),
    (b'{"payment_intent": 9, "amount": "19.99 USD"}', 'must be text; write it with " around it'),
    (b'{"payment_intent": "pi_9", "amount": 1, "amount": 2}', "names a column twice"),
    (b'{"payment_intent": "pi_9", "amount": 1, "Amount": 2}', "names a column twice"),
    (b'{"payment_intent": "pi_9", "amuont": "19.99 USD"}', "did you mean amount?"),
    (b'{"payment_intent": "pi_9"}', "has no amount"),
    (b"[]", "is no JSON object"),
    (b"{", "is no JSON object"),
    (b"[" * 60_000, "is no JSON object"),
    (b'{"payment_intent": "pi_9", "amount": ' + b"9" * 5000 + b"}", "is no JSON object"),
    (b'{"payment_intent": {"id": "pi_9"}, "amount": "19.99 USD"}', "must be text"),
]


@pytest.mark.parametrize(("row", "why"), BAD_JSON, ids=[str(number) for number in range(len(BAD_JSON))])
def test_a_bad_object_of_json_is_named_and_the_next_one_is_read(row: bytes, why: str):
    good = b'{"payment_intent": "pi_1", "amount": "19.99 USD"}'
    found = told(b"\n".join([good, row, good]))
    assert why in found[1][2]
    assert [each[0] for each in found] == [1, 2, 3]


def test_an_id_that_may_be_a_card_number_is_remarked_and_not_refused():
    (asked,) = read(b"payment_intent,amount,request_id\npi_1,19.99 USD,4000056655665556\n")
    assert isinstance(asked, Asked)
    assert asked.remark is not None
    assert "may be a card number" in asked.remark
    assert "4000" not in asked.remark


def test_a_kind_that_may_be_asked_for_again_needs_names_of_its_own():
    """Else a corrected file would ask again for what the first one did: its lines have other numbers."""

    def give_back(session: Any, *, charge: str, amount: Money | None = None, request_id: str, actor: str = "") -> Any:
        raise NotImplementedError

    movable = Movable("cashback", give_back, queue="captures", once=None)
    assert list(columns_of(movable).names) == ["charge", "amount", "currency", "request_id"]
    assert columns_of(movable).needed == ["charge", "request_id"]
    (asked,) = read(b"charge,request_id\nch_1,order-1\n", movable)
    assert isinstance(asked, Asked)
    assert (asked.amount, asked.arguments) == (None, {"charge": "ch_1", "request_id": "order-1"})
    with pytest.raises(UnusableFile, match="has no column request_id"):
        read(b"charge,amount\nch_1,19.99 USD\n", movable)


def test_a_row_that_leaves_room_for_another_needs_a_name_of_its_own():
    header, part = "payment_intent,amount,remainder,request_id\n", "pi_1,7.00 USD,keep"
    named, unnamed, released = read(f"{header}{part},parcel-1\n{part},\npi_1,7.00 USD,release,\n".encode())
    assert isinstance(named, Asked)
    assert named.arguments["request_id"] == "parcel-1"
    assert isinstance(unnamed, Problem)
    assert (unnamed.line, unnamed.column) == (3, "request_id")
    assert isinstance(released, Asked)
    assert released.arguments["request_id"] == "june:4"


@dataclass(frozen=True)
class Wishes:
    tip: Money | None = None
    words: str | None = None
    labels: dict[str, str] | None = None


def test_what_may_be_left_out_of_an_argument_is_a_column_each():
    def thank(session: Any, *, charge: str, request_id: str, wishes: Wishes = Wishes()) -> Any:
        raise NotImplementedError

    movable = Movable("thanks", thank, queue="captures", once=None)
    assert list(columns_of(movable).names) == ["charge", "request_id", "tip", "currency", "words"]
    (asked, problem) = read(b"charge,request_id,tip,words\nch_1,a,1.50 USD,well\nch_2,b,1.5 USD,\n", movable)
    assert isinstance(asked, Asked)
    assert asked.arguments["wishes"] == Wishes(Money(150, "USD"), "well")
    assert isinstance(problem, Problem)
    assert (problem.line, problem.column) == (3, "tip")


def test_every_row_that_repeats_another_is_found_with_the_line_of_the_first():
    duplicates = Duplicates()
    names = ["a", "b", "a", "c", "b", "a"]
    in_usd = {line: Counted(line, "USD", named=True) for line in range(2, 8)}
    duplicates.add(Key("request_id", name, line, in_usd[line]) for line, name in enumerate(names, start=2))
    duplicates.add([Key("payment_intent", "a", 9, None)])
    assert list(duplicates.found()) == [
        *(Duplicate("request_id", line, 2, in_usd[line]) for line in (2,)),
        Duplicate("request_id", 3, 3, in_usd[3]),
        Duplicate("request_id", 4, 2, in_usd[4]),
        Duplicate("request_id", 6, 3, in_usd[6]),
        Duplicate("request_id", 7, 2, in_usd[7]),
    ]
    duplicates.close()


def test_the_digest_of_a_line_is_that_of_all_bytes_before_it():
    content = b"\xef\xbb\xbfa\r\nb\0\n" + b"c" * (2 * LINE_MOST) + b"\nd"
    lines = Lines(io.BytesIO(content))
    for size in (6, 9, 9 + 2 * LINE_MOST + 1, len(content)):
        with contextlib.suppress(BadLine):
            next(lines)
        assert lines.bytes_read == size
        assert lines.digest() == digest_of(io.BytesIO(content[:size]))
    assert (lines.number, next(lines, None)) == (4, None)


def many_rows(count: int) -> Iterator[bytes]:
    yield b"payment_intent,amount,currency\n"
    for number in range(count):
        yield b"pi_%d,1999,USD\n" % number


def test_memory_does_not_grow_with_the_file():
    """Two files, of which one is ten times as large: what was ever in use at once is the same."""
    with tempfile.TemporaryFile() as file:
        peaks = []
        for count in (5_000, 50_000):
            file.seek(0)
            file.truncate()
            file.writelines(many_rows(count))
            duplicates = Duplicates()
            for row in rows(Lines(file), columns_of(CAPTURE)):
                asked = asked_by(row, CAPTURE, "june", None)
                assert isinstance(asked, Asked)
                duplicates.add([Key("payment_intent", asked.arguments["payment_intent"], asked.line, None)])
            assert list(duplicates.found()) == []
            duplicates.close()
            peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    assert peaks[1] - peaks[0] < 8_192  # KiB
