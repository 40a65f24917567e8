"""How many rows one transaction takes: half as many if that is too slow, twice as many once it fits again.

What fits depends on the machine, its load and the rows, so it is measured and not configured. Both steps multiply: the
limit belongs to one process, and a step too far costs one transaction, which is rolled back.
"""

from dataclasses import dataclass, field


@dataclass(slots=True)
class BatchLimit:
    """Begins with `most` rows. `needed` transactions in a row must fit before twice as many rows are tried. If those do
    not fit, twice as many transactions must fit before the next try, up to `needed_most`."""

    most: int
    needed: int = 1
    needed_most: int = 1
    rows: int = field(init=False)
    _fitted: int = field(init=False, default=0)
    _needed_now: int = field(init=False)
    _grown: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        self.rows = self.most
        self._needed_now = self.needed

    def halve(self) -> None:
        """These rows were too many. One row stays one row."""
        if self._grown:
            self._needed_now = min(2 * self._needed_now, self.needed_most)
        self.rows, self._fitted, self._grown = max(1, self.rows // 2), 0, False

    def fit(self) -> bool:
        """These rows were not too many. True: from now on it is twice as many."""
        self._fitted += 1
        if self.rows == self.most or self._fitted < self._needed_now:
            return False
        if self._grown:
            # The last doubling fits.
            self._needed_now = self.needed
        self.rows, self._fitted, self._grown = min(2 * self.rows, self.most), 0, True
        return True
