"""A goal, what was measured, and whether that reaches it: one row of a table."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Goal:
    """`value` is None if it was not measured. `more` is true if more is better."""

    what: str
    must: float
    stretch: float | None
    value: float | None
    unit: str = ""
    more: bool = False

    @property
    def verdict(self) -> str:
        if self.value is None:
            return "not measured"
        if self.stretch is not None and self._reaches(self.stretch):
            return "stretch"
        return "must" if self._reaches(self.must) else "**missed**"

    def _reaches(self, goal: float) -> bool:
        assert self.value is not None
        return self.value >= goal if self.more else self.value <= goal

    def row(self) -> str:
        sign = "≥" if self.more else "≤"
        stretch = "" if self.stretch is None else f"{sign} {self.stretch:g}{self.unit}"
        value = "" if self.value is None else f"{self.value:.3g}{self.unit}"
        return f"| {self.what} | {sign} {self.must:g}{self.unit} | {stretch} | {value} | {self.verdict} |"
