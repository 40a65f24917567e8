"""Two gateways around the real one that refuse to send: all that is not a read, and all that is not in a plan."""

from billing.gateway import Answer, Budget, Gateway, NotSent, Request

_READS = "GET"


class ReadOnly:
    """Sends reads, and nothing else."""

    def __init__(self, gateway: Gateway) -> None:
        self.livemode = gateway.livemode
        self._gateway = gateway

    def send(self, request: Request, budget: Budget) -> Answer:
        if request.method == _READS:
            return self._gateway.send(request, budget)
        return NotSent("this is a dry run")


class OnlyPlanned:
    """Sends reads, and one planned request, once. A worker goes on with what is refused: its call was not sent."""

    def __init__(self, gateway: Gateway, planned: Request) -> None:
        self.livemode = gateway.livemode
        self._gateway, self._planned = gateway, planned
        self._sent = False

    def send(self, request: Request, budget: Budget) -> Answer:
        if request.method != _READS:
            if request != self._planned or self._sent:
                return NotSent("it is not in the plan that was approved")
            self._sent = True
        return self._gateway.send(request, budget)
