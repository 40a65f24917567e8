"""Facts that cannot be archived: marked with batch 0 and skipped, with a reason that commands show.

An application may write any JSON into a fact, and the owner of the table any time. Such a fact stops no other: it gets
no number, so its class has no gap, and later facts are archived. It stays in Postgres, and is tried again when an
archiver starts. The checks are SQL, because a payload may be too large or too deep to be read into this process.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial

import structlog
from sqlalchemy import text
from sqlalchemy.orm import Session

from archive.writing.batch_size import BatchSize
from billing.tables.facts import SET_ASIDE

log = structlog.get_logger()

REASONS = {
    "time_out_of_range": "happened_at is before 1970, or more than a day ahead",
    "name_not_an_id": "its topic, entity_type or entity_id is no name or id: A-Z, a-z, 0-9, _ . : - and no card number",
    "payload_too_large": "its payload has more than 16,384 characters",
    "payload_not_an_object": "its payload is not a JSON object",
    "payload_too_deep": "its payload is nested more than 32 deep",
    "payload_number_too_long": "a number in its payload does not fit into 64 bits, or is smaller than 1e-20",
}
NAMED = 100
"""At most this many are named, the oldest first."""
MOST_COUNTED = 100_000

# A payload may be as long as the schema allows for a new one. The order matters: a large stored value is not read at
# all, and only a value that was found to be small is turned into text. A few bytes of JSON ("1e131000") may be 131,001
# digits.
PAYLOAD_TROUBLE = """
CASE WHEN pg_column_size(payload) > 131072 THEN 'payload_too_large'
     WHEN jsonb_typeof(payload) <> 'object' THEN 'payload_not_an_object'
     WHEN payload @? '$.**{33}' THEN 'payload_too_deep'
     WHEN payload @? '$.** ? (@.type() == "number" && (@ > 9223372036854775807 || @ < -9223372036854775808
                                                       || (@ > -1e-20 && @ < 1e-20 && @ != 0)))'
     THEN 'payload_number_too_long'
     WHEN length(CAST(payload AS text)) > 16384 THEN 'payload_too_large'
END"""

# A time before 1970 is an error, and a lock that is computed from a far future could never be removed. Our own ids are
# a kind and 32 hexadecimal digits, of which 13 in a row may be decimal by chance: they are not taken for card numbers.
TROUBLE = rf"""
CASE WHEN NOT happened_at BETWEEN '1970-01-01 00:00+00' AND statement_timestamp() + interval '1 day'
     THEN 'time_out_of_range'
     WHEN topic || ' ' || entity_type || ' ' || entity_id !~ '^[a-z0-9_.]+ [a-z0-9_]+ [A-Za-z0-9_.\:-]+$'
          OR (entity_id ~ '[0-9][0-9_.\:-]{{11,}}[0-9]' AND entity_id !~ '^[a-z]+_[0-9a-f]{{32}}$')
     THEN 'name_not_an_id'
     ELSE {PAYLOAD_TROUBLE}
END"""


@dataclass(frozen=True, slots=True)
class Aside:
    """One fact that is set aside.

    `why` is a code of `REASONS`; None if it can be archived now and waits for an archiver.
    """

    fact_id: int
    topic: str
    why: str | None


@dataclass(frozen=True, slots=True)
class SetAside:
    """How many facts are set aside, counted up to `MOST_COUNTED`, and the oldest of them."""

    count: int
    facts: list[Aside]


def mark(batch_size: BatchSize, found: Iterable[tuple[int, str]]) -> None:
    """Set these facts aside. Each is logged once, even if two archivers find it at the same time."""
    waiting = dict(found)
    while waiting:
        tried, marked = batch_size.write(partial(_mark, ids=list(waiting)))
        for fact_id in marked:
            log.error("fact.set_aside", fact_id=fact_id, why=waiting[fact_id])
        for fact_id in tried:
            del waiting[fact_id]


def put_back(batch_size: BatchSize) -> int:
    """Put facts back that were set aside and can be archived now: they wait for a batch again. Returns how many."""
    after: int | None = 0
    back = 0
    while after is not None:
        after, mended = batch_size.write(partial(_put_back, after=after))
        back += mended
    return back


def words(why: str | None) -> str:
    """The reason as a sentence."""
    return "mended: the next archiver that starts takes it" if why is None else REASONS[why]


def _mark(session: Session, rows: int, *, ids: list[int]) -> tuple[list[int], list[int]]:
    tried = ids[:rows]
    return tried, list(session.scalars(_MARK, {"ids": tried, "set_aside": SET_ASIDE}))


def _put_back(session: Session, rows: int, *, after: int) -> tuple[int | None, int]:
    last, mended = session.execute(_PUT_BACK, {"after": after, "rows": rows}).one()
    return last, mended


def named(session: Session) -> SetAside:
    """What is set aside now, and why."""
    count: int = session.execute(_COUNT, {"most": MOST_COUNTED}).scalar_one()
    facts = [Aside(*row) for row in session.execute(_NAMED, {"named": NAMED})] if count else []
    return SetAside(count, facts)


_MARK = text(
    "UPDATE billing.facts SET batch_no = :set_aside WHERE id IN"
    " (SELECT id FROM billing.facts WHERE id = ANY (:ids) AND batch_no IS NULL FOR UPDATE SKIP LOCKED) RETURNING id"
)
_PUT_BACK = text(
    f"""
    WITH page AS MATERIALIZED (
        SELECT id, {TROUBLE} AS trouble FROM billing.facts
         WHERE batch_no = {SET_ASIDE} AND id > :after ORDER BY id LIMIT :rows FOR UPDATE SKIP LOCKED
    ), back AS (
        UPDATE billing.facts AS f SET batch_no = NULL FROM page
         WHERE f.id = page.id AND f.batch_no = {SET_ASIDE} AND page.trouble IS NULL RETURNING f.id
    )
    SELECT (SELECT max(id) FROM page), (SELECT count(*) FROM back)
    """
)
_COUNT = text(f"SELECT count(*) FROM (SELECT FROM billing.facts WHERE batch_no = {SET_ASIDE} LIMIT :most) AS f")
# A topic that is not a plain name may hold anything, so it is not shown. The id finds the fact.
_NAMED = text(
    f"""
    SELECT id, CASE WHEN topic ~ '^[a-z0-9_.]+$' THEN topic ELSE '' END, {TROUBLE}
      FROM billing.facts WHERE batch_no = {SET_ASIDE} ORDER BY id LIMIT :named
    """
)
