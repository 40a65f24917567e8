"""Draws the last week of snapshots as SVG: for each number a line, and behind it the band of what is usual then."""

from collections.abc import Iterator, Sequence
from datetime import timedelta
from html import escape

from jobs.checkup.trend import Kind, Snapshot, kinds, same_hours, usual

SHOWN = timedelta(days=7)
WIDTH, HEIGHT, LEFT, TOP, GAP = 900, 90, 20, 40, 34
"""Pixels: of one panel, around it, and between two."""
_GAP_IN_LINE = timedelta(hours=1, minutes=30)
"""Snapshots that are further apart are not joined: in between, nobody looked."""


def svg(known: Sequence[Snapshot]) -> str:
    """One panel for each number that was not 0 all the time. `known`: the oldest first, and at least one."""
    end = known[-1].at
    shown = [each for each in known if each.at > end - SHOWN]
    panels = [kind for kind in kinds(shown) if any(each.numbers.get(kind) for each in shown)]
    height = TOP + len(panels) * (HEIGHT + GAP) + GAP
    title = f"queue health until {end:%Y-%m-%d %H:%M} UTC, with what is usual at each hour"
    drawn = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH + 2 * LEFT}" height="{height}"'
        ' font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="white"/>',
        f'<text x="{LEFT}" y="20" font-size="14">{escape(title)}</text>',
    ]
    if not panels:
        drawn.append(f'<text x="{LEFT}" y="{TOP + 10}">nothing waited</text>')
    for place, kind in enumerate(panels):
        drawn += _panel(kind, shown, known, TOP + place * (HEIGHT + GAP) + GAP // 2)
    return "\n".join([*drawn, "</svg>", ""])


def _panel(kind: Kind, shown: Sequence[Snapshot], known: Sequence[Snapshot], top: int) -> Iterator[str]:
    begin = shown[-1].at - SHOWN
    usuals = [(each, usual(kind, same_hours(known, each.at))) for each in shown]
    bands = [(each, known.median - known.spread, known.median + known.spread) for each, known in usuals if known.weeks]
    highest = max([each.numbers.get(kind, 0) for each in shown] + [high for _, _, high in bands]) or 1

    def x(snapshot: Snapshot) -> float:
        return LEFT + WIDTH * ((snapshot.at - begin) / SHOWN)

    def y(value: float) -> float:
        return top + HEIGHT * (1 - max(0.0, value) / highest)

    yield f'<text x="{LEFT}" y="{top - 5}">{escape(kind[1])}: now {shown[-1].numbers.get(kind, 0):,}</text>'
    yield f'<text x="{LEFT + WIDTH}" y="{top - 5}" text-anchor="end" fill="gray">up to {highest:,.0f}</text>'
    yield f'<rect x="{LEFT}" y="{top}" width="{WIDTH}" height="{HEIGHT}" fill="none" stroke="lightgray"/>'
    if bands:
        upper = [f"{x(each):.1f},{y(high):.1f}" for each, _, high in bands]
        lower = [f"{x(each):.1f},{y(low):.1f}" for each, low, _ in reversed(bands)]
        yield f'<polygon points="{" ".join([*upper, *lower])}" fill="lightsteelblue"/>'
    for run in _runs(shown):
        points = " ".join(f"{x(each):.1f},{y(each.numbers.get(kind, 0)):.1f}" for each in run)
        yield f'<polyline points="{points}" fill="none" stroke="navy" stroke-width="1.5"/>'


def _runs(shown: Sequence[Snapshot]) -> Iterator[list[Snapshot]]:
    """The snapshots, parted where an hour or more is missing."""
    run: list[Snapshot] = []
    for each in shown:
        if run and each.at - run[-1].at > _GAP_IN_LINE:
            yield run
            run = []
        run.append(each)
    yield run
