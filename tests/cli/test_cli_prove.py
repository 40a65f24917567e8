"""`billing export` and `billing prove` on real servers: nothing is violated after faults, and a theft is found."""

import json
from pathlib import Path

import pytest
from service import Service
from undecided_charge import undecided_first_charge

from billing.gateway import Budget, Request, Response, boot_clock
from billing.periods import Calendars
from billing.tables.entities import Invoice
from jobs.schedules import invoicing

EXPORTS = ("archive", "stripe", "ours")
FAULTS = [
    {"fault": "drop_after_commit", "method": "POST", "path": "/capture$", "probability": 0.3, "seed": 1},
    {"fault": "500_saved", "method": "POST", "probability": 0.1, "seed": 2},
]
UNREAD = ("drop_before", "502_html", "429_rate", "truncate_body")
YOUNG = "UPDATE billing.{} SET state_since = state_since - interval '10 minutes'"


@pytest.fixture
def asked(service: Service, made: str, run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """Captures and invoices that went through faults and a decline, all archived, and one capture that waits."""
    monkeypatch.chdir(tmp_path)
    service.standin.add_faults(FAULTS)
    captures = [service.ask_for_capture(intent) for intent in service.intents(8)]
    invoices = [service.ask_for_invoice(service.customer_despite_faults()) for _ in range(2)]
    assert service.settle(*captures, *invoices) == ["captured"] * 8 + ["sent"] * 2
    service.standin.clear_faults()
    assert (
        service.settle(service.ask_for_refund(captures[2]), service.ask_for_refund(captures[2], None))
        == ["succeeded"] * 2
    )
    service.ask_for_capture()
    service.plan()
    # As if all of that had been a while ago.
    service.execute(YOUNG.format("captures"))
    service.execute(YOUNG.format("invoices"))
    service.execute(YOUNG.format("refunds"))
    assert run("archive", "run", "--once").status == 0
    return [*captures, *invoices]


def prove(run, *more: str):
    for name in EXPORTS:
        exported = run("export", name, f"{name}.jsonl")
        assert exported.status == 0, exported.err
    return run("prove", *(f"{name}.jsonl" for name in EXPORTS), *more)


def test_after_faults_the_certificate_says_that_everything_agrees(run, service: Service, asked: list[str]):
    proof = prove(run)
    assert proof.status == 0, proof.out
    lines = proof.out.splitlines()
    assert lines[0].startswith("PROVEN: every request has at most one effect at Stripe")
    assert "capture USD: 8 requests, 159.92 USD" in lines
    assert "  159.92 USD can be compared with Stripe, which has 159.92 USD" in lines
    assert "  159.92 USD must be archived, and the archive has 159.92 USD" in lines
    assert any(line.startswith("invoice ") and ": 2 requests, " in line for line in lines)
    assert "refund USD: 2 requests, 19.99 USD" in lines
    assert "not known yet: 1 capture requested" in lines
    for name in EXPORTS:
        (shown,) = [line for line in lines if line.startswith(f"  {name} ")]
        assert " lines, read " in shown


def test_refunds_of_invoices_are_proven_like_those_of_captures(run, service: Service, asked: list[str]):
    refunds = [service.refund_invoice(service.paid_invoice(), amount) for amount in (500, None)]
    assert service.settle(*refunds) == ["succeeded"] * 2
    service.plan()
    service.execute(YOUNG.format("invoices"))
    service.execute(YOUNG.format("refunds"))
    assert run("archive", "run", "--once").status == 0
    proof = prove(run)
    assert proof.status == 0, proof.out
    assert "refund EUR: 2 requests, 50.01 EUR" in proof.out.splitlines()
    service.execute("UPDATE billing.refunds SET stripe_refund = 're_nowhere' WHERE id = :id", id=refunds[0])
    assert f"  {refunds[0]}: it is succeeded here with 500 EUR, and Stripe shows no effect" in prove(run).out


def test_invoices_whose_own_charge_a_person_has_concluded_are_proven_and_so_is_what_is_paid_later(
    run, service: Service, asked: list[str]
):
    """[69, 70]"""
    invoices = [undecided_first_charge(service) for _ in range(2)]
    for invoice, verdict in zip(invoices, ((), ("--it-happened",)), strict=True):
        done = run("quarantine", "conclude", invoice, *verdict, "--reason", "Stripe's log", "--actor", "anna")
        assert done.status == 0, done.err
    proof = archived_and_proven(run, service)
    assert (proof.status, proof.out.splitlines()[0][:7]) == (0, "PROVEN:"), proof.out
    customer = service.row(Invoice, invoices[0]).customer
    method = service.by_hand("/v1/payment_methods/pm_card_visa/attach", f"customer={customer}")
    assert service.settle(service.act_on(invoices[0], "pay_invoice", payment_method=method)) == ["done"]
    assert [service.status(each).state for each in invoices] == ["paid", "unpaid"]
    assert [effect["amount"] for effect in service.effects("capture")].count(4501) == 1
    proof = archived_and_proven(run, service)
    assert (proof.status, proof.out.splitlines()[0][:7]) == (0, "PROVEN:"), proof.out


def archived_and_proven(run, service: Service):
    service.plan()
    service.execute(YOUNG.format("invoices"))
    assert run("archive", "run", "--once").status == 0
    return prove(run)


def test_captures_on_invoices_are_proven_and_what_was_changed_by_hand_is_named(run, service: Service, asked: list[str]):
    customer = service.customer()
    mine = asked[3:7]
    invoices = [service.ask_for_invoice_of_capture(capture, customer) for capture in mine]
    assert service.settle(*invoices) == ["paid"] * 4
    see_ends(service)
    service.plan()
    service.execute(YOUNG.format("invoices"))
    assert run("archive", "run", "--once").status == 0
    proof = prove(run)
    assert proof.status == 0, proof.out
    assert "on invoices: 4 captures" in proof.out.splitlines()
    # No process of ours may do any of this.
    line = json.dumps({"capture": mine[0]})
    for table, change, of in (
        ("captures", "state = 'canceled'", f"id = '{mine[0]}'"),
        ("invoice_lines", f"details = '{line}'", f"invoice_id = '{invoices[1]}'"),
        ("invoices", "total_minor = 2000", f"id = '{invoices[2]}'"),
        ("invoices", "state = 'voided'", f"id = '{invoices[3]}'"),
    ):
        service.execute(f"UPDATE billing.{table} SET {change} WHERE {of}")
    found = json.loads(prove(run, "--json").out)["broken"]
    assert found["invoiced_not_taken"]["shown"] == [
        [mine[0], f"it is canceled here with 1999 USD, and 1999 USD of it are on {invoices[0]}"]
    ]
    assert [entity for entity, _ in found["invoiced_twice"]["shown"]] == [mine[0]]
    assert found["invoiced_otherwise"]["shown"] == [
        [invoices[1], f"its line 0 is {mine[0]} with 1999, and here that place is of {mine[1]} with 1999"]
    ]
    assert found["invoiced_total"]["shown"] == [
        [invoices[2], "it comes to 2000 USD here, and the captures on it to 1999 USD"]
    ]
    assert found["not_marked_paid"]["shown"] == [
        [
            invoices[3],
            "it is voided here, and its money was taken before; Stripe has it as paid, asks for 0 and has 1999 of 1999 "
            "USD as paid out of band",
        ]
    ]


def see_ends(service: Service) -> None:
    """As the schedule `invoice_captures` does: it tells on which invoice a capture is."""
    assert invoicing.invoice_captures(service.engines["worker"], Calendars(), lambda: 60).invoices == 0


def test_money_that_nobody_asked_for_and_a_row_that_was_changed_are_named(run, service: Service, asked: list[str]):
    service.execute(f"UPDATE billing.captures SET amount_minor = 1998 WHERE id = '{asked[0]}'")
    service.execute(f"UPDATE billing.captures SET state = 'declined' WHERE id = '{asked[1]}'")
    proof = prove(run)
    assert proof.status == 1
    assert proof.out.startswith("VIOLATED: ")
    assert f"  {asked[0]}: Stripe has 1999 USD at pi_" in proof.out
    assert f"  {asked[0]}: the archive has 1999 USD, and here it is 1998 USD" in proof.out
    assert f"  {asked[1]}: it is declined here, and Stripe shows 1999 USD for it at pi_" in proof.out
    found = json.loads(prove(run, "--json").out)
    assert found["holds"] is False
    assert set(found["broken"]) == {
        *("amount", "effect_of_what_failed", "archived_without_request", "archived_otherwise", "totals")
    }


def test_what_stripe_shows_of_others_is_counted_and_violates_nothing(run, service: Service, asked: list[str]):
    (intent,) = service.intents(1)
    until = boot_clock() + 60
    captured = Request("POST", f"/v1/payment_intents/{intent}/capture", "", "somebodys-key")
    assert isinstance(service.gateway().send(captured, Budget(until, until)), Response)
    proof = prove(run)
    assert proof.status == 0, proof.out
    assert "effects at Stripe that are not of this service: 1" in proof.out


def test_a_page_of_stripes_that_is_not_answered_is_asked_for_again(run, service: Service, asked: list[str]):
    service.standin.add_faults(
        [{"fault": fault, "method": "GET", "path": "/v1/(payment_intents|invoices)$", "times": 1} for fault in UNREAD]
    )
    assert prove(run).status == 0


def test_a_missing_file_or_two_files_are_refused_in_one_line(run, tmp_path: Path):
    assert run("prove", "a", "b", "c").err == "billing: a cannot be read: No such file or directory\n"
    assert "give three different files" in run("prove", "a", "b").err
