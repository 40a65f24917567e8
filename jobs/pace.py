"""How many calls one account may have in the air: halved when the provider throttles, raised step by step."""


class Pace:
    """Additive increase, multiplicative decrease, per account; as TCP does it (RFC 5681)."""

    def __init__(self, crew: int) -> None:
        self._crew = float(crew)
        self._window: dict[str | None, float] = {}

    def has_room(self, account: str | None, in_air: int) -> bool:
        """Whether one more call may be prepared beside the `in_air` ones. Without throttling the crew is the bound."""
        window = self._window.get(account, self._crew)
        return window >= self._crew or in_air < int(window)

    def learn(self, account: str | None, *, throttled: bool) -> None:
        """One answer: half the window after a throttled one, a little more after any other."""
        window = self._window.get(account, self._crew)
        self._window[account] = max(1.0, window / 2) if throttled else min(self._crew, window + 1 / window)
