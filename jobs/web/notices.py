"""What Amazon SES tells by SNS: checked, read, and put into the inbox of events. Nothing else is done about it here."""

from collections.abc import Mapping
from dataclasses import dataclass

import structlog
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from billing import database, inbox
from billing.email_notices import event_of
from jobs.email import ses_notices
from jobs.web.sns import Sns, SnsMessage, Unsigned

log = structlog.get_logger()

PATH = "/email/ses"
BUSY = "busy"
_STATUS: Mapping[str, int] = {Unsigned.NO_CERTIFICATE: 503, BUSY: 503}
"""SNS sends a message again that is answered so. Of all others, 400."""
ADVICE: Mapping[str, str] = {
    Unsigned.NOT_A_MESSAGE: "the body is no message of SNS; raw message delivery must be off for this subscription",
    Unsigned.OTHER_TOPIC: "no setting here names this topic: BILLING_SES_TOPICS",
    Unsigned.NOT_OF_AMAZON: "its certificate, or the address to confirm at, is not at SNS's own address",
    Unsigned.BAD_SIGNATURE: "the signature does not fit the message",
    Unsigned.NO_CERTIFICATE: "the certificate that signed it could not be read from SNS; send it again",
    BUSY: "it could not be stored; send it again",
}


@dataclass(frozen=True, slots=True)
class Notices:
    """For threads: `take` waits for Amazon and for Postgres."""

    sns: Sns
    engine: Engine
    livemode: bool

    def take(self, body: bytes) -> tuple[int, str]:
        """The status to answer, with the id of the message, or with the key of `ADVICE` that says why it is refused."""
        message = self.sns.check(body)
        if isinstance(message, Unsigned):
            return self._refused(message)
        if message.confirm_at is not None:
            try:
                self.sns.confirm(message.confirm_at)
            except OSError as error:
                log.warning("notice.unconfirmed", error=str(error))
                return self._refused(Unsigned.NO_CERTIFICATE)
            log.info("notice.subscribed", sns_id=message.id)
            return 200, message.id
        if message.type != "Notification":
            log.warning("notice.unsubscribed", sns_id=message.id)
            return 200, message.id
        return self._put(message)

    def _put(self, message: SnsMessage) -> tuple[int, str]:
        notice = ses_notices.read(message.message, message.id)
        if notice is None:
            # Deliveries, opens, a test of the topic: nothing that we need.
            return 200, message.id
        try:
            with database.transaction(self.engine) as session:
                new = inbox.put(session, [event_of(notice, livemode=self.livemode)])
        except SQLAlchemyError as error:
            log.warning("notice.unstored", error=type(error).__name__, sqlstate=database.sqlstate(error))
            return self._refused(BUSY)
        log.info("notice.stored", sns_id=message.id, kind=str(notice.kind), new=new)
        return 200, message.id

    def _refused(self, why: str) -> tuple[int, str]:
        log.warning("notice.refused", reason=str(why))
        return _STATUS.get(why, 400), why
