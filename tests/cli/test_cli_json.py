"""Every command that prints data prints it as JSON, too, and a program can read it."""

from typing import Any

import pytest
from test_cli_help import COMMANDS

ASKED = ("--currency", "USD", "--json")


def capture(house: Any) -> list[str]:
    (intent,) = house.intents()
    return ["--payment-intent", intent, "--amount", "1999", *ASKED, "--request-id", "order-x"]


def issue(house: Any) -> list[str]:
    due = ["--days-until-due", "14", "--request-id", "sub-x"]
    return ["--customer", house.customer(), "--line", "3 seats=4500", *ASKED, *due]


def refused(house: Any) -> list[str]:
    invoice_id = house.ask_for_invoice()
    house.standin.add_fault("other_amount", path="/add_lines$", times=1)
    assert house.settle(invoice_id) == ["refused"]
    return [invoice_id, "--reason", "mended", "--json"]


def settled(house: Any) -> list[str]:
    capture_id = house.ask_for_capture()
    house.settle(capture_id)
    return [capture_id, "--json"]


def quarantined(house: Any) -> list[str]:
    capture_id = house.ask_for_capture()
    house.plan()
    house.execute("UPDATE billing.work SET state = 'quarantined', reason = 'a test'")
    return [house.work(capture_id).id, "--json"]


def nothing(house: Any) -> list[str]:
    return ["--json"]


ARGUMENTS = {
    "capture": capture,
    "doctor": nothing,
    "explain": settled,
    "health": lambda house: ["relay", "--json"],
    "invoice issue": issue,
    "invoice reopen": refused,
    "migrate": nothing,
    "quarantine list": lambda house: quarantined(house)[1:],
    "quarantine replay": lambda house: [*quarantined(house), "--reason", "mended"],
    "quarantine show": quarantined,
    "standin authorize": lambda house: ["1999", "USD", "--json"],
    "standin customer": nothing,
    "status": settled,
    "switch list": nothing,
    "switch pull": lambda house: ["captures", "--reason", "INC-12", "--json"],
    "switch release": lambda house: ["invoices", "--reason", "mended", "--json"],
}
ELSEWHERE = {
    "access apply": "tests/access/test_credentials.py",
    "access generate": "tests/access/test_credentials.py",
    "access policy": "tests/access/test_credentials.py",
    "demo": "tests/test_demo.py",
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
def test_what_a_command_prints_as_json_can_be_read(run, house, name):
    for scope in ("invoices", "account:acct_1"):
        run("switch", "pull", scope, "--reason", "INC-1")
    if name.startswith("invoice"):
        run("switch", "release", "invoices", "--reason", "mended")
    ran = run(*name.split(), *ARGUMENTS[name](house))
    # A process that does not beat is bad news, told as data all the same.
    assert ran.status == (1 if name == "health" else 0), ran.err
    assert ran.json
