"""A mark in Redis of the newest fact about money or an e-mail, by which a Postgres that was set back is found.

Redis may lose it, and then a restore is found by its other signs (`billing.lineage`). A relay compares and renews it
every second, and every relay and worker compares before it starts.
"""

import json
import re
from dataclasses import dataclass
from datetime import datetime

import structlog
from redis import Redis
from redis.exceptions import RedisError
from sqlalchemy import Engine

from billing import database, lineage
from billing.lineage import Mark

log = structlog.get_logger()


@dataclass(slots=True)
class Watermark:
    """Of one environment."""

    engine: Engine
    redis: Redis
    environment: str

    @property
    def key(self) -> str:
        return f"billing-{self.environment}:newest-fact"

    def compare(self, *, renew: bool = False) -> bool:
        """Find whether the database was restored; if so, write that down and pull the switch of everything.

        `renew`: keep a new mark if it was not. Without Redis only Postgres is asked, and False is returned. Raises what
        Postgres raises.
        """
        try:
            mark = _read(self.redis.get(self.key))
        except RedisError:
            mark, answers = None, False
        else:
            answers = True
        with database.transaction(self.engine) as session:
            standing = lineage.look(session, mark)
            if (sign := standing.sign) is not None:
                lineage.note(session, sign, until=mark.happened_at if mark and sign == lineage.FORGOTTEN else None)
            restored = sign or (standing.why if standing.restored_at is not None else None)
            # An archiver that found it could not pull the switch.
            pulled = restored is not None and lineage.stop(session, restored)
        if restored is None:
            if renew and answers and standing.newest is not None and standing.newest != mark:
                self._write(standing.newest)
        elif sign is not None or pulled:
            log.error("database.restored", why=restored)
        return answers

    def _write(self, mark: Mark) -> None:
        values = {
            "installation": mark.installation,
            "fact_id": mark.fact_id,
            "entity_id": mark.entity_id,
            "happened_at": mark.happened_at.isoformat(),
        }
        try:
            self.redis.set(self.key, json.dumps(values))
        except RedisError as error:
            log.warning("redis.away", error=type(error).__name__, queue=None)


def _read(kept: object) -> Mark | None:
    """The mark; None if there is none, or if it was not written by us, which is no sign of anything."""
    try:
        values = json.loads(kept) if isinstance(kept, bytes | str) else None
        mark = Mark(**{**values, "happened_at": datetime.fromisoformat(values["happened_at"])}) if values else None
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    return mark if mark is not None and _is_ours(mark) else None


def _is_ours(mark: Mark) -> bool:
    named = all(_ID.fullmatch(str(each)) for each in (mark.installation, mark.entity_id))
    return named and type(mark.fact_id) is int and 0 < mark.fact_id < 2**63 and mark.happened_at.tzinfo is not None


_ID = re.compile(r"[a-z]{3,4}_[A-Za-z0-9_]{1,36}")
