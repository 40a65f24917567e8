"""A proof finds every seeded violation in three exports, and none on clean payments; it needs nothing but the files."""

import json
import random
import subprocess
import sys
from collections.abc import Callable
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from archive.errors import BadExport
from archive.proving import exports
from archive.proving.exports import ARCHIVE, OURS, STRIPE, Header
from archive.proving.kinds import asked_at
from archive.proving.proof import RULES, Proof, prove
from billing import ids

NOON = datetime.now(UTC).replace(microsecond=0)
SINCE = NOON - timedelta(days=30)
SEED = 20261130
Lines = dict[str, list[dict[str, Any]]]


def payments(count: int, rng: random.Random) -> Lines:
    """Clean ones: captures of one or two parts, invoices, declines, some in doubt, some young, and others' effects."""
    lines: Lines = {OURS: [], STRIPE: [], ARCHIVE: []}
    for number in range(count):
        kind = "invoice" if number % 10 == 0 else "capture"
        object_ = f"{'in' if kind == 'invoice' else 'pi'}_{number}"
        account = rng.choice([None, None, None, "acct_1"])
        parts = 2 if kind == "capture" and number % 25 == 1 else 1
        says = rng.choices(["done", "none", "open"], [97, 2, 1])[0]
        currency, received, last = rng.choice(["USD", "EUR", "JPY"]), 0, ""
        for part in range(1, parts + 1):
            minor, last = rng.randint(50, 99_999), ids.new(kind[:3])
            received += minor
            young = rng.random() < 0.01
            ended = NOON - timedelta(seconds=rng.randint(1, 30) if young else rng.randint(300, 2_000_000))
            batch = (None if rng.random() < 0.5 else 99) if young else rng.randint(0, 12)
            line = {
                "kind": kind,
                "id": last,
                "account": account,
                "object": object_,
                "part": part,
                "minor": minor,
                "currency": currency,
                "state": {"done": "captured", "none": "declined", "open": "requested"}[says],
                "says": says,
                "ended": ended.isoformat(),
                "batch": batch if says == "done" else None,
            }
            lines[OURS].append(line)
            if says == "done" and batch is not None and batch <= 12:
                told = {"kind": kind, "id": last, "minor": minor, "currency": currency, "asked": asked_at(last)}
                lines[ARCHIVE].append(told)
        if says == "done" or (says == "open" and rng.random() < 0.5):
            lines[STRIPE].append(effect(kind, object_, received, currency, last, account))
        if kind == "capture" and says == "done" and not young and number % 7 == 0:
            give_back(lines, rng, object_, received, currency, account)
        if number % 50 == 2:
            lines[STRIPE].append(effect("capture", f"pi_other_{number}", 100, "USD", None, None))
    invoice(lines, rng)
    return lines


def invoice(lines: Lines, rng: random.Random) -> None:
    """Every fifth capture that took money is on an invoice, by up to three of one account and currency."""
    taken = [each for each in lines[OURS] if each["kind"] == "capture" and each["says"] == "done"][::5]
    by = sorted(taken, key=lambda each: (each["account"] or "", each["currency"]))
    for _, same in groupby(by, key=lambda each: (each["account"], each["currency"])):
        left = list(same)
        while left:
            size = rng.randint(1, 3)
            mine, left = left[:size], left[size:]
            id_, object_ = ids.new("inv"), f"in_of_{mine[0]['id']}"
            total, account, currency = sum(each["minor"] for each in mine), mine[0]["account"], mine[0]["currency"]
            line = {
                "kind": "invoice",
                "id": id_,
                "account": account,
                "object": object_,
                "part": 1,
                "minor": total,
                "currency": currency,
                "state": "paid",
                "says": "done",
                "batch": 12,
                "ended": (NOON - timedelta(hours=1)).isoformat(),
            }
            lines[OURS].append(line)
            lines[OURS] += [place(id_, position, each) for position, each in enumerate(mine)]
            told = {"kind": "invoice", "id": id_, "minor": total, "currency": currency, "asked": asked_at(id_)}
            lines[ARCHIVE].append(told)
            lines[ARCHIVE] += [told_of(each) for each in lines[OURS][-len(mine) :]]
            paid = {"state": "paid", "asks": 0, "off_stripe": total}
            lines[STRIPE].append({**effect("invoice", object_, total, currency, id_, account), **paid})


def place(invoice: str, position: int, capture: dict[str, Any]) -> dict[str, Any]:
    minor, currency = capture["minor"], capture["currency"]
    return {
        "invoice": invoice,
        "position": position,
        "capture": capture["id"],
        "minor": minor,
        "currency": currency,
        "account": capture["account"],
        "state": "captured",
        "taken": minor,
        "taken_in": currency,
        "line_of": capture["id"],
        "line_minor": minor,
        "batch": 12,
    }


def told_of(place: dict[str, Any]) -> dict[str, Any]:
    same = {name: place[name] for name in ("invoice", "minor", "currency")}
    return {**same, "told_of": place["capture"], "line": place["position"], "asked": asked_at(place["invoice"])}


def give_back(lines: Lines, rng: random.Random, intent: str, received: int, currency: str, account: str | None) -> None:
    """Two parts of it: the second may fail after its success, and then Stripe shows it no more."""
    for part in (1, 2):
        minor, id_, failed = rng.randint(1, received // 2), ids.new("ref"), part == 2 and rng.random() < 0.3
        line = {
            "kind": "refund",
            "id": id_,
            "account": account,
            "object": f"re_{intent}_{part}",
            "part": 1,
            "minor": minor,
            "currency": currency,
            "state": "failed" if failed else "succeeded",
            "says": "undone" if failed else "done",
            "batch": None if failed else rng.randint(0, 12),
            "ended": (NOON - timedelta(hours=1)).isoformat(),
        }
        lines[OURS].append(line)
        told = {"kind": "refund", "id": id_, "minor": minor, "currency": currency, "asked": asked_at(id_)}
        lines[ARCHIVE].append(told)
        if not failed:
            lines[STRIPE].append(effect("refund", f"re_{intent}_{part}", minor, currency, id_, account, of=intent))


def effect(
    kind: str,
    object_: str,
    minor: int,
    currency: str,
    operation: str | None,
    account: str | None,
    of: str | None = None,
) -> dict[str, Any]:
    return {
        "account": account,
        "kind": kind,
        "object": object_,
        "of": of,
        "minor": minor,
        "currency": currency,
        "livemode": None if kind == "refund" else False,
        "state": "succeeded",
        "operation": operation,
        "asked": asked_at(operation),
    }


def write(directory: Path, lines: Lines, **changes: Any) -> list[Path]:
    times = {ARCHIVE: NOON - timedelta(seconds=60), STRIPE: NOON - timedelta(seconds=30), OURS: NOON}
    written = []
    for name, at in times.items():
        heads = dict.fromkeys(("capture", "invoice", "refund"), 12) if name == ARCHIVE else {}
        header = Header(name, "test", False, SINCE, at, at, heads=heads)
        path = directory / f"{name}.jsonl"
        exports.write(path, header, lines[name], lambda at=at: at)  # type: ignore[misc]
        written.append(path)
    return written


def proven(directory: Path, lines: Lines) -> Proof:
    return prove(write(directory, lines))


@pytest.fixture(scope="module")
def clean() -> Lines:
    print(f"seed {SEED}")
    return payments(10_000, random.Random(SEED))


def test_on_ten_thousand_clean_payments_nothing_is_violated(clean: Lines, tmp_path: Path):
    proof = proven(tmp_path, clean)
    assert proof.broken == {}
    assert proof.holds
    assert {(total.kind, total.currency) for total in proof.totals} >= {("capture", "USD"), ("invoice", "JPY")}
    done = [line for line in clean[OURS] if line.get("says") == "done"]
    assert sum(total.requests for total in proof.totals) == len(done)
    assert sum(total.minor for total in proof.totals) == sum(line["minor"] for line in done)
    assert all(total.compared == total.stripe > 0 for total in proof.totals)
    assert proof.others == 200
    assert sum(proof.open.values()) == sum(line.get("says") == "open" for line in clean[OURS])
    assert all(proof.young)
    assert proof.invoiced == sum("position" in line for line in clean[OURS]) > 1000


def old(lines: Lines, name: str, **which: Any) -> dict[str, Any]:
    """The first line of that export that is so; of ours, one that is old enough for both others."""
    wanted = {"kind": "capture", **which}
    twice = {each["object"] for each in lines[OURS] if each.get("part") == 2}
    placed = {each["capture"] for each in lines[OURS] if "position" in each}
    for line in lines[name]:
        young = name == OURS and line.get("says") == "done" and (line["batch"] is None or line["batch"] > 12)
        if line.get("id") in placed or young or line.get("object") in twice:
            continue
        if all(line.get(key) == wanted[key] for key in wanted):
            return line
    raise AssertionError(which)


def of(lines: Lines, name: str, ours: dict[str, Any]) -> dict[str, Any]:
    key = "id" if name == ARCHIVE else "object"
    return next(line for line in lines[name] if line.get(key) == ours[key])


def forgotten(lines: Lines) -> None:
    ours = old(lines, OURS, says="done")
    lines[OURS].remove(ours)


def taken_twice(lines: Lines) -> None:
    ours = old(lines, OURS, says="done")
    lines[STRIPE].append({**of(lines, STRIPE, ours), "object": "pi_again"})


def claimed_twice(lines: Lines) -> None:
    ours = old(lines, OURS, says="done")
    lines[OURS].append({**ours, "id": ids.new("cap"), "batch": None})


def not_taken(lines: Lines) -> None:
    lines[STRIPE].remove(of(lines, STRIPE, old(lines, OURS, says="done")))


def taken_after_a_decline(lines: Lines) -> None:
    ours = old(lines, OURS, says="none")
    lines[STRIPE].append(effect("capture", ours["object"], ours["minor"], ours["currency"], ours["id"], None))


def another_amount(lines: Lines) -> None:
    of(lines, STRIPE, old(lines, OURS, says="done"))["minor"] += 1


def one_of_two_parts(lines: Lines) -> None:
    second = next(each for each in lines[OURS] if each.get("part") == 2 and each["says"] == "done" and each["batch"])
    of(lines, STRIPE, second)["minor"] -= second["minor"]


def given_back_by_hand(lines: Lines) -> None:
    refund = old(lines, STRIPE, kind="refund")
    taken = next(each for each in lines[STRIPE] if each["object"] == refund["of"])
    lines[STRIPE].append({**refund, "object": "re_by_hand", "minor": taken["minor"], "operation": None, "asked": None})


def another_currency(lines: Lines) -> None:
    of(lines, STRIPE, old(lines, OURS, says="done", currency="USD"))["currency"] = "EUR"


def another_account(lines: Lines) -> None:
    of(lines, STRIPE, old(lines, OURS, says="done", account=None))["account"] = "acct_9"


def live_mode(lines: Lines) -> None:
    of(lines, STRIPE, old(lines, OURS, says="done"))["livemode"] = True


def not_archived(lines: Lines) -> None:
    lines[ARCHIVE].remove(of(lines, ARCHIVE, old(lines, OURS, says="done")))


def archived_without(lines: Lines) -> None:
    new = ids.new("cap")
    lines[ARCHIVE].append({"kind": "capture", "id": new, "minor": 1, "currency": "USD", "asked": asked_at(new)})


def archived_though_declined(lines: Lines) -> None:
    ours = old(lines, OURS, says="none")
    lines[ARCHIVE].append({**{key: ours[key] for key in ("kind", "id", "minor", "currency")}, "asked": None})


def archived_twice(lines: Lines) -> None:
    lines[ARCHIVE].append(dict(of(lines, ARCHIVE, old(lines, OURS, says="done"))))


def archived_otherwise(lines: Lines) -> None:
    of(lines, ARCHIVE, old(lines, OURS, says="done"))["minor"] -= 1


def a_place(lines: Lines) -> dict[str, Any]:
    return next(each for each in lines[OURS] if "position" in each)


def its_invoice(lines: Lines, name: str = OURS) -> dict[str, Any]:
    mine = next(each for each in lines[OURS] if each.get("id") == a_place(lines)["invoice"])
    return mine if name == OURS else of(lines, name, mine)


def invoiced_though_declined(lines: Lines) -> None:
    a_place(lines)["state"] = "declined"


def invoiced_more_than_was_taken(lines: Lines) -> None:
    a_place(lines)["taken"] -= 1


def invoiced_in_another_account(lines: Lines) -> None:
    a_place(lines)["account"] = "acct_9"


def invoiced_on_two(lines: Lines) -> None:
    other = next(each for each in lines[OURS] if "position" in each and each["invoice"] != a_place(lines)["invoice"])
    lines[OURS].append({**a_place(lines), "invoice": other["invoice"], "position": 100})


def on_no_line(lines: Lines) -> None:
    """Of an invoice with several: what stands on its line is another's."""
    invoices = [each["invoice"] for each in lines[OURS] if "position" in each]
    several = next(each for each in invoices if invoices.count(each) > 1)
    place = next(each for each in lines[OURS] if each.get("invoice") == several)
    place |= {"line_of": None, "line_minor": None}


def a_line_of_no_capture(lines: Lines) -> None:
    a_place(lines).update(dict.fromkeys(("capture", "minor", "currency", "account", "state", "taken", "taken_in")))


def more_than_its_captures(lines: Lines) -> None:
    its_invoice(lines)["minor"] += 1


def in_the_currency_of_another(lines: Lines) -> None:
    place = a_place(lines)
    place["currency"] = place["taken_in"] = "GBP"


def asks_again(lines: Lines) -> None:
    its_invoice(lines, STRIPE).update(state="open", asks=its_invoice(lines)["minor"], off_stripe=0)


def paid_by_a_card_too(lines: Lines) -> None:
    its_invoice(lines, STRIPE)["off_stripe"] = 0


def paid_by_a_balance(lines: Lines) -> None:
    its_invoice(lines, STRIPE)["off_stripe"] -= 1


def voided_with_captures_on_it(lines: Lines) -> None:
    its_invoice(lines).update(state="voided", says="open")
    its_invoice(lines, STRIPE)["state"] = "void"


def placed_and_not_archived(lines: Lines) -> None:
    capture = a_place(lines)["capture"]
    lines[ARCHIVE] = [each for each in lines[ARCHIVE] if each.get("told_of") != capture]


def placed_otherwise_in_the_archive(lines: Lines) -> None:
    of_it = next(each for each in lines[ARCHIVE] if each.get("told_of") == a_place(lines)["capture"])
    of_it["invoice"] = next(each["id"] for each in lines[OURS] if each.get("kind") == "invoice")


def placed_in_the_archive_alone(lines: Lines) -> None:
    place = a_place(lines)
    new = {"told_of": ids.new("cap"), "invoice": ids.new("inv"), "line": 0, "minor": 1, "currency": "USD"}
    lines[ARCHIVE].append({**new, "asked": asked_at(place["invoice"])})


VIOLATIONS: dict[Callable[[Lines], None], str] = {
    forgotten: "effect_without_request",
    taken_twice: "two_effects",
    claimed_twice: "two_requests",
    not_taken: "no_effect",
    taken_after_a_decline: "effect_of_what_failed",
    another_amount: "amount",
    one_of_two_parts: "amount",
    given_back_by_hand: "refunded_more",
    another_currency: "currency",
    another_account: "account",
    live_mode: "mode",
    not_archived: "not_archived",
    archived_without: "archived_without_request",
    archived_though_declined: "archived_without_request",
    archived_twice: "archived_twice",
    archived_otherwise: "archived_otherwise",
    invoiced_though_declined: "invoiced_not_taken",
    invoiced_more_than_was_taken: "invoiced_not_taken",
    invoiced_in_another_account: "invoiced_not_taken",
    invoiced_on_two: "invoiced_twice",
    on_no_line: "invoiced_otherwise",
    a_line_of_no_capture: "invoiced_otherwise",
    more_than_its_captures: "invoiced_total",
    in_the_currency_of_another: "invoiced_total",
    asks_again: "not_marked_paid",
    paid_by_a_card_too: "not_marked_paid",
    paid_by_a_balance: "not_marked_paid",
    voided_with_captures_on_it: "not_marked_paid",
    placed_and_not_archived: "invoiced_not_archived",
    placed_otherwise_in_the_archive: "invoiced_archived_otherwise",
    placed_in_the_archive_alone: "invoiced_archived_otherwise",
}


@pytest.mark.parametrize("violation", VIOLATIONS, ids=lambda each: each.__name__)
def test_each_seeded_violation_is_found_by_its_rule_and_names_the_id(
    violation: Callable[[Lines], None], tmp_path: Path
):
    lines = payments(300, random.Random(SEED))
    before = deepcopy(lines)
    assert proven(tmp_path, lines).holds
    violation(lines)
    assert lines != before
    broken = proven(tmp_path, lines).broken
    assert VIOLATIONS[violation] in broken
    assert broken[VIOLATIONS[violation]].count >= 1


def test_every_rule_has_a_seeded_violation_but_the_totals_which_follow():
    assert {*VIOLATIONS.values(), "totals"} == set(RULES)


def test_an_invoice_that_a_restore_made_again_has_lines_that_name_no_capture(tmp_path: Path):
    lines = payments(300, random.Random(SEED))
    for each in lines[OURS]:
        if "position" in each:
            each.update(line_of=None, line_minor=None)
    assert proven(tmp_path, lines).holds


def test_exports_of_an_older_version_say_nothing_of_captures_on_invoices(tmp_path: Path):
    lines = payments(300, random.Random(SEED))
    for name in lines:
        lines[name] = [
            {key: value for key, value in each.items() if key not in ("asks", "off_stripe")}
            for each in lines[name]
            if "kind" in each
        ]
    proof = proven(tmp_path, lines)
    assert (proof.holds, proof.invoiced) == (True, 0)


def test_what_is_before_the_time_that_is_exported_is_nobodys_violation(tmp_path: Path):
    lines = payments(50, random.Random(SEED))
    earlier = f"cap_{int((SINCE - timedelta(days=1)).timestamp() * 1000):012x}{0:020x}"
    lines[STRIPE].append(effect("capture", "pi_earlier", 100, "USD", earlier, None))
    lines[ARCHIVE].append({"kind": "capture", "id": earlier, "minor": 1, "currency": "USD", "asked": asked_at(earlier)})
    assert proven(tmp_path, lines).holds


def test_it_is_proven_without_network_database_and_settings(tmp_path: Path):
    files = write(tmp_path, payments(50, random.Random(SEED)))
    program = (
        "import socket, sys\n"
        "def refuse(*given, **more): raise AssertionError('it opened a socket')\n"
        "socket.socket.connect = socket.socket.connect_ex = refuse\n"
        "sys.argv = ['billing', 'prove', *sys.argv[1:]]\n"
        "from jobs.cli import main; main()"
    )
    command = [sys.executable, "-c", program, *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True, env={"PATH": "/usr/bin"}, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("PROVEN: ")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda text: text.rpartition("\n{")[0] + "\n", "has no end: it was not written to its end"),
        (lambda text: "\n".join([*text.split("\n")[:5], *text.split("\n")[6:]]), "lines, and its end says"),
        (lambda _text: "", "is empty"),
        (lambda _text: "a,b\n1,2\n", "line 1 is no JSON object"),
        (lambda text: text.replace('"form":1', '"form":2', 1), "has form 2, and this version reads form 1"),
        (lambda text: text.replace('"export":"ours"', '"export":"theirs"', 1), "is no export"),
        (lambda text: text.replace('"environment":"test"', '"environment":"prod"', 1), "is of environment prod"),
        (lambda text: text.replace('"minor":', '"minor":"much","was":', 1), "has a line that does not fit"),
        (lambda text: text.replace('"begun":"2', '"begun":"1', 1), "was begun before the export of"),
        (lambda text: text.replace('"since":', '"until":', 1), "lacks something: KeyError"),
        (lambda text: "x" * 20_000 + text, "line 1 has more than 10,000 bytes"),
    ],
)
def test_a_file_that_is_not_whole_or_does_not_fit_is_refused_by_name(
    spoil: Callable[[str], str], said: str, tmp_path: Path
):
    *others, ours = write(tmp_path, payments(30, random.Random(SEED)))
    ours.write_text(spoil(ours.read_text()))
    with pytest.raises(BadExport) as raised:
        prove([*others, ours])
    assert str(ours) in str(raised.value)
    assert said in str(raised.value)


def test_two_exports_of_one_side_are_no_three(tmp_path: Path):
    ours, *_ = write(tmp_path, payments(10, random.Random(SEED)))
    again = tmp_path / "again.jsonl"
    again.write_bytes(ours.read_bytes())
    with pytest.raises(BadExport, match="there is no export of ours"):
        prove([ours, again, tmp_path / "stripe.jsonl"])


def test_an_export_that_dies_leaves_the_one_before_it(tmp_path: Path):
    (path, *_) = write(tmp_path, payments(10, random.Random(SEED)))
    before = path.read_bytes()

    def dies() -> Any:
        yield {"kind": "capture"}
        raise RuntimeError

    with pytest.raises(RuntimeError):
        exports.write(path, Header(OURS, "test", False, SINCE, NOON, NOON), dies(), lambda: NOON)
    assert path.read_bytes() == before
    assert json.loads(before.split(b"\n", 1)[0])["export"] == ARCHIVE
    assert sorted(each.name for each in tmp_path.iterdir()) == [f"{name}.jsonl" for name in (ARCHIVE, OURS, STRIPE)]
