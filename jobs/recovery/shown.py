"""One operation that only Stripe knows, as Stripe shows it."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from billing.request_ids import REQUEST_KEY, is_digest
from billing.steps import Json
from billing.tables.entities import Requested
from jobs.recovery.repeats import Repeats


@dataclass(frozen=True, slots=True)
class Shown:
    """What Stripe shows of the operation `own`. `steps`: the calls of it that Stripe shows. `repeats`: what the
    application has asked for since the moment to which the database was set back."""

    own: str
    account: str | None
    data: Json
    steps: Collection[str]
    repeats: Repeats

    @property
    def currency(self) -> str:
        return str(self.data.get("currency")).upper()

    @property
    def metadata(self) -> Mapping[str, Any]:
        """Anybody can write anything into it."""
        found = self.data.get("metadata")
        return found if isinstance(found, Mapping) else {}

    @property
    def digest(self) -> str | None:
        """That of the application's request id."""
        found = self.metadata.get(REQUEST_KEY)
        return found if is_digest(found) else None

    @property
    def asked(self) -> dict[str, Any]:
        """What the payload of every fact says that requests money."""
        digest = {"request_digest": self.digest} if self.digest else {}
        return {"currency": self.currency, "account": self.account, **digest}

    def request_id(self, session: Session, table: type[Requested]) -> str:
        return self.repeats.request_id(session, table, self.account, self.own, digest=self.digest, known=None)


def is_money(value: object) -> bool:
    """A whole number of minor units, above zero."""
    return type(value) is int and value > 0
