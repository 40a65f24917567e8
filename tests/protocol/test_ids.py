"""An id says when it was made, and the first id of a time divides what was made before from what was made since."""

from datetime import UTC, datetime, timedelta

import pytest

from billing import ids

MILLISECOND = timedelta(milliseconds=1)


def test_an_id_says_when_it_was_made_and_lies_between_the_first_ids_of_then_and_later():
    before = datetime.now(UTC)
    made = ids.new("void")
    after = datetime.now(UTC)
    at = ids.made_at(made)
    assert at is not None
    assert before - MILLISECOND <= at <= after
    assert ids.first("void", before - MILLISECOND) < made < ids.first("void", after + MILLISECOND)


@pytest.mark.parametrize(
    "given", [None, 7, "", "cap_1", "pi_123", "recovered:abc", "cap_" + "f" * 32, "cap_" + "g" * 32]
)
def test_what_is_no_id_of_ours_says_nothing(given: object):
    assert ids.made_at(given) is None


def test_a_time_before_1970_comes_before_all():
    assert ids.first("cap", datetime(1900, 1, 1, tzinfo=UTC)) == "cap_" + "0" * 12
