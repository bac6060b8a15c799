from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import asdict
from xml.etree import ElementTree

import pytest

from mathreason.analysis import figures
from mathreason.analysis.statistics import wilson

NAMESPACE = "{http://www.w3.org/2000/svg}"


def parse(svg: str) -> ElementTree.Element:
    return ElementTree.fromstring(svg.replace("<svg ", f'<svg xmlns="{NAMESPACE[1:-1]}" ', 1))  # noqa: S314


def texts(svg: str) -> list[str]:
    return [element.text or "" for element in parse(svg).iter(f"{NAMESPACE}text")]


def marks(svg: str, name: str, style: str) -> list[dict[str, float]]:
    """The numbers of every `name` element of class `style`."""
    return [
        {key: float(value) for key, value in element.attrib.items() if key != "class"}
        for element in parse(svg).iter(f"{NAMESPACE}{name}")
        if element.get("class") == style
    ]


def accuracy(correct: int, n: int) -> dict[str, object]:
    return asdict(wilson(correct, n))


EMPTY = [
    lambda: figures.accuracy_bars([]),
    lambda: figures.accuracy_bars([("gsm8k", {"base": None, "tuned": None})]),
    lambda: figures.loss_curves([], []),
    lambda: figures.accuracy_by_steps([]),
    lambda: figures.transition_bar({"both": 0, "fixed": 0, "broken": 0, "neither": 0}),
    lambda: figures.length_histogram({"base": [], "tuned": []}),
    lambda: figures.accuracy_by_variant([], "r=8"),
    lambda: figures.accuracy_by_variant([{"name": "r=8", "accuracy": None, "seeds": []}], "r=8"),
    lambda: figures.error_bars({"base": None, "tuned": None}),
    lambda: figures.error_bars({"base": {"truncated": 0}, "tuned": {"truncated": 0}}),
]


@pytest.mark.parametrize("draw", EMPTY)
def test_a_chart_without_data_says_so(draw: Callable[[], str]) -> None:
    assert texts(draw()) == ["Nothing to draw yet"]


def test_every_chart_names_itself_for_a_screen_reader() -> None:
    root = parse(figures.loss_curves([(1, 2.0)], []))
    assert root.get("role") == "img"
    assert root.findtext(f"{NAMESPACE}title") == "Training and validation loss"


def test_accuracy_bars_are_as_long_as_the_accuracy() -> None:
    svg = figures.accuracy_bars([("gsm8k", {"base": accuracy(50, 200), "tuned": accuracy(100, 200)})])
    (base,), (tuned,) = marks(svg, "rect", "base"), marks(svg, "rect", "tuned")
    assert tuned["width"] == pytest.approx(2 * base["width"], abs=0.2)
    whisker = marks(svg, "line", "whisker")[0]
    full = base["width"] / 0.25
    low, high = wilson(50, 200).low, wilson(50, 200).high
    assert whisker["x1"] - base["x"] == pytest.approx(low * full, abs=0.3)
    assert whisker["x2"] - base["x"] == pytest.approx(high * full, abs=0.3)
    assert {"gsm8k", "25.0 %", "50.0 %"} <= set(texts(svg))


def test_no_and_full_accuracy_stay_inside_the_chart() -> None:
    for draw in (
        figures.accuracy_bars([("x", {"base": accuracy(0, 9), "tuned": accuracy(9, 9)})]),
        figures.accuracy_by_steps([{"steps": "2", "n": 9, "base": accuracy(0, 9), "tuned": accuracy(9, 9)}]),
    ):
        width, height = (float(number) for number in (parse(draw).get("viewBox") or "").split()[2:])
        for style in ("base", "tuned"):
            for bar in marks(draw, "rect", style):
                assert bar["width"] > 0
                assert bar["height"] > 0
                assert 0 <= bar["x"] <= bar["x"] + bar["width"] <= width
                assert 0 <= bar["y"] <= bar["y"] + bar["height"] <= height


def test_a_long_name_is_cut_to_the_width_and_every_name_is_escaped() -> None:
    svg = figures.accuracy_bars([("<b>&" + "x" * 300, {"base": accuracy(1, 2), "tuned": None})])
    name = texts(svg)[0 if texts(svg)[0].startswith("<b>") else 5]
    assert name.startswith("<b>&xxx")
    assert name.endswith("…")
    assert len(name) * figures.CHARACTER <= figures.WIDTH


def test_one_logged_step_is_a_point_and_more_are_a_line() -> None:
    one = figures.loss_curves([(10, 1.5)], [])
    assert len(marks(one, "circle", "base")) == 1
    many = figures.loss_curves(
        [(step, 2.0 - step / 1000) for step in range(1, 1000)], [(500, 1.4), (999, 1.1)]
    )
    line = next(element for element in parse(many).iter(f"{NAMESPACE}polyline"))
    places = [tuple(map(float, place.split(","))) for place in (line.get("points") or "").split()]
    assert len(places) <= figures.MAX_POINTS
    assert [x for x, _ in places] == sorted(x for x, _ in places)
    assert places[0][1] < places[-1][1], "a falling loss goes down the page"
    assert len(marks(many, "circle", "tuned")) == 2


def test_transitions_fill_the_bar_in_proportion() -> None:
    svg = figures.transition_bar({"both": 10, "fixed": 60, "broken": 5, "neither": 25})
    segments = {name: marks(svg, "rect", name)[0]["width"] for name in ("both", "fixed", "broken", "neither")}
    assert sum(segments.values()) == pytest.approx(figures.WIDTH, abs=0.5)
    assert segments["fixed"] == pytest.approx(0.6 * figures.WIDTH, abs=0.2)
    assert "60  (60.0 %)" in texts(svg)


def test_the_histogram_counts_every_response() -> None:
    lengths = [3, 3, 40, 199, 256]
    svg = figures.length_histogram({"base": lengths, "tuned": [10] * 5})
    bars = [bar["height"] for bar in marks(svg, "rect", "base") if bar["y"] > 20]
    tallest = max(bar["height"] for bar in marks(svg, "rect", "tuned"))
    assert sum(bars) == pytest.approx(tallest, abs=0.5), "five responses either way"


def test_a_histogram_of_one_length_is_drawn() -> None:
    svg = figures.length_histogram({"base": [1], "tuned": []})
    assert any(bar["y"] > 20 for bar in marks(svg, "rect", "base"))


def test_error_bars_carry_their_counts() -> None:
    counts = {"truncated": 3, "no answer": 0, "arithmetic slip": 40, "wrong set-up": 7}
    svg = figures.error_bars({"base": counts, "tuned": dict.fromkeys(counts, 1)})
    assert {"3", "0", "40", "7", *counts} <= set(texts(svg))


def luminance(colour: str) -> float:
    """Relative luminance of an sRGB colour (WCAG 2.2)."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize(("scheme", "background"), [(0, "#ffffff"), (1, "#15191d")])
def test_every_mark_has_enough_contrast_to_the_page(scheme: int, background: str) -> None:
    block = figures.PALETTE.split("@media")[scheme]
    colours = {name: value for name, value in re.findall(r"--(\w+): (#\w{6})", block) if name != "grid"}
    assert set(colours) == {"base", "tuned", "both", "fixed", "broken", "neither"}
    for name, colour in colours.items():
        light, dark = sorted((luminance(colour), luminance(background)), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 3, name


def variant(name: str, *correct: int, n: int = 100) -> dict[str, object]:
    seeds = [{"seed": seed, "accuracy": accuracy(right, n)} for seed, right in enumerate(correct)]
    return {"name": name, "accuracy": accuracy(sum(correct), n * len(correct)), "seeds": seeds}


def test_variants_are_placed_on_an_axis_cut_to_what_is_shown() -> None:
    svg = figures.accuracy_by_variant([variant("r=8", 40, 44, 42), variant("r=<16>", 50, 60)], "r=8")
    ticks = [float(text[:-1]) for text in texts(svg) if text.endswith("%") and " " not in text]
    assert (ticks[0], ticks[-1]) == (30, 70)
    dots = marks(svg, "circle", "fixed")
    places = [tick["x1"] for tick in marks(svg, "line", "grid")]
    per_point = (places[-1] - places[0]) / 40
    for dot, percent in zip(dots, (40, 44, 42, 50, 60), strict=True):
        assert dot["cx"] == pytest.approx(places[0] + (percent - 30) * per_point, abs=0.1)
    means = [mean["x"] + 2 for mean in marks(svg, "rect", "tuned")]
    assert means == pytest.approx([places[0] + (each - 30) * per_point for each in (42, 55)], abs=0.1)
    assert {"r=8 (reference)", "r=<16>", "42.0 %", "55.0 %"} <= set(texts(svg))


@pytest.mark.parametrize("correct", [0, 1])
def test_variants_that_are_all_alike_are_drawn_too(correct: int) -> None:
    svg = figures.accuracy_by_variant([variant("a", correct, n=1)], "a")
    assert len(marks(svg, "circle", "fixed")) == 1
    huge = [variant(name, 99_990_000, n=100_000_000) for name in ("a", "b")]
    for dot in marks(figures.accuracy_by_variant(huge, "a"), "circle", "fixed"):
        assert 0 <= dot["cx"] <= figures.WIDTH
