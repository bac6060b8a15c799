"""What runs of a sweep take over from each other, and what they never do."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from evaluations import change_samples, change_summary
from support import small_job

from mathreason.config import JobConfig
from mathreason.progress import Reporter
from mathreason.results import RunDir, read_json
from mathreason.session import Target, open_session
from mathreason.sharing import data_identity, share_base, share_data


def job(**sections: dict[str, object]) -> JobConfig:
    values = small_job()
    return JobConfig.model_validate({**values, **{key: {**values[key], **sections[key]} for key in sections}})


OTHER_RANK = job(lora={"r": 2})


@pytest.fixture
def donor(finished_run: Path, tmp_path: Path) -> RunDir:
    return RunDir(Path(shutil.copytree(finished_run, tmp_path / "donor")))


def take_data(wanted: JobConfig, donor: RunDir, tmp_path: Path) -> tuple[RunDir, Reporter]:
    run, reporter = RunDir(tmp_path / "run"), Reporter(quiet=True)
    share_data(wanted, run, [(wanted, run), (job(), donor)], reporter)
    return run, reporter


def take_base(wanted: JobConfig, donor: RunDir, run: RunDir) -> None:
    with open_session(Target(wanted, run, None)) as session:
        share_base(session, [(wanted, run), (job(), donor)])


def test_prepared_data_is_taken_over_with_its_hashes_and_origin(donor: RunDir, tmp_path: Path) -> None:
    run, _ = take_data(OTHER_RANK, donor, tmp_path)
    document, original = read_json(run.data), read_json(donor.data)
    assert document["copied_from"] == {"run": "donor", "provenance": original["provenance"]}
    assert {key: document[key] for key in original if key != "provenance"} == {
        key: value for key, value in original.items() if key != "provenance"
    }
    for part in ("train", "validation"):
        assert run.problems(part).read_bytes() == donor.problems(part).read_bytes()
        assert run.problems(part).stat().st_ino != donor.problems(part).stat().st_ino


@pytest.mark.parametrize(
    "other",
    [
        job(data={"seed": 3}),
        job(data={"max_length": 512}),
        job(evaluation={"benchmarks": [{"name": "generator", "count": 13, "seed": 5}]}),
    ],
    ids=["seed", "length", "audit"],
)
def test_other_data_is_not_taken_over(donor: RunDir, tmp_path: Path, other: JobConfig) -> None:
    run, _ = take_data(other, donor, tmp_path)
    assert not run.data.exists()


def test_prompt_and_tokenizer_are_part_of_what_data_is() -> None:
    values = small_job()
    plain = data_identity(JobConfig.model_validate(values))
    assert data_identity(JobConfig.model_validate({**values, "prompt": {"style": "plain"}})) != plain
    assert data_identity(JobConfig.model_validate({**values, "model": {"name": "a/b"}})) != plain
    assert data_identity(job(training={"seed": 5}, lora={"r": 64})) == plain


def test_changed_data_is_said_and_not_taken_over(donor: RunDir, tmp_path: Path) -> None:
    with donor.problems("train").open("a") as file:
        file.write("{}\n")
    run, reporter = take_data(OTHER_RANK, donor, tmp_path)
    assert not run.data.exists()
    assert "it was changed after the data stage" in reporter.warnings[0]


def test_own_data_is_kept(donor: RunDir, tmp_path: Path) -> None:
    first, _ = take_data(OTHER_RANK, donor, tmp_path)
    before = first.data.read_bytes()
    take_data(OTHER_RANK, donor, tmp_path)
    assert first.data.read_bytes() == before


def test_base_evaluation_is_taken_over_and_the_tuned_one_never(donor: RunDir, tmp_path: Path) -> None:
    run = RunDir(tmp_path / "run")
    take_base(OTHER_RANK, donor, run)
    document = read_json(run.evaluation("generator", "base"))
    assert document["copied_from"]["run"] == "donor"
    assert document["accuracy"] == read_json(donor.evaluation("generator", "base"))["accuracy"]
    assert run.samples("generator", "base").read_bytes() == donor.samples("generator", "base").read_bytes()
    assert not run.evaluation("generator", "tuned").exists()
    third = RunDir(tmp_path / "third")
    take_base(job(lora={"r": 3}), run, third)
    assert read_json(third.evaluation("generator", "base"))["copied_from"]["run"] == "donor"


def test_base_under_another_key_is_not_taken_over(donor: RunDir, tmp_path: Path) -> None:
    run = RunDir(tmp_path / "run")
    take_base(job(lora={"r": 2}, evaluation={"max_new_tokens": 17}), donor, run)
    assert not run.evaluation("generator", "base").exists()


def test_base_that_is_not_whole_is_not_taken_over(donor: RunDir, tmp_path: Path) -> None:
    run = RunDir(tmp_path / "run")
    rows = donor.samples("generator", "base").read_text()
    change_samples(donor, "base", lambda lines: lines.pop(), "generator")
    take_base(OTHER_RANK, donor, run)
    donor.samples("generator", "base").unlink()
    take_base(OTHER_RANK, donor, run)
    donor.samples("generator", "base").write_text(rows)
    change_summary(donor, "base", lambda each: each["accuracy"].update(correct=11), "generator")
    take_base(OTHER_RANK, donor, run)
    assert not run.evaluation("generator", "base").exists()
    said = run.log_text.read_text()
    assert said.count("generator, base: not taken over") == 3


def test_earlier_evaluation_of_the_run_is_kept_under_its_own_key(donor: RunDir, tmp_path: Path) -> None:
    run = RunDir(tmp_path / "run")
    take_base(OTHER_RANK, donor, run)
    change_summary(run, "base", lambda each: each.update(key="old"), "generator")
    change_samples(run, "base", lambda rows: [row.update(key="old") for row in rows], "generator")
    take_base(OTHER_RANK, donor, run)
    folder = run.evaluation("generator", "base").parent
    assert {path.name for path in folder.iterdir()} >= {
        "base.json",
        "base-old.json",
        "base-old.samples.jsonl",
    }
    assert read_json(run.evaluation("generator", "base"))["key"] != "old"
