"""Random requests, keys, faults and clock moves, each compared with a model that was written without the stand-in.

After every step: what really happened is what the model expects, no key has two effects within its day, replays are
the same to the byte, authorized = captured + released + held, and captured >= refunded. After every run: lists, the
ledger and the balance add up, and nobody has seen anything of anybody else's. The same machine finds each of the broken
stand-ins of `mutants.py`.

A short budget runs with the other tests, from a printed seed; BILLING_TEST_MACHINE_S=300 BILLING_TEST_SEED=7 goes on.
"""

import os
import sys
import time
from itertools import count
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test
from machine import Machine
from mutants import MUTANTS

SECONDS = float(os.environ.get("BILLING_TEST_MACHINE_S", "0"))
SEED = int(os.environ.get("BILLING_TEST_SEED", "20261125"))
EXAMPLES, STEPS = 60, 30


def search(url, first_seed, examples=EXAMPLES, phases=(Phase.generate, Phase.shrink)):
    """Run the machine against the stand-in at `url`; raises what it finds."""
    machine = seed(first_seed)(type("Machine", (Machine,), {"url": url}))
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=STEPS,
            deadline=None,
            database=None,
            phases=phases,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_every_answer_is_as_the_model_expects(url):
    end = time.monotonic() + SECONDS
    for n in count():
        print(f"seed {SEED + n}")
        search(url, SEED + n)
        if time.monotonic() >= end:
            break


@pytest.mark.parametrize("mutant", MUTANTS)
def test_the_machine_finds_what_is_broken(start, mutant):
    program = [sys.executable, str(Path(__file__).with_name("mutants.py")), mutant]
    with start(program=program) as (url, _), pytest.raises(AssertionError):
        search(url, SEED, 200, [Phase.generate])
