"""`sweep:` in a job file: strict, with its line, and expanded to jobs as they would be alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from mathreason.config import JobConfig
from mathreason.errors import InputError
from mathreason.jobfile import load_job, run_id
from mathreason.sweep import load_sweep
from mathreason.validation import check_job

ABLATIONS = Path(__file__).resolve().parent.parent / "jobs" / "ablations"

JOB = """\
name: a
model: {name: embedded}
data:
  mixture:
    - {source: gsm8k, count: 10}
"""


def write(path: Path, sweep: str) -> Path:
    path.write_text(JOB + sweep, encoding="utf-8")
    return path


def refused(path: Path, overrides: list[str] | None = None) -> str:
    with pytest.raises(InputError) as caught:
        load_sweep(path, overrides)
    return str(caught.value)


def test_grid_is_every_combination_with_every_seed(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.yaml",
        "sweep:\n  grid: {lora.r: [8, 16], training.learning_rate: [1e-4, 2e-4]}\n  seeds: [1, 2, 3]\n",
    )
    sweep = load_sweep(path)
    assert [run.number for run in sweep.runs] == list(range(1, 13))
    found = [(run.job.lora.r, run.job.training.learning_rate, run.job.training.seed) for run in sweep.runs]
    assert found == [(r, rate, seed) for r in (8, 16) for rate in (1e-4, 2e-4) for seed in (1, 2, 3)]
    assert sweep.runs[3].title == "r=8, learning_rate=0.0002, seed 1"
    assert sweep.reference == "r=8, learning_rate=0.0001"


def test_run_is_the_job_it_would_be_alone(tmp_path: Path) -> None:
    path = write(tmp_path / "a.yaml", "sweep: {runs: [{}, {set: {lora.r: 8, lora.alpha: 16}}], seeds: [7]}\n")
    alone = write(tmp_path / "alone.yaml", "lora: {r: 8, alpha: 16}\ntraining: {seed: 7}\n")
    first, second = load_sweep(path).runs
    assert second.job == load_job(alone)
    assert second.id == run_id(load_job(alone))
    assert second.variant.name == "r=8, alpha=16"
    assert first.id == run_id(load_job(write(tmp_path / "b.yaml", "training: {seed: 7}\n")))
    assert first.variant.name == "the job"


def test_seeds_can_draw_other_data_too_or_stand_alone(tmp_path: Path) -> None:
    text = "sweep: {seeds: [5, 6], seed_keys: [training.seed, data.seed]}\n"
    runs = load_sweep(write(tmp_path / "a.yaml", text)).runs
    assert [(run.job.training.seed, run.job.data.seed) for run in runs] == [(5, 5), (6, 6)]
    assert {run.variant.name for run in runs} == {"the job"}


def test_values_that_are_mappings_or_lists_are_swept_whole(tmp_path: Path) -> None:
    text = (
        "sweep:\n  grid:\n    data.mixture:\n"
        "      - [{source: gsm8k, count: 5}]\n      - [{source: gsm8k, count: 5}, {source: gsm_hard}]\n"
    )
    sweep = load_sweep(write(tmp_path / "a.yaml", text))
    assert [len(run.job.data.mixture) for run in sweep.runs] == [1, 2]
    assert [run.variant.name for run in sweep.runs] == ["mixture #1", "mixture #2"]


def test_sweep_id_follows_the_runs_and_not_the_names(tmp_path: Path) -> None:
    one = load_sweep(write(tmp_path / "a.yaml", "sweep: {grid: {lora.r: [8, 16]}}\n")).id
    named = "sweep: {runs: [{name: x, set: {lora.r: 8}}, {set: {lora.r: 16}}], reference: x}\n"
    assert load_sweep(write(tmp_path / "b.yaml", named)).id == one
    assert load_sweep(write(tmp_path / "c.yaml", "sweep: {grid: {lora.r: [8, 32]}}\n")).id != one
    assert one.startswith("a-sweep-")


REFUSALS = [
    ("grid: {lora.rr: [1]}", "a.yaml:7: unknown key 'lora.rr'; did you mean 'r'?"),
    ("grid:\n    lora.r:\n    - 8\n    - 0", "a.yaml:10: lora.r: must be at least 1, is 0"),
    ("grid: {lora.r: [8, '9']}", "a.yaml:7: lora.r: must be a valid integer, is '9'"),
    ("gird: {}", "a.yaml:7: unknown key 'sweep.gird'; did you mean 'grid'?"),
    ("runs:\n  - sett: {}", "a.yaml:8: unknown key 'sweep.runs.0.sett'; did you mean 'set'?"),
    ("runs:\n  - set: {lora.r.x: 1}", "a.yaml:8: lora.r: must be a valid integer"),
    ("runs:\n  - set: {name.x: 1}", "a.yaml:8: 'name.x' cannot be swept"),
    ("runs:\n  - set: {model.name.x: 1}", "a.yaml:8: model.name is a single value"),
    ("runs:\n  - set: {data.mixture.4.count: 1}", "a.yaml:8: '4' is not an index of a list of 1"),
    ("grid: {lora.r: []}", "a.yaml:7: sweep.grid.lora.r"),
    ("reference: x", "a.yaml:6: sweep: give a grid, a list of runs, or seeds"),
    ("grid: {lora.r: [8]}\n  runs: [{}]", "give a grid or a list of runs, not both"),
    ("seeds: [1, 1]", "a seed is given twice"),
    ("seeds: [1]\n  seed_keys: [lora.seed]", "must be 'training.seed' or 'data.seed'"),
    ("grid: {evaluation.limit: [5]}", "a.yaml:7: 'evaluation.limit' cannot be swept"),
    ("grid: {name: [x, y]}", "'name' cannot be swept: it is part of every run's id"),
    ("grid: {training.seed: [1]}\n  seeds: [2]", "'training.seed' is set by sweep.seeds already"),
    ("grid: {lora.r: [8, 16]}\n  reference: x", "a.yaml:8: sweep.reference: there is no variant 'x'"),
    ("grid: {lora.r: [8, 16]}\n  reference: r=61", "did you mean 'r=16'?"),
    ("runs: [{name: x}, {name: x, set: {lora.r: 8}}]", "two variants are called 'x'"),
    ("runs: [{set: {lora.r: 8}}, {name: y, set: {lora.r: 8}}]", "are the same run"),
    ("grid: {lora.r: [8, 16]}\n  seeds: [" + ",".join(map(str, range(600))) + "]", "1200 runs"),
]


@pytest.mark.parametrize(("sweep", "said"), REFUSALS, ids=[said[-30:] for _, said in REFUSALS])
def test_sweep_that_cannot_be_is_refused_with_its_line(tmp_path: Path, sweep: str, said: str) -> None:
    assert said in refused(write(tmp_path / "a.yaml", f"sweep:\n  {sweep}\n"))


def test_job_without_a_sweep_is_refused(tmp_path: Path) -> None:
    assert "has no sweep:" in refused(write(tmp_path / "a.yaml", "lora: {r: 8}\n"))


def test_every_problem_of_every_run_is_said_once(tmp_path: Path) -> None:
    text = "sweep:\n  grid:\n    lora.r: [0, 8]\n    lora.dropout: [2.0, 0.1]\n  seeds: [1, 2]\n"
    assert len(refused(write(tmp_path / "a.yaml", text)).splitlines()) == 2


def test_set_changes_every_run_but_not_what_is_swept(tmp_path: Path) -> None:
    path = write(tmp_path / "a.yaml", "sweep: {grid: {lora.r: [8, 16]}, seeds: [1]}\n")
    runs = load_sweep(path, ["lora.alpha=4", "sweep.seeds=[5, 6]"]).runs
    assert [(run.job.lora.alpha, run.seed) for run in runs] == [(4, 5), (4, 6)] * 2
    for override in ("lora.r=4", "lora={r: 4}", "training.seed=3"):
        assert f"--set {override}: every run sets" in refused(path, [override])


def test_sweep_is_refused_where_one_run_is_wanted(tmp_path: Path) -> None:
    from mathreason.session import resolve

    path = write(tmp_path / "a.yaml", "sweep: {seeds: [1, 2]}\n")
    with pytest.raises(InputError, match="use `mathreason sweep"):
        resolve(str(path), [], tmp_path, None)


@pytest.mark.parametrize("key", ["use_dora", "use_rslora"])
def test_new_key_counts_in_the_run_id_only_where_it_is_used(tmp_path: Path, key: str) -> None:
    def job(text: str) -> JobConfig:
        return load_job(write(tmp_path / "a.yaml", text))

    plain = job("")
    assert key not in plain.identity()["lora"]
    assert run_id(job(f"lora: {{{key}: false}}\n")) == run_id(plain)
    assert run_id(job(f"lora: {{{key}: true}}\n")) != run_id(plain)


@pytest.mark.parametrize("path", sorted(ABLATIONS.glob("*.yaml")), ids=lambda path: path.name)
def test_every_shipped_ablation_expands_to_jobs_that_can_run(path: Path) -> None:
    sweep = load_sweep(path)
    assert len(sweep.runs) >= 6
    assert len({run.id for run in sweep.runs}) == len(sweep.runs)
    for run in sweep.runs:
        check_job(run.job, path)
    first = path.read_text(encoding="utf-8").splitlines()[0]
    assert first == f"# mathreason sweep jobs/ablations/{path.name}"


def test_the_shipped_ablations_are_those_of_the_research() -> None:
    names = {path.stem for path in ABLATIONS.glob("*.yaml")}
    assert names == {
        *("quickstart_rank", "rank", "alpha", "targets", "mixture", "decontamination"),
        *("prompt_style", "approach", "length"),
    }
    ranks = [run.job.lora.r for run in load_sweep(ABLATIONS / "quickstart_rank.yaml").runs]
    assert ranks == [rank for rank in (8, 16, 32, 64) for _ in range(3)]
