"""The job file: strict, with file, line and the nearest known key; extends and --set."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mathreason.errors import InputError
from mathreason.jobfile import dump_job, load_job, run_id
from mathreason.schema import job_schema

JOBS = Path(__file__).resolve().parent.parent / "jobs"

MINIMAL = """\
name: a
model: {name: embedded}
data:
  mixture:
    - {source: gsm8k, count: 10}
"""


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def problems_of(path: Path, overrides: list[str] | None = None) -> list[str]:
    with pytest.raises(InputError) as caught:
        load_job(path, overrides)
    return str(caught.value).splitlines()


def test_unknown_key_names_file_line_and_nearest_key(tmp_path: Path) -> None:
    path = write(tmp_path / "a.yaml", MINIMAL + "training:\n  epochs: 1\n  learning_rte: 1e-4\n")
    assert problems_of(path) == [
        f"{path}:8: unknown key 'training.learning_rte'; did you mean 'learning_rate'?"
    ]


def test_key_in_the_wrong_section_is_pointed_to_its_place(tmp_path: Path) -> None:
    path = write(tmp_path / "a.yaml", MINIMAL + "learning_rate: 1e-4\n")
    assert problems_of(path) == [
        f"{path}:6: unknown key 'learning_rate'; did you mean 'training.learning_rate'?"
    ]


def test_all_problems_are_reported_at_once(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.yaml",
        MINIMAL.replace("count: 10", "count: 0")
        + 'training:\n  epochs: "2"\nevaluation:\n  limit: 0\n  benchmarks: [gsm9k]\nlora: {r: 1.5}\n',
    )
    lines = problems_of(path)
    assert [line.split(": ")[0].rpartition(":")[2] for line in lines] == ["5", "11", "7", "10", "9"]
    assert "data.mixture.0.count: must be at least 1, is 0" in lines[0]
    assert "evaluation.limit: must be at least 1, is 0" in "\n".join(lines)
    assert "training.epochs: must be a valid number, is '2'" in "\n".join(lines)


def test_scientific_notation_is_a_number(tmp_path: Path) -> None:
    path = write(tmp_path / "a.yaml", MINIMAL + "training: {learning_rate: 1e-4}\n")
    assert load_job(path).training.learning_rate == 1e-4


def test_defaults_are_the_recipe(tmp_path: Path) -> None:
    job = load_job(write(tmp_path / "a.yaml", MINIMAL))
    assert (job.lora.r, job.lora.alpha, job.lora.dropout) == (32, 64, 0.1)
    assert len(job.lora.target_modules) == 7
    assert (job.training.epochs, job.training.gradient_accumulation) == (2.0, 8)
    assert (job.training.learning_rate, job.training.weight_decay, job.training.warmup_ratio) == (
        1e-4,
        0.05,
        0.05,
    )
    assert (job.training.scheduler, job.training.optimizer) == ("cosine", "paged_adamw_32bit")
    assert (job.model.quantization, job.training.gradient_checkpointing) == ("nf4", True)
    assert job.data.on_contamination == "drop"


def test_set_overrides_one_value_and_is_named_in_its_error(tmp_path: Path) -> None:
    path = write(tmp_path / "a.yaml", MINIMAL)
    job = load_job(path, ["training.learning_rate=2e-4", "data.mixture.0.count=5", "evaluation.limit=null"])
    assert (job.training.learning_rate, job.data.mixture[0].count, job.evaluation.limit) == (2e-4, 5, None)
    assert problems_of(path, ["lora.rr=3"]) == ["--set lora.rr=3: unknown key 'lora.rr'; did you mean 'r'?"]
    assert "write it as section.key=value" in problems_of(path, ["lora.r"])[0]
    assert "not an index" in problems_of(path, ["data.mixture.7.count=1"])[0]


def test_extends_differs_from_its_parent_by_one_line(tmp_path: Path) -> None:
    write(tmp_path / "base.yaml", MINIMAL + "lora: {r: 16, alpha: 32}\n")
    child = write(tmp_path / "child.yaml", "extends: base.yaml\nname: b\nlora: {r: 8}\n")
    job = load_job(child)
    assert (job.name, job.lora.r, job.lora.alpha, job.data.mixture[0].count) == ("b", 8, 32, 10)


def test_error_in_an_extended_file_names_that_file(tmp_path: Path) -> None:
    parent = write(tmp_path / "base.yaml", MINIMAL + "lora: {rank: 16}\n")
    child = write(tmp_path / "child.yaml", "extends: base.yaml\nname: b\n")
    assert problems_of(child)[0].startswith(f"{parent}:6: unknown key 'lora.rank'")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "the job file is empty"),
        ("- a\n", "is a mapping"),
        ("name: a\nname: b\n", ":2: key 'name' is given twice"),
        ("name: [a\n", "not valid YAML"),
        ("extends: nowhere.yaml\n", "nowhere.yaml does not exist"),
        ("extends: a.yaml\n", "do two files extend each other"),
        ("name: !!python/object/apply:os.system [ls]\n", "cannot read this value"),
        (
            "name: ../evil\nmodel: {name: embedded}\ndata: {mixture: [{source: gsm8k}]}\n",
            "use letters, digits",
        ),
        ("name: a\nmodel: {name: embedded}\ndata: {mixture: []}\n", "data.mixture"),
        ("name: a\nmodel: {name: embedded}\ndata: {mixture: [{source: jsonl}]}\n", "needs a path"),
        ("name: a\nmodel: {name: embedded}\ndata: {mixture: [{source: generator}]}\n", "give a count"),
    ],
)
def test_bad_files_get_a_sentence(tmp_path: Path, text: str, said: str) -> None:
    assert said in "\n".join(problems_of(write(tmp_path / "a.yaml", text)))


def test_missing_and_unreadable_files_get_a_sentence(tmp_path: Path) -> None:
    assert problems_of(tmp_path / "none.yaml") == [f"{tmp_path / 'none.yaml'} does not exist"]
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    assert "not valid UTF-8" in problems_of(tmp_path / "binary.yaml")[0]


def test_resolved_job_gives_the_same_run(
    tmp_path: Path, job: dict[str, Any], write_job: Callable[..., Path]
) -> None:
    first = load_job(write_job(job))
    again = load_job(write(tmp_path / "resolved.yaml", dump_job(first)))
    assert again == first
    assert run_id(again) == run_id(first)


def test_run_id_follows_what_shapes_the_adapter_and_not_how_it_is_evaluated(tmp_path: Path) -> None:
    path = write(tmp_path / "a.yaml", MINIMAL)
    plain = run_id(load_job(path))
    assert run_id(load_job(path, ["evaluation.limit=10", "output.results=other"])) == plain
    assert run_id(load_job(path, ["training.seed=1"])) != plain
    assert run_id(load_job(path, ["evaluation.benchmarks=[svamp]"])) != plain  # audited against another set


@pytest.mark.parametrize("path", sorted(JOBS.glob("*.yaml")), ids=lambda path: path.name)
def test_every_shipped_job_loads_and_begins_with_its_command(path: Path) -> None:
    assert load_job(path).name
    first = path.read_text(encoding="utf-8").splitlines()[0]
    assert first.startswith((f"# mathreason run jobs/{path.name}", f"# mathreason submit jobs/{path.name}"))


def test_shipped_schema_is_the_one_the_code_gives() -> None:
    assert (JOBS / "job.schema.json").read_text(encoding="utf-8") == job_schema()
