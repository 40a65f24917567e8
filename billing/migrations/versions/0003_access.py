"""Each kind of process gets a group role, and each group what its kind must do, by table and column.

Why: a process that is taken over can do what its kind may, and nothing else. How long it may lock: grants take no lock
that a reader or writer waits for. Roles belong to the whole cluster, so those that are there are kept; without the
right to create them, have an administrator run CREATE ROLE for each, and run this again. Additive: the owner's login,
under which older versions run, may whatever it could.
"""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

KINDS = ("application", "operator", "relay", "worker", "archiver", "reader")

# Another database of this cluster may be migrated at the same moment, and migrations of two databases do not wait for
# each other.
CREATE = """
    DO $$ BEGIN
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'billing_{kind}') THEN
            CREATE ROLE billing_{kind} NOLOGIN;
        END IF;
    EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
    END $$
    """

# As it was decided for this revision; what holds today is compared with `jobs.access.grants`.
GRANTS = """
    REVOKE ALL ON SCHEMA billing FROM PUBLIC;
    REVOKE ALL ON ALL TABLES IN SCHEMA billing FROM PUBLIC;
    GRANT USAGE ON SCHEMA billing TO billing_application, billing_operator, billing_relay, billing_worker,
        billing_archiver, billing_reader;

    GRANT SELECT ON billing.captures TO billing_application, billing_operator, billing_worker, billing_reader;
    GRANT INSERT (
        request_id, payment_intent, amount_minor, currency, authorised_minor, authorised_currency,
        capture_before, id, account, correlation_id, version
    ) ON billing.captures TO billing_application, billing_operator;
    GRANT UPDATE (
        authorised_minor, authorised_currency, capture_before, state, charge, reason, version, state_since
    ) ON billing.captures TO billing_worker;
    GRANT UPDATE (state, reason, version) ON billing.captures TO billing_operator;
    GRANT SELECT ON billing.invoices TO billing_application, billing_operator, billing_worker, billing_reader;
    GRANT INSERT (
        request_id, customer, currency, total_minor, days_until_due, id, account, correlation_id, version
    ) ON billing.invoices TO billing_application, billing_operator;
    GRANT UPDATE (
        state, stripe_invoice, create_generation, number, reason, version, state_since
    ) ON billing.invoices TO billing_worker;
    GRANT UPDATE (state, stripe_invoice, create_generation, reason, version) ON billing.invoices TO billing_operator;
    GRANT SELECT ON billing.invoice_lines TO billing_application, billing_operator, billing_worker;
    GRANT SELECT (invoice_id, position, amount_minor) ON billing.invoice_lines TO billing_reader;
    GRANT INSERT (
        invoice_id, position, description, amount_minor
    ) ON billing.invoice_lines TO billing_application, billing_operator;
    GRANT SELECT ON billing.switches TO billing_operator, billing_worker, billing_reader;
    GRANT SELECT (scope, state, reason) ON billing.switches TO billing_relay;
    GRANT INSERT (
        scope, actor, probes, id, account, reason, version
    ) ON billing.switches TO billing_operator, billing_worker;
    GRANT UPDATE (
        state, actor, probes, reason, version, state_since
    ) ON billing.switches TO billing_operator, billing_worker;
    GRANT SELECT (
        id, operation_id, step, generation, work_id, queue, key, method, path, body, fingerprint, account,
        livemode, api_version, provider_object, deadline, state, learned, sends, unanswered, unreported,
        server_errors, replayed, look_only, margin_looked, looks, first_sent_at, last_prepared_at,
        last_reported_at, look_at, looked_at, parked_at, fence, lease_until, lease_s, answer_status,
        request_ids, conclusion, created_at, concluded_at
    ) ON billing.idempotency_records TO billing_operator, billing_worker;
    GRANT SELECT (
        id, operation_id, step, generation, work_id, queue, method, path, fingerprint, account, livemode,
        api_version, provider_object, deadline, state, learned, sends, unanswered, unreported, server_errors,
        replayed, look_only, margin_looked, looks, first_sent_at, last_prepared_at, last_reported_at, look_at,
        looked_at, parked_at, fence, lease_until, lease_s, answer_status, request_ids, conclusion, created_at,
        concluded_at
    ) ON billing.idempotency_records TO billing_reader;
    GRANT SELECT (
        id, operation_id, step, generation, state, learned, unanswered, first_sent_at, last_prepared_at,
        last_reported_at, look_at, parked_at, conclusion, created_at, concluded_at
    ) ON billing.idempotency_records TO billing_application;
    GRANT SELECT (
        id, work_id, queue, state, unanswered, look_at, lease_until, lease_s, concluded_at
    ) ON billing.idempotency_records TO billing_relay;
    GRANT INSERT (
        id, operation_id, step, generation, work_id, queue, key, method, path, body, fingerprint, account,
        livemode, api_version, provider_object, deadline, state, learned, sends, unanswered, unreported,
        server_errors, replayed, look_only, margin_looked, looks, first_sent_at, last_prepared_at, look_at,
        parked_at, fence, lease_until, lease_s, request_ids
    ) ON billing.idempotency_records TO billing_worker;
    GRANT UPDATE (
        provider_object, state, learned, sends, unanswered, unreported, server_errors, replayed, look_only,
        margin_looked, looks, first_sent_at, last_prepared_at, last_reported_at, look_at, looked_at,
        parked_at, fence, lease_until, lease_s, answer_status, answer, request_ids, conclusion, concluded_at
    ) ON billing.idempotency_records TO billing_worker;
    GRANT UPDATE (
        state, learned, look_only, looks, look_at, parked_at, conclusion, concluded_at
    ) ON billing.idempotency_records TO billing_operator;
    GRANT UPDATE (look_at) ON billing.idempotency_records TO billing_relay;
    GRANT SELECT ON billing.facts TO billing_operator, billing_relay, billing_archiver, billing_reader;
    GRANT INSERT (
        topic, entity_type, entity_id, entity_version, actor, correlation_id, payload
    ) ON billing.facts TO billing_application, billing_operator, billing_worker;
    GRANT UPDATE (batch_no, archive_seq) ON billing.facts TO billing_archiver;
    GRANT UPDATE (menu) ON billing.facts TO billing_relay;
    GRANT SELECT ON billing.work TO billing_operator, billing_relay, billing_worker, billing_reader;
    GRANT SELECT (id, entity_id, state, due_at, reason) ON billing.work TO billing_application;
    GRANT INSERT (
        id, contract, version, arguments, queue, entity_id, scopes, state, urgency, dedupe_key, correlation_id
    ) ON billing.work TO billing_relay;
    GRANT UPDATE (
        state, due_at, urgency, attempts, tries, record_id, reason, state_since
    ) ON billing.work TO billing_worker;
    GRANT UPDATE (state, due_at, attempts, reason, state_since) ON billing.work TO billing_operator, billing_relay;
    GRANT SELECT ON billing.archive_batches TO billing_operator, billing_archiver, billing_reader;
    GRANT INSERT (
        class, number, event_date, rows, first_seq, last_seq, first_fact, last_fact, lock_mode, locked_until,
        manifest_lock_mode, manifest_locked_until, object_sha256, object_version, manifest_sha256, archived_at
    ) ON billing.archive_batches TO billing_archiver;
    GRANT UPDATE (
        state, object_sha256, object_version, manifest_sha256, archived_at
    ) ON billing.archive_batches TO billing_archiver;
    GRANT SELECT ON billing.installation TO billing_application, billing_operator, billing_relay, billing_worker,
        billing_archiver, billing_reader;
    GRANT UPDATE (stripe_account) ON billing.installation TO billing_worker;
    GRANT SELECT ON billing.alembic_version TO billing_operator;
    """


def upgrade() -> None:
    for kind in KINDS:
        op.execute(CREATE.format(kind=kind))
    for statement in GRANTS.split(";"):
        if statement.strip():
            op.execute(statement)
