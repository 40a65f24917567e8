"""Checks that a refusal has Stripe's shape and has changed nothing."""

from stripe_standin.control import Control

KINDS = {"api_error", "card_error", "idempotency_error", "invalid_request_error"}
REFUSED = {400, 401, 402, 403, 404, 409, 429}


class Quiet:
    """Sees whether anything has changed since its last call.

    Only effects of requests count. What the clock causes, such as the end of a refund, may happen at any moment.
    """

    def __init__(self, control: Control) -> None:
        self._control = control
        self._effects = self._newest = 0
        self._seen = self._look()

    def judge(self, answer):
        """Check that a refusal has no effect, and saves its key only if its headers say that execution has begun."""
        before, self._seen = self._seen, self._look()
        assert answer.status == 200 or answer.status in REFUSED, answer.data
        assert answer.headers["Content-Type"] == "application/json", answer.data
        assert answer.headers["Request-Id"].startswith("req_")
        begun = "Original-Request" in answer.headers
        assert self._seen[1] - before[1] == begun
        if answer.status != 200:
            error = answer.json()["error"]
            assert error["type"] in KINDS
            assert error["message"]
            # A decline by the bank leaves rows, and is an effect.
            assert self._seen[0] == before[0] or (answer.status, begun) == (402, True), answer.data

    def _look(self):
        new = self._control.effects(after=self._newest)
        self._newest += len(new)
        self._effects += sum(effect["request_id"] is not None for effect in new)
        return self._effects, self._control.clock()["keys_kept"]
