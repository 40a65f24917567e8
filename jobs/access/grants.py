"""What each kind of process may do in Postgres, by table and column: the table that a database is compared with.

Migrations grant it; `differences` says where a database allows something else. For a new table, add its row here and
its grants to the migration. Only the owner may delete, and no kind may change a fact's payload, or an amount,
currency, key or parameter that was written. What is over long ago is removed by a function of the owner's.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, text

from billing.tables.schema import SCHEMA, Table
from jobs.access.kinds import KINDS

Columns = frozenset[str]


@dataclass(frozen=True, slots=True)
class May:
    """The columns that a kind may SELECT, INSERT and UPDATE. A row lock needs one that it may UPDATE."""

    see: Columns = frozenset()
    write: Columns = frozenset()
    change: Columns = frozenset()

    def __or__(self, other: "May") -> "May":
        return May(self.see | other.see, self.write | other.write, self.change | other.change)


COLUMNS: Mapping[str, Columns] = {
    **{table.name: frozenset(table.columns.keys()) for table in Table.metadata.tables.values()},
    "alembic_version": frozenset({"version_num"}),
}


def _all(table: str, *, but: str = "") -> Columns:
    return COLUMNS[table] - _these(but)


def _these(names: str) -> Columns:
    return frozenset(names.split())


_WRITE_FACTS = May(write=_these("topic entity_type entity_id entity_version actor correlation_id traceparent payload"))
_FEED = _these("id topic entity_type entity_id entity_version correlation_id happened_at")
_COMPARED_FACTS = May(see=_these("id topic entity_type entity_id happened_at"))
"""By which a worker finds, before it starts, that the database was restored (`billing.lineage`)."""
_COMPARED_BATCHES = May(see=_these("class number state first_fact last_fact"))
_PULL_AND_RELEASE = May(
    see=_all("switches"),
    write=_these("id scope account actor reason probes expires_at version"),
    change=_these("state state_since version actor reason probes expires_at release_per_hour release_next_at"),
)
_MIRROR = May(
    see=_all("stripe_records"),
    write=_all("stripe_records"),
    change=_these("state amount_minor fee_minor net_minor operation_id payout available_at told_at seen_at"),
)
_CURSORS = May(
    see=_all("stripe_cursors"),
    write=_all("stripe_cursors"),
    change=_these("covered_from covered_until window_until after_id compared_until"),
)
_OF_A_DIFFERENCE = _these("stripe_id account amount_minor currency what state state_since first_seen_at last_seen_at")
_COMPARES = May(see=_all("differences"), write=_these("id class subject") | _OF_A_DIFFERENCE, change=_OF_A_DIFFERENCE)
_NEW_DOCUMENTS = _these("id account correlation_id version request_id invoice_id kind stripe_object")
_A_RUN = _these("id schedule at missed asked_by version")
_ANSWERS = "answer"
_ASKED_OF_A_RECORD = _these(
    "id operation_id step generation work_id queue key method path body fingerprint account livemode api_version"
    " deadline"
)
_LIFE_OF_A_RECORD = _these(
    "provider_object state learned sends unanswered unreported server_errors replayed look_only margin_looked looks"
    " first_sent_at last_prepared_at look_at parked_at fence lease_until lease_s request_ids"
)
_END_OF_A_RECORD = _these("last_reported_at looked_at answer_status answer found_objects conclusion concluded_at")
_PUT_EVENTS = _these(
    "id type thin account livemode api_version created_at object_id payment_intent charge invoice operation_id"
    " caused_by source"
)
_STATUS_OF_A_RECORD = _these(
    "id operation_id generation step state learned unanswered first_sent_at last_prepared_at last_reported_at look_at"
    " parked_at conclusion created_at concluded_at"
)
_ASKED_OF_A_CAPTURE = _these(
    "capture_id account customer currency description at_once invoice_id position billed_minor"
)
_WALK_OF_A_CAPTURE = _these("captured_at period_start period_end part invoice_id position billed_minor left_out")

GRANTS: Mapping[str, Mapping[str, May]] = {
    "captures": {
        "application": May(
            see=_all("captures"),
            write=_these(
                "id account correlation_id version request_id payment_intent capture_no keeps_remainder amount_minor"
                " currency authorized_minor authorized_currency capture_before application_fee_minor transfer_minor"
                " statement_descriptor statement_descriptor_suffix callers_metadata"
            ),
        ),
        # A relay exports how much money is in doubt, held, or at risk (jobs/metrics/reading.sql).
        # It finds those that an event is about, and notices them (billing/inbox.py).
        "relay": May(
            see=_these(
                "id account state version correlation_id payment_intent charge amount_minor currency capture_before"
            ),
            change=_these("version"),
        ),
        "worker": May(
            see=_all("captures"),
            change=_these(
                "state state_since reason version charge customer authorized_minor authorized_currency capture_before"
                " warned_at"
            ),
        ),
        "reader": May(see=_all("captures")),
        "operator": May(change=_these("state state_since reason version")),
    },
    "voids": {
        "application": May(
            see=_all("voids"),
            write=_these("id account correlation_id version request_id payment_intent cancellation_reason"),
        ),
        "relay": May(
            see=_these("id account state version correlation_id payment_intent held_minor currency"),
            change=_these("version"),
        ),
        "worker": May(see=_all("voids"), change=_these("state state_since reason version held_minor currency")),
        "reader": May(see=_all("voids")),
        "operator": May(change=_these("state state_since reason version")),
    },
    # What is given back of a capture or an invoice counts in a column that nobody may change: a trigger keeps it.
    "refunds": {
        "application": May(
            see=_all("refunds"),
            write=_these(
                "id account correlation_id version request_id capture_id payment_intent amount_minor currency all_left"
                " compensates refund_reason invoice_id stripe_invoice"
            ),
        ),
        "relay": May(
            see=_these("id account state version correlation_id payment_intent stripe_refund amount_minor currency"),
            change=_these("version"),
        ),
        "worker": May(
            see=_all("refunds"), change=_these("state state_since reason version stripe_refund payment_intent")
        ),
        "reader": May(see=_all("refunds")),
        "operator": May(change=_these("state state_since reason version")),
    },
    "emails": {
        "application": May(
            see=_all("emails"),
            write=_these("id account correlation_id version request_id template recipient locale data"),
        ),
        "relay": May(see=_these("id account state version correlation_id provider_message"), change=_these("version")),
        # It writes the e-mail of an invoice that it finalizes (billing/invoice_emails.py), and receipts
        # (billing/receipts.py).
        "worker": May(
            see=_all("emails"),
            write=_these("id account correlation_id version request_id template recipient data"),
            change=_these("state state_since reason version provider_message"),
        ),
        "reader": May(see=_all("emails")),
        "operator": May(change=_these("state state_since reason version")),
    },
    # A worker writes it with the end of its invoice's call; which object it is, nobody may change.
    "documents": {
        "application": May(see=_all("documents")),
        "relay": May(see=_these("id account state version correlation_id")),
        "worker": May(
            see=_all("documents"),
            write=_NEW_DOCUMENTS,
            change=_these(
                "state state_since reason version sha256 size_bytes object_key object_version lock_mode locked_until"
            ),
        ),
        "reader": May(see=_all("documents")),
        # One that a person asks for, because none was, or has fetched again.
        "operator": May(write=_NEW_DOCUMENTS, change=_these("state state_since reason version")),
    },
    "invoices": {
        "application": May(
            see=_all("invoices"),
            write=_these(
                "id account correlation_id version request_id customer currency total_minor days_until_due terms"
            ),
        ),
        "relay": May(
            see=_these("id account state version correlation_id stripe_invoice total_minor reckoned_minor currency"),
            change=_these("version"),
        ),
        "worker": May(
            see=_all("invoices"),
            # Those of captures that were collected for a period.
            write=_these(
                "id account correlation_id version request_id customer currency total_minor days_until_due terms"
            ),
            change=_these(
                "state state_since reason version stripe_invoice create_generation number"
                " reckoned_minor subtotal_minor discount_minor tax_minor paid_minor attempts"
            ),
        ),
        "reader": May(see=_all("invoices")),
        "operator": May(change=_these("state state_since reason version stripe_invoice create_generation")),
    },
    "invoice_actions": {
        "application": May(
            see=_all("invoice_actions"),
            write=_these(
                "id account correlation_id version request_id invoice_id action stripe_invoice amount_minor currency"
                " payment_method credit_note_id stripe_credit_note"
            ),
        ),
        "relay": May(
            see=_these(
                "id account state version correlation_id stripe_invoice stripe_credit_note amount_minor currency"
            ),
            change=_these("version"),
        ),
        "worker": May(see=_all("invoice_actions"), change=_these("state state_since reason version")),
        "reader": May(see=_all("invoice_actions")),
        "operator": May(change=_these("state state_since reason version")),
    },
    "credit_notes": {
        "application": May(
            see=_all("credit_notes"),
            write=_these(
                "id account correlation_id version request_id invoice_id stripe_invoice amount_minor currency lines"
                " credit_reason settle refund_id memo"
            ),
        ),
        "relay": May(
            see=_these("id account state version correlation_id stripe_credit_note amount_minor currency"),
            change=_these("version"),
        ),
        "worker": May(
            see=_all("credit_notes"),
            change=_these("state state_since reason version stripe_lines stripe_credit_note number"),
        ),
        "reader": May(see=_all("credit_notes")),
        "operator": May(change=_these("state state_since reason version")),
    },
    "invoice_lines": {
        "application": May(see=_all("invoice_lines"), write=_all("invoice_lines")),
        "worker": May(see=_all("invoice_lines"), write=_all("invoice_lines")),
        # A description may name a person.
        "reader": May(see=_all("invoice_lines", but="description")),
    },
    # No process may change what was asked, and a trigger keeps the invoice that a capture has.
    "invoiced_captures": {
        "application": May(see=_all("invoiced_captures"), write=_ASKED_OF_A_CAPTURE),
        "relay": May(
            see=_these(
                "capture_id account currency at_once asked_at captured_at period_start period_end invoice_id left_out"
            )
        ),
        "worker": May(see=_all("invoiced_captures"), change=_WALK_OF_A_CAPTURE),
        # A description may name a person.
        "reader": May(see=_all("invoiced_captures", but="description")),
        "operator": May(change=_WALK_OF_A_CAPTURE),
    },
    "invoice_periods": {
        "application": May(see=_all("invoice_periods")),
        "worker": May(see=_all("invoice_periods"), write=_all("invoice_periods")),
        "reader": May(see=_all("invoice_periods")),
        "operator": May(write=_all("invoice_periods")),
    },
    "switches": {
        # It records that a switch whose time is over is released, releases held work at a rate, and pulls the switch of
        # everything in a restored database.
        "relay": _PULL_AND_RELEASE,
        "worker": _PULL_AND_RELEASE,
        "reader": May(see=_all("switches")),
        "operator": _PULL_AND_RELEASE,
    },
    "scheduled_runs": {
        "relay": May(see=_all("scheduled_runs"), write=_A_RUN),
        "worker": May(see=_all("scheduled_runs"), change=_these("state state_since reason version position")),
        "reader": May(see=_all("scheduled_runs")),
        # One that is run by hand, and one that is put back.
        "operator": May(write=_A_RUN, change=_these("version")),
    },
    "bulks": {
        "reader": May(see=_all("bulks")),
        "operator": May(
            write=_these("id kind digest account rows actor reason"),
            change=_these("rows done_upto asked asked_before refused ended_at"),
        ),
    },
    "idempotency_records": {
        "application": May(see=_STATUS_OF_A_RECORD),
        "relay": May(
            see=_these(
                "id operation_id generation work_id queue state look_at lease_until lease_s unanswered first_sent_at"
                " parked_at concluded_at"
            ),
            change=_these("look_at"),
        ),
        "worker": May(
            see=_all("idempotency_records", but=_ANSWERS),
            write=_ASKED_OF_A_RECORD | _LIFE_OF_A_RECORD,
            change=_LIFE_OF_A_RECORD | _END_OF_A_RECORD,
        ),
        "reader": May(see=_all("idempotency_records", but=f"{_ANSWERS} key body")),
        "operator": May(
            see=_all("idempotency_records", but=_ANSWERS),
            change=_these("state learned look_only look_at parked_at looks conclusion concluded_at"),
        ),
    },
    "facts": {
        # The feed of changes needs no payload, and says nothing of who acted.
        # The version of a fact that only newer relays and workers know.
        "application": _WRITE_FACTS | May(see=_FEED, write=_these("version")),
        "relay": _WRITE_FACTS | May(see=_all("facts"), change=_these("planned_version")),
        "worker": _WRITE_FACTS | _COMPARED_FACTS | May(write=_these("version")),
        "archiver": May(see=_all("facts"), change=_these("batch_no archive_seq")),
        "reader": May(see=_all("facts")),
    },
    "work": {
        "application": May(see=_these("id entity_id state due_at reason")),
        "relay": May(
            see=_all("work"),
            write=_these(
                "id contract version arguments queue entity_id scopes state urgency dedupe_key correlation_id"
                " traceparent"
            ),
            change=_these("state state_since due_at attempts reason"),
        ),
        "worker": May(
            see=_all("work"),
            change=_these("state state_since due_at attempts tries urgency record_id reason scopes"),
        ),
        "reader": May(see=_all("work")),
        "operator": May(change=_these("state state_since due_at attempts reason")),
    },
    "received_events": {
        # The process that the internet reaches writes what it was sent, and reads nothing back.
        "web": May(write=_PUT_EVENTS),
        # What webhooks missed; and what was told about an e-mail.
        "worker": May(see=_these("id type source matched_with"), write=_PUT_EVENTS),
        "relay": May(see=_all("received_events"), change=_these("state match_at matched_with")),
        "reader": May(see=_all("received_events")),
        # What stands in a mailbox.
        "operator": May(write=_PUT_EVENTS),
    },
    "work_failures": {
        "worker": May(write=_all("work_failures", but="id happened_at")),
        "reader": May(see=_all("work_failures")),
    },
    "quarantine_touches": {
        "relay": May(see=_these("work_id since")),
        # Who replays with a worker's login touches the work, too (`jobs.road.dry_run`).
        "worker": May(see=_all("quarantine_touches"), write=_these("work_id since touched_by assignee")),
        "reader": May(see=_all("quarantine_touches")),
        "operator": May(write=_these("work_id since touched_by assignee"), change=_these("assignee")),
    },
    "queue_loads": {
        # Whether a bulk has room.
        "application": May(see=_these("queue measured_at waiting starts_per_s")),
        "relay": May(see=_all("queue_loads"), write=_all("queue_loads"), change=_all("queue_loads")),
        # Whether work that may wait is held back.
        "worker": May(see=_these("queue measured_at behind_since")),
        "reader": May(see=_all("queue_loads")),
    },
    "archive_batches": {
        "relay": _COMPARED_BATCHES,
        "worker": _COMPARED_BATCHES,
        "archiver": May(
            see=_all("archive_batches"),
            # The default of its state is claimed, none of it is purged, and Postgres computes two columns.
            write=_all("archive_batches", but="state claimed_at previous_number previous_seq purged_rows"),
            change=_these("state archived_at object_sha256 object_version manifest_sha256 manifest_key_id"),
        ),
        "reader": May(see=_all("archive_batches")),
    },
    "archive_holds": {
        "reader": May(see=_all("archive_holds")),
        "operator": May(write=_these("name criteria placed_by reason"), change=_these("released_at")),
    },
    "archive_held_batches": {
        "reader": May(see=_all("archive_held_batches")),
        "operator": May(write=_all("archive_held_batches")),
    },
    "archive_held_documents": {
        "reader": May(see=_all("archive_held_documents")),
        "operator": May(write=_all("archive_held_documents")),
    },
    "archive_heads": {
        "archiver": May(see=_all("archive_heads"), write=_these("date document")),
        "reader": May(see=_all("archive_heads")),
    },
    "archive_head_copies": {
        "archiver": May(
            see=_all("archive_head_copies"),
            write=_these("date place"),
            change=_these("published_at tried_at problem"),
        ),
        "reader": May(see=_all("archive_head_copies")),
    },
    # A worker reconciles by schedule, and an operator by command.
    "stripe_records": {"worker": _MIRROR, "operator": _MIRROR, "reader": May(see=_all("stripe_records"))},
    "stripe_cursors": {
        "relay": May(see=_these("list compared_until")),
        "worker": _CURSORS,
        "operator": _CURSORS,
        "reader": May(see=_all("stripe_cursors")),
    },
    "differences": {
        "relay": May(see=_these("class state first_seen_at")),
        "worker": _COMPARES,
        "operator": _COMPARES | May(change=_these("closed_by closed_because")),
        "reader": May(see=_all("differences")),
    },
    "closed_periods": {"reader": May(see=_all("closed_periods"))},
    "installation": {
        "application": May(see=_all("installation")),
        "relay": May(see=_all("installation")),
        # The first worker whose key Stripe accepts stores the account of that key.
        "worker": May(see=_all("installation"), change=_these("stripe_account")),
        "archiver": May(see=_all("installation")),
        "web": May(see=_all("installation")),
        "reader": May(see=_all("installation")),
    },
    # Only the owner changes it. Whoever finds a restore calls a function that writes that down, and takes nothing back.
    "lineage": {kind: May(see=_all("lineage")) for kind in ("relay", "worker", "archiver", "reader")},
    "alembic_version": {"operator": May(see=_all("alembic_version"))},
}


FUNCTIONS: Mapping[str, Columns] = {
    "close_period": _these("operator"),
    "erase_texts": _these("operator"),
    # Called by processes of before migration 0071. A later migration drops both.
    "erase_invoiced_captures": _these("operator"),
    "erase_memos": _these("operator"),
    "forget_events": _these("worker operator"),
    "remove_concluded": _these("worker operator"),
    # Who may read the bucket. What it removes without comparing it is in the bucket nevertheless, under a lock.
    "purge_facts": _these("archiver operator"),
    "note_restore": _these("relay worker archiver"),
}
"""Functions that run with the owner's rights, with the kinds that may call them. Each looks at everything by itself."""

TRIGGERS: Mapping[str, str] = {
    "work_keeps_scopes": "work",
    "switches_released": "switches",
    "refunds_counted": "refunds",
    "refunds_recounted": "refunds",
    "invoiced_captures_once": "invoiced_captures",
    "credit_notes_counted": "credit_notes",
    "credit_notes_recounted": "credit_notes",
}
"""Triggers, with their tables: what a grant cannot say. Two say to what a kind may change a column; the others keep
what is given back of each capture, what is given back of and taken off each invoice, and the invoice that a capture is
on."""


def may(kind: str, table: str) -> May:
    """Everything that a kind may do with a table. Raises KeyError for a table without a row here."""
    row = GRANTS[table]
    own = row.get(kind, May())
    return own | may("application", table) | may("reader", table) if kind == "operator" else own


Right = tuple[str, str, str]
"""Kind, right and place: ("worker", "UPDATE", "captures.state")."""


def wanted() -> set[Right]:
    return {
        (kind, privilege, f"{table}.{column}")
        for table in GRANTS
        for kind in KINDS
        for privilege, columns in _named(may(kind, table))
        for column in columns
    } | {(kind, "EXECUTE", f"{name}()") for name, kinds in FUNCTIONS.items() for kind in kinds}


def found(connection: Connection) -> set[Right]:
    """The rights that the group roles have in this database, with those of PUBLIC and inherited ones."""
    roles = {kind.role: kind.name for kind in KINDS.values()}
    values = {"schema": SCHEMA, "roles": list(roles)}
    return {
        (roles[role], privilege, place)
        for statement in (_IN_COLUMNS, _IN_TABLES, _FUNCTIONS, _ELSEWHERE)
        for role, privilege, place in connection.execute(statement, values)
    }


def differences(connection: Connection) -> list[str]:
    """One line for each trigger or right that is missing in this database, and each right that it should not have."""
    want, have = wanted(), found(connection)
    on = set(connection.scalars(_TRIGGERS, {"schema": SCHEMA}))
    return [
        *(f"the trigger {name} of {table} is missing or off" for name, table in TRIGGERS.items() if name not in on),
        *(f"{kind} cannot {privilege} {place}" for kind, privilege, place in sorted(want - have)),
        *(f"{kind} may {privilege} {place}, and must not" for kind, privilege, place in sorted(have - want)),
    ]


def _named(rights: May) -> Iterator[tuple[str, Columns]]:
    return iter((("SELECT", rights.see), ("INSERT", rights.write), ("UPDATE", rights.change)))


_IN_COLUMNS = text(
    """
    SELECT r.rolname, p.privilege, c.relname || '.' || a.attname
      FROM pg_roles AS r, pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid,
           unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'REFERENCES']) AS p (privilege)
     WHERE r.rolname = ANY (:roles) AND c.relnamespace = to_regnamespace(:schema)
       AND c.relkind IN ('r', 'p', 'v', 'm') AND a.attnum > 0 AND NOT a.attisdropped
       AND has_column_privilege(r.oid, c.oid, a.attnum, p.privilege)
    """
)
_IN_TABLES = text(
    """
    SELECT r.rolname, p.privilege, c.relname
      FROM pg_roles AS r, pg_class AS c, unnest(ARRAY['DELETE', 'TRUNCATE', 'TRIGGER']) AS p (privilege)
     WHERE r.rolname = ANY (:roles) AND c.relnamespace = to_regnamespace(:schema)
       AND c.relkind IN ('r', 'p', 'v', 'm') AND has_table_privilege(r.oid, c.oid, p.privilege)
    """
)
# All other functions run with the rights of whoever calls them.
_FUNCTIONS = text(
    """
    SELECT r.rolname, 'EXECUTE', p.proname || '()'
      FROM pg_roles AS r, pg_proc AS p
     WHERE r.rolname = ANY (:roles) AND p.pronamespace = to_regnamespace(:schema) AND p.prosecdef
       AND has_function_privilege(r.oid, p.oid, 'EXECUTE')
    """
)
# One that is off, or runs on a replica only, holds nobody back.
_TRIGGERS = text(
    """
    SELECT t.tgname FROM pg_trigger AS t JOIN pg_class AS c ON c.oid = t.tgrelid
     WHERE c.relnamespace = to_regnamespace(:schema) AND t.tgenabled IN ('O', 'A')
    """
)
# A group that may log in, may create, or belongs to another role has more rights than its row says.
_ELSEWHERE = text(
    """
    SELECT rolname, 'CREATE', 'in the schema' FROM pg_roles
     WHERE rolname = ANY (:roles) AND has_schema_privilege(oid, to_regnamespace(:schema), 'CREATE')
    UNION ALL
    SELECT rolname, 'EVERYTHING', 'as its attributes allow' FROM pg_roles
     WHERE rolname = ANY (:roles)
       AND (rolsuper OR rolcanlogin OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls)
    UNION ALL
    SELECT m.rolname, 'ACT', 'as ' || g.rolname
      FROM pg_auth_members AS a JOIN pg_roles AS m ON m.oid = a.member JOIN pg_roles AS g ON g.oid = a.roleid
     WHERE m.rolname = ANY (:roles)
    """
)
