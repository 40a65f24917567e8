"""Every scope stops what stands in it, whoever planned it, and a receipt says how much that is."""

import re
import shlex
from pathlib import Path

import psycopg.errors
import pytest
from cases import case
from command import Run
from keeping import finalized
from mailing import ask_for_email
from service import Service
from sqlalchemy import select
from sqlalchemy.exc import OperationalError

import billing
from billing import database, switches
from billing.operations import OPERATIONS, operation_of
from billing.schedules import SCHEDULES
from billing.scopes import KINDS, Place, known_scope, scopes_of
from billing.states import WorkState
from billing.tables.facts import Fact
from jobs.cli import switch_output
from jobs.road import housekeeping, ticks

PAGE = Path(__file__).parents[2] / "docs" / "operate" / "switches.md"


def capture(service: Service, currency: str = "USD") -> str:
    (intent,) = service.intents(currency=currency.lower())
    authorization = billing.Authorization(1999, currency, None)
    with database.transaction(service.engines["application"]) as session:
        amount = billing.Money(1999, currency)
        return billing.request_capture(
            session, payment_intent=intent, amount=amount, request_id=intent, authorization=authorization
        ).capture_id


def turns(service: Service) -> None:
    """Relay and workers have every opportunity to send."""
    for _ in range(2):
        service.relay.round()
        service.work_off()


@pytest.mark.parametrize(
    "scope", ["everything", "captures", "contract:take_capture", "queue:captures", "account:own", "currency:USD"]
)
def test_a_switch_of_every_kind_stops_what_stands_in_its_scope_until_it_is_released(
    run: Run, service: Service, scope: str
) -> None:
    stopped = capture(service)
    service.plan()
    receipt = run("switch", "pull", scope, "--reason", "INC-12", "--json").json
    assert receipt["stopped"] == {"operations": 1, "minor": {"USD": 1999}}
    turns(service)
    assert (service.work(stopped).state, service.posts("/capture")) == (WorkState.HELD, [])
    assert run("switch", "list", "--json").json[0]["stopped"] == receipt["stopped"]
    assert run("switch", "release", scope, "--reason", "mended").status == 0
    assert service.settle(stopped) == ["captured"]


@pytest.mark.parametrize("scope", ["invoices", "contract:issue_invoice", "queue:invoices", "currency:EUR"])
def test_a_switch_stops_nothing_that_stands_outside_of_its_scope(run: Run, service: Service, scope: str) -> None:
    free = capture(service)
    assert run("switch", "pull", scope, "--reason", "INC-12", "--json").json["stopped"] == {
        "operations": 0,
        "minor": {},
    }
    assert service.settle(free) == ["captured"]


@pytest.mark.parametrize("scope", ["contract:take_capture", "queue:captures", "currency:USD"])
def test_work_that_an_older_relay_planned_is_counted_and_stopped_and_stays_so(
    run: Run, service: Service, scope: str
) -> None:
    old = capture(service)
    service.plan()
    service.execute("UPDATE billing.work SET scopes = '{account:own,captures,everything}'")
    assert run("switch", "pull", scope, "--reason", "INC-12", "--json").json["stopped"]["operations"] == 1
    turns(service)
    assert (service.work(old).state, service.posts("/capture")) == (WorkState.HELD, [])
    run("switch", "release", scope, "--reason", "mended")
    assert service.settle(old) == ["captured"]


def test_a_pull_waits_for_a_worker_that_is_preparing_work_of_an_older_relay(service: Service) -> None:
    """That worker learns the currency only when it has loaded the operation, after it has locked its scopes."""
    with database.transaction(service.engines["worker"]) as captain:
        switches.lock_and_read_pulled(captain, ["account:own", "captures", "everything"])
        with pytest.raises(OperationalError) as refused:
            service.pull("currency:USD")
    assert isinstance(refused.value.orig, psycopg.errors.LockNotAvailable)
    service.pull("currency:USD")


def test_the_statement_counts_every_operation_in_the_scopes_that_python_gives_it(service: Service) -> None:
    """Scopes are written twice: in billing/scopes.py and in billing/switches.sql. A new kind of them is in both."""
    asked = [capture(service), capture(service, "EUR"), service.ask_for_invoice(), service.ask_for_void()]
    asked.append(service.ask_for_refund(service.captured_one()))
    sent = service.ask_for_invoice()
    assert service.settle(sent) == ["sent"]
    asked += [service.credit(sent, 100), service.act_on(sent, "void_invoice")]
    asked.append(ask_for_email(service, "cus_1"))
    asked += finalized(service)
    with database.transaction(service.engines["operator"]) as session:
        asked.append(ticks.ask_for(session, SCHEDULES[0], actor="anna").id)
    service.execute("UPDATE billing.captures SET account = 'acct_1' WHERE id = :id", id=asked[1])
    reckoned = "reckoned_minor = 4400, subtotal_minor = 5000, discount_minor = 1000, tax_minor = 400"
    service.execute(f"UPDATE billing.invoices SET {reckoned} WHERE id = :id", id=asked[2])
    service.plan()
    counted = {each.table for each in OPERATIONS.values() if each.scope is not None}
    assert counted == {operation_of(each).table for each in asked}, "a new kind is asked for here, too"
    for each in asked:
        work, row = service.work(each), service.row(operation_of(each).table, each)
        currency = getattr(row, "currency", None)
        mine = scopes_of(Place(operation_of(each), work.contract, work.queue, row.account, currency))
        every = {*mine, *(name for kind in KINDS for name in kind.names()), "account:acct_1", "account:acct_2"}
        service.execute("UPDATE billing.work SET state = CASE entity_id WHEN :id THEN 'held' ELSE 'done' END", id=each)
        with database.transaction(service.engines["operator"]) as session:
            found = switches.stopped(session, every)
        assert sorted(scope for scope, stopped in found.items() if stopped.operations) == mine
        amount = operation_of(each).amount
        minor = {currency: getattr(row, amount)} if amount is not None and currency is not None else {}
        assert all(found[scope].minor == minor for scope in mine)


def test_a_receipt_adds_up_the_money_of_each_currency(run: Run, service: Service) -> None:
    for currency in ("USD", "EUR", "EUR"):
        capture(service, currency)
    service.ask_for_invoice()
    service.plan()
    receipt = run("switch", "pull", "everything", "--reason", "INC-12")
    assert "4 operations are held, or will be before they are sent: 84.99 EUR, 19.99 USD\n" in receipt.out
    assert "billing switch release everything --reason" in receipt.out.splitlines()[-1]


def test_what_cannot_be_counted_in_time_does_not_keep_the_receipt_waiting(
    run: Run, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(switch_output, "COUNT_S", 1)
    monkeypatch.setitem(switches.SQL, "stopped", "SELECT pg_sleep(3600) WHERE %(scopes)s::text[] IS NOT NULL")
    receipt = run("switch", "pull", "captures", "--reason", "INC-12")
    assert (receipt.status, receipt.err) == (0, "")
    assert "could not be counted within" in receipt.out
    assert run("switch", "list", "--json").json[0]["stopped"] is None


def expire(service: Service) -> None:
    service.execute("UPDATE billing.switches SET expires_at = clock_timestamp() WHERE state = 'pulled'")


def releases(service: Service) -> list[tuple[str, str]]:
    with database.transaction(service.engine) as session:
        facts = session.scalars(select(Fact).where(Fact.topic == "switch.released").order_by(Fact.id)).all()
    return [(fact.actor, fact.payload["reason"]) for fact in facts]


def test_when_its_time_is_over_a_switch_stops_nothing_although_no_relay_runs(run: Run, service: Service) -> None:
    waiting = capture(service)
    service.plan()
    receipt = run("switch", "pull", "captures", "--reason", "INC-12", "--expires", "2h", "--json").json
    assert receipt["pulled_at"] < receipt["expires_at"]
    expire(service)
    assert run("switch", "list").out == "no switch is pulled\n"
    service.work_off()
    assert service.status(waiting).state == "captured"


def test_a_relay_records_once_that_a_switch_expired_and_held_work_goes_on(run: Run, service: Service) -> None:
    waiting = capture(service)
    service.plan()
    run("switch", "pull", "captures", "--reason", "INC-12", "--expires", "2h")
    turns(service)
    assert service.work(waiting).state == WorkState.HELD
    expire(service)
    relay = service.engines["relay"]
    with database.transaction(relay) as first, database.transaction(relay) as second:
        assert [switches.release_expired(session, 10) for session in (first, second)] == [1, 0]
    assert service.settle(waiting) == ["captured"]
    assert releases(service) == [("billing", "expired")]


def test_a_second_pull_makes_a_switch_last_longer_and_never_shorter(run: Run, service: Service) -> None:
    def pull(actor: str, *expires: str) -> tuple[str, str | None]:
        options = ("--actor", actor, "--reason", f"of {actor}", *expires, "--json")
        switch = run("switch", "pull", "captures", *options).json
        return switch["actor"], switch["expires_at"]

    first = pull("anna", "--expires", "1000d")
    assert first[0] == "anna"
    assert pull("bert", "--expires", "1h") == first
    longer = pull("carl", "--expires", "2000d")
    assert longer[0] == "carl"
    assert str(longer[1]) > str(first[1])
    assert pull("dora") == ("dora", None)
    assert pull("emil", "--expires", "2h") == ("dora", None)


def test_a_switch_that_expired_is_pulled_anew_before_any_relay_has_seen_it(run: Run, service: Service) -> None:
    run("switch", "pull", "captures", "--reason", "INC-12", "--expires", "2h")
    expire(service)
    anew = run("switch", "pull", "captures", "--reason", "INC-13", "--json").json
    assert (anew["reason"], anew["expires_at"], releases(service)) == ("INC-13", None, [("billing", "expired")])


def test_a_time_that_is_none_or_over_is_refused_and_nothing_is_pulled(run: Run, service: Service) -> None:
    for expires in ["0h", "2", "h", "-2h", "99999d", "yesterday", "2020-01-01", ""]:
        with case(expires):
            refused = run("switch", "pull", "captures", "--reason", "INC-12", f"--expires={expires}")
            assert (refused.status, refused.out) == (2, "")
            assert run("switch", "list").out == "no switch is pulled\n"


NO_SCOPES = ["nothing", "currency:EURO", "currency:", "queue:capture", "contract:probe_provider", "account:", "cap"]


def test_a_scope_that_does_not_exist_is_refused_with_those_that_do(run: Run, service: Service) -> None:
    for scope in NO_SCOPES:
        with case(scope):
            refused = run("switch", "pull", scope, "--reason", "INC-12")
            assert (refused.status, refused.out) == (2, "")
            assert run("switch", "list").out == "no switch is pulled\n"


def test_help_and_page_name_every_kind_of_scope(run: Run) -> None:
    listed = re.findall(r"^\| `(.+)` \|", PAGE.read_text(), re.MULTILINE)
    assert len(listed) == len(KINDS)
    told = " ".join(run("switch", "pull", "--help").out.split())
    for kind, on_page in zip(KINDS, listed, strict=True):
        assert kind.meaning in PAGE.read_text()
        for name in on_page.split("`, `"):
            assert known_scope(name.replace("...", "1"))
        assert kind.written.split(":")[0].split(",")[0] in told


def test_the_page_shows_what_the_commands_say(run: Run, service: Service) -> None:
    for _ in range(2):
        capture(service, "EUR")
    service.plan()
    blocks = re.findall(r"^```console\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    assert blocks
    for block in blocks:
        for shown in block.split("$ ")[1:]:
            command, _, answer = shown.partition("\n")
            ran = run(*shlex.split(command)[1:])
            with database.transaction(service.engines["relay"]) as session:
                housekeeping.hold(session)
            assert (ran.status, without_times(ran.out)) == (0, without_times(answer)), command


def without_times(text: str) -> list[str]:
    lines = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}", "TIME", text).splitlines()
    return [" ".join(line.split()) for line in lines if line.strip()]
