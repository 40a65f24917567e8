"""How many rows are taken at once is found out: half after too many, twice once that fits."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from billing.batch_limit import BatchLimit


def changes(limit: BatchLimit, fits: int, transactions: int) -> list[int]:
    """The sizes that so many transactions go through, where no more than `fits` rows ever fit."""
    sizes = [limit.rows]
    for _ in range(transactions):
        if limit.rows > fits:
            limit.halve()
        else:
            limit.fit()
        if limit.rows != sizes[-1]:
            sizes.append(limit.rows)
    return sizes


def test_it_begins_with_the_most_and_halves_until_it_fits():
    assert changes(BatchLimit(1000, needed=10**6), fits=100, transactions=20) == [1000, 500, 250, 125, 62]


def test_a_single_row_is_never_halved():
    limit = BatchLimit(3)
    sizes = []
    for _ in range(3):
        limit.halve()
        sizes.append(limit.rows)
    assert sizes == [1, 1, 1]


def test_after_one_that_fits_it_takes_twice_as_many_up_to_the_most():
    limit = BatchLimit(10)
    limit.rows = 1
    assert changes(limit, fits=10, transactions=9) == [1, 2, 4, 8, 10]


def test_it_waits_for_as_many_in_a_row_as_are_needed():
    limit = BatchLimit(4, needed=3, needed_most=3)
    limit.halve()
    assert [limit.fit() for _ in range(2)] == [False, False]
    limit.halve()
    assert [limit.fit() for _ in range(3)] == [False, False, True]
    assert limit.rows == 2


def test_where_more_never_fits_it_is_tried_ever_more_rarely_but_never_given_up():
    limit = BatchLimit(16, needed=2, needed_most=8)
    limit.rows = 8
    tries = []
    for transaction in range(60):
        if limit.rows > 8:
            tries.append(transaction)
            limit.halve()
        else:
            limit.fit()
    assert [later - earlier for earlier, later in pairwise(tries)] == [5, 9, 9, 9, 9, 9]


def test_once_more_has_fitted_it_is_as_willing_as_in_the_beginning():
    limit = BatchLimit(64, needed=1, needed_most=64)
    changes(limit, fits=8, transactions=100)
    assert changes(limit, fits=64, transactions=130)[-1] == 64
    limit.halve()
    limit.halve()
    assert [limit.fit(), limit.fit(), limit.rows] == [False, True, 32]


@given(st.integers(1, 10**4), st.integers(1, 20), st.integers(1, 2000), st.lists(st.booleans(), max_size=200))
def test_whatever_happens_it_stays_between_one_row_and_the_most(most: int, needed: int, top: int, fits: list[bool]):
    limit = BatchLimit(most, needed, max(needed, top))
    for fit in fits:
        before = limit.rows
        if fit:
            assert limit.fit() == (limit.rows > before)
        else:
            limit.halve()
            assert limit.rows == max(1, before // 2)
        assert 1 <= limit.rows <= most
