"""Charts as inline SVG text, drawn without a library, for the report.

    accuracy_bars([("gsm8k", {"base": accuracy, "tuned": accuracy})])    '<svg class="figure" ...>'

Each takes plain values and returns one <svg> that scales with its box, names itself in <title> for a
screen reader, and escapes every text it is given. Colours come from CSS classes (PALETTE below), so one
figure serves light, dark and print; a chart without data says "Nothing to draw yet" in its place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from math import ceil, floor, log10
from typing import Any

from mathreason.analysis.format import percent

# Hues after Okabe and Ito (blue, bluish green, vermilion, sky blue, grey), told apart with any common colour
# vision; each keeps a contrast of at least 3 to its background (WCAG 2.2, 1.4.11), light or dark.
PALETTE = """
:root { --base: #7a8793; --tuned: #0a6cb5; --both: #2f8fc2; --fixed: #0a8560; --broken: #c9510c;
  --neither: #87919b; --grid: #d9dee3; }
@media (prefers-color-scheme: dark) { :root { --base: #7d8a96; --tuned: #3d8fd8; --both: #7cc4ec;
  --fixed: #35c493; --broken: #f08c4b; --neither: #6b7681; --grid: #343c44; } }
.figure { display: block; width: 100%; height: auto; }
.figure text { fill: currentColor; font-size: 13px; font-family: inherit; }
.figure .quiet { opacity: 0.72; font-size: 12px; }
.figure .grid { stroke: var(--grid); stroke-width: 1; }
.figure .whisker { stroke: currentColor; stroke-width: 1.5; }
.figure .curve { fill: none; stroke-width: 2; stroke-linejoin: round; }
.figure .base { fill: var(--base); } .figure .tuned { fill: var(--tuned); }
.figure .both { fill: var(--both); } .figure .fixed { fill: var(--fixed); }
.figure .broken { fill: var(--broken); } .figure .neither { fill: var(--neither); }
.figure .curve.base { fill: none; stroke: var(--base); }
.figure .curve.tuned { fill: none; stroke: var(--tuned); }
"""

# Narrow, so that text drawn at 13 units is still 11 pixels high on a telephone.
WIDTH = 420
SIDES = ("base", "tuned")
LABELS = {side: side for side in SIDES}
MAX_POINTS = 400
MAX_BINS = 16
# A label's width is judged at this many units a character, wider than system fonts are at 13 px.
CHARACTER = 7.6

Interval = Mapping[str, Any]


@dataclass(frozen=True)
class _Plot:
    """The rectangle of a chart in SVG units; shares run from 0 (left, bottom) to 1 (right, top)."""

    left: float
    right: float
    top: float
    bottom: float

    def x(self, share: float) -> float:
        return self.left + share * (self.right - self.left)

    def y(self, share: float) -> float:
        return self.bottom - share * (self.bottom - self.top)

    @property
    def middle(self) -> float:
        return (self.left + self.right) / 2


def accuracy_bars(
    rows: Sequence[tuple[str, Mapping[str, Interval | None]]],
    title: str = "Accuracy with 95 % intervals",
    labels: Mapping[str, str] = LABELS,
) -> str:
    """Horizontal bars of base and tuned accuracy with their intervals, one group a benchmark or type."""
    marks: list[str] = []
    y = 4.0
    plot = _Plot(56, WIDTH - 66, 0, 0)
    for name, sides in rows:
        marks.append(_text(0, y + 13, _shorten(name, WIDTH), "start"))
        y += 20
        for side in SIDES:
            accuracy = sides.get(side)
            if accuracy is not None:
                marks.append(_lying_bar(side, labels[side], accuracy, y, plot))
                y += 24
        y += 8
    grid = [
        _line(plot.x(share), 2, plot.x(share), y, "grid")
        + _text(plot.x(share), y + 16, f"{share:.0%}", "middle", "quiet")
        for share in (0, 0.25, 0.5, 0.75, 1)
    ]
    drawn = [*grid, *marks] if any(any(sides.values()) for _, sides in rows) else []
    return _svg(title, y + 24, drawn)


def _lying_bar(side: str, label: str, accuracy: Interval, y: float, plot: _Plot) -> str:
    middle = y + 9
    low, high = plot.x(accuracy["low"]), plot.x(accuracy["high"])
    return (
        _text(plot.left - 8, middle + 4.5, label, "end", "quiet")
        + _rect(plot.left, y, max(1.0, plot.x(accuracy["value"]) - plot.left), 18, side)
        + _line(low, middle, high, middle, "whisker")
        + "".join(_line(x, middle - 4, x, middle + 4, "whisker") for x in (low, high))
        + _text(WIDTH, middle + 4.5, percent(accuracy["value"]), "end")
    )


def loss_curves(training: Sequence[tuple[float, float]], validation: Sequence[tuple[float, float]]) -> str:
    """Training and validation loss against the optimizer step; long logs are thinned to 400 points."""
    curves = [("training", "base", _thin(training)), ("validation", "tuned", _thin(validation))]
    points = [point for _, _, curve in curves for point in curve]
    if not points:
        return _svg("Training and validation loss", 0, [])
    plot = _Plot(46, WIDTH - 22, 34, 240)
    x_ticks = _ticks(max(x for x, _ in points), 5)
    y_ticks = _ticks(max(y for _, y in points), 5)
    marks = _axes(plot, x_ticks, y_ticks)
    marks.append(_text(plot.middle, plot.bottom + 36, "optimizer step", "middle", "quiet"))
    for _, style, curve in curves:
        placed = [(plot.x(x / x_ticks[-1]), plot.y(y / y_ticks[-1])) for x, y in curve]
        if len(placed) > 1:
            path = " ".join(f"{x:.1f},{y:.1f}" for x, y in placed)
            marks.append(f'<polyline class="curve {style}" points="{path}"/>')
        if len(placed) == 1 or style == "tuned":
            marks += [f'<circle class="{style}" cx="{x:.1f}" cy="{y:.1f}" r="2.8"/>' for x, y in placed]
    marks.append(_legend([(style, name) for name, style, curve in curves if curve], plot.left))
    return _svg("Training and validation loss", plot.bottom + 44, marks)


def accuracy_by_steps(rows: Sequence[Mapping[str, Any]]) -> str:
    """Accuracy of both models for each number of solution steps; `rows` as errors.by_steps returns them."""
    plot = _Plot(46, WIDTH - 6, 34, 220)
    marks = _axes(plot, [], [0, 25, 50, 75, 100], "%")
    slot = (plot.right - plot.left) / max(1, len(rows))
    width = min(26.0, slot * 0.36)
    for position, row in enumerate(rows):
        middle = plot.left + (position + 0.5) * slot
        for side, x in (("base", middle - width - 1), ("tuned", middle + 1)):
            if row[side] is not None:
                marks.append(_upright_bar(side, row[side], x, width, plot))
        marks.append(_text(middle, plot.bottom + 17, str(row["steps"]), "middle"))
        marks.append(_text(middle, plot.bottom + 33, f"n={row['n']}", "middle", "quiet"))
    note = "steps in the reference solution"
    marks.append(_text(plot.middle, plot.bottom + 54, note, "middle", "quiet"))
    present = [side for side in SIDES if any(row[side] for row in rows)]
    marks.append(_legend([(side, side) for side in present], plot.left))
    return _svg("Accuracy by number of solution steps", plot.bottom + 62, marks if rows else [])


def _upright_bar(side: str, accuracy: Interval, x: float, width: float, plot: _Plot) -> str:
    height = max(1.0, plot.bottom - plot.y(accuracy["value"]))
    low, high = plot.y(accuracy["low"]), plot.y(accuracy["high"])
    middle, cap = x + width / 2, min(4.0, width / 3)
    return (
        _rect(x, plot.bottom - height, width, height, side)
        + _line(middle, low, middle, high, "whisker")
        + "".join(_line(middle - cap, y, middle + cap, y, "whisker") for y in (low, high))
    )


def accuracy_by_variant(
    results: Sequence[Mapping[str, Any]], reference: str, title: str = "Accuracy by variant"
) -> str:
    """Mean accuracy of each variant with its interval, and a dot for each seed; the axis is cut to fit."""
    known = [result for result in results if result["accuracy"] is not None]
    if not known:
        return _svg(title, 0, [])
    values = [result["accuracy"][end] for result in known for end in ("low", "high")]
    values += [seed["accuracy"]["value"] for result in known for seed in result["seeds"]]
    ticks = _ticks_between(min(values), max(values), 5)
    plot = _Plot(14, WIDTH - 14, 0, 0)

    def place(value: float) -> float:
        return plot.x((value - ticks[0]) / (ticks[-1] - ticks[0]))

    marks: list[str] = []
    y = 4.0
    for result in known:
        name = f"{result['name']} (reference)" if result["name"] == reference else result["name"]
        marks.append(_text(0, y + 13, _shorten(name, WIDTH - 70), "start"))
        marks.append(_text(WIDTH, y + 13, percent(result["accuracy"]["value"]), "end"))
        marks.append(_seeds_and_interval(result, y + 30, place))
        y += 52
    grid = [
        _line(place(tick), 2, place(tick), y, "grid")
        + _text(place(tick), y + 16, f"{100 * tick:g}%", "middle", "quiet")
        for tick in ticks
    ]
    return _svg(title, y + 24, [*grid, *marks])


def _seeds_and_interval(result: Mapping[str, Any], y: float, place: Callable[[float], float]) -> str:
    accuracy = result["accuracy"]
    low, high = place(accuracy["low"]), place(accuracy["high"])
    dots = [place(seed["accuracy"]["value"]) for seed in result["seeds"]]
    return (
        _line(low, y, high, y, "whisker")
        + "".join(_line(x, y - 4, x, y + 4, "whisker") for x in (low, high))
        + _rect(place(accuracy["value"]) - 2, y - 7, 4, 14, "tuned")
        + "".join(f'<circle class="fixed" cx="{x:.1f}" cy="{y + 12:.1f}" r="3.2"/>' for x in dots)
    )


def transition_bar(counts: Mapping[str, int]) -> str:
    """One bar of all items: right with both models, fixed, broken, right with neither."""
    words = {
        "both": "right before and after",
        "fixed": "fixed by tuning",
        "broken": "broken by tuning",
        "neither": "wrong before and after",
    }
    n = sum(counts.values())
    marks: list[str] = []
    x, y = 0.0, 58.0
    for name, word in words.items():
        width = counts[name] / n * WIDTH if n else 0.0
        if width:
            marks.append(_rect(x, 4, width, 32, name))
        x += width
        share = f"{counts[name]}  ({100 * counts[name] / n:.1f} %)" if n else ""
        marks += [_rect(0, y - 11, 12, 12, name), _text(20, y, word, "start"), _text(WIDTH, y, share, "end")]
        y += 22
    return _svg("Items by outcome before and after tuning", y - 12, marks if n else [])


def length_histogram(lengths: Mapping[str, Sequence[int]]) -> str:
    """How many responses have how many tokens, base beside tuned."""
    present = {side: lengths[side] for side in SIDES if lengths.get(side)}
    if not present:
        return _svg("Response length", 0, [])
    plot = _Plot(46, WIDTH - 22, 34, 220)
    x_ticks = _ticks(max(max(values) for values in present.values()), 5)
    bins = min(MAX_BINS, ceil(x_ticks[-1]))
    counts = {side: [0] * bins for side in present}
    for side, values in present.items():
        for value in values:
            counts[side][min(bins - 1, int(value / x_ticks[-1] * bins))] += 1
    y_ticks = _ticks(max(max(column) for column in counts.values()), 4)
    marks = _axes(plot, x_ticks, y_ticks)
    slot = (plot.right - plot.left) / bins
    width = slot * 0.9 / len(present)
    for order, (side, column) in enumerate(counts.items()):
        for position, found in enumerate(column):
            top = plot.y(found / y_ticks[-1])
            x = plot.left + (position + 0.05) * slot + order * width
            marks += [_rect(x, top, width, plot.bottom - top, side)] if found else []
    note = "response length in tokens"
    marks.append(_text(plot.middle, plot.bottom + 36, note, "middle", "quiet"))
    marks.append(_legend([(side, side) for side in present], plot.left))
    return _svg("Response length", plot.bottom + 44, marks)


def error_bars(categories: Mapping[str, Mapping[str, int] | None], labels: Mapping[str, str] = LABELS) -> str:
    """Wrong responses of each model by kind of error."""
    present = {side: counts for side in SIDES if (counts := categories.get(side)) is not None}
    highest = max((max(counts.values()) for counts in present.values()), default=0)
    left, right = 120, WIDTH - 48
    marks: list[str] = []
    y = 30.0
    for name in next(iter(present.values()), {}):
        marks.append(_text(left - 10, y + 9 * len(present) + 4.5, name, "end"))
        for side, counts in present.items():
            width = counts[name] / highest * (right - left) if highest else 0.0
            marks += [_rect(left, y, max(1.0, width), 15, side)]
            marks.append(_text(left + max(1.0, width) + 6, y + 12.5, str(counts[name]), "start", "quiet"))
            y += 18
        y += 10
    marks.append(_legend([(side, labels[side]) for side in present], left))
    return _svg("Wrong responses by kind of error", y, marks if highest else [])


# -- parts -----------------------------------------------------------------------------------------


def _svg(title: str, height: float, marks: Sequence[str]) -> str:
    if not marks:
        height = 60
        marks = [_text(WIDTH / 2, 36, "Nothing to draw yet", "middle", "quiet")]
    return (
        f'<svg class="figure" role="img" viewBox="0 0 {WIDTH} {ceil(height)}" '
        f'preserveAspectRatio="xMidYMid meet"><title>{escape(title)}</title>{"".join(marks)}</svg>'
    )


def _text(x: float, y: float, text: str, anchor: str, style: str = "") -> str:
    kind = f' class="{style}"' if style else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{kind}>{escape(text)}</text>'


def _rect(x: float, y: float, width: float, height: float, style: str) -> str:
    return f'<rect class="{style}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"/>'


def _line(x1: float, y1: float, x2: float, y2: float, style: str) -> str:
    return f'<line class="{style}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _legend(entries: Sequence[tuple[str, str]], x: float) -> str:
    """Coloured squares with their names in the top row; `entries` are (class, name)."""
    drawn = ""
    for style, name in entries:
        drawn += _rect(x, 5, 12, 12, style) + _text(x + 18, 15.5, name, "start")
        x += 18 + CHARACTER * len(name) + 22
    return drawn


def _axes(plot: _Plot, x_ticks: Sequence[float], y_ticks: Sequence[float], unit: str = "") -> list[str]:
    """Horizontal grid lines with their values, and the values along the bottom."""
    marks: list[str] = []
    for tick in y_ticks:
        y = plot.y(tick / y_ticks[-1])
        marks.append(_line(plot.left, y, plot.right, y, "grid"))
        marks.append(_text(plot.left - 8, y + 4, f"{tick:g}{unit}", "end", "quiet"))
    for tick in x_ticks:
        marks.append(_text(plot.x(tick / x_ticks[-1]), plot.bottom + 18, f"{tick:g}", "middle", "quiet"))
    return marks


def _ticks(high: float, wanted: int) -> list[float]:
    """About `wanted` round values from 0 to the first at or above `high`."""
    span = high if high > 0 else 1.0
    magnitude: float = 10.0 ** floor(log10(span / wanted))
    step = next(size * magnitude for size in (1, 2, 2.5, 5, 10) if size * magnitude * wanted >= span)
    return [round(step * number, 10) for number in range(ceil(span / step - 1e-9) + 1)]


def _ticks_between(low: float, high: float, wanted: int) -> list[float]:
    """About `wanted` round values from the last at or below `low` to the first at or above `high`."""
    step = _ticks(max(high - low, 0.01), wanted)[1]
    first, last = floor(low / step + 1e-9), ceil(high / step - 1e-9)
    return [round(step * number, 10) for number in range(first, max(last, first + 1) + 1)]


def _thin(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most MAX_POINTS of the points, evenly spread, the last one always among them."""
    stride = ceil(len(points) / MAX_POINTS) or 1
    return list(points[::-stride][::-1])


def _shorten(name: str, room: float) -> str:
    most = int(room / CHARACTER)
    return name if len(name) <= most else name[: most - 1] + "…"
