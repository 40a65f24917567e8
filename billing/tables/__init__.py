"""All tables of the service, in the Postgres schema `billing`. Their constraints hold even if this code has a bug.

    schema.py               what all tables share, and whose database this is
    entities/               what is asked for: captures, voids, refunds, invoices and their lines, e-mails; and switches
    credit_notes.py         what is taken off invoices that were issued
    documents.py            the documents of invoices: which, and where each is stored
    invoice_actions.py      what is asked to be done with an invoice that has its number
    bulks.py                files of requests, and how far each was asked for
    invoiced_captures.py    which invoice a capture is on, and the periods of accounts
    scheduled_runs.py       when a schedule was due, and what became of it
    idempotency_records.py  one call to Stripe under one key
    work.py                 what is still to be done
    work_failures.py        how work failed
    queue_loads.py          how much waits on each queue, and how long
    facts.py                what happened, and the batches in which it is archived
    holds.py                legal holds on archived batches
    archive_heads.py        the newest manifests of each day, and where they were published
    received_events.py      the inbox: what Stripe said has happened, until it is matched
    lineage.py              which database this is, and whether it was restored
    closed_periods.py       months whose books are closed
    stripe_records.py       Stripe's own records of money, mirrored, and how far they were read
    differences.py          where our rows and Stripe's records say different things

Every name is qualified by the schema, because the service shares the application's database. The database's clock
judges all times. Postgres 16 or later.
"""

# Importing one table imports all of them, so that `Table.metadata` is always the whole schema.
from billing.tables import (  # noqa: F401
    archive_heads,
    bulks,
    closed_periods,
    credit_notes,
    differences,
    documents,
    entities,
    facts,
    holds,
    idempotency_records,
    invoice_actions,
    invoiced_captures,
    lineage,
    queue_loads,
    received_events,
    scheduled_runs,
    schema,
    stripe_records,
    work,
    work_failures,
)
