"""What moves the agenda: every request that arrives, every move of the clock, and an alarm when nobody asks."""

import asyncio
import traceback

from .call import Call
from .world import World

# An event loop counts its waits in less than years.
ALARM_MAX_S = 24 * 3600.0


class Clockwork:
    def __init__(self, world: World) -> None:
        self._world = world
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_at: int | None = None

    def pass_time(self) -> None:
        """Do what is due by now. Each job sees its own time, so that what it makes is as old as it should be."""
        index = self._world.index
        for entry in self._world.agenda.due(self._world.clock.time()):
            index.job_at = entry.at
            try:
                entry.job(Call(self._world, entry.books, (entry.row_id,), {}, entry.at, None, None))
            except Exception:  # noqa: BLE001 - a bug of ours must not fall on the request that happens to come next
                traceback.print_exc()
            finally:
                index.job_at = None

    def set_alarm(self) -> None:
        """Wake up for the next job even if nobody asks anything until then."""
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
        """The alarm was set for another time."""
        self._alarm_at = None
        self._wake()
