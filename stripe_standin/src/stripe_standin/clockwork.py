"""What runs the agenda: every request, every move of the clock, and a timer when there are no requests."""

import asyncio
import traceback

from .call import Call
from .world import World

# An event loop cannot wait for years.
ALARM_MAX_S = 24 * 3600.0


class Clockwork:
    def __init__(self, world: World) -> None:
        self._world = world
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_at: int | None = None

    def pass_time(self) -> None:
        """Run the jobs that are due.

        Each runs with the time at which it was due, so what it makes has the right age.
        """
        index = self._world.index
        for entry in self._world.agenda.due(self._world.clock.time()):
            index.job_at = entry.at
            try:
                entry.job(Call(self._world, entry.books, (entry.row_id,), {}, entry.at, None, None))
            except Exception:  # noqa: BLE001 - a bug of ours must not fail the next request
                traceback.print_exc()
            finally:
                index.job_at = None

    def set_alarm(self) -> None:
        """Set the timer for the next job, in case no request comes until then."""
        next_at = self._world.agenda.next_at()
        if next_at == self._alarm_at:
            return
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm_at = next_at
        if next_at is not None:
            in_s = min(max(next_at - self._world.clock.time(), 0.0), ALARM_MAX_S)
            self._alarm = asyncio.get_running_loop().call_later(in_s, self._wake)

    def _wake(self) -> None:
        self._alarm_at = None
        self.pass_time()
        self.set_alarm()

    def clock_moved(self) -> None:
        """Set the timer again: the clock was moved."""
        self._alarm_at = None
        self._wake()
