"""Notes every change of a state in a service's database, and who made it: `walks` compares them with what is drawn.

A trigger on each table with states notes the role that changed it: every process acts in its own, and so does the
operator. What one transaction changes twice is seen once, from the state before it to the state after.
"""

import functools
import re
from collections.abc import Callable
from itertools import product

from service import Service

from billing import database
from billing.operations import OPERATIONS
from billing.states import LIVES
from billing.tables.differences import MoneyDifference
from billing.tables.facts import ArchiveBatch
from billing.tables.idempotency_records import Record
from billing.tables.received_events import ReceivedEvent
from billing.tables.work import Work

TABLES = {
    table.__tablename__: table.life
    for table in (
        *(operation.table for operation in OPERATIONS.values()),
        *(Record, Work, ReceivedEvent, ArchiveBatch, MoneyDifference),
    )
}
NAMES = {table: life.of.split()[-1] for table, life in TABLES.items()}

Move = tuple[str, str, str, str]
"""Of what, from, to, by whom."""
DRAWN: set[Move] = {
    (life.of.split()[-1], each.start, each.end, each.who) for life in LIVES for each in life.transitions
}
DECLARED: set[Move] = set()
"""What the scenarios that were imported say they walk."""

NOTED = """
CREATE TABLE public.changes ("table" text, start text, "end" text, who text DEFAULT current_user);
GRANT INSERT ON public.changes TO PUBLIC;
CREATE FUNCTION public.note() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN INSERT INTO public.changes VALUES (TG_TABLE_NAME, OLD.state, NEW.state); RETURN NULL; END $$;
""" + "".join(
    f"CREATE TRIGGER noted AFTER UPDATE ON billing.{table} FOR EACH ROW"
    " WHEN (OLD.state <> NEW.state) EXECUTE FUNCTION public.note();"
    for table in NAMES
)


def walks(*lines: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A scenario that walks these transitions, and beside them only such as are drawn: "work ready, waiting → held by
    relay" are two. Where nobody is named, a worker moves."""
    declared = {move for line in lines for move in moves(line)}
    DECLARED.update(declared)

    def noted(scenario: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(scenario)
        def test(service: Service, **fixtures: object) -> None:
            service.execute(NOTED)
            scenario(service, **fixtures)
            walked = changes(service)
            assert walked <= DRAWN, sorted(walked - DRAWN)
            assert declared <= walked, sorted(declared - walked)

        return test

    return noted


def moves(line: str) -> set[Move]:
    said = re.fullmatch(r"(\w+) (.+) → (.+?)(?: by (\w+))?", line)
    assert said is not None, line
    of, starts, ends, who = said.groups("worker")
    return {(of, start, end, who) for start, end in product(starts.split(", "), ends.split(", "))}


def changes(service: Service) -> set[Move]:
    with database.transaction(service.engine) as session:
        seen = session.connection().exec_driver_sql("TABLE public.changes").all()
    return {(NAMES[table], start, end, who.removeprefix("billing_")) for table, start, end, who in seen}
