"""Switches: what is stopped, by whom and why, and until when."""

from datetime import datetime

from sqlalchemy import CheckConstraint, Index, String, func, text
from sqlalchemy.orm import Mapped, mapped_column

from billing import states
from billing.provider_ids import IdKind
from billing.tables.entities.entity import Entity
from billing.tables.schema import known_state, provider_id_shape


class Switch(Entity):
    """A switch: while it is pulled, nothing new is prepared in its scope."""

    life = states.SWITCH
    __tablename__ = "switches"
    __table_args__ = (
        Index("switches_one_pulled_per_scope", "scope", unique=True, postgresql_where=text("state = 'pulled'")),
        # A switch that was pulled before this constraint, for a name that is no account, can still be released.
        provider_id_shape(IdKind.ACCOUNT, unless="state = 'released' OR "),
        known_state(states.SWITCH),
        Index("switches_paced", "id", postgresql_where=text("release_per_hour IS NOT NULL")),
        CheckConstraint(
            "release_per_hour IS NULL OR release_per_hour > 0 AND release_next_at IS NOT NULL AND state = 'released'",
            name="paced_if_released",
        ),
    )

    state: Mapped[str] = mapped_column(String(20), server_default=states.SWITCH.first)
    scope: Mapped[str] = mapped_column(String(300))
    actor: Mapped[str] = mapped_column(String(255))
    # The system pulled it for this account, and a successful probe releases it.
    probes: Mapped[bool] = mapped_column(server_default=text("false"))
    pulled_at: Mapped[datetime] = mapped_column(server_default=func.now())
    # From then on it counts as released, and a relay records that. Null: until somebody releases it.
    expires_at: Mapped[datetime | None]
    # It was released at a rate: so many pieces of held work continue in an hour, and when the next may. Null: all at
    # once, or none is left.
    release_per_hour: Mapped[int | None]
    release_next_at: Mapped[datetime | None]
