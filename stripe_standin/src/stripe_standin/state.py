"""All state of the stand-in in one place, and its reset."""

from .access import Access
from .api.invoices import following
from .clockwork import Clockwork
from .faults import Faults
from .idempotency import Idempotency
from .limits import Limiter
from .waiting import Waiting
from .webhooks.lines import Webhooks
from .world import Settings, World


class State:
    def __init__(self, settings: Settings) -> None:
        self.world = World(settings)
        self.clockwork = Clockwork(self.world)
        self.access = Access(settings)
        self.limiter = Limiter(settings.rates)
        self.idempotency = Idempotency()
        self.faults = Faults(settings.seed)
        self.waiting = Waiting()
        self.webhooks = Webhooks(self.world, self.clockwork, settings.seed)
        # After the webhooks: an event's webhook is planned before the events that follow from it.
        self.world.listeners.append(following.follow)

    def reset(self) -> None:
        """Reset everything. Requests that are held are dropped, and have no effect any more."""
        self.stop()
        self.world.reset()
        self.access.reset()
        self.limiter.clear()
        self.idempotency.clear()
        self.faults.clear()
        self.webhooks.clear()

    def stop(self) -> None:
        """Drop held requests, and send no more webhooks."""
        self.waiting.forget_all()
        self.webhooks.stop()
