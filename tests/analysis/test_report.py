from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any

import pytest

from mathreason.analysis.compare import compare_run
from mathreason.analysis.report import render_report, write_report
from mathreason.analysis.report_items import MAX_BROWSER_ITEMS, MAX_RESPONSE_CHARACTERS
from mathreason.errors import InputError
from mathreason.results import RunDir

BuildRun = Callable[..., RunDir]


class Page(HTMLParser):
    """The tags, the texts of elements, and what stands in each script and style of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.raw: list[tuple[str, str]] = []
        self.words: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.cdata_elem is not None:
            self.raw.append((self.cdata_elem, data))
        else:
            self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"[ \t\n]+", " ", " ".join(self.words)).strip()


def samples_in(page: Page) -> dict[str, Any]:
    scripts = [text for tag, text in page.raw if tag == "script"]
    found: dict[str, Any] = json.loads(scripts[0])
    return found


def edit_samples(run: RunDir, variant: str, change: Callable[[list[dict[str, Any]]], object]) -> None:
    path = run.samples("gsm8k", variant)
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    change(rows)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_the_first_sentence_is_the_answer(build_run: BuildRun) -> None:
    run = build_run("gsm8k", n=300)
    result = compare_run(run)["benchmarks"]["gsm8k"]
    difference = {end: 100 * result["difference"][end] for end in ("value", "low", "high")}
    text = Page(write_report(run).read_text()).text
    assert (
        f"Better {100 * result['base']['value']:.1f} % → {100 * result['tuned']['value']:.1f} %, "
        "{value:+.1f} points [{low:.1f}, {high:.1f}], exact McNemar test p = ".format(**difference)
    ) in text
    assert "300 items" in text
    assert "CONTAMINATED" not in text


def test_contamination_is_marked_and_takes_the_praise_back(build_run: BuildRun) -> None:
    page = Page(render_report(build_run("gsm8k", n=300, clean=False)))
    assert "CONTAMINATED gsm8k: 12 test items stand in the training data (12 marked)." in page.text
    assert "12 training problems match test items of gsm8k and were kept." in page.text
    assert "Better, on contaminated data" in page.text
    assert not [attrs for _, attrs in page.tags if attrs.get("class") == "answer better"]


def test_nothing_is_loaded_and_only_its_own_code_may_run(build_run: BuildRun) -> None:
    html = render_report(build_run("gsm8k", "svamp", n=40, hostile=True))
    page = Page(html)
    assert not re.search(r"https?://|//[a-z]", re.sub(r"// [A-Z].*|// page.*", "", html))
    for tag, attributes in page.tags:
        assert tag not in {"link", "img", "iframe", "object", "embed", "base", "form"}
        assert not {"src", "href", "style", "srcset"} & set(attributes)
        assert not [name for name in attributes if name.startswith("on")]
    policy = next(attrs["content"] for _, attrs in page.tags if attrs.get("http-equiv")) or ""
    assert policy.startswith("default-src 'none'; ")
    style = next(text for tag, text in page.raw if tag == "style")
    script = [text for tag, text in page.raw if tag == "script"][1]
    for kind, text in (("style", style), ("script", script)):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
    assert "unsafe" not in policy


def test_hostile_responses_are_shown_as_text(build_run: BuildRun) -> None:
    page = Page(render_report(build_run("gsm8k", n=40, base_rate=0.0, tuned_rate=1.0, hostile=True)))
    assert [tag for tag, _ in page.tags].count("script") == 2
    assert "</script><script>document.title='owned'</script>" in page.text
    assert "<img src=x onerror=\"document.title='owned'\">" in page.text
    assert "nul ⟨U+0000⟩ here, ⟨U+202E⟩gnp.exe and ⟨U+200F⟩ marks, lone ⟨U+D800⟩ surrogate" in page.text
    assert "{{ 7 * 7 }} {% raw %} <!-- <b>bold</b> &amp; --> ]]> ⟨U+2028⟩ end" in page.text


def test_hostile_names_are_shown_as_text(build_run: BuildRun) -> None:
    run = build_run("gsm8k", n=10)
    run.run.write_text(json.dumps({"status": "<b>done", "name": "<script>alert(1)</script>\x00"}))
    run.job.write_text("name: </pre><script>alert(2)</script>")
    page = Page(render_report(run))
    assert [tag for tag, _ in page.tags].count("script") == 2
    assert "<script>alert(1)</script>⟨U+0000⟩" in page.text
    assert "</pre><script>alert(2)</script>" in page.text


def test_the_browser_holds_every_response_with_its_first_wrong_calculation(build_run: BuildRun) -> None:
    run = build_run("gsm8k", n=60)
    items = samples_in(Page(render_report(run)))["gsm8k"]
    rows = [json.loads(line) for line in run.samples("gsm8k", "base").read_text().splitlines()]
    shown = ["".join(text for text, _, _ in item["base"]["parts"]) for item in items]
    assert shown == [row["response"] for row in rows]
    slips = [item["base"] for item in items if item["base"]["category"] == "arithmetic slip"]
    assert slips
    for side in slips:
        marked = [(text, note) for text, marks, note in side["parts"] if "wrong" in marks]
        [(text, note)] = marked
        a, sign, b = re.fullmatch(r"(\d+) ([+-]) (\d+) = -?\d+", text).groups()  # type: ignore[union-attr]
        assert note == f"gives {int(a) + int(b) if sign == '+' else int(a) - int(b)}"
        assert re.fullmatch(r"wrong calculation in step \d+ of \d+", side["slip"])
    right = [item["base"] for item in items if item["base"]["correct"]]
    assert right
    assert all("wrong" not in marks for side in right for _, marks, _ in side["parts"])


def test_items_and_responses_are_cut_and_the_page_says_so(build_run: BuildRun) -> None:
    run = build_run("gsm8k", n=MAX_BROWSER_ITEMS + 5)
    long = "x" * MAX_RESPONSE_CHARACTERS
    edit_samples(run, "base", lambda rows: rows[0].update(response=long + "THE END"))
    page = Page(render_report(run))
    items = samples_in(page)["gsm8k"]
    assert len(items) == MAX_BROWSER_ITEMS
    assert items[0]["base"]["parts"] == [[long, "", ""]]
    assert items[0]["base"]["cut"] is True
    assert items[1]["base"]["cut"] is False
    assert "gsm8k: the first 1\u202f000 of 1\u202f005 items." in page.text
    assert "Responses are cut at 4\u202f000 characters." in page.text


def test_training_and_data_are_told_with_their_numbers(build_run: BuildRun) -> None:
    text = Page(render_report(build_run("gsm8k", n=20))).text
    for told in (
        "training loss, first → last 2.050 → 0.360",
        "trained tokens per second 5\u202f210",
        "peak memory 9.2 GiB",
        "time 12 min 36 s",
        "Fell back: attention: flash_attention_2 is not installed, sdpa is used",
        "contaminated duplicate no answer too long",
        "gsm_hard train 1\u202f000 1\u202f319 2 1\u202f316 0 0 1",
        "fell back: the local copy does not exist",
        "4\u202f423 problems checked against gsm8k: 1\u202f320 match a test item",
        "exact after masking numbers",
        "train 3\u202f900 problems, 701\u202f556 total tokens, 406\u202f172 supervised tokens",
    ):
        assert told in text


def test_an_evaluation_without_training_has_no_training_section(build_run: BuildRun) -> None:
    text = Page(render_report(build_run("gsm8k", n=20, training=False))).text
    assert "Training" not in text
    assert "Contamination audit" not in text
    assert "gsm8k in detail" in text


def test_training_without_an_evaluation_says_that_nothing_is_evaluated(build_run: BuildRun) -> None:
    page = Page(render_report(build_run()))
    assert "Nothing evaluated yet" in page.text
    assert "optimizer steps 1\u202f120" in page.text
    assert samples_in(page) == {}


def test_training_under_way_is_told_from_its_log(build_run: BuildRun) -> None:
    run = build_run()
    run.train.unlink()
    with run.log.open("a") as file:
        file.write('{"step": 1125, "lo')
    html = render_report(run)
    assert "Training has not finished" in html
    assert 'class="curve base"' in html
    assert 'class="curve tuned"' in html


@pytest.mark.parametrize(("variant", "missing"), [("base", "tuned"), ("tuned", "base")])
def test_one_side_alone_is_reported_without_a_comparison(
    build_run: BuildRun, variant: str, missing: str
) -> None:
    page = Page(render_report(build_run("gsm8k", n=50, variants=(variant,))))
    assert "No comparison yet" in page.text
    assert f"50 items; {missing} has not been evaluated" in page.text
    assert {item["outcome"] for item in samples_in(page)["gsm8k"]} <= {"right", "wrong"}
    assert "McNemar test p =" not in page.text


def test_several_benchmarks_are_answered_one_by_one(build_run: BuildRun) -> None:
    page = Page(render_report(build_run("gsm8k", "svamp", n=60)))
    assert page.text.count("exact McNemar test p = ") == 2
    assert "svamp in detail" in page.text
    assert "Holm’s p allows for the number of benchmarks" in page.text
    assert set(samples_in(page)) == {"gsm8k", "svamp"}


def test_evaluations_that_cannot_be_compared_are_not_reported(build_run: BuildRun) -> None:
    run = build_run("gsm8k", n=20)
    edit_samples(run, "tuned", lambda rows: rows[3].update(prompt_sha256="ff"))
    with pytest.raises(InputError, match="prompts of item gsm8k/test/3 differ"):
        write_report(run)
    assert not run.report.exists()


def test_a_folder_that_is_no_run_is_refused(build_run: BuildRun) -> None:
    run = build_run("gsm8k", n=10)
    run.run.unlink()
    with pytest.raises(InputError, match="not a run directory"):
        write_report(run)


def test_without_a_script_everything_but_the_browser_is_there(build_run: BuildRun) -> None:
    page = Page(render_report(build_run("gsm8k", n=30)))
    controls = next(attrs for _, attrs in page.tags if attrs.get("id") == "samples-controls")
    assert "hidden" in controls
    assert "noscript" in [tag for tag, _ in page.tags]
    assert [tag for tag, _ in page.tags].count("svg") == 1 + 4 + 4 + 1
    assert "Fixed by tuning: 5 of " in page.text


def test_the_same_run_gives_the_same_report(build_run: BuildRun) -> None:
    run = build_run("gsm8k", n=30)
    assert render_report(run) == render_report(run)


def test_errors_are_told_by_kind_by_type_and_by_what_became_of_them(build_run: BuildRun) -> None:
    run = build_run("gsm8k", n=120)
    text = Page(render_report(run)).text
    for told in (
        "What became of the items base ↓ tuned →",
        "Accuracy by operations in the reference solution",
        "Accuracy by type",
        "Accuracy by largest number in the question",
        "Accuracy by reference answer",
        "Algebra 40",
        "too few to tell",
        "calculations written",
        "Fixed by tuning: 5 of ",
        "Broken by tuning: ",
    ):
        assert told in text


def test_fixed_and_broken_items_show_the_step_in_which_the_responses_part(build_run: BuildRun) -> None:
    run = build_run("gsm8k", n=60)
    items = samples_in(Page(render_report(run)))["gsm8k"]
    marked = 0
    for item in items:
        sides = [item["base"], item["tuned"]]
        shaded = [[text for text, marks, _ in side["parts"] if "differs" in marks] for side in sides]
        if item["outcome"] in ("both", "neither"):
            assert shaded == [[], []]
        elif all(shaded):
            marked += 1
            texts = ["".join(text for text, _, _ in side["parts"]) for side in sides]
            before = [text[: text.index("".join(part))] for text, part in zip(texts, shaded, strict=True)]
            results = [re.findall(r"= (-?\d+)", text) for text in before]
            shared = min(map(len, results))
            assert results[0][:shared] == results[1][:shared]
    assert marked > 5


def test_hostile_responses_are_text_in_every_part_of_the_errors(build_run: BuildRun) -> None:
    run = build_run("gsm8k", n=40, base_rate=0.0, tuned_rate=1.0, hostile=True)
    attack = "<b onclick=alert(1)>"
    edit_samples(
        run,
        "base",
        lambda rows: rows[0].update(response=f"{attack} 2 + 2 = 5 {attack}", attributes={attack: attack}),
    )
    html = render_report(run)
    assert attack not in html
    assert "b onclick" in html
