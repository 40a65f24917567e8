"""One key, one answer, for a day: reserve the key, execute, save the answer, replay it byte for byte.

Every answer after the start of execution is saved: success, decline, wrong state, even a 500. A refusal before that is
not saved: validation, access, the rate limiter, a key in use.
Source: docs.stripe.com/api/idempotent_requests and docs.stripe.com/error-low-level.
"""

from collections import deque
from dataclasses import dataclass

from . import errors, forms

KEPT = 24 * 3600  # "removed automatically after they're at least 24 hours old"
KEY_LENGTH_MAX = 255


@dataclass(slots=True)
class Record:
    """The first request under a key, and its answer once there is one (`status` 0: still in flight)."""

    method: str
    path: str
    raw: bytes
    request_id: str
    created: float
    status: int = 0
    body: bytes = b""


Place = tuple[str, bool, str]  # account, livemode, key


class Idempotency:
    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        self._records: dict[Place, Record] = {}
        self._oldest_first: deque[tuple[float, Place]] = deque()

    def reserve(self, place: Place, method: str, path: str, raw: bytes, request_id: str, now: float) -> Record:
        """The record of this key: a new one (with the given `request_id`), or one that has its answer.

        Raises 400 if the key is too long or was first used for another request, 409 while the first
        request is in flight.
        """
        key = place[2]
        if len(key) > KEY_LENGTH_MAX:
            raise errors.key_too_long(len(key))
        self._forget(now)
        record = self._records.get(place)
        # A record that was in flight when its day was over has left the queue, so it is checked here.
        if record is None or (record.status and record.created + KEPT <= now):
            record = Record(method, path, raw, request_id, now)
            self._records[place] = record
            self._oldest_first.append((now, place))
            return record
        if record.method != method or record.path != path or not forms.same(record.raw, raw):
            raise errors.key_reused(key)
        if not record.status:
            raise errors.key_in_use(key)
        return record

    def save(self, place: Place, record: Record, status: int, body: bytes, now: float) -> None:
        if record.created + KEPT <= now:
            # It was in flight for longer than a key lives. Without this it would be forgotten as soon as it is
            # answered.
            record.created = now
            self._oldest_first.append((now, place))
        record.status = status
        # A copy, because orjson's result keeps its whole buffer: 8 kB for an intent of 2 kB.
        record.body = bytes(memoryview(body))

    def give_back(self, place: Place, record: Record) -> None:
        """Free the key: nothing was executed under it."""
        if self._records.get(place) is record:
            del self._records[place]

    def __len__(self) -> int:
        return len(self._records)

    def _forget(self, now: float) -> None:
        # Creation times never go back, so the oldest are at the left.
        while self._oldest_first and self._oldest_first[0][0] + KEPT <= now:
            created, place = self._oldest_first.popleft()
            record = self._records.get(place)
            # A key that was freed and used again has a later entry. A record in flight is never forgotten.
            if record is not None and record.created == created and record.status:
                del self._records[place]
