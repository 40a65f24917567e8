"""Whatever people can write about a customer's operations is erased: of every kind of operation, in every column.

Two people are written into everything. The customer must be gone from all tables after an erasure. The operator, who
did his work, must be left in exactly the columns of which docs/finance/privacy.md says so.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from evidence import Archive
from long_ago import happened_long_ago
from mailing import ask_for_email
from service import Service
from sqlalchemy import text
from test_erasure import asking
from test_no_personal_data import everything
from test_verification import verify

import billing
from billing import audit, database, documents, erasure, ids
from billing.erasure import Erased
from billing.errors import InvalidRequest
from billing.operations import OPERATIONS, operation_of
from jobs.reconciliation import differences
from jobs.road import discarding, quarantine, quarantine_list

PAGE = (Path(__file__).parents[2] / "docs" / "finance" / "privacy.md").read_text()
PERSON, OPERATOR = "Quillmark", "Gracewell"
WHO, STAFF = f"Ms {PERSON}", f"Ms {OPERATOR}"

ERASED = {
    "captures.statement_descriptor",
    "captures.statement_descriptor_suffix",
    "captures.callers_metadata",
    "invoices.terms",
    "invoice_lines.description",
    "invoiced_captures.description",
    "credit_notes.memo",
    "idempotency_records.body",
    "facts.actor",
    "facts.payload",
    "work.reason",
    "work_failures.reason",
    "differences.closed_because",
}
"""Columns in which people write about a customer's operations."""
STAYS = {
    "facts.actor": "who pulled a switch, replayed",
    "quarantine_touches.touched_by": "looked after failed work",
    "quarantine_touches.assignee": "looked after failed work",
    "differences.closed_by": "closed a difference",
}
"""Columns that keep an operator's name, and how the page says so."""
ABOUT_SOMETHING_ELSE = {
    "archive_holds.reason": "a hold",
    "archive_holds.placed_by": "placed a hold",
    "bulks.reason": "Postgres, bulks",
    "bulks.actor": "Postgres, bulks",
    "switches.reason": "a switch",
    "switches.actor": "who pulled a switch",
    "scheduled_runs.asked_by": "ran a schedule",
    "closed_periods.actor": "closed a month",
    "closed_periods.observed": "who looks after what is open",
}
"""Columns in which people write about what is no customer's, and how the page says so."""
NO_WORDS = {
    "ids, keys and digests, of which the page says that they stay": """
        account after_id capture_id caused_by charge cluster correlation_id credit_note_id customer dedupe_key digest
        document_id entity_id fingerprint found_objects hold id identity invoice invoice_id key manifest_key_id
        manifest_sha256 matched_with number object_id object_key object_sha256 object_version operation_id path
        payment_intent payment_method payout position provider_message provider_object recipient record_id refund_id
        request_id request_ids sha256 source stripe_account stripe_credit_note stripe_id stripe_invoice stripe_lines
        stripe_object stripe_refund subject traceparent work_id""",
    "words of lists that are ours, Stripe's or Postgres'": """
        action api_version authorized_currency cancellation_reason class code_version contract credit_reason currency
        entity_type environment kind learned left_out length list locale lock_mode manifest_lock_mode method object
        period place policy queue refund_reason schedule scope scopes settle state step template topic type zone""",
    "codes, with amounts and states; classes of errors; ids and amounts, in shapes that are checked": """
        answer arguments calls conclusion criteria data details document errors heads lines name problem what why""",
}
"""Columns of whatever table that hold no words of people."""
CODES = {f"{operation.table.__tablename__}.reason" for operation in OPERATIONS.values()} - {"switches.reason"}
"""What an application is shown of how its operation ended."""


def columns(service: Service) -> dict[str, str]:
    """All columns of the schema that can hold a text, with what reads it."""
    query = text(
        "SELECT c.table_name, c.column_name, c.data_type FROM information_schema.columns AS c"
        " JOIN information_schema.tables AS t USING (table_schema, table_name)"
        " WHERE c.table_schema = 'billing' AND t.table_type = 'BASE TABLE' AND c.table_name <> 'alembic_version'"
        " AND c.data_type IN ('text', 'character varying', 'json', 'jsonb', 'ARRAY', 'bytea')"
    )
    with database.transaction(service.engine) as session:
        rows = session.execute(query).all()
    as_text = {"bytea": "encode({}, 'escape')"}
    return {f"{row[0]}.{row[1]}": as_text.get(row[2], "CAST({} AS text)").format(f'"{row[1]}"') for row in rows}


def places_of(service: Service, name: str) -> set[str]:
    """The columns in which this name is found."""
    found = set()
    with database.transaction(service.engine) as session:
        for column, read in columns(service).items():
            query = f"SELECT count(*) FROM billing.{column.partition('.')[0]} WHERE {read} ILIKE :name"
            if session.scalar(text(query), {"name": f"%{name}%"}):
                found.add(column)
    return found


# What an application asks for, with words wherever it can write some. Each kind's maker returns ids of that kind.

Made: TypeAlias = dict[str, list[str]]
REASON = f"{WHO} called"


def captures(service: Service, customer: str, made: Made) -> list[str]:
    """One whose payment is the customer's, on an authorization with a void that was refused; one on his invoice."""
    terms = billing.CaptureTerms(statement_descriptor_suffix=PERSON.upper(), metadata={"buyer": WHO})
    paid = service.ask_for_capture(intent_of(service, made["void"][0]), terms=terms, actor=WHO)
    return [paid, service.ask_for_capture(terms=terms, actor=WHO)]


def intent_of(service: Service, void: str) -> str:
    return str(service.row(OPERATIONS["void"].table, void).payment_intent)


def voids(service: Service, customer: str, made: Made) -> list[str]:
    void = service.ask_for_void(service.intents(customer=customer)[0], actor=WHO)
    discard(service, void)
    return [void]


def refunds(service: Service, customer: str, made: Made) -> list[str]:
    return [
        service.ask_for_refund(made["capture"][0], actor=WHO),
        service.refund_invoice(made["invoice"][0], actor=WHO),
    ]


def invoices(service: Service, customer: str, made: Made) -> list[str]:
    lines = [billing.Line(WHO, billing.Money(4501, "EUR"))]
    more: Any = {"terms": billing.InvoiceTerms(memo=WHO, footer=WHO, custom_fields={"buyer": WHO}), "actor": WHO}
    paid = service.paid_invoice(customer=customer, lines=lines, **more)
    open_ = service.ask_for_invoice(customer, lines, **more)
    assert service.settle(made["capture"][1], open_) == ["captured", "sent"]
    with database.transaction(service.engines["application"]) as session:
        asked = {"capture": made["capture"][1], "customer": customer, "when": "at_once"}
        of_capture = billing.invoice_capture(session, description=WHO, actor=WHO, **asked).invoice_id
    return [paid, open_, str(of_capture)]


def credit_notes(service: Service, customer: str, made: Made) -> list[str]:
    return [service.credit(made["invoice"][1], 500, memo=WHO, actor=WHO)]


def invoice_actions(service: Service, customer: str, made: Made) -> list[str]:
    return [service.act_on(made["invoice"][1], "void_invoice", actor=WHO)]


def emails(service: Service, customer: str, made: Made) -> list[str]:
    email = ask_for_email(service, customer, actor=WHO)
    discard(service, email)
    return [email]


def its_documents(service: Service, customer: str, made: Made) -> list[str]:
    with database.transaction(service.engines["worker"]) as session:
        documents.request_missing(session, only=made["invoice"][0])
        document = documents.document(session, made["invoice"][0]).document_id
    discard(service, document)
    return [document]


MAKERS: Mapping[str, Callable[[Service, str, Made], list[str]]] = {
    "void": voids,
    "capture": captures,
    "invoice": invoices,
    "refund": refunds,
    "credit_note": credit_notes,
    "invoice_action": invoice_actions,
    "email": emails,
    "document": its_documents,
}
"""In this order: each may need those before it."""


# What operators say of it.


def by_operator(service: Service, about: str, change: Callable[[Any], object]) -> None:
    with database.transaction(service.engines["operator"]) as session:
        change(session)
        audit.done(session, audit.command("quarantine replay", actor=STAFF, reason=REASON), about=about)


def quarantined(service: Service, entity_id: str) -> str:
    service.plan()
    service.execute("UPDATE billing.work SET state = 'quarantined' WHERE entity_id = :id", id=entity_id)
    work = service.work(entity_id).id
    by_operator(service, work, lambda it: quarantine_list.assign(it, work, assignee=STAFF, actor=STAFF))
    return work


def discard(service: Service, entity_id: str) -> None:
    work = quarantined(service, entity_id)
    by_operator(service, work, lambda it: discarding.discard(it, work, actor=STAFF, reason=REASON))


def replay(service: Service, entity_id: str) -> None:
    work = quarantined(service, entity_id)
    by_operator(service, entity_id, lambda it: quarantine.replay(it, work, actor=STAFF, reason=REASON))


def close_a_difference(service: Service, subject: str) -> None:
    difference = ids.new("dif")
    service.execute(
        'INSERT INTO billing.differences (id, "class", subject, account, what, state_since, first_seen_at,'
        " last_seen_at) VALUES (:id, 'amount', :subject, 'own', 'ours 1, theirs 2', now(), now(), now())",
        id=difference,
        subject=subject,
    )
    by_operator(service, difference, lambda it: differences.close(it, difference, actor=STAFF, reason=REASON))


PAST_THE_BORDER = (
    # A failure while a switch was pulled has its reason; and so has work of an older version.
    "UPDATE billing.work SET reason = 'captures: ' || :who WHERE entity_id = ANY (:ids) AND reason IS NULL",
    "INSERT INTO billing.work_failures (work_id, quarantined, reason, attempts, tries, code_version, contracts_version)"
    " SELECT id, false, 'captures: ' || :who, 1, 1, '0.1.0', 1 FROM billing.work WHERE entity_id = ANY (:ids)",
    # Whatever a later fact calls its reason by, and whoever asked.
    "UPDATE billing.facts SET payload = payload || jsonb_build_object('reason', CAST(:who AS text))"
    " WHERE entity_id = ANY (:ids)",
    "UPDATE billing.facts SET actor = :who WHERE entity_id = ANY (:ids) AND topic LIKE '%.requested'",
    "UPDATE billing.captures SET statement_descriptor = :who WHERE id = ANY (:ids)",
)


def written_about(service: Service) -> tuple[str, Made]:
    """A customer with operations of every kind, about which everybody has written what he could."""
    customer, made = service.customer(), Made()
    for kind, make in MAKERS.items():
        made[kind] = make(service, customer, made)
        for each in made[kind]:
            service.plan()
            if not service.status(each).final:
                replay(service, each)
                service.settle(each)
            close_a_difference(service, each)
    service.plan()
    everyone = [each for of_kind in made.values() for each in of_kind]
    for statement in PAST_THE_BORDER:
        service.execute(statement, who=WHO, ids=everyone)
    return customer, made


def test_every_kind_of_operation_says_whose_it_is() -> None:
    """And one that is nobody's is known to be: whoever adds a kind decides it here."""
    nobodys = {kind for kind, operation in OPERATIONS.items() if not operation.belongs_to}
    assert nobodys == {"switch", "run"}
    assert MAKERS.keys() == OPERATIONS.keys() - nobodys


def test_of_every_column_it_is_known_whether_people_write_there(service: Service) -> None:
    """And if it is not erased the page says why. Whoever adds a column decides it here."""
    named = {*ERASED, *STAYS, *ABOUT_SOMETHING_ELSE, *CODES}
    silent = {name for names in NO_WORDS.values() for name in names.split()}
    there = columns(service)
    assert named <= there.keys()
    assert {each for each in there.keys() - named if each.partition(".")[2] not in silent} == set()
    assert silent <= {each.partition(".")[2] for each in there}
    for phrase in (*STAYS.values(), *ABOUT_SOMETHING_ELSE.values()):
        assert phrase in PAGE


def test_no_word_about_a_customer_is_left_anywhere(archive: Archive) -> None:
    service = archive.service
    customer, made = written_about(service)
    everyone = [each for of_kind in made.values() for each in of_kind]
    for kind, operation in OPERATIONS.items():
        for mine, _ in operation.belongs_to:
            rows = [service.row(operation.table, each) for each in made[kind]]
            assert any(getattr(row, mine.key) is not None for row in rows), f"none is found by {mine}"
    # The control: it was written everywhere, and the search finds it.
    assert places_of(service, PERSON) == ERASED
    assert places_of(service, OPERATOR) == {*STAYS, "work.reason"}
    happened_long_ago(service)
    archive.archive_all()
    before = everything(archive)
    stands = {each: service.status(each) for each in everyone}

    ask = asking(service)
    found = erasure.operations_of(ask, customer)
    assert set(everyone) <= set(found)
    counted = erasure.count(ask, found, customer)
    assert erasure.erase(ask, found, customer) == counted
    assert counted.not_over == ()

    assert places_of(service, PERSON) == set()
    assert places_of(service, OPERATOR) == STAYS.keys()
    assert {each: service.status(each) for each in everyone} == stands
    assert PERSON not in before
    assert everything(archive) == before
    assert verify(archive).findings == []
    assert erasure.erase(ask, found, customer) == Erased(operations=len(found))


@pytest.mark.parametrize("young", ["state_since = now()", "state = '{first}'"])
def test_one_of_whatever_kind_that_is_not_over_for_a_day_stands_in_the_way(service: Service, young: str) -> None:
    """It is named, and nothing is erased."""
    customer, made = written_about(service)
    happened_long_ago(service)
    ask = asking(service)
    everyone = erasure.operations_of(ask, customer)
    for kind, (one, *_) in made.items():
        table = operation_of(one).table
        row = service.row(table, one)
        change = young.format(first=table.life.first)
        service.execute(f"UPDATE billing.{table.__tablename__} SET {change} WHERE id = :id", id=one)
        assert erasure.count(ask, everyone, customer).not_over == (one,), kind
        with pytest.raises(InvalidRequest, match=f"not over for a day: {one}"):
            erasure.erase(ask, everyone, customer)
        again = "state = :state, state_since = :since"
        service.execute(
            f"UPDATE billing.{table.__tablename__} SET {again} WHERE id = :id",
            id=one,
            state=row.state,
            since=row.state_since,
        )
    assert places_of(service, PERSON) == ERASED
