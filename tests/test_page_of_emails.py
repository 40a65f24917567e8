"""docs/moves/email.md is true: its code runs, its tables name what there is."""

import re
from typing import Any

import pytest
from mail_server import MailServer
from mailing import certificate, mail, mailing
from service import Service
from test_readme import ROOT, blocks

__all__ = ["certificate", "mail"]

PAGE = ROOT / "docs" / "moves" / "email.md"


def test_the_page_of_emails_runs_from_its_first_block_to_its_last(
    service: Service, mail: MailServer, capsys: pytest.CaptureFixture[str]
) -> None:
    names: dict[str, Any] = {"engine": service.engine, "customer": service.customer()}
    printed = []
    for number, block in enumerate(blocks(PAGE, "python")):
        if number == 2:
            gateway = mailing(service, mail, resolve=names["recipient_of"])
            assert service.settle(names["receipt"].email_id, gateway=gateway) == ["sent"]
            capsys.readouterr()
        exec(compile(block, f"email.md, block {number}", "exec"), names)  # noqa: S102 - our own page
        printed.append(capsys.readouterr().out.splitlines())
    assert printed == [["True"], [], ["sent True"]]
    assert names["recipient_of"]("user-17")["address"] == "anna@example.org"


def test_every_reason_that_an_email_can_end_with_is_on_its_pages() -> None:
    told = PAGE.read_text() + (ROOT / "docs" / "operate" / "emails.md").read_text()
    for source in (ROOT / "jobs" / "email").glob("*.py"):
        for code in re.findall(r'refused\("(\w+)"\)', source.read_text()):
            assert f"`{code}`" in told, code
