"""The report in a real browser: each page is framed, measured from outside and left as it was written."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from html import escape, unescape
from pathlib import Path
from typing import Any

import pytest

from mathreason.analysis.report import render_report
from mathreason.analysis.report_graded import write_errors_page
from mathreason.analysis.sweep_comparison import Trained, compare_variants
from mathreason.analysis.sweep_page import render_sweep
from mathreason.results import RunDir

HOSTILE = "<img src=x onerror=\"document.title='owned'\">"

BuildRun = Callable[..., RunDir]
Look = Callable[..., dict[str, Any]]

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--enable-logging=stderr",
)

# Runs in the page around the frame; writes what it measured into the outer document.
PROBE = r"""
const page = document.querySelector("iframe");
page.addEventListener("load", () => {
  const inner = page.contentDocument;
  for (const details of inner.querySelectorAll("details")) details.open = true;
  const box = (element) => {
    const found = element.getBBox();
    return [found.x, found.y, found.x + found.width, found.y + found.height];
  };
  const overlap = (a, b) =>
    Math.min(a[2], b[2]) - Math.max(a[0], b[0]) > 0.5 && Math.min(a[3], b[3]) - Math.max(a[1], b[1]) > 1.5;
  const figures = Array.from(inner.querySelectorAll("svg"), (svg) => {
    const marks = Array.from(svg.querySelectorAll("rect, polyline, circle"));
    const texts = Array.from(svg.querySelectorAll("text"));
    const view = svg.viewBox.baseVal;
    const clashes = [];
    texts.forEach((one, i) => texts.slice(i + 1).forEach((other) => {
      if (overlap(box(one), box(other))) clashes.push([one.textContent, other.textContent]);
    }));
    const outside = texts.filter((text) => {
      const [left, top, right, bottom] = box(text);
      return left < -0.5 || top < -0.5 || right > view.width + 0.5 || bottom > view.height + 0.5;
    });
    return {
      title: svg.querySelector("title").textContent,
      width: svg.getBoundingClientRect().width,
      marks: marks.filter((mark) => {
        const drawn = mark.getBoundingClientRect();
        return drawn.width * drawn.height > 0;
      }).length,
      unpainted: marks.filter((mark) => {
        const style = inner.defaultView.getComputedStyle(mark);
        return mark.tagName === "polyline" ? style.stroke === "none" : style.fill === "rgb(0, 0, 0)";
      }).length,
      clashes,
      outside: outside.map((text) => text.textContent),
    };
  });
  const by = (name) => inner.getElementById("samples-" + name);
  const found = { figures };
  found.title = inner.title;
  found.scripts = inner.scripts.length;
  found.images = inner.images.length;
  found.text = inner.body.innerText;
  found.background = inner.defaultView.getComputedStyle(inner.body).backgroundColor;
  found.ink = inner.defaultView.getComputedStyle(inner.body).color;
  found.width = inner.defaultView.innerWidth;
  found.overflow = inner.documentElement.scrollWidth - inner.documentElement.clientWidth;
  found.wide = Array.from(inner.querySelectorAll("main *"))
    .filter((each) => !each.closest(".table, svg, details:not([open])"))
    .filter((each) => each.getBoundingClientRect().right > inner.documentElement.clientWidth + 0.5)
    .map((each) => each.tagName + "." + each.className);
  if (by("controls") && !by("controls").hidden) {
    const cards = () => Array.from(by("view").children, (card) => card.textContent);
    const fire = (name, kind) => by(name).dispatchEvent(new page.contentWindow.Event(kind));
    found.first = cards();
    by("next").click();
    found.second = cards();
    by("outcome").value = "broken";
    fire("outcome", "change");
    found.broken = cards();
    found.position = by("position").textContent;
    by("outcome").value = "";
    by("search").value = "GSM8K/test/17\n".trim();
    fire("search", "input");
    found.searched = cards();
    fire("search", "input");
    by("search").value = "";
    fire("search", "input");
    const marks = inner.querySelectorAll("#samples-view .response .wrong, #samples-view .note");
    found.marked = Array.from(marks, (each) => each.textContent);
  }
  document.getElementById("findings").textContent = JSON.stringify(found);
});
"""


@pytest.fixture(scope="session")
def chromium() -> str:
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if path := shutil.which(name):
            return path
    reason = "no chromium on this machine; `apt-get install chromium` brings it"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture
def look(chromium: str, tmp_path: Path) -> Look:
    """A function that shows a page at a width and in a colour scheme and returns what the probe found."""

    def measure(html: str, width: int = 1200, dark: bool = False) -> dict[str, Any]:
        frame = f'<iframe srcdoc="{escape(html)}" style="border:0;width:{width}px;height:900px"></iframe>'
        outer = tmp_path / "outer.html"
        outer.write_text(
            f'<!doctype html><meta charset="utf-8"><pre id="findings"></pre>{frame}<script>{PROBE}</script>',
            encoding="utf-8",
        )
        command = [
            chromium,
            *FLAGS,
            f"--user-data-dir={tmp_path / 'profile'}",
            f"--window-size={width + 40},1000",
            f"--blink-settings=preferredColorScheme={0 if dark else 1}",
            "--virtual-time-budget=10000",
            "--dump-dom",
            outer.as_uri(),
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
        written = re.search(r'<pre id="findings">(.*?)</pre>', done.stdout, re.DOTALL)
        assert written is not None
        assert written.group(1), f"the probe wrote nothing: {done.stderr[-2000:]}"
        found: dict[str, Any] = json.loads(unescape(written.group(1)))
        return found | {"console": [line for line in done.stderr.splitlines() if ":CONSOLE" in line]}

    return measure


def assert_well_drawn(found: dict[str, Any], width: int) -> None:
    assert found["console"] == []
    assert found["width"] == width
    assert found["overflow"] <= 0
    assert found["wide"] == []
    for figure in found["figures"]:
        assert figure["width"] > 200, figure["title"]
        assert figure["marks"] > 0, figure["title"]
        assert figure["unpainted"] == 0, figure["title"]
        assert figure["clashes"] == [], figure["title"]
        assert figure["outside"] == [], figure["title"]


@pytest.mark.slow
@pytest.mark.parametrize(("width", "dark"), [(1200, False), (1200, True), (400, False), (400, True)])
def test_the_page_is_drawn_without_errors_overflow_or_overlap(
    build_run: BuildRun, look: Look, width: int, dark: bool
) -> None:
    run = build_run("gsm8k", "a-benchmark-with-" + "a-very-long-name-" * 8, n=160, hostile=True)
    html = render_report(run)
    found = look(html, width, dark)
    assert_well_drawn(found, width)
    assert len(found["figures"]) == html.count("<svg") > 1 + 2 * (4 + 3) + 1
    assert found["background"] == ("rgb(21, 25, 29)" if dark else "rgb(255, 255, 255)")
    assert found["ink"] == ("rgb(230, 234, 238)" if dark else "rgb(28, 35, 41)")


@pytest.mark.slow
def test_hostile_text_is_text_in_the_browser(build_run: BuildRun, look: Look) -> None:
    found = look(render_report(build_run("gsm8k", n=40, base_rate=0.0, tuned_rate=1.0, hostile=True)))
    assert found["console"] == []
    assert found["title"] == "tinyllama-gsm8k: report"
    assert (found["scripts"], found["images"]) == (2, 0)
    for shown in ("<script>document.title='owned'</script>", "<img src=x onerror=", "⟨U+202E⟩gnp.exe"):
        assert shown in found["text"]
        assert any(shown in card for card in found["first"])


@pytest.mark.slow
def test_responses_can_be_paged_filtered_and_searched(build_run: BuildRun, look: Look) -> None:
    found = look(render_report(build_run("gsm8k", n=120, base_rate=0.5, tuned_rate=0.5)))
    assert len(found["first"]) == len(found["second"]) == 10
    assert found["first"][0].startswith("gsm8k/test/0 · ")
    assert found["second"][0].startswith("gsm8k/test/10 · ")
    assert found["broken"]
    assert all("· broken ·" in card for card in found["broken"])
    assert re.fullmatch(r"\d+ items, page 1 of \d+", found["position"])
    assert len(found["searched"]) == 1
    assert found["searched"][0].startswith("gsm8k/test/17 · ")


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments", [{"variants": ("base",)}, {"variants": ("tuned",), "training": False}, {"n": 1}]
)
def test_partial_runs_are_drawn_too(build_run: BuildRun, look: Look, arguments: dict[str, Any]) -> None:
    found = look(render_report(build_run("gsm8k", **{"n": 3, **arguments})), 400)
    assert found["console"] == []
    assert found["overflow"] <= 0
    assert all(not figure["clashes"] and not figure["outside"] for figure in found["figures"])


@pytest.mark.slow
def test_a_run_without_an_evaluation_is_drawn_too(build_run: BuildRun, look: Look) -> None:
    found = look(render_report(build_run()), 400)
    assert_well_drawn(found, 400)
    assert [figure["title"] for figure in found["figures"]] == ["Training and validation loss"]


@pytest.mark.slow
def test_the_probe_notices_what_it_looks_for(look: Look) -> None:
    broken = (
        '<!doctype html><main><svg viewBox="0 0 420 100" width="300"><title>t</title>'
        '<rect width="0" height="5"/><text x="5" y="20">one</text><text x="8" y="22">two</text>'
        '<text x="415" y="80">far outside</text></svg>'
        '<div style="width:3000px">wide</div><script>missing()</script></main>'
    )
    found = look(broken)
    assert any("missing is not defined" in line for line in found["console"])
    assert found["overflow"] > 0
    assert found["wide"]
    figure = found["figures"][0]
    assert (figure["marks"], figure["clashes"]) == (0, [["one", "two"]])
    assert (figure["unpainted"], figure["outside"]) == (1, ["far outside"])


@pytest.mark.slow
@pytest.mark.parametrize(("width", "dark"), [(1200, True), (400, False)])
def test_the_page_of_a_graded_file_is_drawn_too(look: Look, tmp_path: Path, width: int, dark: bool) -> None:
    rows = [
        {
            "question": f"What is {n} + {n}? " + "x" * 300 * (n == 3),
            "response": f"{HOSTILE} {n} + {n} = {2 * n + n % 2}\n#### {2 * n + n % 2}",
            "answer": str(2 * n),
            "correct": n % 2 == 0,
            "attributes": {"type": "a very long type of problem " * (1 + n % 3)},
        }
        for n in range(60)
    ]
    graded = tmp_path / "graded.jsonl"
    graded.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    found = look(write_errors_page(graded, tmp_path / "errors.html").read_text(encoding="utf-8"), width, dark)
    assert_well_drawn(found, width)
    assert found["title"] == "graded.jsonl: errors"
    assert HOSTILE in found["text"]
    assert found["marked"][:2] == ["1 + 1 = 3", "gives 2"]


@pytest.mark.slow
@pytest.mark.parametrize(("width", "dark"), [(1200, False), (1200, True), (400, False)])
def test_the_page_of_a_sweep_is_drawn_too(build_run: BuildRun, look: Look, width: int, dark: bool) -> None:
    rates = {"r=8": 0.30, "r=16": 0.45, "a variant with a very long name " * 4: 0.32, HOSTILE: 0.2}
    trained = []
    for number, (variant, rate) in enumerate(rates.items()):
        for seed in (1, 2, 3):
            run = build_run("gsm8k", n=120, tuned_rate=rate + 0.04 * seed, name=f"run-{number}-{seed}")
            trained.append(Trained(variant, {"lora.r": HOSTILE}, seed, run))
    found = look(render_sweep(compare_variants("sweep", trained, "r=8")), width, dark)
    assert_well_drawn(found, width)
    assert [figure["title"] for figure in found["figures"]] == ["Accuracy by variant"]
    assert found["figures"][0]["marks"] == 4 * (1 + 3)  # a mean and three seeds for each variant
    assert (found["scripts"], found["images"], found["title"]) == (0, 0, "sweep: sweep")
    assert "Better than r=8: r=16" in found["text"]
    assert HOSTILE in found["text"]
