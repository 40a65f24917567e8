"""Everything the stand-in remembers, in one place, and how all of it is forgotten."""

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
        # After the webhooks: they are told of an event before what follows from it happens.
        self.world.listeners.append(following.follow)

    def reset(self) -> None:
        """As at the start. Whoever waits is forgotten and has no effect any more."""
        self.stop()
        self.world.reset()
        self.access.reset()
        self.limiter.clear()
        self.idempotency.clear()
        self.faults.clear()
        self.webhooks.clear()

    def stop(self) -> None:
        """Nobody who waits is executed any more, and nobody is told anything."""
        self.waiting.forget_all()
        self.webhooks.stop()
