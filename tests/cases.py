"""A test that tries all rows of a table: hundreds of tests that need a service each take longer than what they try."""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def case(*named: object) -> Iterator[None]:
    """What fails in here says in which case."""
    try:
        yield
    except BaseException as failure:
        failure.add_note(f"In the case: {', '.join(map(str, named))}")
        raise
