"""A process that dies at any boundary of any move, and one that dies as it goes on: one effect, nothing lost or stuck.

docs/failures.md says how many deaths these are. `make chaos` goes through all of them; other runs go through those of
the moves that change something, and through some of all else.
"""

import pytest
from deaths import MOVES, Move, every_death, every_pair, some
from document_deaths import document
from enumerated import ALL, SEED, documented
from keeping import archive_bucket, store
from service import Service

__all__ = ["archive_bucket", "store"]

SOME_DEATHS, SOME_PAIRS = 4, 1


@pytest.fixture(params=[*MOVES, document], ids=lambda move: getattr(move, "name", "document").replace(" ", "-"))
def move(request: pytest.FixtureRequest) -> Move:
    """Each of them; a bucket is made for that which needs one."""
    if isinstance(request.param, Move):
        return request.param
    found: Move = request.param(request.getfixturevalue("store"))
    return found


def test_a_process_that_dies_anywhere_in_a_move_is_followed_by_one_that_does_it_once(
    service: Service, move: Move
) -> None:
    """[1, 2, 3, 21, 31, 54, 66, 70, 76, 190]"""
    complete = ALL or move.path
    died = list(every_death(service, move) if complete else some(service, move, SOME_DEATHS, deaths=1))
    print(f"{move.name}: {len(died)} deaths, seed {SEED}: {', '.join(death for (death,) in died)}")
    assert len(died) >= (documented(move.name)[0] if complete else SOME_DEATHS)


def test_a_process_that_dies_in_the_recovery_from_a_death_is_followed_by_one_that_does_it_once(
    service: Service, move: Move
) -> None:
    """[2, 3, 54]"""
    died = list(every_pair(service, move) if ALL else some(service, move, SOME_PAIRS, deaths=2))
    print(f"{move.name}: {len(died)} pairs of deaths, seed {SEED}")
    assert len(died) >= (documented(move.name)[1] if ALL else SOME_PAIRS)
