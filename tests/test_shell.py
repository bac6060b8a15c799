"""Scripts for the shell, and the Dockerfile: what linters say of them is nothing."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support import ROOT

SCRIPTS = [*sorted((ROOT / "slurm").glob("*.sh")), *sorted((ROOT / "docker").glob("*.sh"))]
SCRIPTS += [ROOT / "docker" / "portable-cxx", *sorted((ROOT / "tests" / "engines").glob("*.sh"))]


def said(program: str, *arguments: str | Path) -> str:
    """What a program of the developer's extra prints."""
    path = shutil.which(program, path=str(Path(sys.executable).parent)) or shutil.which(program)
    assert path is not None, f"{program} is not installed; it comes with the dev extra"
    done = subprocess.run([path, *map(str, arguments)], cwd=ROOT, text=True, capture_output=True, check=False)
    return done.stdout + done.stderr


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_shellcheck_and_shfmt_have_nothing_to_say(script: Path) -> None:
    assert said("shellcheck", "--external-sources", "--source-path=SCRIPTDIR", script) == ""
    assert said("shfmt", "--diff", "--indent", "2", "--case-indent", script) == ""


def test_hadolint_has_nothing_to_say_of_the_dockerfile() -> None:
    assert said("hadolint", ROOT / "Dockerfile") == ""


def test_batch_scripts_are_thin() -> None:
    """Resources and one call: what they do is in common.sh, which all of them read."""
    for script in SCRIPTS:
        if script.parent.name != "slurm" or script.name in ("common.sh", "pipeline.sh"):
            continue
        lines = [line for line in script.read_text(encoding="utf-8").splitlines() if line]
        assert sum(not line.startswith("#") for line in lines) <= 6, script
        for option in ("--signal=B:USR1@300", "--requeue", "--open-mode=append", "--time="):
            assert any(line.startswith(f"#SBATCH {option}") for line in lines), (script, option)
