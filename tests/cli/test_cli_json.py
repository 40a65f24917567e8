"""Every command that prints data prints it as JSON, too, and a program can read it."""

from typing import Any

import pytest
from long_ago import archived_without_a_bucket, make_older
from test_cli_help import COMMANDS

from jobs.limits.bucket import Ask, Terms
from jobs.limits.shared import SharedBuckets

ASKED = ("--currency", "USD", "--json")


def capture(service: Any) -> list[str]:
    (intent,) = service.intents()
    return ["--payment-intent", intent, "--amount", "1999", *ASKED, "--request-id", "order-x"]


def issue(service: Any) -> list[str]:
    due = ["--days-until-due", "14", "--request-id", "sub-x"]
    return ["--customer", service.customer(), "--line", "3 seats=4500", *ASKED, *due]


def void(service: Any) -> list[str]:
    (intent,) = service.intents()
    return ["--payment-intent", intent, "--reason", "abandoned", "--request-id", "void-x", "--json"]


def refund(service: Any) -> list[str]:
    return ["--capture", service.captured_one(), "--request-id", "return-x", "--json"]


def undone(service: Any) -> list[str]:
    return [service.captured_one(), "--reason", "INC-12", "--json"]


def concluded(service: Any) -> list[str]:
    """A refund that Stripe answered with an error a day ago, and that was looked at since."""
    refund_id = service.ask_for_refund(service.captured_one())
    service.plan()
    service.prepared("refunds")
    service.age(refund_id, 25 * 3600)
    service.execute(
        "UPDATE billing.idempotency_records SET state = 'in_doubt', learned = 'unprovable', parked_at = now(),"
        " looked_at = now(), lease_until = NULL WHERE operation_id = :id",
        id=refund_id,
    )
    return [refund_id, "--reason", "INC-12", "--json"]


def refused(service: Any) -> list[str]:
    invoice_id = service.ask_for_invoice()
    service.standin.add_fault("other_amount", path="/add_lines$", times=1)
    assert service.settle(invoice_id) == ["refused"]
    return [invoice_id, "--reason", "mended", "--json"]


def settled(service: Any) -> list[str]:
    capture_id = service.ask_for_capture()
    service.settle(capture_id)
    return [capture_id, "--json"]


def quarantined(service: Any) -> list[str]:
    capture_id = service.ask_for_capture()
    service.plan()
    service.execute("UPDATE billing.work SET state = 'quarantined', reason = 'a test'")
    return [service.work(capture_id).id, "--json"]


def called(service: Any) -> list[str]:
    SharedBuckets(service.redis, "test").exchange({None: Ask(1)}, Terms(25.0, 5.0))
    return ["--json"]


def paused(service: Any) -> list[str]:
    service.pull("contract:snapshot_queues")
    return ["snapshot_queues", "--reason", "mended", "--json"]


def nothing(service: Any) -> list[str]:
    return ["--json"]


def over(service: Any) -> list[str]:
    service.settle(service.ask_for_capture())
    archived_without_a_bucket(service)
    make_older(service)
    return ["--json"]


def asked_in_bulk(service: Any) -> list[str]:
    service.execute(
        "INSERT INTO billing.bulks (id, kind, digest, rows, actor, reason)"
        " VALUES ('june', 'capture', :digest, 2, 'grace', 'OPS-7')",
        digest="0" * 64,
    )
    return ["--json"]


def measured(service: Any) -> list[str]:
    service.relay.measure()
    return ["--json"]


def acted_on(service: Any) -> list[str]:
    invoice = service.ask_for_invoice()
    assert service.settle(invoice) == ["sent"]
    return [invoice, "--request-id", "act-1", "--json"]


def credited(service: Any) -> list[str]:
    note = service.credit(service.sent_invoice(), 500)
    assert service.settle(note) == ["issued"]
    return [note, "--request-id", "act-1", "--json"]


ARGUMENTS = {
    "audit": nothing,
    "bulks": asked_in_bulk,
    "capture": capture,
    "catalog": nothing,
    "compensate": undone,
    "contracts check": nothing,
    "contracts drained": lambda service: ["take_capture:1", "--json"],
    "contracts list": nothing,
    "doctor": nothing,
    "explain": settled,
    "growth": nothing,
    "housekeeping run": over,
    "health": lambda service: ["relay", "--json"],
    "invoice credit-void": credited,
    "invoice issue": issue,
    **{f"invoice {each}": acted_on for each in ("mark-paid", "mark-uncollectible", "pay", "void")},
    "invoice reopen": refused,
    "limits": called,
    "migrate": nothing,
    "quarantine conclude": concluded,
    "quarantine assign": lambda service: [*quarantined(service), "--to", "grace"],
    "quarantine discard": lambda service: [*quarantined(service), "--reason", "ordered twice"],
    "quarantine list": lambda service: quarantined(service)[1:],
    "quarantine replay": lambda service: [*quarantined(service), "--reason", "mended"],
    "quarantine show": quarantined,
    "quarantine stats": nothing,
    "queues": measured,
    "refund": refund,
    "retries": lambda service: quarantined(service)[1:],
    "schedule list": nothing,
    "schedule pause": lambda service: ["snapshot_queues", "--reason", "INC-14", "--json"],
    "schedule resume": paused,
    "schedule run": lambda service: ["snapshot_queues", "--json"],
    "standin authorize": lambda service: ["1999", "USD", "--json"],
    "standin customer": nothing,
    "status": settled,
    "switch list": nothing,
    "switch pull": lambda service: ["captures", "--reason", "INC-12", "--json"],
    "switch release": lambda service: ["invoices", "--reason", "mended", "--json"],
    "void": void,
}
ELSEWHERE = {
    "access apply": "tests/access/test_credentials.py",
    "access generate": "tests/access/test_credentials.py",
    "access policy": "tests/access/test_credentials.py",
    "close": "tests/cli/test_cli_close.py",
    "demo": "tests/test_demo.py",
    **dict.fromkeys(
        ("document get", "document link", "document list", "document request"), "tests/documents/test_cli_documents.py"
    ),
    "email bounces": "tests/cli/test_cli_bounces.py",
    **dict.fromkeys(("email list", "email preview", "email send"), "tests/cli/test_cli_emails.py"),
    "differences close": "tests/reconciliation/test_cli_reconcile.py",
    "differences list": "tests/reconciliation/test_cli_reconcile.py",
    "differences show": "tests/reconciliation/test_cli_reconcile.py",
    "erase customer": "tests/cli/test_cli_erase.py",
    **dict.fromkeys(("export archive", "export ours", "export stripe", "prove"), "tests/cli/test_cli_prove.py"),
    "invoice capture": "tests/cli/test_cli_invoice_captures.py",
    "invoice captures": "tests/cli/test_cli_invoice_captures.py",
    "invoice credit": "tests/cli/test_cli_credit_notes.py",
    "invoice issue-many": "tests/cli/test_cli_invoice_many.py",
    "invoice preview": "tests/cli/test_cli_invoice_file.py",
    "reconcile": "tests/reconciliation/test_cli_reconcile.py",
    "recover": "tests/recovery/test_recover.py",
    "up": "tests/cli/test_cli_processes.py",
}


def test_every_command_that_prints_data_is_tried():
    printing = {
        name
        for name, command in COMMANDS.items()
        if any("--json" in parameter.opts for parameter in command.params) and not name.startswith("archive ")
    }
    assert printing == ARGUMENTS.keys() | ELSEWHERE.keys()


@pytest.mark.parametrize("name", ARGUMENTS)
def test_what_a_command_prints_as_json_can_be_read(run, service, name):
    for scope in ("invoices", "account:acct_1"):
        run("switch", "pull", scope, "--reason", "INC-1")
    if name.startswith("invoice"):
        run("switch", "release", "invoices", "--reason", "mended")
    ran = run(*name.split(), *ARGUMENTS[name](service))
    # A process that does not beat is bad news, told as data all the same.
    assert ran.status == (1 if name == "health" else 0), ran.err
    assert ran.json
