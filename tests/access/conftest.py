"""A database of its own with one row in every table, and a login of each kind of process in it."""

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from command import run, settings
from logins import Place, set_up, tear_down
from service import make_database

from jobs.local.servers import LocalServers

__all__ = ["run", "settings"]

ROWS = """
    INSERT INTO billing.captures (id, request_id, payment_intent, amount_minor, currency)
        VALUES ('cap_1', 'order-1', 'pi_1', 1999, 'USD');
    INSERT INTO billing.invoices (id, request_id, customer, currency, total_minor, days_until_due)
        VALUES ('inv_1', 'invoice-1', 'cus_1', 'EUR', 4500, 14);
    INSERT INTO billing.invoice_lines VALUES ('inv_1', 0, 'the seats of Ada Lovelace', 4500);
    INSERT INTO billing.idempotency_records (id, operation_id, step, generation, work_id, queue, key, method, path,
                                             body, fingerprint, livemode, api_version, answer)
        VALUES ('rec_1', 'cap_1', 'capture', 1, 'wrk_1', 'captures', 'key-1', 'POST', '/v1', '', 'f', false, 'v', 'x');
    INSERT INTO billing.facts (topic, entity_type, entity_id, entity_version, actor, payload)
        VALUES ('capture.requested', 'capture', 'cap_1', 1, 'application', '{}');
    INSERT INTO billing.work (id, contract, version, arguments, queue, entity_id, scopes, state, urgency, dedupe_key)
        VALUES ('wrk_1', 'take_capture', 1, '{}', 'captures', 'cap_1', '{captures}', 'ready', now(),
                'fact:1:take_capture');
    INSERT INTO billing.switches (id, scope, actor) VALUES ('swi_1', 'captures', 'ada');
    INSERT INTO billing.archive_batches (class, number, event_date, rows, first_seq, last_seq, first_fact, last_fact,
                                         lock_mode, locked_until, manifest_lock_mode, manifest_locked_until)
        VALUES ('capture', 1, now(), 1, 1, 1, 1, 1, 'GOVERNANCE', now(), 'GOVERNANCE', now());
"""


@pytest.fixture(scope="session")
def place(template: LocalServers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """For tests that change nothing."""
    owner = make_database(template, f"access_{uuid4().hex[:8]}")
    place = Place(owner, tmp_path_factory.mktemp("access") / "secrets")
    set_up(template, owner, place.secrets)
    with place.connect("owner") as connection:
        connection.execute(ROWS)
    yield place
    tear_down(template, owner)


@pytest.fixture
def new_place(template: LocalServers, tmp_path: Path) -> Iterator[Place]:
    """A migrated database of the test's own, with nothing applied to it yet."""
    owner = make_database(template, f"access_{uuid4().hex[:8]}")
    yield Place(owner, tmp_path / "secrets")
    tear_down(template, owner)
