"""Whether a refusal is one, in Stripe's shape, and has changed nothing."""

from stripe_standin.control import Control

KINDS = {"api_error", "card_error", "idempotency_error", "invalid_request_error"}
REFUSED = {400, 401, 402, 403, 404, 409, 429}


class Quiet:
    """Sees whether anything has changed since it was last asked."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self._seen = self._look()

    def judge(self, answer):
        """A refusal has no effect, and keeps a key only once execution has begun, which its headers tell."""
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
            # A bank's no leaves its rows, and is an effect.
            assert self._seen[0] == before[0] or (answer.status, begun) == (402, True), answer.data

    def _look(self):
        return self._control.health()["effects"], self._control.clock()["keys_kept"]
