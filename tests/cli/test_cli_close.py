"""`billing close`: what stands in the way is said first, and the books of a closed month are always the same bytes."""

import hashlib
import json
import re
import shlex
import zipfile
from pathlib import Path

import pytest
from compared import reconcile
from service import Service
from sqlalchemy import text

from archive.format import sealed
from archive.signing.ed25519 import Ed25519Signer, new_private_key
from archive.signing.public_key import PublicKey
from jobs.cli import output

MONTH = "SELECT to_char(max(happened_at) AT TIME ZONE 'UTC', 'YYYY-MM') FROM billing.facts"
BEFORE = "UPDATE billing.facts SET happened_at = happened_at - interval '2 months' WHERE batch_no IS NULL"


@pytest.fixture
def month(service: Service, made: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """A month in which a capture was taken and an invoice sent; not archived yet."""
    monkeypatch.chdir(tmp_path)
    assert service.settle(service.ask_for_capture(), service.ask_for_invoice()) == ["captured", "sent"]
    service.plan()
    service.execute(BEFORE)
    with service.engine.connect() as connection:
        return connection.execute(text(MONTH)).scalar_one()


def contents(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as bundle:
        return {name.rpartition("/")[2]: bundle.read(name) for name in bundle.namelist()}


def test_a_month_is_looked_at_closed_and_shown_again_with_the_same_bytes(run, service, month, tmp_path):
    refused = run("close", month, "--reason", "a test")
    assert refused.status == 1
    assert f"{month} is not closed" in refused.out
    assert "in the way: " in refused.out
    assert "billing archive run --once" in refused.out
    assert run("archive", "run", "--once").status == 0
    draft = run("close", month, "--dry-run")
    assert (draft.status, draft.out.splitlines()) == (
        0,
        [
            f"{month} is not closed",
            "captured: 19.99 USD",
            "Postgres and the archive agree",
            f"written: books-{month}-draft.zip",
        ],
    )
    closed = run("close", month, "--reason", "a test", "--actor", "marie", "--json").json
    assert (closed["closed"], closed["closed_by"], closed["captured"]) == (True, "marie", {"USD": 1999})
    first = (tmp_path / f"books-{month}.zip").read_bytes()
    # What happens later changes nothing, nor does it need a reason to look again.
    service.settle(service.ask_for_capture(), service.ask_for_capture())
    service.plan()
    assert run("archive", "run", "--once").status == 0
    again = run("close", month, "--into", str(tmp_path))
    assert (again.status, (tmp_path / f"books-{month}.zip").read_bytes() == first) == (0, True), again
    assert [(each["command"], each["about"], each["actor"]) for each in run("audit", "--json").json][:1] == [
        ("close", month, "marie")
    ]


def test_the_books_hold_every_part_and_name_each_file_by_its_digest(run, month, tmp_path):
    assert run("archive", "run", "--once").status == 0
    assert run("close", month, "--reason", "a test").status == 0
    files = contents(tmp_path / f"books-{month}.zip")
    books = json.loads(files.pop("books.json"))
    assert books["files"] == {name: hashlib.sha256(body).hexdigest() for name, body in files.items()}
    assert {f"{part['query']}.csv" for part in books["parts"]} | {"report.html", "report.pdf"} == files.keys()
    assert (books["captured"], books["observed"]["differences"]) == ({"USD": 1999}, [])
    assert files["report.pdf"].startswith(b"%PDF-")
    page = files["report.html"].decode()
    for part in books["parts"]:
        assert part["heading"] in page
    assert "19.99" in page
    assert next(part["rows"] for part in books["parts"] if part["query"] == "completeness") == []


def test_what_is_archived_later_is_in_no_book_of_a_month_that_is_closed(run, service, month, tmp_path):
    """The proofs look at the whole archive, and at that of then: a fact that is missing later changes no old book."""
    assert run("archive", "run", "--once").status == 0
    assert run("close", month, "--reason", "a test").status == 0
    first = (tmp_path / f"books-{month}.zip").read_bytes()
    (capture,) = [service.ask_for_capture()]
    service.settle(capture)
    service.plan()
    service.execute("UPDATE billing.facts SET entity_version = entity_version + 10 WHERE entity_id = :id", id=capture)
    assert run("archive", "run", "--once").status == 0
    assert run("archive", "query", "completeness", "--json").json["rows"] != []
    assert run("close", month).status == 0
    assert (tmp_path / f"books-{month}.zip").read_bytes() == first


def test_a_month_whose_facts_were_changed_is_not_closed(run, service, month):
    assert run("archive", "run", "--once").status == 0
    service.execute("UPDATE billing.facts SET payload = payload || '{\"minor\": 5}' WHERE topic = 'capture.captured'")
    refused = run("close", month, "--reason", "a test")
    assert refused.status == 1
    assert "in the way: it differs from the archive: capture batch 1" in refused.out
    assert "Postgres and the archive differ in 1 batch" in refused.out
    assert run("close", month, "--dry-run", "--json").json["closed"] is False


def test_the_page_for_controllers_shows_what_the_command_prints(run, month):
    """docs/finance/closing.md: each command is taken from the page, and printed is what stands below it."""
    assert run("archive", "run", "--once").status == 0
    page = (Path(__file__).parents[2] / "docs" / "finance" / "closing.md").read_text()
    blocks = re.findall(r"```console\n\$ billing (.*?)\n(.*?)```", page, re.DOTALL)
    assert len(blocks) == 2
    for command, shown in blocks:
        ran = run(*shlex.split(command.replace("2026-10", month)))
        assert ran.status == 0, ran
        time = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}")
        assert time.sub("TIME", ran.out).replace(month, "2026-10") == time.sub("TIME", shown)


def test_the_books_are_signed_if_there_is_a_key(run, month, monkeypatch, tmp_path):
    key = new_private_key()
    (tmp_path / "key.pem").write_text(key)
    monkeypatch.setenv("BILLING_SIGNING_KEY", f"file:{tmp_path / 'key.pem'}")
    assert run("archive", "run", "--once").status == 0
    assert run("close", month, "--reason", "a test").status == 0
    document = contents(tmp_path / f"books-{month}.zip")["books.json"]
    books, signature = sealed.read(document)
    assert (books["period"], signature is not None) == (month, True)
    assert PublicKey.read(Ed25519Signer.read(key).pem).made(signature, sealed.line(books))


def test_the_books_show_stripe_s_own_totals_if_the_month_was_reconciled(run, service, month, tmp_path):
    """As they were when it was closed: what is refunded later changes no book."""
    assert run("archive", "run", "--once").status == 0
    reconcile(service)
    service.execute("UPDATE billing.stripe_records SET created_at = created_at - interval '2 months'")
    closed = run("close", month, "--reason", "a test")
    assert "Stripe's own records: Compared until " in closed.out
    first = contents(tmp_path / f"books-{month}.zip")
    stripe = json.loads(first["books.json"])["observed"]["stripe"]
    assert (stripe["captured"], stripe["open"]) == ({"USD": 1999}, {})
    assert stripe["captured"]["USD"] - stripe["fees"]["USD"] == stripe["net"]["USD"]
    page = first["report.html"].decode()
    assert "Reconciled with Stripe" in page
    assert "no difference is open" in page
    service.execute("UPDATE billing.captures SET amount_minor = 5")
    reconcile(service)
    assert run("close", month).status == 0
    assert contents(tmp_path / f"books-{month}.zip") == first


def test_without_a_reason_or_with_a_wrong_month_nothing_is_written(run, month, tmp_path):
    for arguments, says in (
        (["2026-1"], "write it as 2026-10"),
        ([month], f"{month} is not closed; --reason closes it"),
    ):
        ran = run("close", *arguments)
        assert ran.status == 2
        assert says in ran.err
    assert not list(tmp_path.glob("*.zip"))


def test_a_directory_that_cannot_be_written_is_named(run, month):
    """Before the month is closed: afterwards it would be, and the status would say that nothing was changed."""
    assert run("archive", "run", "--once").status == 0
    ran = run("close", month, "--reason", "a test", "--into", "/nowhere/at/all")
    assert (ran.status, "--into /nowhere/at/all" in ran.err) == (2, True)
    assert run("close", month, "--dry-run", "--json").json["closed"] is False


def test_its_progress_is_told_every_few_seconds(monkeypatch, capsys):
    clock = iter(range(0, 100, 4))
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    progress = output.every_few_seconds()
    for done in range(3):
        progress(f"{done} of 3 batches compared")
    assert capsys.readouterr().err == "1 of 3 batches compared\n"
