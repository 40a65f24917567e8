"""The books of a month as one file: a ZIP with the report as a page and as PDF, each part as CSV, and the books as JSON
with the digest of each file. The same month gives the same bytes, except for the signature of a key in AWS KMS.
"""

import io
import zipfile
from collections.abc import Mapping

from archive.closing import books as values
from archive.closing.books import Books
from archive.closing.page import page
from archive.queries import Answer, formats
from archive.signing.signatures import Signer


def files(books: Books, signer: Signer | None) -> dict[str, bytes]:
    """Name -> content: what is in the bundle. With a signer, `books.json` is signed."""
    from archive.closing.pdf import pdf  # noqa: PLC0415 - reportlab is of the extra `finance`

    found = {f"{answer.query}.csv": _csv(answer) for _, answer in books.parts}
    found |= {"report.html": page(books).encode(), "report.pdf": pdf(books)}
    return found | {"books.json": values.as_json(books, found, signer)}


def zipped(books: Books, contents: Mapping[str, bytes]) -> bytes:
    """Nothing of this machine or moment is in it: names are sorted, times are the end of the month, and nothing is
    compressed, because another zlib would make other bytes."""
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_STORED) as archive:
        for name, body in sorted(contents.items()):
            entry = zipfile.ZipInfo(f"books-{books.month.name}/{name}", books.month.until.timetuple()[:6])
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, body)
    return sink.getvalue()


def _csv(answer: Answer) -> bytes:
    text = io.StringIO(newline="")
    formats.write_csv(answer, text)
    # A spreadsheet takes the file for UTF-8 only if it begins so.
    return b"\xef\xbb\xbf" + text.getvalue().encode()
