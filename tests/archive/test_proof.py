"""A proof finds every seeded violation in three exports, and none on clean payments; it needs nothing but the files."""

import json
import random
import subprocess
import sys
from collections.abc import Callable
from copy import deepcopy
from datetime import UTC, datetime, timedelta
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
    return lines


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
    done = [line for line in clean[OURS] if line["says"] == "done"]
    assert sum(total.requests for total in proof.totals) == len(done)
    assert sum(total.minor for total in proof.totals) == sum(line["minor"] for line in done)
    assert all(total.compared == total.stripe > 0 for total in proof.totals)
    assert proof.others == 200
    assert sum(proof.open.values()) == sum(line["says"] == "open" for line in clean[OURS])
    assert all(proof.young)


def old(lines: Lines, name: str, **which: Any) -> dict[str, Any]:
    """The first line of that export that is so; of ours, one that is old enough for both others."""
    wanted = {"kind": "capture", **which}
    twice = {each["object"] for each in lines[OURS] if each["part"] == 2}
    for line in lines[name]:
        young = name == OURS and line["says"] == "done" and (line["batch"] is None or line["batch"] > 12)
        if not young and line.get("object") not in twice and all(line[key] == wanted[key] for key in wanted):
            return line
    raise AssertionError(which)


def of(lines: Lines, name: str, ours: dict[str, Any]) -> dict[str, Any]:
    key = "id" if name == ARCHIVE else "object"
    return next(line for line in lines[name] if line[key] == ours[key])


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
    second = next(each for each in lines[OURS] if each["part"] == 2 and each["says"] == "done" and each["batch"])
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
