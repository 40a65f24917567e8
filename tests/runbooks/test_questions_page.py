"""docs/finance/questions.md: a service does a little of everything, and each question on the page gets its answer."""

import re
import shlex
from datetime import timedelta
from pathlib import Path

from command import Run, in_a_process
from compared import reconcile
from mailing import ask_for_email
from runbook import commands, is_shown
from service import Service

from archive import queries
from billing import database, documents
from jobs.email.outcomes import refused as refused_email

PAGE = Path(__file__).parents[2] / "docs" / "finance" / "questions.md"
DAY_S = 86_400


def refuse_a_document(service: Service) -> None:
    """That of the credit note, which is the first to be asked for."""
    with database.transaction(service.engines["worker"]) as session:
        documents.request_missing(session)
    service.plan()
    (call,) = service.prepared("documents").values()
    service.report(call, refused_email("not_a_pdf"))


def a_little_of_everything(service: Service, run: Run) -> dict[str, str]:
    """What happens, once each. Returns the ids that stand for those in the page's commands."""

    def operator(*words: str) -> None:
        done = run(*words, "--actor", "anna")
        assert done.status == 0, done.err

    def put_aside(capture: str) -> str:
        service.execute(
            "UPDATE billing.work SET state = 'quarantined', reason = 'a test', due_at = NULL WHERE entity_id = :id",
            id=capture,
        )
        return service.work(capture).id

    full = service.ask_for_capture(correlation_id="order-1")
    part = service.ask_for_capture(amount=1500, correlation_id="order-2")
    sent = service.ask_for_invoice(correlation_id="order-1")
    refused = service.ask_for_invoice("cus_nobody", correlation_id="order-2")
    assert service.settle(full, part, sent, refused) == ["captured", "captured", "sent", "refused"]

    # That went to the bank; what is taken from here on has not.
    service.standin.advance(3 * DAY_S)
    reconcile(service, ahead=timedelta(days=4))

    (intent,) = service.intents()
    service.standin.add_fault("402_declined", path=f"{intent}/capture$")
    assert service.settle(service.ask_for_capture(intent)) == ["declined"]

    operator("switch", "pull", "captures", "--reason", "a drill")
    held = service.ask_for_capture()
    service.plan()
    service.work_off()
    operator("switch", "release", "captures", "--reason", "over")
    assert service.settle(held) == ["captured"]

    lapsed, ended = service.ask_for_capture(), service.ask_for_capture()
    service.plan()
    work = put_aside(ended)
    operator("quarantine", "assign", work, "--to", "grace")
    operator("quarantine", "discard", work, "--reason", "ordered twice")
    service.standin.advance(8 * DAY_S)
    assert service.settle(lapsed) == ["expired"]

    (intent,) = service.intents()
    service.by_hand(f"/v1/payment_intents/{intent}/capture", "amount_to_capture=500")
    contradicted = service.ask_for_capture(intent)
    service.plan()
    service.work_off()
    operator("quarantine", "replay", service.work(contradicted).id, "--reason", "looked at Stripe")
    service.work_off()
    assert service.status(contradicted).state == "conflict"

    assert service.settle(service.ask_for_refund(held, reason="requested_by_customer"), service.credit(sent, 501)) == [
        *("succeeded", "issued")
    ]

    email = ask_for_email(service)
    service.plan()
    service.report(service.prepared("emails")[email], refused_email("no_address"))

    refuse_a_document(service)

    (intent,) = service.intents()
    service.standin.add_fault("drop_before", path=f"{intent}/capture$")
    service.ask_for_capture(intent)
    service.plan()
    service.work_off()
    service.plan()
    # On the day of the page, so that no month ends meanwhile.
    service.execute(
        "UPDATE billing.facts SET happened_at = happened_at - (SELECT min(happened_at) FROM billing.facts)"
        " + timestamptz '2026-03-10 11:00:00+00'"
    )
    service.execute(
        "UPDATE billing.facts SET payload = payload || jsonb_build_object('booked_at', '2026-03-10T11:00:00+00:00')"
        " WHERE topic LIKE '%.booked'"
    )
    return {"cap_8a4c1e": full, "pi_3f6b21": service.facts(full)[0].payload["payment_intent"]}


def test_each_question_of_the_page_gets_the_answer_that_it_shows(service: Service, run: Run, made: str) -> None:
    names = a_little_of_everything(service, run)
    assert in_a_process(["archive", "run", "--once", "--json"]).json["archived"] > 40
    for command in commands(PAGE.read_text()):
        words = command.words
        for name, value in names.items():
            words = words.replace(name, value)
        program, *arguments = shlex.split(words)
        assert program == "billing"
        ran = run(*arguments)
        assert ran.status == 0, f"{words}: {ran.err}"
        assert is_shown(command.shown, ran.out), f"{words}\n{ran.out}"


def test_each_question_is_on_the_page_with_an_answer_and_each_column_is_explained() -> None:
    text = PAGE.read_text()
    asked = [re.search(r"archive query (\w+)", command.words) for command in commands(text) if command.shown]
    assert sorted({found[1] for found in asked if found}) == queries.NAMES
    said_once = text.partition("\n## ")[0]
    parts = dict(re.findall(r"^## [^\n]+\n\n`(\w+)`(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL))
    assert sorted(parts) == queries.NAMES
    for name in queries.NAMES:
        explained = set(re.findall(r"`([a-z0-9_]+)`", parts[name] + said_once))
        assert {column.name for column in queries.load(name).columns} - explained == set(), name
        assert "**Suspicious:**" in parts[name], name
