"""Who may run which statement: every kind of process, tried on a real Postgres under its own login."""

from dataclasses import dataclass

import psycopg
import pytest
from cases import case
from psycopg.errors import InsufficientPrivilege

from jobs.access.kinds import KINDS

EVERYBODY = frozenset(KINDS)


@dataclass(frozen=True)
class Try:
    """A statement that the owner may run, and the kinds of process that may."""

    what: str
    statement: str
    may: frozenset[str]


def one(what: str, statement: str, may: str = "") -> Try:
    return Try(what, statement, frozenset(may.split()))


RECORD = "operation_id, step, generation, work_id, queue, key, method, path, body, fingerprint, livemode, api_version"
FACT = "topic, entity_type, entity_id, entity_version, actor, payload"
FACT_VALUES = "'capture.requested', 'capture', 'cap_2', 1, 'application', '{}'"
BATCH = "class, number, event_date, rows, first_seq, last_seq, first_fact, last_fact"
BATCH += ", lock_mode, locked_until, manifest_lock_mode, manifest_locked_until"

TRIES = [
    # Asking.
    one(
        "ask for a capture",
        "INSERT INTO billing.captures (id, request_id, payment_intent, amount_minor, currency, version)"
        " VALUES ('cap_2', 'order-2', 'pi_2', 1, 'USD', 1)",
        "application operator",
    ),
    one(
        "make up a capture that is captured",
        "INSERT INTO billing.captures (id, request_id, payment_intent, amount_minor, currency, state)"
        " VALUES ('cap_2', 'order-2', 'pi_2', 1, 'USD', 'captured')",
    ),
    one(
        "ask for a second capture of an authorization",
        "INSERT INTO billing.captures (id, request_id, payment_intent, amount_minor, currency, capture_no)"
        " VALUES ('cap_2', 'order-2', 'pi_1', 1, 'USD', 2)",
        "application operator",
    ),
    one(
        "keep the rest, for a fee",
        "INSERT INTO billing.captures (id, request_id, payment_intent, amount_minor, currency, keeps_remainder,"
        " application_fee_minor) VALUES ('cap_2', 'order-2', 'pi_2', 2, 'USD', true, 1)",
        "application operator",
    ),
    one(
        "ask for a void",
        "INSERT INTO billing.voids (id, request_id, payment_intent, cancellation_reason, version)"
        " VALUES ('void_2', 'void-2', 'pi_2', 'abandoned', 1)",
        "application operator",
    ),
    one(
        "make up a void that is done",
        "INSERT INTO billing.voids (id, request_id, payment_intent, cancellation_reason, state)"
        " VALUES ('void_2', 'void-2', 'pi_2', 'abandoned', 'voided')",
    ),
    one("lead a void to another authorization", "UPDATE billing.voids SET payment_intent = 'pi_3'"),
    one("say what was given back", "UPDATE billing.voids SET state = 'voided', held_minor = 1", "worker"),
    one(
        "ask for an invoice",
        "INSERT INTO billing.invoices (id, request_id, customer, currency, total_minor, days_until_due, version)"
        " VALUES ('inv_2', 'invoice-2', 'cus_1', 'EUR', 1, 14, 1)",
        # A worker asks for those of captures, when their period is over.
        "application worker operator",
    ),
    one(
        "write an invoice's line",
        "INSERT INTO billing.invoice_lines VALUES ('inv_1', 1, 'a fee', 1)",
        "application worker operator",
    ),
    one(
        "have a capture invoiced",
        "INSERT INTO billing.invoiced_captures (capture_id, account, customer, currency, description)"
        " VALUES ('cap_1', 'own', 'cus_1', 'EUR', 'an order')",
        "application operator",
    ),
    one(
        "put a capture on an invoice",
        "UPDATE billing.invoiced_captures SET invoice_id = 'inv_1', position = 0, billed_minor = 1, part = 1",
        "worker operator",
    ),
    one("have a capture invoiced to another", "UPDATE billing.invoiced_captures SET customer = 'cus_2'"),
    one(
        "begin a period",
        "INSERT INTO billing.invoice_periods (account, period_start, period_end, length, zone)"
        " VALUES ('own', '2026-10-01', '2026-11-01', 'month', 'UTC')",
        "worker operator",
    ),
    one("move a period's end", "UPDATE billing.invoice_periods SET period_end = '2026-12-01'"),
    one(
        "tell a fact", f"INSERT INTO billing.facts ({FACT}) VALUES ({FACT_VALUES})", "application relay worker operator"
    ),
    one(
        "tell a fact that no relay will plan",
        f"INSERT INTO billing.facts ({FACT}, planned_version) VALUES ({FACT_VALUES}, 1)",
    ),
    one(
        "tell a fact that no archiver will archive",
        f"INSERT INTO billing.facts ({FACT}, batch_no) VALUES ({FACT_VALUES}, 1)",
    ),
    one(
        "tell a fact of another time",
        f"INSERT INTO billing.facts ({FACT}, happened_at) VALUES ({FACT_VALUES}, '2001-01-01')",
    ),
    # What was asked, stays.
    one("raise an amount", "UPDATE billing.captures SET amount_minor = 1000000"),
    one("change a currency", "UPDATE billing.captures SET currency = 'EUR'"),
    one("lead a capture to another authorization", "UPDATE billing.captures SET payment_intent = 'pi_3'"),
    one("put a capture before others", "UPDATE billing.captures SET capture_no = 9"),
    one("keep a rest that was to be given back", "UPDATE billing.captures SET keeps_remainder = true"),
    one("raise a fee", "UPDATE billing.captures SET application_fee_minor = 2"),
    one("raise a transfer", "UPDATE billing.captures SET transfer_minor = 2"),
    one("rename a request", "UPDATE billing.captures SET request_id = 'order-3'"),
    one("raise an invoice", "UPDATE billing.invoices SET total_minor = 1000000"),
    one("send an invoice to somebody else", "UPDATE billing.invoices SET customer = 'cus_3'"),
    one("change a line", "UPDATE billing.invoice_lines SET amount_minor = 1"),
    one("delete a capture", "DELETE FROM billing.captures"),
    one("delete an invoice's lines", "DELETE FROM billing.invoice_lines"),
    # Carrying it out.
    one("take a capture", "UPDATE billing.captures SET state = 'captured', charge = 'ch_1'", "worker"),
    one("change a capture's state", "UPDATE billing.captures SET state = 'requested'", "worker operator"),
    one("say how much of a capture is given back", "UPDATE billing.captures SET refunds_minor = 0"),
    one("raise a refund", "UPDATE billing.refunds SET amount_minor = 1000000"),
    one("give another capture's money back", "UPDATE billing.refunds SET capture_id = 'cap_3'"),
    one("delete a refund", "DELETE FROM billing.refunds"),
    one("change a refund's state", "UPDATE billing.refunds SET state = 'succeeded'", "worker operator"),
    one("say which refund it is at Stripe", "UPDATE billing.refunds SET stripe_refund = 're_1'", "worker"),
    # A relay, to notice it.
    one("lock a capture", "SELECT FROM billing.captures WHERE id = 'cap_1' FOR NO KEY UPDATE", "relay worker operator"),
    one("number an invoice", "UPDATE billing.invoices SET number = 'A-1'", "worker"),
    one("begin an invoice again", "UPDATE billing.invoices SET stripe_invoice = NULL", "worker operator"),
    # Work.
    one(
        "plan work",
        "INSERT INTO billing.work (id, contract, version, arguments, queue, entity_id, scopes, state, urgency,"
        " dedupe_key) VALUES ('wrk_2', 'take_capture', 1, '{}', 'captures', 'cap_2', '{}', 'ready', now(), 'fact:2:x')",
        "relay",
    ),
    one("move work", "UPDATE billing.work SET state = 'waiting'", "relay worker operator"),
    one("lock work", "SELECT FROM billing.work FOR UPDATE SKIP LOCKED", "relay worker operator"),
    one("say which call work is about", "UPDATE billing.work SET record_id = 'rec_1'", "worker"),
    one("lead work to another capture", "UPDATE billing.work SET entity_id = 'cap_3'"),
    one("change work's arguments", "UPDATE billing.work SET arguments = '{}'"),
    one("take work out of a switch's scope", "UPDATE billing.work SET scopes = '{}'"),
    one("put work into a switch's scope", "UPDATE billing.work SET scopes = scopes || 'currency:USD'::text", "worker"),
    one("delete work", "DELETE FROM billing.work"),
    # Calls and their keys.
    one(
        "prepare a call",
        f"INSERT INTO billing.idempotency_records (id, {RECORD}) VALUES"
        " ('rec_2', 'cap_2', 'capture', 1, 'wrk_2', 'captures', 'key-2', 'POST', '/v1', '', 'f', false, 'v')",
        "worker",
    ),
    one(
        "make up a call that is answered",
        f"INSERT INTO billing.idempotency_records (id, {RECORD}, concluded_at) VALUES"
        " ('rec_2', 'cap_2', 'capture', 1, 'wrk_2', 'captures', 'key-2', 'POST', '/v1', '', 'f', false, 'v', now())",
    ),
    one("change a key", "UPDATE billing.idempotency_records SET key = 'key-3'"),
    one("change what is sent", "UPDATE billing.idempotency_records SET body = 'amount_to_capture=1000000'"),
    one("change where it is sent", "UPDATE billing.idempotency_records SET path = '/v1/refunds'"),
    one("go back to an earlier generation", "UPDATE billing.idempotency_records SET generation = 9"),
    one("lease a call", "UPDATE billing.idempotency_records SET fence = 9, lease_until = now()", "worker"),
    one("store an answer", "UPDATE billing.idempotency_records SET answer = 'y', answer_status = 200", "worker"),
    one("have a call looked at", "UPDATE billing.idempotency_records SET look_at = now()", "relay worker operator"),
    one("open a call again", "UPDATE billing.idempotency_records SET concluded_at = NULL", "worker operator"),
    one("delete a call", "DELETE FROM billing.idempotency_records"),
    one(
        "remove what ended long ago",
        "SELECT billing.remove_concluded('capture', '{cap_1}', '90 days', false)",
        "worker operator",
    ),
    one(
        "purge facts of what ended long ago",
        "SELECT id FROM billing.purge_facts('capture', 1, '90 days', 0, 10, 'grace')",
        "archiver operator",
    ),
    one("erase what is said in words", "SELECT billing.erase_texts(ARRAY['{cap_1}'], 'cus_1', false)", "operator"),
    one("say that facts were purged", "UPDATE billing.archive_batches SET purged_rows = 1"),
    one("say up to which fact was purged", "UPDATE billing.installation SET purged_upto = 1"),
    one("write down that it was restored", "SELECT billing.note_restore('x', now())", "relay worker archiver"),
    one("take back that it was restored", "UPDATE billing.lineage SET restored_at = NULL, why = NULL"),
    # Facts and their marks.
    one("mark a fact as planned", "UPDATE billing.facts SET planned_version = 1", "relay"),
    one("mark a fact as archived", "UPDATE billing.facts SET batch_no = 1, archive_seq = 1", "archiver"),
    one("set a fact aside from the archive", "UPDATE billing.facts SET batch_no = 0", "archiver"),
    one(
        "name what is set aside",
        "SELECT id, topic FROM billing.facts WHERE batch_no = 0",
        "relay archiver reader operator",
    ),
    one("change what happened", "UPDATE billing.facts SET payload = '{}'"),
    one("change when it happened", "UPDATE billing.facts SET happened_at = now()"),
    one("change who did it", "UPDATE billing.facts SET actor = 'nobody'"),
    one("delete facts", "DELETE FROM billing.facts"),
    one("empty the facts", "TRUNCATE billing.facts"),
    # The archive.
    one(
        "claim a batch",
        f"INSERT INTO billing.archive_batches ({BATCH}) VALUES"
        " ('invoice', 1, now(), 1, 1, 1, 1, 1, 'GOVERNANCE', now(), 'GOVERNANCE', now())",
        "archiver",
    ),
    one(
        "confirm a batch",
        "UPDATE billing.archive_batches SET state = 'archived', object_sha256 = 'a', object_version = 'b',"
        " manifest_sha256 = 'c', archived_at = now()",
        "archiver",
    ),
    one("shorten a lock", "UPDATE billing.archive_batches SET locked_until = now()"),
    one("renumber a batch", "UPDATE billing.archive_batches SET last_fact = 9"),
    one("delete a batch", "DELETE FROM billing.archive_batches"),
    # Switches.
    one(
        "pull a switch",
        "INSERT INTO billing.switches (id, scope, actor, reason, probes, version)"
        " VALUES ('swi_2', 'invoices', 'ada', 'why', false, 1)",
        "relay worker operator",
    ),
    one("release a switch", "UPDATE billing.switches SET state = 'released'", "worker operator"),
    one("move a switch", "UPDATE billing.switches SET scope = 'invoices'"),
    one("delete a switch", "DELETE FROM billing.switches"),
    # Reconciling.
    one(
        "mirror an entry of Stripe's ledger",
        "INSERT INTO billing.stripe_records (id, object, account, created_at, seen_at)"
        " VALUES ('txn_1', 'balance_transaction', 'own', now(), now())",
        "worker operator",
    ),
    one("lead an entry to another operation", "UPDATE billing.stripe_records SET currency = 'EUR'"),
    one("forget an entry of Stripe's ledger", "DELETE FROM billing.stripe_records"),
    one("end a difference", "UPDATE billing.differences SET state = 'gone'", "worker operator"),
    one("close a difference with a reason", "UPDATE billing.differences SET closed_because = 'why'", "operator"),
    one("forget a difference", "DELETE FROM billing.differences"),
    one("read differences", "SELECT * FROM billing.differences", "worker reader operator"),
    # Reading.
    one("read captures", "SELECT * FROM billing.captures", "application worker reader operator"),
    one("read invoices", "SELECT * FROM billing.invoices", "application worker reader operator"),
    one(
        "read what a line costs", "SELECT amount_minor FROM billing.invoice_lines", "application worker reader operator"
    ),
    one("read what a line says", "SELECT description FROM billing.invoice_lines", "application worker operator"),
    one(
        "read which operation came to which state",
        "SELECT id, topic, entity_type, entity_id, entity_version, correlation_id, happened_at FROM billing.facts",
        "application relay archiver reader operator",
    ),
    one("read what a fact carries", "SELECT payload FROM billing.facts", "relay archiver reader operator"),
    one("read who did it", "SELECT actor FROM billing.facts", "relay archiver reader operator"),
    one("read facts", "SELECT * FROM billing.facts", "relay archiver reader operator"),
    one("read work", "SELECT * FROM billing.work", "relay worker reader operator"),
    one(
        "read how work stands",
        "SELECT state, due_at, reason FROM billing.work",
        "application relay worker reader operator",
    ),
    one(
        "read how a call stands",
        "SELECT state, look_at FROM billing.idempotency_records",
        "application relay worker reader operator",
    ),
    one("read a key", "SELECT key FROM billing.idempotency_records", "worker operator"),
    one("read what was sent", "SELECT body FROM billing.idempotency_records", "worker operator"),
    one("read a stored answer", "SELECT answer FROM billing.idempotency_records"),
    one("read switches", "SELECT scope, state, reason FROM billing.switches", "relay worker reader operator"),
    one("read batches", "SELECT * FROM billing.archive_batches", "archiver reader operator"),
    one("read the schema's version", "SELECT * FROM billing.alembic_version", "operator"),
    Try("read whose database it is", "SELECT * FROM billing.installation", EVERYBODY),
    # The inbox of Stripe's events.
    one(
        "put an event into the inbox",
        "INSERT INTO billing.received_events (id, type, livemode, created_at, source)"
        " VALUES ('evt_2', 'charge.captured', false, now(), 'webhook')",
        "web worker operator",
    ),
    one("read the inbox", "SELECT id FROM billing.received_events", "relay worker reader operator"),
    one("read whose object an event names", "SELECT object_id FROM billing.received_events", "relay reader operator"),
    one("say that an event is nobody's", "UPDATE billing.received_events SET state = 'unknown'", "relay"),
    one("remove an event", "DELETE FROM billing.received_events"),
    one("forget old events", "SELECT billing.forget_events(interval '30 days', 1)", "worker operator"),
    one("number a fact about a capture", "UPDATE billing.captures SET version = 2", "relay worker operator"),
    # The service itself.
    one("say whose Stripe account it is", "UPDATE billing.installation SET stripe_account = 'acct_1'", "worker"),
    one("make it another environment's", "UPDATE billing.installation SET environment = 'production'"),
    one("turn the schema's version back", "UPDATE billing.alembic_version SET version_num = '0001'"),
    one("make a table", "CREATE TABLE billing.more ()"),
    one("change a table", "ALTER TABLE billing.captures ADD more text"),
    one("drop a table", "DROP TABLE billing.invoice_lines"),
    one(
        "let a trigger run",
        "CREATE TRIGGER more BEFORE UPDATE ON billing.work"
        " FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()",
    ),
    one("make a login", "CREATE ROLE billing_more LOGIN"),
    one("read passwords", "SELECT rolpassword FROM pg_authid"),
    one("run a program on the server", "COPY (SELECT 1) TO PROGRAM 'cat > /dev/null'"),
    *(one(f"be a {kind}", f"SET LOCAL ROLE billing_{kind}", kind) for kind in KINDS),
]


def outcome(connection: "psycopg.Connection[tuple[object, ...]]", statement: str) -> bool:
    """Whether it may be run. Anything else that goes wrong is raised: a typing error must not count as a refusal."""
    try:
        connection.execute(statement)  # type: ignore[call-overload]
    except InsufficientPrivilege:
        return False
    finally:
        connection.rollback()
    return True


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_of_process_may_do_what_its_row_says_and_nothing_else(place, kind):
    with place.connect(kind) as connection:
        for attempt in TRIES:
            with case(attempt.what):
                assert outcome(connection, attempt.statement) is (kind in attempt.may)


def test_the_owner_may_do_all_of_it(place):
    """The control: what a kind of process is refused is refused for want of a right, and makes sense otherwise."""
    with place.connect("owner") as connection:
        for attempt in TRIES:
            with case(attempt.what):
                assert outcome(connection, attempt.statement)


def test_the_matrix_is_large_and_holds_both_answers_for_every_kind():
    assert len(TRIES) * len(KINDS) >= 60
    for kind in KINDS:
        allowed = sum(kind in attempt.may for attempt in TRIES)
        assert 0 < allowed < len(TRIES) / 2
