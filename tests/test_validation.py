"""What is said of a job before it runs."""

from __future__ import annotations

from pathlib import Path

from support import Job

from mathreason.analysis.planning import detectable_before
from mathreason.config import JobConfig
from mathreason.validation import BENCHMARK_ITEMS, detectable


def job_with(job: Job, **evaluation: object) -> JobConfig:
    return JobConfig.model_validate({**job, "evaluation": {**job["evaluation"], **evaluation}})


def test_the_smallest_difference_follows_the_number_of_items(job: Job, tmp_path: Path) -> None:
    own = tmp_path / "items.jsonl"
    own.write_text('{"question": "1 + 1?", "answer": "2"}\n' * 500, encoding="utf-8")
    benchmarks = ["gsm8k", {"name": "mine", "path": str(own)}, {"name": "generator", "count": 100}]
    for limit, sizes in ((None, (1319, 500, 100)), (200, (200, 200, 100))):
        said = detectable(job_with(job, benchmarks=benchmarks, limit=limit))
        for line, n in zip(said, sizes, strict=True):
            points = detectable_before(n)
            assert points is not None
            assert f": {n} items show a difference of {100 * points:.1f} points or more" in line


def test_too_few_items_show_hardly_anything(job: Job) -> None:
    assert "2 items show a difference of hardly any size" in detectable(job_with(job, limit=2))[0]


def test_known_sizes_are_those_of_the_files(real_data: Path) -> None:
    for name, size in BENCHMARK_ITEMS.items():
        file = real_data / name / ("train.jsonl" if name == "gsm_hard" else "test.jsonl")
        if file.is_file():
            assert len(file.read_bytes().split(b"\n")) - file.read_bytes().endswith(b"\n") == size
