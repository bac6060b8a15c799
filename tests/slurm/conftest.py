"""A cluster for each test file, and a folder with the batch scripts and a small job to submit."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from slurm_cluster import Cluster, one_node
from support import ROOT


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with one_node() as cluster:
        yield cluster


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder such as a checkout, in which `sbatch slurm/train_mistral.sh` is what a user types."""
    (tmp_path / "slurm").symlink_to(ROOT / "slurm")
    return tmp_path
