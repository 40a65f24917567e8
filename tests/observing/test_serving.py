"""`billing serve` over HTTP: whatever comes in is checked and put into the inbox, or refused with what to do."""

import asyncio
import hmac
import http.client
import json
import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from hashlib import sha256
from pathlib import Path
from threading import Event
from typing import Any
from urllib.parse import urlsplit

import pytest
from command import Run
from service import Service, acting_as, eventually
from sqlalchemy import func, select
from webhooks import endpoint

from billing import database, events
from billing.events import BODY_MOST, Refused
from billing.states import EventState
from billing.tables.entities import Capture, Invoice
from billing.tables.received_events import ReceivedEvent
from jobs.config.secrets import Secret
from jobs.local.supervisor import Child
from jobs.web.application import Application
from jobs.web.inbox_writer import InboxFull, InboxWriter
from jobs.web.serving import Secrets

SECRET = "whsec_aaaaaaaaaaaaaaaaaaaa"


class Web:
    """A running `billing serve`, and a client of it."""

    def __init__(self, process: Child, secrets: Path) -> None:
        self.process, self.secrets = process, secrets
        found = eventually(lambda: re.search(r"listening on (\S+)", process.output()), "it listens")
        self.url: str = found[1]

    def ask(self, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, dict[str, Any]]:
        connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=60)
        try:
            connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read() or b"{}")
        finally:
            connection.close()

    def post(self, data: object, path: str = "/webhooks/stripe", secret: str = SECRET) -> tuple[int, dict[str, Any]]:
        body = json.dumps(data).encode()
        return self.ask("POST", path, body, Stripe_Signature=signed(body, secret))


def signed(body: bytes, secret: str = SECRET, at: float | None = None) -> str:
    stamp = int(time.time() if at is None else at)
    return f"t={stamp},v1={hmac.new(secret.encode(), b'%d.' % stamp + body, sha256).hexdigest()}"


def event(number: int = 1, **changes: Any) -> dict[str, Any]:
    made = {
        "id": f"evt_{number}",
        "object": "event",
        "type": "payment_intent.succeeded",
        "livemode": False,
        "created": int(time.time()),
        "data": {"object": {"id": "pi_1"}},
    }
    return made | changes


@pytest.fixture
def web(service: Service, spawn: Callable[..., Child], tmp_path: Path) -> Web:
    secrets = tmp_path / "webhook_secrets"
    secrets.write_text(SECRET)
    secrets.chmod(0o600)
    return Web(
        spawn("serve", "--port", "0", BILLING_WEBHOOK_SECRETS=f"file:{secrets}", BILLING_LOG_LEVEL="info"), secrets
    )


def received(service: Service) -> int:
    with database.transaction(service.engine) as session:
        return session.scalars(select(func.count()).select_from(ReceivedEvent)).one()


def error(answer: tuple[int, dict[str, Any]]) -> tuple[int, str]:
    status, body = answer
    assert body["error"]["message"]
    return status, body["error"]["code"]


def test_an_event_is_in_the_inbox_before_it_is_answered(web: Web, service: Service) -> None:
    assert web.post(event()) == (200, {"received": "evt_1"})
    assert received(service) == 1
    assert web.post(event())[0] == 200
    assert received(service) == 1


def test_what_amazon_ses_tells_is_taken_only_where_a_topic_is_allowed(
    web: Web, service: Service, spawn: Callable[..., Child]
) -> None:
    topic = "arn:aws:sns:eu-central-1:123456789012:bounces"
    told = {"Type": "Notification", "MessageId": "22b80b92-fdea", "TopicArn": topic, "Message": "{}", "Timestamp": "t"}
    told |= {"SignatureVersion": "1", "Signature": "x", "SigningCertURL": "https://evil.example/x.pem"}
    assert error(web.ask("POST", "/email/ses", json.dumps(told).encode())) == (404, "no_such_path")
    variables = {"BILLING_WEBHOOK_SECRETS": f"file:{web.secrets}", "BILLING_SES_TOPICS": topic}
    other = Web(spawn("serve", "--port", "0", **variables), web.secrets)
    assert error(other.ask("POST", "/email/ses", json.dumps(told).encode())) == (400, "not_of_amazon")
    assert error(other.ask("POST", "/email/ses", b"{}")) == (400, "not_a_message")
    assert error(other.ask("GET", "/email/ses")) == (405, "method_not_allowed")
    large = b" " * (BODY_MOST + 1)
    assert error(other.ask("POST", "/email/ses", large)) == (413, "too_large")
    assert received(service) == 0


def test_whatever_is_no_webhook_of_stripes_is_refused_and_says_why(web: Web, service: Service) -> None:
    """[25, 39] Forged, replayed, future-dated, of the other mode, too large."""
    body = json.dumps(event()).encode()
    url = "/webhooks/stripe"
    assert error(web.ask("POST", url, body)) == (400, "no_signature")
    assert error(web.post(event(), secret="whsec_other")) == (400, "bad_signature")
    assert error(web.ask("POST", url, body, Stripe_Signature=signed(body, at=time.time() - 400))) == (400, "too_old")
    future = signed(body, at=time.time() + 400)
    assert error(web.ask("POST", url, body, Stripe_Signature=future)) == (400, "from_the_future")
    assert error(web.post(event(livemode=True))) == (400, "other_mode")
    assert error(web.post({"object": "charge"})) == (400, "not_an_event")
    assert error(web.post(event(), path=f"{url}/acct_1")) == (400, "other_account")
    large = b" " * (BODY_MOST + 1)
    assert error(web.ask("POST", url, large, Stripe_Signature=signed(large))) == (413, "too_large")
    assert error(web.ask("GET", url)) == (405, "method_not_allowed")
    assert error(web.ask("POST", "/healthz")) == (405, "method_not_allowed")
    assert error(web.ask("GET", "/")) == (404, "no_such_path")
    assert error(web.ask("POST", f"{url}/../../etc/passwd", body)) == (404, "no_such_path")
    assert received(service) == 0
    reasons = re.findall(r'"reason": "([a-z_]+)"', web.process.output())
    assert set(reasons) == {
        *("no_signature", "bad_signature", "too_old", "from_the_future"),
        *("other_mode", "not_an_event", "other_account", "too_large"),
    }
    assert "pi_1" not in web.process.output()


def test_events_of_a_connected_account_come_to_its_own_address_or_to_the_common_one(web: Web, service: Service) -> None:
    assert web.post(event(1, account="acct_1"), path="/webhooks/stripe/acct_1")[0] == 200
    assert web.post(event(2, account="acct_1"))[0] == 200
    assert received(service) == 2


def test_a_secret_is_rolled_without_a_restart(web: Web, service: Service) -> None:
    """[26] The new one is written beside the old one, and both are accepted."""
    new = "whsec_bbbbbbbbbbbbbbbbbbbb"
    web.secrets.write_text(f"{SECRET}, {new}\n")
    assert web.post(event(1), secret=new)[0] == 200
    assert web.post(event(2))[0] == 200
    assert received(service) == 2


def test_it_says_that_it_is_alive_and_ready_and_ends_when_it_is_asked_to(web: Web) -> None:
    assert web.ask("GET", "/healthz") == (200, {"alive": True})
    assert web.ask("GET", "/readyz") == (200, {"ready": True})
    assert web.ask("HEAD", "/readyz") == (200, {})
    web.process.terminate()
    assert web.process.poll() == 0


def test_what_stripe_sends_twice_late_in_disorder_and_before_its_answer_changes_nothing(
    web: Web, service: Service
) -> None:
    """[21, 22, 23] The stand-in's own sender, at its worst, and two events for one change."""
    web.secrets.write_text(endpoint(service, f"{web.url}/webhooks/stripe"))
    service.standin.set_webhooks(
        seed=7, duplicates={"every": 2}, twins={"every": 3}, shuffle_s=1, before_response=True, parallel=4
    )
    captures = [service.ask_for_capture(intent) for intent in service.intents(6)]
    invoice = service.ask_for_invoice()
    assert service.settle(*captures, invoice) == ["captured"] * 6 + ["sent"]
    service.by_hand(f"/v1/invoices/{service.row(Invoice, invoice).stripe_invoice}/pay", "paid_out_of_band=true")
    attempts = service.standin.wait_webhooks(60)
    assert {each["status"] for each in attempts} == {200}
    assert received(service) == len({each["event"] for each in attempts}) < len(attempts)

    def all_is_told() -> bool:
        service.relay.round()
        for queue in ("captures", "invoices"):
            service.work_off(queue)
        return service.status(invoice).state == "paid" and set(service.states_of_work()) == {"done"}

    eventually(all_is_told, "every notice is worked off")
    assert [service.status(each).state for each in captures] == ["captured"] * 6
    assert [service.captured(each) for each in captures] == [{1999: 1}] * 6
    assert service.topics(invoice).count("paid") == 1


def test_it_does_not_start_without_secrets_that_are_any(
    service: Service, spawn: Callable[..., Child], tmp_path: Path
) -> None:
    for wrong in ({}, {"BILLING_WEBHOOK_SECRETS": "env:WHSEC", "WHSEC": "sk_test_mistaken"}):
        process = spawn("serve", "--port", "0", **wrong)
        assert eventually(lambda process=process: process.poll(), "it ends") == 2
        assert "BILLING_WEBHOOK_SECRETS" in process.output()
        assert "sk_test_mistaken" not in process.output()


# In trouble, without a server.


def test_whoever_comes_while_the_secrets_are_read_again_is_checked_with_the_new_ones() -> None:
    begun, go_on, secrets = Event(), Event(), iter(["whsec_old", "whsec_new"])

    def read() -> str:
        found = next(secrets)
        if found == "whsec_new":
            begun.set()
            go_on.wait()
        return found

    known = Secrets(Secret("BILLING_WEBHOOK_SECRETS", "file:/secrets", read))
    assert known(False) == ["whsec_old"]
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(known, True)
        begun.wait()
        second = threads.submit(known, True)
        wait([second], timeout=0.5)  # while the first one reads, it must not answer
        go_on.set()
        assert (first.result(), second.result()) == (["whsec_new"], ["whsec_new"])


class Broken:
    def __init__(self, error: Exception) -> None:
        self.error = error

    async def put(self, event: ReceivedEvent) -> None:
        raise self.error


def asked(application: Application, path: str, body: bytes = b"", method: str = "POST") -> tuple[int, dict[str, Any]]:
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"stripe-signature", signed(body).encode())]
    scope = {"type": "http", "path": path, "method": method, "headers": headers}
    asyncio.run(application(scope, receive, send))
    return sent[0]["status"], json.loads(sent[1]["body"])


@pytest.mark.parametrize("problem", [InboxFull(), RuntimeError("Postgres is away")])
def test_what_cannot_be_written_now_is_left_to_stripe_to_send_again(problem: Exception) -> None:
    application = Application(Broken(problem), lambda _again: [SECRET], lambda: None, livemode=False)
    assert error(asked(application, "/webhooks/stripe", json.dumps(event()).encode())) == (503, "busy")


def test_events_that_wait_when_the_server_has_stopped_are_written_before_the_process_ends(service: Service) -> None:
    read = [events.read_event(json.dumps(event(number)).encode(), source="webhook") for number in range(5)]
    engine = acting_as("web", service.url, lock_timeout="60s", statement_timeout="60s")
    writer = InboxWriter(engine)

    async def stopped_while_they_wait() -> None:
        for each in filter(None, read):
            task = asyncio.create_task(writer.put(each))
            await asyncio.sleep(0)
            # The first is being written, and the others come behind it.
            await asyncio.to_thread(eventually, lambda: blocked(service), "one is being written")
            assert not task.done()

    with service.engine.begin() as other:
        other.exec_driver_sql("LOCK TABLE billing.received_events")
        asyncio.run(stopped_while_they_wait())
    writer.close()
    assert received(service) == len(read)
    engine.dispose()


def blocked(service: Service) -> bool:
    with service.engine.connect() as connection:
        waiting = connection.exec_driver_sql(
            "SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid)"
            " WHERE NOT granted AND datname = current_database()"
        )
        return bool(waiting.scalar_one())


def test_it_is_not_ready_while_the_database_takes_no_events() -> None:
    reasons = iter(["Postgres does not answer", None])
    application = Application(Broken(InboxFull()), lambda _again: [], lambda: next(reasons), livemode=False)
    assert error(asked(application, "/readyz", method="GET")) == (503, "not_ready")
    assert asked(application, "/readyz", method="GET")[0] == 503, "Postgres is not asked each time"
    application._asked_at = float("-inf")
    assert asked(application, "/readyz", method="GET") == (200, {"ready": True})


def test_the_help_says_what_it_needs(run: Run) -> None:
    said = run("serve", "--help").out
    assert "BILLING_WEBHOOK_SECRETS" in said
    assert "/readyz" in said


def test_the_page_about_webhooks_runs_and_names_every_refusal(
    service: Service, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (Path(__file__).parents[2] / "docs" / "moves" / "webhooks.md").read_text()
    capture = service.ask_for_capture()
    intent = service.row(Capture, capture).payment_intent
    (block,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    exec(compile(block, "webhooks.md", "exec"), {"engine": service.engine, "payment_intent": intent})  # noqa: S102
    assert capsys.readouterr().out == "1 0 1\n"
    assert service.topics(capture) == ["requested", "noticed"]
    assert set(re.findall(r"^\| `([a-z_]+)` \| \d{3} ", page, re.MULTILINE)) == set(Refused)
    assert set(re.findall(r"^\| `([a-z_]+)` \| (?!\d)", page, re.MULTILINE)) == set(EventState)
