"""The documents of invoices and credit notes: their links, and a small PDF of each.

At Stripe `invoice_pdf` is https://pay.stripe.com/invoice/acct_.../test_.../pdf?s=ap: it needs no key, because whoever
has the link may read the invoice, and it redirects to the file. Sources: docs.stripe.com/api/invoices/object
(`invoice_pdf`), docs.stripe.com/api/credit_notes/object (`pdf`), github.com/stripe/stripe-php/issues/1229 (the
redirect). Here both are at the address that the client asked.
"""

import base64
import re
from collections.abc import Iterable, Iterator

from .objects import CreditNote, Invoice
from .objects.parts import HOME
from .wire import Answer
from .world import World

_LINK = re.compile(r"/(?:invoice|credit_notes)/((?:test|live)_[A-Za-z0-9_-]{8,80})/pdf")
_FILE = re.compile(r"/files/((?:test|live)_[A-Za-z0-9_-]{8,80})\.pdf")
_HOST = re.compile(rb"[A-Za-z0-9.:\[\]_-]{1,255}")
_TEXT = (b"content-type", b"text/plain; charset=utf-8")
LINES_ON_A_PAGE = 48


def is_one(path: str) -> bool:
    """Whether this path is the link to a document, or where such a link leads."""
    return _LINK.fullmatch(path) is not None or _FILE.fullmatch(path) is not None


def answer(world: World, method: str, path: str) -> Answer:
    """The redirect of a link, or the file itself. 404 for a token of nothing that has a document."""
    link, file = _LINK.fullmatch(path), _FILE.fullmatch(path)
    token = (link or file)[1]  # type: ignore[index]
    row = _row(world, token)
    if method != "GET" or row is None:
        return 404, [_TEXT], b"there is no such document"
    if link:
        return 302, [(b"location", f"/files/{token}.pdf".encode())], b""
    named = f'inline; filename="{row.object}-{row.number}.pdf"'.encode()
    return 200, [(b"content-type", b"application/pdf"), (b"content-disposition", named)], pdf(_text(row))


def at_home(whole: Answer, host: bytes | None) -> Answer:
    """The same answer with links that lead to this stand-in, by the name under which the client knows it."""
    status, headers, body = whole
    if host is None or HOME.encode() not in body or not _HOST.fullmatch(host):
        return whole
    return status, headers, body.replace(HOME.encode(), b"http://" + host)


def _row(world: World, token: str) -> Invoice | CreditNote | None:
    mode, _, rest = token.partition("_")
    try:
        named = base64.urlsafe_b64decode(rest + "=" * (-len(rest) % 4)).decode()
    except ValueError:
        return None
    for books in world.all_books():
        if books.livemode is not (mode == "live"):
            continue
        if (invoice := books.invoices.get(named)) is not None:
            return invoice if invoice.finalized_at is not None else None
        if (note := books.credit_notes.get(named)) is not None:
            return note
    return None


def _text(row: Invoice | CreditNote) -> Iterator[str]:
    """What the document says: latin letters only, as its font has no others."""
    if isinstance(row, Invoice):
        yield f"Invoice {row.number}"
        yield f"Bill to {row.buyer.name or row.customer}"
        for each in row.lines:
            yield f"{each.item.description or ''}   {each.item.amount} {row.currency}"
        yield f"Total {row.total} {row.currency}"
    else:
        yield f"Credit note {row.number}"
        for credited in row.lines:
            yield f"{credited.description or ''}   {credited.amount} {row.currency}"
        yield f"Total {row.amount} {row.currency}"
    yield "A document of the stand-in. It is no invoice."


def pdf(lines: Iterable[str]) -> bytes:
    """A PDF 1.4 with these lines, on as many pages as they need; the same bytes for the same lines.

    Source: Adobe's PDF Reference 1.4, 3.4 (file structure) and 5.3 (text).
    """
    shown = list(lines)
    pages = [shown[at : at + LINES_ON_A_PAGE] for at in range(0, len(shown), LINES_ON_A_PAGE)] or [[]]
    kids = " ".join(f"{4 + 2 * n} 0 R" for n in range(len(pages)))
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {len(pages)} >>".encode(),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>",
    ]
    for n, page in enumerate(pages):
        objects.append(
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents {5 + 2 * n} 0 R"
            f" /Resources << /Font << /F1 3 0 R >> >> >>".encode()
        )
        drawn = b"".join(b"(" + _escaped(line) + b") Tj T*\n" for line in page)
        stream = b"BT /F1 11 Tf 15 TL 50 790 Td\n" + drawn + b"ET"
        objects.append(b"<< /Length %d >>\nstream\n%s\nendstream" % (len(stream), stream))
    body, places = b"%PDF-1.4\n", list[int]()
    for n, each in enumerate(objects, 1):
        places.append(len(body))
        body += b"%d 0 obj\n%s\nendobj\n" % (n, each)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    size = len(objects) + 1
    return (
        body
        + b"xref\n0 %d\n0000000000 65535 f \n%strailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n"
        % (
            size,
            table,
            size,
            len(body),
        )
    )


def _escaped(line: str) -> bytes:
    plain = line.encode("cp1252", "replace")
    return re.sub(rb"([\\()])", rb"\\\1", plain).replace(b"\r", b" ").replace(b"\n", b" ")
