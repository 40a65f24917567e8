r"""The SQL that carries a capture: whole statements with names, in `.sql` files, to be pasted into psql and explained.

    -- name: wake_looks
    -- While the lease runs, a worker looks already.
    UPDATE ... WHERE queue = :queue ...;

A parameter is written as a variable of psql (there: `\set queue '''captures'''`), a cast as CAST(): after a parameter,
`::` is read as a part of its name. A condition that several statements share is written out in each; what is made of a
list in the code, such as the tables of all operations, stands there as a parameter does.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sqlalchemy import CursorResult, text
from sqlalchemy.engine import make_url
from sqlalchemy.orm import Session

_NAME = re.compile(r"^-- name: (\w+)\n", re.MULTILINE)
_DIALECT = make_url("postgresql+psycopg://").get_dialect()()
_PARAMETER = re.compile(r":(\w+)")
_COMMENT = re.compile(r"^ *--.*\n", re.MULTILINE)


def beside(module: str, **fragments: str) -> dict[str, str]:
    """The statements of the `.sql` file beside this module (`__file__`), by name, written as the driver takes them.

    `fragments`: SQL that stands in them as a parameter of this name does: what is the same in many statements, and is
    made of a list in the code (`billing.operation_rows`).
    """
    return {name: _for_the_driver(statement, fragments) for name, statement in as_written(module).items()}


def as_written(module: str) -> dict[str, str]:
    """As `beside`, unchanged: for another database than Postgres."""
    _, *parts = _NAME.split(Path(module).with_suffix(".sql").read_text(encoding="utf-8"))
    return dict(zip(parts[::2], parts[1::2], strict=True))


def run(session: Session, statement: str, **values: Any) -> CursorResult[Any]:
    """In the session's transaction, by the driver itself: SQLAlchemy would look each statement up in its cache."""
    return session.connection().exec_driver_sql(statement, values)


def _for_the_driver(statement: str, fragments: Mapping[str, str]) -> str:
    """Without comments and the last semicolon; `:name` becomes that fragment, or `%(name)s`."""
    plain = _COMMENT.sub("", statement).strip().removesuffix(";")
    whole = _PARAMETER.sub(lambda found: fragments.get(found[1], found[0]), plain)
    return str(text(whole).compile(dialect=_DIALECT))
