"""Downloads one document, from Stripe's hosts only, within one time and one size.

What comes from a link is not trusted: not its host, its size, its type or its speed. `Hostile`: it will not become a
document however often it is read, so a person has to look. `Passing`: it may, so it is read again later.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from urllib.parse import SplitResult, urljoin, urlsplit

from archive.documents import pdf
from billing.gateway import Budget, boot_clock
from billing.transport import BROKEN, CUT_SHORT, OverBudget, TooLarge, TooLate, Unreached, exchange, open_pool

REDIRECTS = 3
_MOVED = (301, 302, 303, 307, 308)
_PDF = "application/pdf"
_HEADERS = {"Accept": _PDF, "Accept-Encoding": "identity", "User-Agent": "billing"}


class NotFetched(Exception):
    """The message is a word of ours."""


class Hostile(NotFetched):
    """It is no document of Stripe's."""


class Passing(NotFetched):
    """It did not come this time."""


@dataclass(frozen=True, slots=True)
class Fetcher:
    """`hosts`: from where documents come, by https. `own`: the address of the API, from where they may come too, as it
    is: of the stand-in, by http. `most_bytes`: a larger one is not read."""

    hosts: Collection[str]
    own: str
    most_bytes: int

    def fetch(self, link: str, over_at: float) -> bytes:
        """The document, whole. Raises Hostile and Passing. `over_at`: by the boot clock, when all of it must be
        over."""
        budget = Budget(not_after=over_at, over_at=over_at)
        for redirects in range(REDIRECTS + 1):
            place = self._allowed(link, "redirected_elsewhere" if redirects else "foreign_link")
            body, status, headers = self._exchange(place, budget)
            if status not in _MOVED:
                return _checked(body, status, headers.get("Content-Type") or "")
            link = urljoin(link, headers.get("Location") or "")
        raise Hostile("too_many_redirects")

    def _allowed(self, link: str, otherwise: str) -> SplitResult:
        try:
            place = urlsplit(link)
            port = place.port
        except ValueError:
            raise Hostile(otherwise) from None
        if not link.isascii() or not link.isprintable() or " " in link or place.username or place.password:
            raise Hostile(otherwise)
        own = urlsplit(self.own)
        if (place.scheme, place.hostname, port) == (own.scheme, own.hostname, own.port):
            return place
        if place.scheme != "https" or port not in (None, 443) or place.hostname not in self.hosts:
            raise Hostile(otherwise)
        return place

    def _exchange(self, place: SplitResult, budget: Budget) -> tuple[bytes, int, Mapping[str, str]]:
        path = f"{place.path or '/'}{f'?{place.query}' if place.query else ''}"
        # One connection for one document: the process that reads it ends with it.
        pool = open_pool(f"{place.scheme}://{place.netloc}", 1)
        try:
            return exchange(pool, budget, "GET", path, _HEADERS, "", most=self.most_bytes)
        except TooLarge:
            raise Hostile("too_large") from None
        except (TooLate, OverBudget):
            raise Passing("too_slow") from None
        except Unreached:
            raise Passing("unreached") from None
        except CUT_SHORT:
            # Also what breaks off before as many bytes have come as it announced.
            raise Passing("too_slow" if boot_clock() >= budget.over_at else "truncated") from None
        except BROKEN:
            raise Passing("too_slow" if boot_clock() >= budget.over_at else "broken_off") from None
        finally:
            pool.close()


def _checked(body: bytes, status: int, content_type: str) -> bytes:
    if status != 200:
        # Also a 404: a link may end before the next read of the invoice shows a fresh one.
        raise Passing(f"status_{status}")
    if content_type.partition(";")[0].strip().lower() != _PDF:
        raise Hostile("not_a_pdf")
    match pdf.problem(body):
        case None:
            return body
        case "truncated":
            raise Passing("truncated")
        case why:
            raise Hostile(why)
