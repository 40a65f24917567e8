"""The gateway of the queue `documents`: where the document is, what it is, and where it is stored, in this order.

    KEEP /document/invoice_pdf  →  invoice read at Stripe  →  downloaded  →  checked  →  stored  →  read back

It stands in the process of one document (`jobs.process.document`); a worker starts one for each. All but the storing
changes nothing, and that writes one object however often it is done (`archive.documents.stored`). The link lives in
this call only: whoever has it can read the invoice.
"""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any, NamedTuple
from urllib.parse import parse_qs

from archive.documents import stored
from archive.errors import EvidenceDiffers, StoreAway, StoreRefused
from archive.policy.retention import Policy
from archive.s3.store import Store
from billing.gateway import KEEP, Answer, Budget, NotSent, Request, Response
from billing.stripe_gateway import StripeGateway
from jobs.documents.fetching import Fetcher, Hostile, Passing

STORING_S = 10.0
"""Of a call's time, so much is left to store the document and to read it back."""


class Source(NamedTuple):
    """Where a kind of document is named at Stripe: the path before the object's id, its type, and the field."""

    path: str
    object: str
    field: str


SOURCES: Mapping[str, Source] = {
    "invoice_pdf": Source("/v1/invoices/", "invoice", "invoice_pdf"),
    "credit_note_pdf": Source("/v1/credit_notes/", "credit_note", "pdf"),
}
"""Sources: docs.stripe.com/api/invoices/object, docs.stripe.com/api/credit_notes/object."""


class Refused(Exception):
    """It is not stored, and not tried again. The message is a word of ours."""


class NotNow(Exception):
    """It is not stored, and is tried again for a day. The message is a word of ours."""


@dataclass(frozen=True, slots=True)
class Keeping:
    """A `Gateway` to the bucket. `stripe`: reads invoices."""

    stripe: StripeGateway
    fetcher: Fetcher
    store: Store
    policy: Policy

    @property
    def livemode(self) -> bool:
        return self.stripe.livemode

    def send(self, request: Request, budget: Budget) -> Answer:
        """As `Gateway.send`. Never raises for what Stripe, a link or S3 did."""
        if request.method != KEEP:
            return NotSent("this queue keeps documents only")
        if (part := request.unfit) is not None:
            return NotSent(f"the {part} has characters that we never write; it was not sent")
        asked = {name: values[0] for name, values in parse_qs(request.body).items()}
        source = SOURCES.get(request.path.removeprefix("/document/"))
        if source is None:
            return _error(400, "unknown_kind")
        try:
            found = self._link(source, asked["of"], request.account, budget)
            if not isinstance(found, str):
                return found
            body = self.fetcher.fetch(found, budget.over_at - STORING_S)
            return self._kept(source, asked, body)
        except (Refused, Hostile) as error:
            return _error(400, str(error))
        except (NotNow, Passing) as error:
            if time.time() > int(asked["until"]):
                return _error(400, "not_available_for_a_day", str(error))
            return _error(429, str(error))

    def _link(self, source: Source, object_id: str, account: str | None, budget: Budget) -> str | Answer:
        """The link, fresh from Stripe; or Stripe's answer, where our key is refused."""
        whole = Budget(budget.over_at, budget.over_at - STORING_S)
        answer, shown = self.stripe.read_whole(f"{source.path}{object_id}", account, whole)
        match answer:
            case Response(status=200):
                pass
            case NotSent():
                return answer
            case Response(status=401 | 403):
                return answer
            case Response(status=404):
                raise NotNow("no_such_object")
            case _:
                raise NotNow("no_answer_of_stripe")
        if (shown.get("object"), shown.get("id")) != (source.object, object_id):
            raise NotNow("another_object")
        if shown.get("livemode") is not self.livemode:
            raise Refused("another_mode")
        link = shown.get(source.field)
        if not isinstance(link, str):
            raise NotNow("no_link_yet")
        return link

    def _kept(self, source: Source, asked: Mapping[str, str], body: bytes) -> Response:
        kind = next(kind for kind, each in SOURCES.items() if each is source)
        day, today = date.fromisoformat(asked["day"]), datetime.now(UTC).date()
        try:
            kept = stored.keep(self.store, self.policy, kind, asked["document"], body, day=day, today=today)
        except StoreAway:
            raise NotNow("store_away") from None
        except StoreRefused:
            raise NotNow("store_refused") from None
        except EvidenceDiffers:
            raise Refused("stored_differs") from None
        data = {
            "livemode": self.livemode,
            "sha256": kept.sha256,
            "size_bytes": kept.size_bytes,
            "object_key": kept.key,
            "object_version": kept.version,
            "lock_mode": str(kept.lock.mode),
            "locked_until": kept.lock.until.astimezone(UTC).isoformat(),
        }
        return Response(200, json.dumps(data).encode(), data, None, replayed=False)


def _error(status: int, code: str, detail: str = "") -> Response:
    data: dict[str, Any] = {"error": {"code": code} | ({"param": detail} if detail else {})}
    return Response(status, json.dumps(data).encode(), data, None, replayed=False)
