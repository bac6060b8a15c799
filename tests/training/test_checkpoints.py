"""A checkpoint counts when its manifest says so and its bytes agree, and never otherwise."""

from __future__ import annotations

from pathlib import Path

import pytest

from mathreason.training import checkpoints


def written(root: Path, step: int) -> Path:
    folder = root / checkpoints.WRITING / f"checkpoint-{step}"
    (folder / "sub").mkdir(parents=True)
    (folder / "weights.bin").write_bytes(b"w" * 1000)
    (folder / "sub" / "state.json").write_text("{}")
    return folder


def test_committed_checkpoint_is_complete(tmp_path: Path) -> None:
    final = checkpoints.commit(written(tmp_path, 5), tmp_path)
    assert final == tmp_path / "checkpoint-5"
    assert checkpoints.complete_checkpoints(tmp_path) == ([final], [])


@pytest.mark.parametrize(
    "harm", ["truncate", "change", "remove", "no manifest", "torn manifest", "empty manifest"]
)
def test_harmed_checkpoint_is_torn(tmp_path: Path, harm: str) -> None:
    final = checkpoints.commit(written(tmp_path, 5), tmp_path)
    weights, manifest = final / "weights.bin", final / checkpoints.MANIFEST
    if harm == "truncate":
        weights.write_bytes(b"w" * 999)
    elif harm == "change":
        weights.write_bytes(b"v" * 1000)
    elif harm == "remove":
        weights.unlink()
    elif harm == "no manifest":
        manifest.unlink()
    elif harm == "torn manifest":
        manifest.write_text(manifest.read_text()[:-20])
    else:
        manifest.write_text("{}")
    assert checkpoints.complete_checkpoints(tmp_path) == ([], [final])


def test_half_written_checkpoint_is_not_seen(tmp_path: Path) -> None:
    written(tmp_path, 5)
    assert checkpoints.complete_checkpoints(tmp_path) == ([], [])


def test_commit_replaces_a_torn_one_of_the_same_step(tmp_path: Path) -> None:
    (tmp_path / "checkpoint-5").mkdir()
    final = checkpoints.commit(written(tmp_path, 5), tmp_path)
    assert checkpoints.is_complete(final)


def test_pruning_keeps_the_last_and_the_best(tmp_path: Path) -> None:
    for step in (1, 2, 9, 10, 11):
        checkpoints.commit(written(tmp_path, step), tmp_path)
    checkpoints.prune(tmp_path, keep_last=2, best_step=2)
    complete, torn = checkpoints.complete_checkpoints(tmp_path)
    assert [checkpoints.step_of(path) for path in complete] == [2, 10, 11]
    assert torn == []
