"""Draws curves as an SVG file: both axes logarithmic, one line for each series."""

from collections.abc import Mapping, Sequence
from html import escape
from math import ceil, floor, log10
from typing import NamedTuple

WIDTH, HEIGHT = 720, 420
LEFT, RIGHT, TOP, BOTTOM = 70, 20, 40, 50
COLORS = ("#0072b2", "#d55e00", "#009e73")
"""Told apart by colorblind readers, too (Okabe and Ito, 2008)."""
TEXT = 'font-family="sans-serif" font-size="13" fill="#222"'

Point = tuple[float, float]


class Limit(NamedTuple):
    """A horizontal line with its name."""

    at: float
    name: str


class _Axis(NamedTuple):
    """Where a value lies between two powers of ten."""

    low: int
    high: int
    begin: float
    end: float

    def place(self, value: float) -> float:
        share = (log10(max(value, 10**self.low)) - self.low) / (self.high - self.low)
        return self.begin + min(share, 1) * (self.end - self.begin)


def _axis(values: Sequence[float], begin: float, end: float) -> _Axis:
    low = floor(log10(min(values)))
    return _Axis(low, max(low + 1, ceil(log10(max(values)))), begin, end)


def svg(
    title: str, x_name: str, y_name: str, series: Mapping[str, Sequence[Point]], x_ticks: Sequence[float], limit: Limit
) -> str:
    """The file. Every value must be above 0."""
    points = [point for line in series.values() for point in line]
    x = _axis([*(each for each, _ in points), *x_ticks], LEFT, WIDTH - RIGHT)
    y = _axis([*(each for _, each in points), limit.at], HEIGHT - BOTTOM, TOP)
    drawn = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
        f'<text x="{LEFT}" y="22" {TEXT} font-weight="bold">{escape(title)}</text>',
        f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 10}" text-anchor="middle" {TEXT}>{escape(x_name)}</text>',
        f'<text transform="translate(18 {HEIGHT / 2}) rotate(-90)" text-anchor="middle" {TEXT}>{escape(y_name)}</text>',
    ]
    for power in range(y.low, y.high + 1):
        at = y.place(10**power)
        drawn.append(_line((LEFT, at), (WIDTH - RIGHT, at), "#ddd"))
        drawn.append(f'<text x="{LEFT - 8}" y="{at + 4:.1f}" text-anchor="end" {TEXT}>{10**power:g}</text>')
    for value in x_ticks:
        at = x.place(value)
        drawn.append(_line((at, TOP), (at, HEIGHT - BOTTOM), "#eee"))
        drawn.append(f'<text x="{at:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle" {TEXT}>{value:g}</text>')
    at = y.place(limit.at)
    drawn.append(_line((LEFT, at), (WIDTH - RIGHT, at), "#222", dashed=True))
    drawn.append(f'<text x="{WIDTH - RIGHT}" y="{at - 6:.1f}" text-anchor="end" {TEXT}>{escape(limit.name)}</text>')
    for number, ((name, line), color) in enumerate(zip(series.items(), COLORS, strict=False)):
        places = [(x.place(each), y.place(value)) for each, value in line]
        path = " ".join(f"{across:.1f},{up:.1f}" for across, up in places)
        drawn.append(f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="2"/>')
        drawn += [f'<circle cx="{across:.1f}" cy="{up:.1f}" r="3.5" fill="{color}"/>' for across, up in places]
        down = TOP + 18 + 20 * number
        drawn.append(_line((LEFT + 12, down - 4), (LEFT + 34, down - 4), color))
        drawn.append(f'<text x="{LEFT + 40}" y="{down}" {TEXT}>{escape(name)}</text>')
    return "\n".join([*drawn, "</svg>"]) + "\n"


def _line(begin: Point, end: Point, color: str, *, dashed: bool = False) -> str:
    dashes = ' stroke-dasharray="6 4"' if dashed else ""
    places = f'x1="{begin[0]:.1f}" y1="{begin[1]:.1f}" x2="{end[0]:.1f}" y2="{end[1]:.1f}"'
    return f'<line {places} stroke="{color}"{dashes}/>'
