"""Pictures of answers, as PNG or SVG, for somebody who reads a report: each says its units, its range and its source.

A picture is drawn from the answer to a named query, so whoever doubts it can ask for the numbers.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

from archive.errors import BadQuestion
from archive.files import write_file
from archive.queries.asking import Answer
from archive.queries.formats import amount, source_lines

WIDTH, PANEL = 10.0, 2.6
"""Inches."""
_WEEK = 7
_INK, _BARS, _LINES = "#333333", "#35618f", ("#35618f", "#d98c1f", "#b03a3a")
_AGES = {"under 1 hour": 1, "1 to 24 hours": 24, "1 to 7 days": 168, "over 7 days": 10**9}
"""What they end at, in hours."""
_STATES = ("in doubt", "undecided", "conflict")
"""As in_doubt.sql names them."""
_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MOST_DAYS = 1_100
"""About three years. More days would be narrower than a dot."""


@dataclass(frozen=True, slots=True)
class Plot:
    """A picture: the query whose answer it shows, and what draws it on a figure."""

    query: str
    shows: str
    draw: Callable[[Any, Answer], None]
    as_of: bool = False
    """It shows a moment, the end of the range, and not what happened in it."""


def save(plot: Plot, answer: Answer, path: Path, kind: str) -> None:
    """`kind` is png or svg; the option `--png` or `--svg` named the file. The same answer gives the same bytes.

    Raises BadQuestion if there are too many days, or the file cannot be written.
    """
    from matplotlib import rc_context  # noqa: PLC0415 - of the extra `finance`
    from matplotlib.figure import Figure  # noqa: PLC0415 - of the extra `finance`

    style = {
        "svg.hashsalt": "billing",
        "svg.fonttype": "none",
        "font.size": 10,
        "text.color": _INK,
        "axes.axisbelow": True,
    }
    with rc_context(style):
        figure = Figure(figsize=(WIDTH, PANEL), layout="constrained")
        if answer.table.num_rows:
            plot.draw(figure, answer)
        else:
            figure.text(0.5, 0.4, "nothing in this range", ha="center", fontsize=13, color="gray")
        width, height = figure.get_size_inches()
        lines = source_lines(answer)
        figure.set_size_inches(width, height + 0.6 + 0.17 * len(lines))
        figure.suptitle(f"{answer.title}\n{_range(plot, answer)}", fontsize=13, ha="left", x=0.01)
        figure.supxlabel("\n".join(lines), fontsize=7, color="gray", ha="left", x=0.01)
        metadata = {"Date": None} if kind == "svg" else {"Software": "billing"}
        write_file(f"--{kind}", path, lambda there: figure.savefig(there, format=kind, dpi=150, metadata=metadata))


def _range(plot: Plot, answer: Answer) -> str:
    """The days that were asked for, or those that the answer has."""
    zone = answer.time_zone
    since, until = (answer.parameters.get(name) for name in ("since", "until"))
    if "day" in answer.columns and answer.table.num_rows:
        days = answer.named_rows
        since, until = since or days[0]["day"], until or f"the end of {days[-1]['day']}"
        return f"from {since} until {until}, local days in {zone}"
    if plot.as_of:
        return f"as of {until or answer.asked_at.strftime('%Y-%m-%d %H:%M UTC')}"
    return f"from {since or 'the beginning'} until {until or 'now'}, local time in {zone}"


def _days(answer: Answer) -> list[date]:
    """Every day from the first to the last of the answer. Raises BadQuestion if there are too many."""
    named = [date.fromisoformat(row["day"]) for row in answer.named_rows]
    first, last = min(named), max(named)
    count = (last - first).days + 1
    if count > _MOST_DAYS:
        raise BadQuestion(
            f"{count} days do not fit on a picture; ask for at most {_MOST_DAYS} with --since and --until"
        )
    return [date.fromordinal(first.toordinal() + n) for n in range(count)]


def _by_day(figure: Any, answer: Answer) -> None:
    """A panel for each currency, because amounts of different currencies have no common scale."""
    days, sums = _days(answer), _sums(answer, "day", "minor")
    panels = _panels(figure, len(sums))
    for axes, (currency, by_day) in zip(panels, sums.items(), strict=True):
        amounts = [float(amount(by_day.get(day.isoformat(), 0), currency) or 0) for day in days]
        axes.bar(days, amounts, width=0.85, color=_BARS)
        total = amount(sum(by_day.values()), currency)
        axes.set_title(f"{currency}: {total:,} in all" if total is not None else currency, loc="left", fontsize=10)
        axes.set_ylabel(f"{currency} a day")
        _finish(axes)
        if len(days) < _WEEK:
            # A single day as a bar over the whole width says nothing.
            axes.set_xlim(days[-1] - timedelta(days=_WEEK - 1), days[-1] + timedelta(days=1))
    _dates(panels[-1], days)


def _sums(answer: Answer, by: str, column: str) -> dict[str, dict[str, int]]:
    sums: dict[str, dict[str, int]] = {}
    for row in answer.named_rows:
        of_currency = sums.setdefault(row["currency"] or "no currency", {})
        of_currency[row[by]] = of_currency.get(row[by], 0) + (row[column] or 0)
    return dict(sorted(sums.items()))


def _latency(figure: Any, answer: Answer) -> None:
    """A panel for the whole way, and one for single calls."""
    kinds = sorted({row["what"] for row in answer.named_rows}, reverse=True)
    panels = _panels(figure, len(kinds))
    for axes, kind in zip(panels, kinds, strict=True):
        rows = [row for row in answer.named_rows if row["what"] == kind]
        days = [date.fromisoformat(row["day"]) for row in rows]
        for column, words, color in zip(
            ("p50_ms", "p95_ms", "p99_ms"), ("half", "95 of 100", "99 of 100"), _LINES, strict=True
        ):
            at, shown = _with_gaps(days, [row[column] / 1000 for row in rows])
            axes.plot(at, shown, color=color, marker="o", markersize=3, linewidth=1.5, label=f"{words} took at most")
        axes.set_title(kind, loc="left", fontsize=10)
        axes.set_ylabel("seconds")
        axes.set_ylim(bottom=0)
        _finish(axes)
    panels[0].legend(loc="lower right", bbox_to_anchor=(1, 1), frameon=False, ncols=3, borderaxespad=0.2)
    _dates(panels[-1], _days(answer))


def _with_gaps(days: Sequence[date], values: Sequence[float]) -> tuple[list[date], list[float]]:
    """No line leads over a day without captures."""
    at, shown = [days[0]], [values[0]]
    for (before, day), value in zip(pairwise(days), values[1:], strict=True):
        if (day - before).days > 1:
            at.append(date.fromordinal(before.toordinal() + 1))
            shown.append(float("nan"))
        at.append(day)
        shown.append(value)
    return at, shown


def _ageing(figure: Any, answer: Answer) -> None:
    """A panel for each currency: how many are in doubt, and what they are worth."""
    rows = answer.named_rows
    currencies = sorted({row["currency"] or "no currency" for row in rows})
    panels = _panels(figure, len(currencies))
    for axes, currency in zip(panels, currencies, strict=True):
        of = [row for row in rows if (row["currency"] or "no currency") == currency]
        below = [0] * len(_AGES)
        for state, color in zip(_STATES, _LINES, strict=True):
            counts = [sum(row["state"] == state and _age(row) == age for row in of) for age in _AGES]
            axes.bar(list(_AGES), counts, width=0.6, bottom=below, color=color, label=state)
            below = [low + count for low, count in zip(below, counts, strict=True)]
        sums = [[row["minor"] or 0 for row in of if _age(row) == age] for age in _AGES]
        for place, (height, each) in enumerate(zip(below, sums, strict=True)):
            axes.annotate(
                _words(amount(sum(each), currency), currency) if each else "",
                (place, height),
                xytext=(0, 2),
                textcoords="offset points",
                ha="center",
                fontsize=9,
            )
        axes.set_ylim(0, max(below) * 1.25)
        axes.set_title(currency, loc="left", fontsize=10)
        axes.set_ylabel("captures and invoices")
        axes.yaxis.get_major_locator().set_params(integer=True)
        _finish(axes)
    panels[0].legend(loc="lower right", bbox_to_anchor=(1, 1), frameon=False, ncols=3, borderaxespad=0.2)
    panels[-1].set_xlabel("in doubt for")


def _age(row: Mapping[str, Any]) -> str:
    return next(age for age, below in _AGES.items() if row["hours"] < below)


def _words(value: Any, currency: str) -> str:
    return "" if value is None else f"{value:,} {currency}"


def _heat_map(figure: Any, answer: Answer) -> None:
    grid = [[0] * 24 for _ in _WEEKDAYS]
    for row in answer.named_rows:
        grid[row["weekday"] - 1][row["hour"]] += row["captures"]
    (axes,) = _panels(figure, 1, height=1.3)
    image = axes.imshow(grid, aspect="auto", cmap="Blues", interpolation="nearest", vmin=0)
    axes.set_yticks(range(7), _WEEKDAYS)
    axes.set_xticks(range(0, 24, 3), [f"{hour:02}:00" for hour in range(0, 24, 3)])
    axes.set_xlabel("local hour")
    figure.colorbar(image, ax=axes, label="captures", pad=0.01)


def _panels(figure: Any, count: int, height: float = 1.0) -> list[Any]:
    figure.set_size_inches(WIDTH, PANEL * height * count)
    axes = figure.subplots(count, 1, sharex=True, squeeze=False)
    return [row[0] for row in axes]


def _finish(axes: Any) -> None:
    axes.grid(axis="y", color="#dddddd", linewidth=0.7)
    axes.spines[["top", "right"]].set_visible(False)
    if axes.get_yaxis().get_major_formatter().__class__.__name__ == "ScalarFormatter":
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.10g}")


def _dates(axes: Any, days: Sequence[date]) -> None:
    from matplotlib.dates import AutoDateLocator, DateFormatter  # noqa: PLC0415 - of the extra `finance`

    if len(days) <= _WEEK:
        axes.set_xticks(days, [day.isoformat() for day in days])
        return
    axes.xaxis.set_major_locator(AutoDateLocator(minticks=3, maxticks=8))
    axes.xaxis.set_major_formatter(DateFormatter("%Y-%m-%d"))


PLOTS: Mapping[str, Plot] = {
    "captured_by_day": Plot("captures_by_day", "what was captured by day, a panel for each currency", _by_day),
    "latency": Plot("latency", "how long captures and single calls took, by day", _latency),
    "ageing": Plot("in_doubt", "what is in doubt, and for how long", _ageing, as_of=True),
    "heat_map": Plot("captures_by_hour", "captures by weekday and hour", _heat_map),
}
