"""Waiting until a queue has room for a batch, so that a bulk keeps nothing else waiting for hours."""

import time
from collections import deque
from collections.abc import Callable
from functools import partial

from billing.admission import admit
from billing.database import Transact
from billing.errors import TooBusy

_LOOK_AGAIN_S = 5.0
_MEASURED_AFTER_S = 2.0
"""A relay measures once a second. What was written since is not counted yet, so it is added here."""


class Room:
    """Asked before every batch. `waiting` is called whenever there is no room; None: TooBusy is raised instead."""

    def __init__(
        self,
        transact: Transact,
        queue: str,
        waiting: Callable[[TooBusy], None] | None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._transact, self._queue, self._waiting, self._sleep = transact, queue, waiting, sleep
        self._lately: deque[tuple[float, int]] = deque()

    def wait_for(self, count: int) -> None:
        """Return once so many more have room; on a slow queue, on which so many never have, once it is empty."""
        fitting = count
        while True:
            try:
                self._transact(partial(admit, queue=self._queue, count=fitting + self._not_measured()))
            except TooBusy as busy:
                if 0 < busy.at_most < fitting:
                    fitting = busy.at_most
                    continue
                if self._waiting is None:
                    raise
                self._waiting(busy)
                self._sleep(min(busy.retry_after_s, _LOOK_AGAIN_S))
            else:
                self._lately.append((time.monotonic(), count))
                return

    def _not_measured(self) -> int:
        while self._lately and self._lately[0][0] < time.monotonic() - _MEASURED_AFTER_S:
            self._lately.popleft()
        return sum(count for _, count in self._lately)
