"""What comes from a link is not trusted: its host, size, type and speed. Each bad one ends with its own word."""

import gzip
import zlib
from collections.abc import Callable, Iterator

import pytest
from hostile_host import PDF, HostileHost

from archive.documents import pdf
from billing.gateway import boot_clock
from jobs.documents.fetching import Fetcher, Hostile, NotFetched, Passing

MOST = 100_000
LONG_S, SHORT_S = 60.0, 1.0


@pytest.fixture
def host() -> Iterator[HostileHost]:
    host = HostileHost()
    yield host
    host.close()


@pytest.fixture
def elsewhere() -> Iterator[HostileHost]:
    host = HostileHost()
    yield host
    host.close()


def fetched(host: HostileHost, link: str, within_s: float = LONG_S) -> bytes:
    fetcher = Fetcher(("pay.stripe.com", "files.stripe.com"), host.url, MOST)
    return fetcher.fetch(link, boot_clock() + within_s)


def why(host: HostileHost, link: str, within_s: float = LONG_S) -> tuple[type[NotFetched], str]:
    with pytest.raises(NotFetched) as raised:
        fetched(host, link, within_s)
    return type(raised.value), str(raised.value)


def test_a_document_is_read_through_redirects_at_the_same_host(host: HostileHost) -> None:
    host.behaviors = {
        "/link": host.moves("/second", 303),
        "/second": host.moves(f"{host.url}/third?s=ap", 307),
        "/third": host.moves("fourth", 308),
        "/fourth": host.answers(),
    }
    assert fetched(host, f"{host.url}/link?s=ap") == PDF


@pytest.mark.parametrize(
    "link",
    [
        "https://pay.stripe.com.example.com/invoice",
        "https://example.com/https://pay.stripe.com/",
        "http://pay.stripe.com/invoice",
        "https://pay.stripe.com:8443/invoice",
        "https://pay.stripe.com@example.com/invoice",
        "https://user:password@pay.stripe.com/invoice",
        "https://169.254.169.254/latest/meta-data/",
        "https://localhost/",
        "file:///etc/passwd",
        "ftp://pay.stripe.com/invoice",
        "//pay.stripe.com/invoice",
        "https://pay.stripe.com/a b",
        "https://pay.stripe.com/a\r\nHost: example.com",
        "https://pay.stripe.com:99999/",
        "https://раy.stripe.com/invoice",
        "",
    ],
)
def test_a_link_to_any_other_place_is_never_followed(host: HostileHost, link: str) -> None:
    assert why(host, link) == (Hostile, "foreign_link")


def test_stripes_own_hosts_are_taken_by_https_only(host: HostileHost) -> None:
    fetcher = Fetcher(("pay.stripe.com", "files.stripe.com"), "https://api.stripe.com", MOST)
    for link in ("https://pay.stripe.com/invoice/a/pdf?s=ap", "https://files.stripe.com:443/b"):
        assert fetcher._allowed(link, "foreign_link").hostname in fetcher.hosts
    assert fetcher._allowed("https://api.stripe.com/c", "foreign_link").hostname == "api.stripe.com"


def test_a_redirect_elsewhere_is_not_followed(host: HostileHost, elsewhere: HostileHost) -> None:
    elsewhere.behaviors = {"/pdf": elsewhere.answers()}
    for to in (f"{elsewhere.url}/pdf", "https://example.com/", "//example.com/", "file:///etc/passwd"):
        host.behaviors = {"/link": host.moves(to)}
        assert why(host, f"{host.url}/link") == (Hostile, "redirected_elsewhere")
    assert elsewhere.sent == 0


def test_redirects_end(host: HostileHost) -> None:
    host.behaviors = {"/link": host.moves("/link")}
    assert why(host, f"{host.url}/link") == (Hostile, "too_many_redirects")


def test_a_large_one_is_refused_without_being_read(host: HostileHost) -> None:
    host.behaviors = {"/announced": host.answers(announced=200_000_000), "/endless": host.without_length(200)}
    assert why(host, f"{host.url}/announced") == (Hostile, "too_large")
    assert why(host, f"{host.url}/endless") == (Hostile, "too_large")
    assert host.sent < 50_000_000  # what fits into the buffers of both ends


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"<html>Please accept the terms of this network.</html>", "text/html"),
        (PDF, "text/html; charset=utf-8"),
        (PDF, "application/octet-stream"),
        (PDF, ""),
        (b"<html></html>%%EOF", "application/pdf"),
        (b"\n" + PDF, "application/pdf"),
        (b"", "application/pdf"),
    ],
)
def test_what_is_no_pdf_is_refused_whatever_its_status_says(host: HostileHost, body: bytes, content_type: str) -> None:
    host.behaviors = {"/link": host.answers(body, content_type=content_type)}
    assert why(host, f"{host.url}/link") == (Hostile, "not_a_pdf")


@pytest.mark.parametrize(("coding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
def test_a_body_that_was_compressed_unasked_is_read_no_further_than_its_size_may_be(
    host: HostileHost, coding: str, pack: Callable[[bytes], bytes]
) -> None:
    """A hundred kilobytes that would be a hundred megabytes."""
    bomb = pack(PDF + b" " * 100_000_000)
    assert len(bomb) <= MOST
    host.behaviors = {
        "/bomb": host.answers(bomb, Content_Encoding=coding),
        "/small": host.answers(pack(PDF), Content_Encoding=coding),
    }
    assert why(host, f"{host.url}/bomb") == (Hostile, "too_large")
    assert fetched(host, f"{host.url}/small") == PDF


def test_what_a_pdf_would_expand_to_is_not_asked(host: HostileHost) -> None:
    """Nothing here reads a stream within it; whoever opens it later has a reader of PDF for that."""
    stream = zlib.compress(zlib.compress(b" " * 100_000_000, 9), 9)
    head = b"%%PDF-1.7\n1 0 obj\n<< /Filter [/FlateDecode /FlateDecode] /Length %d >>\nstream\n" % len(stream)
    body = head + stream + b"\nendstream\nendobj\n%%EOF\n"
    assert len(body) < 10_000
    host.behaviors = {"/link": host.answers(body)}
    assert fetched(host, f"{host.url}/link") == body


def test_one_that_is_not_whole_may_come_whole_later(host: HostileHost) -> None:
    host.behaviors = {
        "/cut": host.answers(PDF[:4000], announced=len(PDF)),
        "/without_end": host.answers(PDF[:4000]),
        "/end_elsewhere": host.answers(PDF + b" " * 2000),
    }
    for path in host.behaviors:
        assert why(host, f"{host.url}{path}") == (Passing, "truncated")


@pytest.mark.parametrize("status", [204, 304, 400, 401, 403, 404, 410, 429, 500, 502, 503])
def test_any_other_status_may_be_200_later(host: HostileHost, status: int) -> None:
    host.behaviors = {"/link": host.answers(b"", status=status)}
    assert why(host, f"{host.url}/link") == (Passing, f"status_{status}")


@pytest.mark.parametrize("head", [False, True])
def test_a_slow_drip_ends_when_its_time_is_over(host: HostileHost, head: bool) -> None:
    host.behaviors = {"/link": host.drips(head)}
    assert why(host, f"{host.url}/link", SHORT_S) == (Passing, "too_slow")


def test_a_host_that_is_away_may_be_there_later(host: HostileHost) -> None:
    host.close()
    assert why(host, f"{host.url}/link") == (Passing, "unreached")
    assert why(host, f"{host.url}/link", -1.0) == (Passing, "too_slow")


def test_the_end_of_a_pdf_may_have_a_line_behind_it() -> None:
    assert pdf.problem(PDF) is None
    assert pdf.problem(PDF + b"\r\n\r\n") is None
    assert pdf.problem(b"%PDF-2.0\n%%EOF") is None
