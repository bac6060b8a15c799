"""What the page and the table of a sweep say."""

from __future__ import annotations

from collections.abc import Callable
from io import StringIO
from typing import Any

import pytest
from evaluations import change_summary
from rich.console import Console

from mathreason.analysis.sweep_comparison import Trained, compare_variants
from mathreason.analysis.sweep_page import render_sweep
from mathreason.analysis.sweep_table import sweep_table
from mathreason.results import RunDir

BuildRun = Callable[..., RunDir]
Compare = Callable[..., dict[str, Any]]


@pytest.fixture
def compare(build_run: BuildRun) -> Compare:
    """Compare variants of the given rates, each with two seeds, after a change to the last run."""

    def compared(change: Callable[[RunDir], object] | None = None, **rates: float) -> dict[str, Any]:
        trained = [
            Trained(
                name, {"lora.r": 8}, seed, build_run("gsm8k", n=150, tuned_rate=rate, name=f"{name}-{seed}")
            )
            for name, rate in rates.items()
            for seed in (1, 2)
        ]
        if change:
            change(trained[-1].run)
        return compare_variants("rank-sweep-12345678", trained, next(iter(rates)))

    return compared


def on_screen(comparison: dict[str, Any], width: int = 100) -> str:
    written = StringIO()
    Console(width=width, file=written).print(sweep_table(comparison))
    return written.getvalue()


def test_headline_names_what_is_better_and_what_is_worse(compare: Compare) -> None:
    page = render_sweep(compare(low=0.4, high=0.7, lower=0.1, same=0.41))
    assert '<span class="word">Better than low: high. Worse than low: lower</span>' in page
    assert '<div class="answer unclear">' in page
    assert '<div class="answer better">' in render_sweep(compare(low=0.4, high=0.7))
    assert '<div class="answer worse">' in render_sweep(compare(low=0.4, lower=0.1))
    assert "No evidence that any variant differs from low" in render_sweep(compare(low=0.4, same=0.41))
    assert "No comparison yet" in render_sweep(compare(low=0.4))


def test_page_links_every_run_and_draws_every_seed(compare: Compare) -> None:
    page = render_sweep(compare(low=0.4, high=0.7))
    for run in ("low-1", "low-2", "high-1", "high-2"):
        assert f'href="../{run}/report.html"' in page
    assert page.count("<circle") == 4
    assert page.count(">base<") == 1


def test_contamination_stands_on_top(compare: Compare) -> None:
    mark = {"clean": False, "marked": ["a"], "note": "12 rows are items"}
    comparison = compare(
        lambda run: change_summary(run, "tuned", lambda each: each.update(contamination=mark)),
        low=0.4,
        high=0.7,
    )
    page = render_sweep(comparison)
    assert '<div class="alarm" role="alert"><strong>CONTAMINATED</strong>' in page
    assert '<div class="answer unclear">' in page
    assert "high: CONTAMINATED: better than low" in on_screen(comparison)


def test_table_has_a_row_for_the_base_and_each_variant(compare: Compare) -> None:
    shown = on_screen(compare(low=0.4, high=0.7, same=0.41))
    lines = [line.split() for line in shown.splitlines()]
    starts = [line[0] for line in lines if line and line[0] in ("base", "low", "high", "same")]
    assert starts == ["base", "low", "high", "same"]
    assert "high: better than low by" in shown
    assert "at most 5 % for any false one among 2 (exact sign-flip test over items)" in shown
    assert max(len(line) for line in on_screen(compare(low=0.4, high=0.7), 80).splitlines()) <= 80


def test_one_comparison_is_not_called_a_family(compare: Compare) -> None:
    assert "The verdict rests on the exact sign-flip test over items" in on_screen(compare(low=0.4, high=0.7))
