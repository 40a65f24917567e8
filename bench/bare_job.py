"""The job as a careful user of a queue writes it: look, call with an idempotency key, store. No transaction in between.

It writes nothing before the call, no facts, and nothing repeats the calls of a dead worker.
"""

import os
from datetime import datetime

import stripe
from sqlalchemy import Engine, create_engine, func
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

TABLE = """
    CREATE SCHEMA bench;
    CREATE TABLE bench.captures (
        id text PRIMARY KEY, payment_intent text NOT NULL, amount_minor bigint NOT NULL, state text NOT NULL,
        charge text, request_id text, answered_at timestamptz
    );
"""


class Base(DeclarativeBase):
    pass


class Capture(Base):
    __tablename__ = "captures"
    __table_args__ = {"schema": "bench"}

    id: Mapped[str] = mapped_column(primary_key=True)
    payment_intent: Mapped[str]
    amount_minor: Mapped[int]
    state: Mapped[str]
    charge: Mapped[str | None]
    request_id: Mapped[str | None]
    answered_at: Mapped[datetime | None]


def open_engine(**pooling: object) -> Engine:
    url = os.environ["DATABASE_URL"].replace("postgresql://", "postgresql+psycopg://")
    return create_engine(url, connect_args={"application_name": os.environ["BENCH_SIDE"]}, **pooling)


def open_client() -> stripe.StripeClient:
    return stripe.StripeClient(
        "sk_test_bench", base_addresses={"api": os.environ["STRIPE_API_BASE"]}, max_network_retries=0
    )


def take(session: Session, client: stripe.StripeClient, capture_id: str) -> None:
    """The session commits before the call, so a pool gets its connection back."""
    capture = session.get_one(Capture, capture_id)
    if capture.state == "captured":
        return
    intent, amount = capture.payment_intent, capture.amount_minor
    session.commit()
    answer = client.v1.payment_intents.capture(
        intent,
        {"amount_to_capture": amount, "metadata": {"billing_operation": capture_id}},
        {"idempotency_key": f"capture-{capture_id}"},
    )
    if answer.status != "succeeded" or answer.amount_received != amount:
        raise RuntimeError(f"{capture_id}: {answer.status}")
    capture = session.get_one(Capture, capture_id, populate_existing=True)
    capture.state, capture.charge, capture.answered_at = "captured", str(answer.latest_charge), func.now()
    capture.request_id = answer.last_response.request_id if answer.last_response else None
    session.commit()
