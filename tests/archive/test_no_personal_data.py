"""Nothing about a person gets into the bucket, whatever an application or an operator writes where."""

import io
import json

import pyarrow.parquet as pq
import pytest
from evidence import Archive
from sqlalchemy import text

import billing
from archive.format import allowed, comparing, records
from billing import database, invoices, switches
from billing.operations import topics
from billing.tables.entities import Invoice

NAME, MAIL, CARD, STREET = "Canary Caruso", "canary@example.com", "4242424242424242", "Canary Street 7"
CANARIES = (NAME, MAIL, CARD, STREET, "canary", "4242-4242-4242-4242", "4242 4242")


_MORE = json.dumps({"payment_intent": CARD, "customer": CARD, "charge": NAME})


def everything(archive: Archive) -> str:
    """Every byte and every value in the bucket; Parquet is compressed, so its rows are read as well."""
    told = ""
    for key, body in archive.outside.bodies().items():
        told += key + body.decode("latin-1")
        if key.endswith(".parquet"):
            table = pq.read_table(io.BytesIO(body))
            told += json.dumps(table.to_pylist(), default=str) + str(table.schema.metadata)
    return told


def found(text: str) -> list[str]:
    return [canary for canary in CANARIES if canary.lower() in text.lower()]


def test_no_free_text_of_an_application_or_an_operator_reaches_the_bucket(archive: Archive) -> None:
    """[65] Lines, reasons, actors and correlation ids as careless people fill them.

    What the border refuses is written past it: another version, or another program, may not have refused it.
    """
    service = archive.service
    with database.transaction(service.engine) as session:
        for n in range(5):
            billing.request_capture(
                session,
                payment_intent=f"pi_{n}",
                amount=billing.Money(1999, "USD"),
                request_id=f"x-{n}",
                correlation_id=f"order-7{n}",
            )
        past_the_border = "UPDATE billing.facts SET correlation_id = :correlation, actor = :actor WHERE id = :id"
        for n, (correlation, actor) in enumerate([(MAIL, NAME), (CARD, MAIL), ("4242-4242-4242-4242", f"till {CARD}")]):
            values = {"id": n + 1, "correlation": correlation, "actor": actor}
            session.flush()
            session.execute(text(past_the_border), values)
        session.execute(
            text("UPDATE billing.facts SET payload = payload || CAST(:more AS jsonb) WHERE id = 4"), {"more": _MORE}
        )
        receipt = billing.issue_invoice(
            session,
            customer="cus_1",
            lines=[billing.Line(f"{NAME}, {STREET}", billing.Money(4500, "EUR"))],
            collect=billing.SendInvoice(days_until_due=14),
            # Without a correlation id it is one, and ids are the caller's word that they are opaque.
            request_id="order-80",
            actor=NAME,
        )
        row = session.get_one(Invoice, receipt.invoice_id)
        row.state = "refused"
        session.add_all(
            fact for fact in invoices.reopen(row, actor=MAIL, reason=f"{NAME} wrote to us") if fact is not row
        )
        switches.pull(session, "captures", actor=NAME, reason=f"{MAIL} complains")
    service.plan()
    with database.transaction(service.engine) as session:
        in_postgres = str(session.connection().exec_driver_sql("SELECT f::text FROM billing.facts f").all())
    # The control: it was planted, and the search finds it.
    assert set(found(in_postgres)) == set(CANARIES) - {STREET, "4242 4242"}
    assert archive.archive_all() >= 7
    told = everything(archive)
    assert found(told) == []
    assert "order-74" in told
    assert "order-80" in told
    assert receipt.invoice_id in told


def test_unknown_payload_keys_and_values_of_another_shape_never_get_there(archive: Archive) -> None:
    archive.tell(
        "capture.captured",
        minor=1999,
        currency="USD",
        email=MAIL,
        note={"who": NAME},
        payment_intent=NAME,
        charge=CARD,
        why=f"refused for {NAME}",
        number=CARD,
        scope=f"account:{MAIL}",
        status=CARD,
        capture_before=STREET,
        account=MAIL,
        request_id=MAIL,
    )
    archive.archive_all()
    assert found(everything(archive)) == []
    (row,) = archive.outside.facts()["capture"]
    assert row["payload"] == '{"currency":"USD","minor":1999}'


@pytest.mark.parametrize(
    ("payload", "kept"),
    [
        ({"minor": 1, "currency": "USD"}, {"minor": 1, "currency": "USD"}),
        ({"minor": True, "currency": "usd", "replayed": 1}, {}),
        ({"minor": 1.0, "theirs": "1", "took_ms": 2**63}, {}),
        ({"why": "card_declined", "learned": None}, {"why": "card_declined"}),
        ({"why": "Card declined."}, {}),
        ({"number": "ABC123-0001"}, {"number": "ABC123-0001"}),
        ({"step": "delete_duplicate_draft:in_1"}, {"step": "delete_duplicate_draft:in_1"}),
        # As facts of before migration 0011 name it.
        ({"step": "delete_stray:in_1"}, {"step": "delete_stray:in_1"}),
        ({"scope": "account:own"}, {"scope": "account:own"}),
        ({"scope": "contract:take_capture", "per_hour": 60}, {"scope": "contract:take_capture", "per_hour": 60}),
        ({"scope": "currency:EUR", "authorized_minor": 2500}, {"scope": "currency:EUR", "authorized_minor": 2500}),
        ({"scope": f"queue:{NAME}", "authorized_minor": "2500", "expires_at": "tomorrow"}, {}),
        ({"command": "archive policy apply"}, {"command": "archive policy apply"}),
        ({"command": f"archive policy for {NAME.lower()}"}, {}),
        ({"payment_intent": "pi_1_secret_bcdfghjk", "charge": "ch_1_secret_bcdfghjk"}, {}),
        ({"why": "sk_test_bcdfghjk", "step": "whsec_bcdfghjkbcdfghjk", "learned": "rk_live_bcdfghjk"}, {}),
        ({"capture_before": "2026-11-25T10:00:00+00:00"}, {"capture_before": "2026-11-25T10:00:00+00:00"}),
        ({"payment_intent": "pi_1\n"}, {}),
        ({"payment_intent": f"pi_{CARD}", "charge": f"ch_{CARD}", "minor": int(CARD), "why": f"a_{CARD}"}, {}),
    ],
)
def test_a_value_is_kept_only_where_it_looks_as_it_must(payload, kept) -> None:
    assert records.joined(records.members(payload)) == json.dumps(kept, sort_keys=True, separators=(",", ":"))


def test_members_sort_as_their_keys_do() -> None:
    """Each begins with its key, so that no key may hold what sorts before the quote at its end."""
    assert all(key.isidentifier() for key in allowed.PAYLOAD)


def test_what_the_service_itself_writes_is_kept(archive: Archive) -> None:
    """The other side: the allow-list is not so narrow that the evidence is empty."""
    service = archive.service
    capture, invoice = service.ask_for_capture(correlation_id="order-1"), service.ask_for_invoice()
    assert service.settle(capture, invoice) == ["captured", "sent"]
    service.plan()
    archive.archive_all()
    rows = {row["topic"]: row for name in archive.outside.facts().values() for row in name}
    assert rows.keys() <= topics().keys()
    for entity in (capture, invoice):
        for fact in service.facts(entity):
            row = rows[fact.topic]
            kept = json.loads(row["payload"])
            if fact.topic.endswith("attempted"):
                continue  # an invoice has several
            left_out = {key for key, value in fact.payload.items() if value not in (None, "") and key not in kept}
            assert left_out == set(), fact.topic
    assert rows["capture.captured"]["correlation_id"] == "order-1"
    assert rows["capture.requested"]["actor"] == "application"


@pytest.mark.parametrize(
    ("theirs", "ours", "agree"),
    [
        ({"minor": 1}, {"minor": 1, "account": "own", "authorized_minor": 2}, True),
        ({}, {"command": "switch pull", "scope": "currency:EUR", "per_hour": 60}, True),
        # Whoever tells more did not write this.
        ({"minor": 1, "account": "own"}, {"minor": 1}, False),
        ({"minor": 1, "account": "acct_1"}, {"minor": 1, "account": "own"}, False),
        ({"minor": 2}, {"minor": 1, "account": "own"}, False),
        ({}, {"minor": 1}, False),
        ({"payment_intent": "pi_1"}, {}, False),
    ],
)
def test_versions_may_differ_in_what_they_archive_and_not_in_what_they_say(theirs, ours, agree) -> None:
    """A batch that one version began may be finished by another."""
    row = dict.fromkeys(records.SCHEMA.names) | dict.fromkeys(("archive_seq", "fact_id", "entity_version"), 1)

    def rows(payload):
        return records.pa.Table.from_pylist([row | {"payload": records.canonical(payload)}])

    assert comparing.same(rows(theirs), rows(ours)) == agree
