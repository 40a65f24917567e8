"""The demonstration ends well, notices what is wrong, and leaves nothing behind, however it ends."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from service import eventually

from jobs.demo.count import Asked, compare, compare_archived
from jobs.demo.shopping import CAPTURE_FAULTS
from jobs.demo.webhooks import disorder

DEMO = [sys.executable, "-m", "jobs.cli", "demo", "--captures", "40", "--invoices", "6"]
SERVERS = ("DATABASE_URL", "REDIS_URL", "STRIPE_API_BASE", "S3_ENDPOINT_URL")


@pytest.fixture
def place():
    """A temporary directory that is the demo's alone, so that nothing left there is missed."""
    # Not pytest's own: Postgres runs as another user when we are root, and must get there.
    directory = Path(tempfile.mkdtemp(prefix="demo-"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)


@pytest.fixture
def clean(place):
    """An environment without servers of anybody else, that leads to the place."""
    inherited = {name: value for name, value in os.environ.items() if name not in SERVERS}
    return {**inherited, "TMPDIR": str(place)}


@contextlib.contextmanager
def hearing_ctrl_c():
    """What is started in here hears SIGINT, also where a job runner started the tests in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def left(place: Path) -> list[object]:
    """Files in the place, and processes that know of it."""
    processes = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            known = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
            if os.fsencode(place) in known:
                processes.append(known[:200])
    return [*place.iterdir(), *processes]


def picture(place: Path) -> Path:
    return place / f"billing-demo-{os.getuid()}-captured.png"


def to_look_at(place: Path) -> set[Path]:
    """What a demo leaves: a picture, an invoice's document, and the page of its e-mail."""
    return {picture(place), *(place / f"billing-demo-{os.getuid()}-{name}" for name in ("invoice.pdf", "email.html"))}


def test_a_small_demo_finds_nothing_double_lost_or_stuck_and_leaves_nothing(clean, place):
    ran = subprocess.run([*DEMO, "--seed", "7", "--json"], env=clean, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    told = json.loads(ran.stdout)
    assert told["offences"] == []
    assert told["seed"] == 7
    assert told["invoices"] == {"sent": 6, "paid": 2}
    assert told["voids"] == {"voided": 1}
    assert told["refunds"] == {"succeeded": 3}
    assert sum(told["captures"].values()) == 40 + 5
    assert {"captured", "declined", "refused", "canceled"} == told["captures"].keys()
    assert told["asked"] == told["moved"] == told["archived"]
    assert told["archived_captures"] == told["captures"]["captured"]
    assert told["asked_back"] == told["moved_back"] == {"USD": 1500 + 2500}
    assert [read["retention_class"] for read in told["evidence"]] == ["capture"]
    assert {*CAPTURE_FAULTS, "hold_after", "hold_before"} <= told["faults"].keys()
    assert "kill -9" in ran.stderr
    assert "FLUSHALL" in ran.stderr
    # The worker that was killed was asked before, and took with it what it counted since.
    assert told["metrics"]["invoices_sent"] == 7
    assert told["metrics"]["captured"].keys() <= told["moved"].keys()
    assert told["metrics"]["captured"]
    assert "captures is pulled since" in ran.stderr
    assert "operations are held, or will be before they are sent: " in ran.stderr
    assert "captures is released; held work continues" in ran.stderr
    assert "nothing was changed; to do this and nothing else, write --approve plan_" in ran.stderr
    assert "is ready again, for cap_" in ran.stderr
    assert "the heads of " in ran.stderr
    assert ", signed with key " in ran.stderr
    assert "VERIFIED: nothing differs" in ran.stderr
    shown = ran.stderr.split("\n")
    for move in ("--remainder keep", "billing void ", "billing refund "):
        assert any(line.startswith("$ billing ") and move in line for line in shown), move
    assert re.search(r"ref_\w+: pending, since .*\n  next: ", ran.stderr)
    assert re.search(r"\$ billing status demo-\w+-seats\n  inv_\w+: paid", ran.stderr)
    webhooks = re.search(
        r"(\d+) webhooks to `billing serve` about (\d+) events: (\d+) came twice, and (\d+) af", ran.stderr
    )
    assert webhooks
    sent, events, twice, late = map(int, webhooks.groups())
    assert sent == events + twice
    assert twice >= 1
    assert late >= 2
    assert "  no difference is open" in shown
    assert "  PROVEN: every request has at most one effect at Stripe, every effect of ours has one request," in shown
    assert set(left(place)) == to_look_at(place)
    assert picture(place).read_bytes().startswith(b"\x89PNG")
    (document,) = place.glob("*.pdf")
    assert document.read_bytes().startswith(b"%PDF-")
    (page,) = place.glob("*.html")
    assert "Order 42, 3 seats" in page.read_text()


def test_money_taken_behind_the_services_back_is_found(clean, place):
    for earlier in to_look_at(place):
        earlier.write_text("of the demo before")
    ran = subprocess.run([*DEMO, "--cheat"], env=clean, capture_output=True, text=True, check=False)
    assert ran.returncode == 1, ran.stdout + ran.stderr
    assert "UNASKED pi_" in ran.stdout
    assert "1 difference." in ran.stdout
    assert not [each for each in to_look_at(place) if each.read_bytes() == b"of the demo before"]
    assert set(left(place)) == to_look_at(place)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
def test_a_demo_that_is_ended_leaves_nothing(clean, place, number):
    with hearing_ctrl_c():
        started = subprocess.Popen([*DEMO], env=clean, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    with started as demo:
        assert demo.stderr is not None
        for line in demo.stderr:
            if "cards are authorized" in line:
                break
        demo.send_signal(number)
        demo.stderr.read()
    assert demo.returncode != 0
    eventually(
        lambda: set(left(place)) <= to_look_at(place),
        lambda: f"nothing else is left of {place}, where there is {left(place)}",
    )


# The control: the count itself is wrong in no way that it would have to notice.


def test_webhooks_that_came_twice_or_after_a_newer_one_are_counted():
    made = ["evt_1", "evt_2", "evt_3"]
    assert disorder(made, made) == (0, 0)
    assert disorder(["evt_1", "evt_1", "evt_2"], made) == (1, 0)
    assert disorder(["evt_3", "evt_3", "evt_1", "evt_2"], made) == (1, 2)


CAPTURE = Asked("cap_1", "pi_1", 1999, "USD", "captured", "captured")
INVOICE = Asked("inv_1", "in_1", 4500, "EUR", "sent", "sent")
PARTS = [Asked(f"cap_{n}", "pi_7", 100 * n, "USD", "captured", "captured") for n in (7, 8)]
VOIDED = Asked("void_1", "pi_9", 0, "", "voided", "voided")
REFUND = Asked("ref_1", "re_1", 500, "USD", "succeeded", "succeeded")


def effect(kind: str, of: Asked, **changed: object) -> dict[str, object]:
    as_asked = {"id": of.provider_object, "amount": of.minor, "currency": of.currency.lower()}
    return {"kind": kind, **as_asked, "metadata": {"billing_operation": of.id}, **changed}


TAKEN = effect("capture", CAPTURE)
ISSUED = [effect(f"invoice.{kind}", INVOICE) for kind in ("created", "finalized", "sent")]
GIVEN = effect("refund", REFUND)
MOVED = [*(effect("capture", part) for part in PARTS), effect("payment_intent.canceled", VOIDED, metadata={}), GIVEN]
ALL = [CAPTURE, INVOICE, *PARTS, VOIDED, REFUND]


def test_two_counts_that_agree_differ_in_nothing():
    assert compare(ALL, [TAKEN, *ISSUED, *MOVED]) == []


@pytest.mark.parametrize(
    ("effects", "kind", "of"),
    [
        ([TAKEN, TAKEN, *ISSUED], "double", "cap_1"),
        ([*ISSUED], "lost", "cap_1"),
        ([effect("capture", CAPTURE, amount=1998), *ISSUED], "wrong", "cap_1"),
        ([effect("capture", CAPTURE, currency="eur"), *ISSUED], "wrong", "cap_1"),
        ([effect("capture", CAPTURE, metadata={}), *ISSUED], "wrong", "cap_1"),
        ([TAKEN, effect("capture", CAPTURE, id="pi_2"), *ISSUED], "unasked", "pi_2"),
        ([TAKEN, *ISSUED[:1]], "lost", "inv_1"),
        ([TAKEN, *ISSUED[:2]], "lost", "inv_1"),
        ([TAKEN, *ISSUED, effect("invoice.finalized", INVOICE, id="in_2")], "double", "inv_1"),
        ([TAKEN, *ISSUED, ISSUED[2]], "double", "in_1"),
        ([TAKEN, *ISSUED, effect("invoice.created", INVOICE, id="in_2")], "stuck", "in_2"),
        ([TAKEN, *ISSUED, effect("invoice.finalized", INVOICE, id="in_2", metadata={})], "unasked", "in_2"),
    ],
)
def test_one_doctored_effect_is_found(effects, kind, of):
    assert (kind, of) in {(offence.kind, offence.id) for offence in compare([CAPTURE, INVOICE], effects)}


@pytest.mark.parametrize(
    ("effects", "kind", "of"),
    [
        (MOVED[1:], "lost", "cap_7"),
        ([MOVED[0], *MOVED], "double", "cap_7"),
        ([effect("capture", PARTS[0], metadata={}), *MOVED], "unasked", "pi_7"),
        ([*MOVED[:2], GIVEN], "lost", "void_1"),
        ([MOVED[2], *MOVED], "double", "void_1"),
        (MOVED[:3], "lost", "ref_1"),
        ([GIVEN, *MOVED], "double", "ref_1"),
        ([*MOVED[:3], effect("refund", REFUND, amount=501)], "wrong", "ref_1"),
        ([effect("refund", REFUND, id="re_2", metadata={}), *MOVED], "unasked", "re_2"),
    ],
)
def test_one_doctored_effect_of_the_other_moves_is_found(effects, kind, of):
    assert (kind, of) in {(offence.kind, offence.id) for offence in compare([*PARTS, VOIDED, REFUND], effects)}


@pytest.mark.parametrize(
    ("state", "expected", "kind"),
    [("requested", "captured", "stuck"), ("refused", "captured", "lost"), ("captured", "declined", "lost")],
)
def test_a_wish_that_did_not_end_as_it_must_is_found(state, expected, kind):
    request = Asked("cap_1", "pi_1", 1999, "USD", state, expected)
    effects = [TAKEN] if state == "captured" else []
    assert kind in {offence.kind for offence in compare([request], effects)}


def test_evidence_that_adds_up_differs_in_nothing():
    assert compare_archived({"USD": 1999, "JPY": 5}, 2, {"USD": 1999, "JPY": 5}, 2) == []


@pytest.mark.parametrize(
    ("archived", "count", "kinds"),
    [
        ({"USD": 1999}, 1, ["lost", "wrong"]),
        ({"USD": 1998, "JPY": 5}, 2, ["wrong"]),
        ({"USD": 1999, "JPY": 5, "EUR": 1}, 3, ["lost", "wrong"]),
        ({}, 0, ["lost", "wrong", "wrong"]),
    ],
)
def test_evidence_that_does_not_add_up_is_found(archived, count, kinds):
    offences = compare_archived({"USD": 1999, "JPY": 5}, 2, archived, count)
    assert [offence.kind for offence in offences] == kinds
