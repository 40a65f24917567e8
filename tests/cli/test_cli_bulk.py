"""`billing capture --from-file`: every row is checked before one is asked for, and each is asked for once."""

import csv
import io
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from bulk_process import Bulk, files_closed
from service import Service, eventually
from sqlalchemy import text

import billing
from billing import database
from billing.errors import BulkReused, BulkTaken, TooBusy
from billing.tables.entities import Capture, Invoice
from jobs.bulk import checking
from jobs.bulk.errors import FileChanged
from jobs.bulk.room import Room
from jobs.local.forked import Forked

__all__ = ["files_closed"]

Rows = Sequence[tuple[object, ...]]
WHY = ("--reason", "OPS-7", "--actor", "grace")


@pytest.fixture
def orders(tmp_path: Path) -> Callable[..., str]:
    """Write a file of these rows; returns its path."""

    def write(rows: Rows, header: str = "payment_intent,amount,currency,request_id", name: str = "orders.csv") -> str:
        path = tmp_path / name
        path.write_text("\n".join([header, *(",".join(map(str, row)) for row in rows)]) + "\n")
        return str(path)

    return write


def row(number: int, amount: object = 1999, currency: str = "USD") -> tuple[object, ...]:
    return f"pi_{number}", amount, currency, f"order-{number}"


def asked(service: Service) -> list[tuple[str, int, str]]:
    """What captures were asked for: request id, amount, actor."""
    with database.transaction(service.engine) as session:
        query = (
            "SELECT c.request_id, c.amount_minor, f.actor FROM billing.captures AS c JOIN billing.facts AS f"
            " ON f.entity_id = c.id AND f.topic = 'capture.requested' ORDER BY length(c.request_id), c.request_id"
        )
        return [tuple(each) for each in session.execute(text(query))]  # type: ignore[misc]


def listed(run: Any) -> list[dict[str, Any]]:
    return run("audit", "--json").json  # type: ignore[no-any-return]


# Asking.


def test_every_row_of_a_file_is_asked_for_once_and_workers_carry_it_out(run, service, orders):
    intents = service.intents(3)
    path = orders([(intent, 1999, "USD") for intent in intents], "payment_intent,amount,currency")
    ran = run("capture", "--from-file", path, *WHY)
    assert ran.status == 0, ran.err
    assert "3 captures to ask for, 59.97 USD" in ran.out
    (bulk,) = run("bulks", "--json").json
    assert f"{bulk['id']}: 3 newly asked for, 0 asked for before, 0 refused" in ran.out
    names = [f"{bulk['id']}:{line}" for line in (2, 3, 4)]
    assert asked(service) == [(name, 1999, "grace") for name in names]
    with database.transaction(service.engine) as session:
        ids = session.scalars(text("SELECT id FROM billing.captures")).all()
    assert service.settle(*ids) == ["captured"] * 3
    assert run("status", names[0], "--json").json["state"] == "captured"


def test_the_same_file_again_asks_for_nothing_and_says_when_it_was_done(run, service, orders):
    path = orders([row(1), row(2)])
    assert run("capture", "--from-file", path, *WHY).status == 0
    again = run("capture", "--from-file", path, *WHY)
    assert again.status == 0, again.err
    assert "begun by grace" in again.out
    assert "was done" in again.out
    assert len(asked(service)) == 2
    assert [each["command"] for each in listed(run)] == ["capture"]


def test_it_is_recorded_with_who_why_and_how_many_before_and_after_it(run, service, orders):
    run("capture", "--from-file", orders([row(1), row(2)]), "--bulk-id", "june", *WHY)
    (told,) = listed(run)
    assert (told["actor"], told["command"], told["about"]) == ("grace", "capture", "june")
    assert (told["count"], told["reason"], told["outcome"]) == (2, "OPS-7", "done")
    (bulk,) = run("bulks", "--json").json
    assert (bulk["id"], bulk["rows"], bulk["asked"], bulk["actor"], bulk["reason"]) == ("june", 2, 2, "grace", "OPS-7")
    assert "june" in run("bulks").out


def test_what_an_application_asked_for_before_is_counted_and_not_asked_again(run, service, orders):
    with database.transaction(service.engine) as session:
        billing.request_capture(session, payment_intent="pi_1", amount=billing.Money(1999, "USD"), request_id="order-1")
    told = run("capture", "--from-file", orders([row(1), row(2)]), *WHY, "--json").json
    assert (told["new"], told["asked_before"], told["totals"]) == (1, 1, {"USD": 1999})
    assert (told["progress"]["asked"], told["progress"]["asked_before"]) == (1, 1)
    assert len(asked(service)) == 2


def test_standard_input_and_json_lines_are_files_too(run, service, monkeypatch):
    content = b'{"payment_intent": "pi_1", "amount": 1999, "currency": "USD", "request_id": "order-1"}\n'
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(content), isatty=lambda: False))
    ran = run("capture", "--from-file", "-", *WHY)
    assert ran.status == 0, ran.err
    assert "standard input: 1 capture to ask for" in ran.out
    assert asked(service) == [("order-1", 1999, "grace")]


def test_a_row_may_name_another_account_than_the_setting(run, service, orders, monkeypatch):
    monkeypatch.setenv("BILLING_STRIPE_ACCOUNT", "acct_1")
    path = orders([("pi_1", "19.99 USD", ""), ("pi_2", "19.99 USD", "acct_2")], "payment_intent,amount,account")
    assert run("capture", "--from-file", path, *WHY).status == 0
    with database.transaction(service.engine) as session:
        accounts = session.scalars(text("SELECT account FROM billing.captures ORDER BY account")).all()
    assert accounts == ["acct_1", "acct_2"]


# Checking.


def bad_rows() -> Rows:
    return [
        row(1),
        row(2, "1.999"),
        ("ch_3", 1999, "USD", "order-3"),
        row(4, 1999, "USDD"),
        ("pi_5", 1999, "USD", "two words"),
        row(6),
    ]


PROBLEMS = [(3, "amount"), (4, "payment_intent"), (5, "currency"), (6, "request_id")]


def test_all_bad_rows_are_named_and_nothing_is_asked_for(run, service, orders, tmp_path):
    path = orders(bad_rows())
    ran = run("capture", "--from-file", path, "--errors", str(tmp_path / "bad.csv"), *WHY)
    assert ran.status == 1
    for line, column in PROBLEMS:
        assert f"line {line}, {column}: " in ran.err
    assert "nothing was asked for; correct them, or leave them out with --skip-bad" in ran.err
    with (tmp_path / "bad.csv").open(newline="") as file:
        header, *written = csv.reader(file)
    assert header == ["line", "column", "problem"]
    assert sorted((int(line), column) for line, column, _ in written) == PROBLEMS
    assert asked(service) == []
    assert run("bulks", "--json").json == []
    assert listed(run) == []


def test_as_json_the_problems_are_data(run, orders):
    ran = run("capture", "--from-file", orders(bad_rows()), *WHY, "--json")
    assert ran.status == 1
    told = ran.json
    assert sorted((each["line"], each["column"]) for each in told["problems"]) == PROBLEMS
    assert (told["new"], told["bad"], told["problems_left_out"], told["progress"]) == (2, 4, 0, None)


def test_with_skip_bad_the_others_are_asked_for(run, service, orders):
    ran = run("capture", "--from-file", orders(bad_rows()), "--skip-bad", *WHY)
    assert ran.status == 1
    assert "2 newly asked for, 0 asked for before, 0 refused, 4 bad rows left out" in ran.out
    assert [name for name, *_ in asked(service)] == ["order-1", "order-6"]


def test_more_problems_than_fit_on_the_screen_are_counted(run, orders):
    ran = run("capture", "--from-file", orders([row(number, "x") for number in range(30)]), *WHY)
    assert ran.err.count("line ") == 20
    assert "and 10 more; --errors FILE writes all" in ran.err


def test_rows_that_repeat_each_other_are_bad_all_of_them(run, service, orders):
    path = orders([row(1), row(2), row(1, 5), ("pi_2", 7, "USD", "order-3"), row(4, 500, "JPY")])
    told = run("capture", "--from-file", path, "--skip-bad", *WHY, "--json").json
    assert {(each["line"], each["column"]): each["why"] for each in told["problems"]} == {
        (2, "request_id"): "stands in another line again",
        (4, "request_id"): "is that of line 2, too",
        (2, "payment_intent"): "stands in another line again",
        (4, "payment_intent"): "is that of line 2, too",
        (3, "payment_intent"): "stands in another line again",
        (5, "payment_intent"): "is that of line 3, too",
    }
    assert told["totals"] == {"JPY": 500}
    assert asked(service) == [("order-4", 500, "grace")]


def test_what_the_database_will_refuse_is_a_bad_row_before_anything_is_asked_for(run, service, orders):
    with database.transaction(service.engine) as session:
        for number in (1, 2):
            billing.request_capture(
                session, payment_intent=f"pi_{number}", amount=billing.Money(5, "USD"), request_id=f"order-{number}"
            )
    ran = run("capture", "--from-file", orders([row(1), ("pi_2", 5, "USD", "order-9"), row(3)]), *WHY)
    assert ran.status == 1
    assert "line 2: request id 'order-1' was first used with other parameters" in ran.err
    assert "line 3: the authorization pi_2 already belongs to " in ran.err
    assert len(asked(service)) == 2


def test_a_dry_run_prints_totals_by_currency_and_changes_nothing(run, service, orders):
    path = orders([row(1), row(2), row(3, 500, "JPY")])
    ran = run("capture", "--from-file", path, "--dry-run")
    assert ran.status == 0, ran.err
    assert "3 captures to ask for, 500 JPY, 39.98 USD" in ran.out
    assert "nothing was asked for; without --dry-run this is bulk bulk_" in ran.out
    assert asked(service) == []
    assert run("bulks").out == "no file was asked for yet\n"
    assert listed(run) == []


def test_many_rows_need_their_number_or_their_total_repeated(run, service, orders):
    path = orders([row(number, 100) for number in range(100)])
    for confirm in ((), ("--confirm", "99"), ("--confirm", "100.00 EUR")):
        ran = run("capture", "--from-file", path, *WHY, *confirm)
        assert ran.status == 1
        assert "repeat the command with --confirm 100, or --confirm '100.00 USD'" in ran.err
    assert asked(service) == []
    assert run("capture", "--from-file", path, *WHY, "--confirm", "100.00 USD").status == 0
    assert len(asked(service)) == 100


def test_on_a_terminal_the_number_is_asked_for(run, service, orders, monkeypatch):
    path = orders([row(number, 100) for number in range(100)])
    terminal = io.StringIO("100\n")
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stdin", terminal)
    ran = run("capture", "--from-file", path, *WHY)
    assert ran.status == 0, ran.err
    assert "This asks for 100 rows. Type their number to go on:" in ran.err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--from-file", "nowhere.csv", "--reason", "x"), "billing capture: --from-file nowhere.csv: No such file"),
        (("--from-file", ".", "--reason", "x"), "billing capture: --from-file .: Is a directory"),
        (("--from-file", "x"), "billing capture: --reason is missing; it says why"),
        (("--from-file", "x", "--reason", "y", "--wait"), "--wait has no meaning beside --from-file"),
        (("--from-file", "x", "--reason", "y", "--currency", "USD"), "--currency has no meaning beside --from-file"),
        (("--skip-bad", "--payment-intent", "pi_1"), "--from-file is missing; the other options for files need it"),
    ],
)
def test_what_is_typed_wrongly_is_said_in_one_line(run, arguments, told):
    ran = run("capture", *arguments)
    assert ran.status == 2
    (line,) = ran.err.splitlines()
    assert told in line


def test_a_file_that_is_no_list_of_requests_is_refused_in_one_line(run, orders, tmp_path):
    ran = run("capture", "--from-file", orders([("pi_1", 5)], "payment_intent,amuont"), *WHY)
    assert (ran.status, ran.out) == (2, "")
    assert ran.err.startswith("billing: line 1 must name the columns, and has no column amount")
    ran = run("capture", "--from-file", orders([]), *WHY)
    assert ran.err == "billing: the file has a header and no rows\n"
    path = orders([row(1)])
    ran = run("capture", "--from-file", path, "--errors", path, *WHY)
    assert "--errors would be written over the file that is read" in ran.err
    assert Path(path).read_text()
    ran = run("capture", "--from-file", path, "--bulk-id", "june:1", *WHY)
    assert ran.err == "billing: --bulk-id must be without a colon, which separates it from the line in request ids\n"


# Continuing.


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checking, "BATCH", 3)


def test_a_command_that_is_killed_again_and_again_asks_for_every_row_once(service, orders, run):
    rows, killed = 1600, 0
    path = orders([row(number) for number in range(rows)])
    arguments = ("capture", "--from-file", path, "--bulk-id", "june", "--confirm", str(rows), *WHY)

    def progress() -> int:
        with database.transaction(service.engine) as session:
            return session.scalar(text("SELECT done_upto FROM billing.bulks")) or 0

    with tempfile.TemporaryFile() as output:
        for _ in range(2):
            before, process = progress(), Forked(arguments, os.environ, output.fileno())
            eventually(lambda: process.poll() is not None or progress() > before, "it goes on")  # noqa: B023
            process.kill()
            process.wait()
            killed += 0 < progress() < rows + 1
            assert len(asked(service)) == run("bulks", "--json").json[0]["asked"]
    assert killed
    ran = run(*arguments)
    assert ran.status == 0, ran.err
    names = [name for name, *_ in asked(service)]
    assert (len(names), len(set(names))) == (rows, rows)
    (bulk,) = run("bulks", "--json").json
    assert (bulk["asked"], bulk["asked_before"], bulk["refused"]) == (rows, 0, 0)


@pytest.mark.usefixtures("small_batches")
def test_two_processes_with_the_same_file_ask_once_and_the_second_is_told(service, orders):
    path = orders([row(number) for number in range(8)])
    first, second = Bulk(service, path), Bulk(service, path)
    of_first, of_second = first.check(), second.check()
    begun = first.begin(of_first)
    again = second.begin(of_second)

    def overtaken(_: int) -> None:
        if len(asked(service)) == 3:
            second.carry_out(of_second, second.begun() or again)

    with pytest.raises(BulkTaken, match="is carried on by another process"):
        first.carry_out(of_first, begun, overtaken)
    assert [name for name, *_ in asked(service)] == [f"order-{number}" for number in range(8)]


def test_a_file_that_changes_before_it_was_checked_to_its_end_is_refused(service, orders):
    bulk = Bulk(service, orders([row(1)]))
    orders([row(2)])
    with pytest.raises(FileChanged):
        bulk.check()
    assert asked(service) == []


@pytest.mark.usefixtures("small_batches")
def test_a_file_that_changes_after_it_was_checked_is_found_before_the_change_is_asked_for(service, orders):
    path = orders([row(number) for number in range(8)])
    bulk = Bulk(service, path)
    checked = bulk.check()
    content = Path(path).read_text()
    Path(path).write_text(content.replace("pi_5,1999", "pi_5,9999"))
    with pytest.raises(FileChanged, match="changed after it was checked, at line 7"):
        bulk.carry_out(checked, bulk.begin(checked))
    assert asked(service) == [(f"order-{number}", 1999, "grace") for number in range(3)]
    # Cut off, and grown.
    for other in (content[:-40], content + "pi_9,1999,USD,order-9\n"):
        Path(path).write_text(other)
        with pytest.raises(FileChanged):
            bulk.carry_out(checked, bulk.begun() or bulk.begin(checked))
    assert all(amount == 1999 for _, amount, _ in asked(service))
    assert len(asked(service)) < 9


def test_a_row_that_is_refused_after_it_was_checked_is_counted_and_named(service, orders):
    bulk = Bulk(service, orders([row(1), row(2)]))
    checked = bulk.check()
    service.execute(
        "INSERT INTO billing.captures (id, request_id, payment_intent, amount_minor, currency)"
        " VALUES ('cap_1', 'another', 'pi_2', 5, 'USD')"
    )
    done = bulk.carry_out(checked, bulk.begin(checked))
    assert (done.asked, done.refused) == (1, 1)
    ((line, why),) = [(each.line, each.why) for each in bulk.problems.kept]
    assert line == 3
    assert why.startswith("the authorization pi_2 already belongs to ")
    assert "cap_1" in why


def test_an_id_stays_with_its_file_and_a_file_with_its_id(run, service, orders, monkeypatch):
    one, other = orders([row(1)], name="one.csv"), orders([row(2)], name="other.csv")
    assert run("capture", "--from-file", one, "--bulk-id", "june", *WHY).status == 0
    for arguments, why in (
        ((other, "--bulk-id", "june"), "billing: bulk 'june': it was begun with another one (file: first sha256"),
        ((one, "--bulk-id", "july"), "billing: bulk 'july': this file is the bulk june, begun by grace; continue it"),
        ((one,), "this file is the bulk june, begun by grace; continue it under that id"),
    ):
        ran = run("capture", "--from-file", *arguments, *WHY)
        assert ran.status == 2
        assert why in ran.err
    monkeypatch.setenv("BILLING_STRIPE_ACCOUNT", "acct_1")
    ran = run("capture", "--from-file", one, "--bulk-id", "june", *WHY)
    assert "account: first our own, now acct_1" in ran.err
    assert len(asked(service)) == 1


def test_two_who_begin_the_same_file_under_two_ids_at_once_begin_one(service, orders):
    path = orders([row(1)])
    june, july = Bulk(service, path), Bulk(service, path, bulk="july")
    of_june, of_july = june.check(), july.check()
    june.begin(of_june)
    with pytest.raises(BulkReused, match="this file is the bulk june"):
        july.begin(of_july)


# Admission.


def write_load(service: Service, waiting: int) -> None:
    service.execute(
        "INSERT INTO billing.queue_loads (queue, measured_at, waiting, lag_s, started, starts_per_s)"
        " VALUES ('captures', clock_timestamp(), :waiting, 0, 0, 1)"
        " ON CONFLICT (queue) DO UPDATE SET waiting = excluded.waiting, measured_at = excluded.measured_at",
        waiting=waiting,
    )


def test_a_bulk_waits_until_its_queue_has_room_or_stops_where_it_is(run, service, orders):
    write_load(service, waiting=299)
    path = orders([row(1), row(2)])
    ran = run("capture", "--from-file", path, "--no-wait", *WHY)
    assert ran.status == 2
    assert "0 of 2 rows are done; the same command again goes on from there" in ran.err
    assert "captures has no room for 2 more requests" in ran.err
    assert [each["outcome"] for each in listed(run)] == ["failed"]
    write_load(service, waiting=298)
    assert run("capture", "--from-file", path, "--no-wait", *WHY).status == 0
    assert len(asked(service)) == 2


def test_who_waits_is_told_and_goes_on_by_himself(service):
    write_load(service, waiting=300)
    told: list[TooBusy] = []
    paused: list[float] = []

    def sleep(seconds: float) -> None:
        paused.append(seconds)
        write_load(service, waiting=300 - 150 * len(paused))

    room = Room(partial(in_a_transaction, service), "captures", told.append, sleep)
    room.wait_for(200)
    assert [busy.waiting for busy in told] == [300, 150]
    assert len(paused) == 2
    # What nobody has measured yet is counted; and what never has room waits for an empty queue.
    write_load(service, waiting=0)
    room.wait_for(50)
    impatient = Room(partial(in_a_transaction, service), "captures", None)
    impatient.wait_for(1000)
    with pytest.raises(TooBusy):
        impatient.wait_for(1)


def in_a_transaction(service: Service, step: Any) -> Any:
    with database.transaction(service.engine) as session:
        return step(session)


def test_an_interrupted_command_says_how_far_it_came(run, orders, monkeypatch):
    monkeypatch.setattr(checking, "BATCH", 1)
    calls = iter(range(10))

    def interrupted(_: Any, count: int) -> None:
        if next(calls) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(Room, "wait_for", interrupted)
    path = orders([row(number) for number in range(4)])
    ran = run("capture", "--from-file", path, "--bulk-id", "june", *WHY)
    assert ran.status != 0
    assert "june: 2 of 4 rows are done; the same command again goes on from there" in ran.err
    assert "NOT DONE, at line 3" in run("bulks").out


def test_a_file_of_voids_is_asked_for_in_the_same_way(run, service, orders):
    intents = service.intents(2)
    path = orders([(intent, "requested_by_customer") for intent in intents], "payment_intent,reason")
    ran = run("void", "--from-file", path, "--bulk-id", "june", *WHY)
    assert ran.status == 0, ran.err
    assert "2 voids to ask for" in ran.out
    with database.transaction(service.engine) as session:
        ids = session.scalars(text("SELECT id FROM billing.voids")).all()
    assert service.settle(*ids) == ["voided"] * 2
    # The authorization is gone, and a reason that Stripe does not have is a bad row.
    path = orders([(intents[0], "abandoned"), ("pi_9", "weather")], "payment_intent,reason", name="more.csv")
    told = run("void", "--from-file", path, *WHY, "--json").json
    assert [(each["line"], each["column"]) for each in told["problems"]] == [(2, ""), (3, "reason")]


def test_a_file_of_refunds_gives_amounts_back_and_all_that_is_left(run, service, orders):
    first, second = service.captured_one(), service.captured_one()
    charge, columns = service.row(Capture, second).charge, "capture,charge,amount,reason,request_id"
    rows = [(first, "", "5.00 USD", "duplicate", "return-1"), (first, "", "", "", ""), ("", charge, "", "", "")]
    path = orders(rows, columns)
    dry = run("refund", "--from-file", path, "--dry-run")
    assert dry.status == 0, dry.err
    assert "3 refunds to ask for, 39.98 USD" in dry.out
    assert "2 rows of them without an amount: all that is left, as it is now" in dry.out
    assert [service.row(Capture, each).refunds_minor for each in (first, second)] == [0, 0]
    ran = run("refund", "--from-file", path, "--bulk-id", "june", *WHY)
    assert ran.status == 0, ran.err
    with database.transaction(service.engine) as session:
        made = session.execute(text("SELECT id, request_id, amount_minor FROM billing.refunds ORDER BY id")).all()
    assert [each[1:] for each in made] == [("return-1", 500), ("june:3", 1499), ("june:4", 1999)]
    assert service.settle(*(each.id for each in made)) == ["succeeded"] * 3
    # What is done is left out where it is asked for with the same parameters; nothing is left for the others.
    told = run("refund", "--from-file", orders(rows[:2], columns, "more.csv"), *WHY, "--json").json
    assert (told["asked_before"], told["totals"]) == (1, {})
    ((line, why),) = [(each["line"], each["why"]) for each in told["problems"]]
    assert (line, "nothing is left of it" in why) == (3, True)


def test_a_file_of_refunds_names_invoices_and_all_are_given_back_by_the_payments_that_paid_them(run, service, orders):
    invoices = [service.paid_invoice() for _ in range(2)]
    rows = [(invoices[0], 500, "EUR", "back-1"), (invoices[0], "", "", "back-2"), (invoices[1], 700, "EUR", "back-3")]
    path = orders(rows, "invoice,amount,currency,request_id")
    dry = run("refund", "--from-file", path, "--dry-run")
    assert dry.status == 0, dry.err
    assert [service.row(Invoice, each).returned_minor for each in invoices] == [0, 0]
    ran = run("refund", "--from-file", path, "--bulk-id", "june", *WHY)
    assert ran.status == 0, ran.err
    with database.transaction(service.engine) as session:
        made = session.execute(
            text("SELECT id, request_id, amount_minor FROM billing.refunds ORDER BY request_id")
        ).all()
    assert [(each.request_id, each.amount_minor) for each in made] == [
        ("back-1", 500),
        ("back-2", 4001),
        ("back-3", 700),
    ]
    assert service.settle(*(each.id for each in made)) == ["succeeded"] * 3
    assert [service.row(Invoice, each).returned_minor for each in invoices] == [4501, 700]
    too_much = orders(
        [(invoices[1], 3802, "EUR", "back-4"), ("inv_1", 1, "EUR", "back-5")], "invoice,amount,currency,request_id"
    )
    told = run("refund", "--from-file", too_much, "--dry-run", "--json").json
    assert [each["line"] for each in told["problems"]] == [2, 3]
    assert "more than is left" in told["problems"][0]["why"] or "are left of it" in told["problems"][0]["why"]


def test_refunds_of_a_file_that_are_more_than_is_left_together_are_bad_rows(run, service, orders):
    capture = service.captured_one()
    rows = [(capture, "10.00 USD", "a"), (capture, "10.00 USD", "b"), (capture, "", ""), (capture, "", "")]
    told = run("refund", "--from-file", orders(rows, "capture,amount,request_id"), "--dry-run", "--json").json
    assert [(each["line"], each["column"]) for each in told["problems"]] == [
        *((3, ""), (5, "")),  # more than is left, after the rows before them
        *((4, "capture"), (5, "capture")),  # all that is left, twice
    ]
    assert (told["new"], told["totals"]) == (1, {"USD": 1000})
