"""The crew: threads that call Stripe and report what came back. They have no database connection."""

import queue
import threading
from collections.abc import Callable

from billing.calls import Call, Report
from billing.gateway import Budget, Gateway, boot_clock
from jobs.road.runner import make_call

GATHER_S = 0.04
"""After the first report, reports that arrive within this time are settled in the same transaction.
A wake-up and a transaction cost several times what one more row in it does."""
GROUP = 64
"""At most this many reports are settled in one transaction, which keeps it well under 250 ms."""


class Crew:
    """`size` threads, started at once, or none. The captain hands calls over and collects the reports.

    Raises RuntimeError if the system gives this process no more threads.
    """

    def __init__(self, size: int, gateway: Gateway) -> None:
        # No SimpleQueue: a signal (SIGTERM) that comes just before the timeout of its `get` is over makes it wait for
        # ever (CPython 3.11: what is left of the timeout becomes negative, which stands for none). Signals come to the
        # main thread, which collects; the threads that take calls wait without a timeout.
        self._reports: queue.Queue[Report] = queue.Queue()
        self._calls: queue.SimpleQueue[tuple[Call, Budget] | None] = queue.SimpleQueue()
        self._gateway = gateway
        self._threads: list[threading.Thread] = []
        try:
            for n in range(size):
                thread = threading.Thread(target=self._work, name=f"crew-{n}", daemon=True)
                thread.start()
                self._threads.append(thread)
        except RuntimeError:
            # The system has no more threads for us now. Those that wait would keep them from the next shift's crew.
            self.dismiss()
            raise

    def hand(self, call: Call, budget: Budget) -> None:
        self._calls.put((call, budget))

    @property
    def waiting(self) -> int:
        """How many calls wait for a free thread."""
        return self._calls.qsize()

    def take_back(self, which: Callable[[Call], bool]) -> list[Call]:
        """Those of the waiting calls that no thread has begun, and none will. The others keep their order.

        Only the captain hands calls over, so none comes in between. A thread may take one meanwhile: that one is begun.
        """
        waiting, taken = [], []
        try:
            while True:
                waiting.append(self._calls.get_nowait())
        except queue.Empty:
            pass
        for handed in waiting:
            if handed is not None and which(handed[0]):
                taken.append(handed[0])
            else:
                self._calls.put(handed)
        return taken

    def collect(self, wait_s: float, *, gather: bool) -> list[Report]:
        """The reports that have arrived, up to `GROUP`. Waits up to `wait_s` for the first one.

        `gather`: wait `GATHER_S` more for others, because many calls are in flight.
        """
        reports: list[Report] = []
        try:
            reports.append(self._reports.get(timeout=wait_s))
            gather_until = boot_clock() + (GATHER_S if gather else 0.0)
            while len(reports) < GROUP:
                reports.append(self._reports.get(timeout=max(0.0, gather_until - boot_clock())))
        except queue.Empty:
            pass
        return reports

    def dismiss(self) -> None:
        """End the threads, each after its current call. Returns when all have ended."""
        for _ in self._threads:
            self._calls.put(None)
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while (handed := self._calls.get()) is not None:
            self._reports.put(make_call(self._gateway, *handed))
