"""Runs slips against the quick suites, one at a time, and prints those that nothing finds."""

import argparse
import difflib
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from bench.mutants.rules import RULES
from bench.mutants.slips import Slip, slips

ROOT = Path(__file__).parents[2]
ROAD = "jobs/road/"
# A slip in the mapped tables changes no table: migrations create them.
NOT_ASKED = ("billing/tables/", "billing/migrations/")
SUITES = (
    "tests/protocol",
    "tests/test_closed_world.py",
    "tests/test_cards.py",
    "tests/face",
    "tests/gateway",
    "tests/attacks",
)
"""From the quickest to the slowest: the first test that fails ends the run. RQ's tests are left
out: they wait for timeouts, and on a busy machine they would fail without the slip.
"""
_LEFT_BEHIND = shutil.ignore_patterns(".venv", ".git", "__pycache__", ".*_cache", ".hypothesis")
PATIENCE_S = 25
"""What a slip has broken is waited for in vain. The suites must pass with this patience, without a slip."""
OUTPUT = "output-of-the-tests.txt"
TRIES = 3
SURVIVED, FOUND, TOO_LONG, UNSURE = "SURVIVED", "found", "too long", "unsure"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.mutants", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="which slips are chosen")
    parser.add_argument("--count", type=int, default=50, help="how many")
    parser.add_argument("--only", default="", metavar="PATTERN", help="of the files whose path fits, of any package")
    parser.add_argument("--suites", nargs="+", default=SUITES, metavar="PATH", help="what is asked")
    parser.add_argument("--list", action="store_true", help="show what would be run, and run nothing")
    parser.add_argument("--rules", action="store_true", help="break the rules of the moves instead, each once")
    asked = parser.parse_args()
    if asked.rules:
        chosen = {rule.broken(ROOT): rule.tests.split() for rule in RULES if re.search(asked.only, rule.path)}
        print(f"{len(chosen)} of {len(RULES)} rules", flush=True)
    else:
        known = [slip for path in _files(asked.only) for slip in slips(ROOT, path)]
        chosen = dict.fromkeys(choose(known, asked.seed, asked.count), asked.suites)
        print(f"seed {asked.seed}: {len(chosen)} of {len(known)} slips", flush=True)
    if asked.list:
        for slip in chosen:
            print(shown(slip))
        return
    # With SIGTERM it ends the processes that it has started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with tempfile.TemporaryDirectory(prefix="mutants-") as directory:
        copy = Path(shutil.copytree(ROOT, Path(directory) / "checkout", ignore=_LEFT_BEHIND))
        report(run(copy, chosen))


def _files(only: str) -> list[str]:
    """All slips of billing and jobs/road; with `only`, those of any package."""
    packages = ("billing", "archive", "jobs") if only else ("billing", ROAD)
    files = [path for package in packages for path in (ROOT / package).rglob("*") if path.suffix in (".py", ".sql")]
    found = {path.relative_to(ROOT).as_posix() for path in files}
    return sorted(path for path in found if re.search(only, path) and not path.startswith(NOT_ASKED))


def choose(known: Iterable[Slip], seed: int, count: int) -> list[Slip]:
    """`count` slips, taken from each kind in turn: there are 500 slips in arguments for each one in an ORDER BY."""
    rng = random.Random(seed)  # noqa: S311 - a choice that can be repeated
    kinds: dict[str, list[Slip]] = {}
    for slip in known:
        kinds.setdefault(slip.kind, []).append(slip)
    for of_kind in kinds.values():
        rng.shuffle(of_kind)
    chosen: list[Slip] = []
    while len(chosen) < count and any(kinds.values()):
        chosen += [of_kind.pop() for of_kind in kinds.values() if of_kind]
    return chosen[:count]


def run(copy: Path, chosen: Mapping[Slip, Sequence[str]]) -> list[tuple[Slip, str]]:
    """Run each slip against its suites, and return it with its result. Ends the program if the tests fail without a
    slip."""
    suites = list(dict.fromkeys(suite for of_slip in chosen.values() for suite in of_slip))
    began = time.monotonic()
    if _tests(copy, suites, limit_s=3600) != SURVIVED:
        output = (copy / OUTPUT).read_text(encoding="utf-8", errors="replace")
        sys.exit(f"{output[-5000:]}\nthese suites fail without any slip, so they can show nothing")
    whole_s = time.monotonic() - began
    print(f"without a slip they take {whole_s:.0f} s", flush=True)
    results = []
    for n, (slip, of_slip) in enumerate(chosen.items(), start=1):
        source = (copy / slip.path).read_bytes()
        (copy / slip.path).write_bytes(slip.put_into(source))
        began = time.monotonic()
        # A slip may make a test wait forever. On a busy machine a run may take three times as long as the first.
        result = _tests(copy, of_slip, limit_s=60 + 3 * whole_s)
        (copy / slip.path).write_bytes(source)
        results.append((slip, result))
        took_s = time.monotonic() - began
        print(f"{n:4} {result:8} {took_s:5.0f} s  {slip.path}:{slip.line} {slip.kind}", flush=True)
    return results


def _tests(copy: Path, suites: Sequence[str], limit_s: float) -> str:
    """Run the failed test again: on a busy machine a test may fail without a slip."""
    for _ in range(TRIES):
        result = _run(copy, suites, limit_s)
        if result != FOUND or _run(copy, [*suites, "--last-failed"], limit_s) == FOUND:
            return result
    return UNSURE


def _run(copy: Path, arguments: Sequence[str], limit_s: float) -> str:
    # No compiled files: Python takes one for up to date if its source has the same time and size.
    path = os.pathsep.join(map(str, (copy, copy / "stripe_standin" / "src")))
    own = {"PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1", "BILLING_TEST_PATIENCE_S": str(PATIENCE_S)}
    environment = {**os.environ, **own}
    program = [sys.executable, "-m", "pytest", "-x", "-q", *arguments]
    # A session of its own, so that the limit ends this run and all processes that it has started.
    with (copy / OUTPUT).open("wb") as output:
        tests = subprocess.Popen(  # noqa: S603
            program, cwd=copy, env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        return FOUND if tests.wait(limit_s) else SURVIVED
    except subprocess.TimeoutExpired:
        return TOO_LONG
    finally:
        if tests.poll() is None:
            os.killpg(tests.pid, signal.SIGKILL)
            tests.wait()


def report(results: Sequence[tuple[Slip, str]]) -> None:
    for slip, result in results:
        if result == SURVIVED:
            print(f"\nNothing finds:\n{shown(slip)}")
    kinds = Counter((slip.kind, result) for slip, result in results)
    wide = max([20, *(len(slip.kind) for slip, _ in results)])
    columns = (FOUND, TOO_LONG, UNSURE, SURVIVED)
    print(f"\n{'kind':{wide}}" + "".join(f" {each:>8}" for each in columns))
    for kind in sorted({slip.kind for slip, _ in results}):
        print(f"{kind:{wide}}" + "".join(f" {kinds[kind, result]:8}" for result in columns))
    totals = Counter(result for _, result in results)
    print(f"{'all':{wide}}" + "".join(f" {totals[result]:8}" for result in columns))


def shown(slip: Slip) -> str:
    """Where it is, and the lines that differ."""
    changed = difflib.ndiff(slip.before.splitlines(), slip.after.splitlines())
    return "\n".join([f"{slip.path}:{slip.line}  {slip.kind}", *(f"  {line}" for line in changed if line[0] in "-+")])


if __name__ == "__main__":
    main()
