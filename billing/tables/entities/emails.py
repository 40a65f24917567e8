"""E-mails: to whom, about what. No address is in a row."""

from typing import Any

from sqlalchemy import CheckConstraint, Index, String, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from billing import states
from billing.provider_ids import IdKind
from billing.tables.entities.entity import Requested
from billing.tables.schema import known_state, own_id_shape, provider_id_shape

MAX_DATA = 8_192
"""Characters of what an e-mail is about, as JSON."""


class Email(Requested):
    """One e-mail to one recipient, who is named by an id: the address is in no row. It is read when it is sent."""

    life = states.EMAIL
    __tablename__ = "emails"
    __table_args__ = (
        UniqueConstraint("account", "request_id", postgresql_nulls_not_distinct=True),
        Index("emails_correlated", "correlation_id", postgresql_where=text("correlation_id <> request_id")),
        # What an operator lists: those that were not sent.
        Index("emails_refused", "id", postgresql_where=text("state = 'refused'")),
        Index("emails_bounced", "id", postgresql_where=text("state IN ('bounced', 'complained')")),
        # A notice of Amazon SES names this.
        Index("emails_provider_message", "provider_message", postgresql_where=text("provider_message IS NOT NULL")),
        own_id_shape("eml"),
        provider_id_shape(IdKind.ACCOUNT),
        CheckConstraint("template ~ '^[a-z][a-z0-9_]{0,39}$'", name="template_shape"),
        CheckConstraint("recipient ~ '^[A-Za-z0-9_.:-]{1,128}$'", name="recipient_shape"),
        CheckConstraint("locale ~ '^[A-Za-z0-9_-]{2,35}$'", name="locale_shape"),
        CheckConstraint(f"jsonb_typeof(data) = 'object' AND length(data::text) <= {MAX_DATA}", name="data_bounded"),
        known_state(states.EMAIL),
    )

    template: Mapped[str] = mapped_column(String(40))
    # A customer's id at Stripe (cus_...), or one of the application's, which its own function resolves.
    recipient: Mapped[str] = mapped_column(String(255))
    # Null: the language that Stripe, or the application, has of the recipient.
    locale: Mapped[str | None] = mapped_column(String(35))
    data: Mapped[dict[str, Any]]
    state: Mapped[str] = mapped_column(String(20), server_default=states.EMAIL.first)
    # What the mail server called it when it accepted it.
    provider_message: Mapped[str | None] = mapped_column(String(100))
