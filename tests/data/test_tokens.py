"""Tokens are the same from the cache, from several processes and one by one; a bad file is never used."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support import ROOT

from mathreason.config import PromptConfig
from mathreason.data import tokens
from mathreason.data.generator import generate
from mathreason.data.problem import Problem
from mathreason.data.prompts import Prompter
from mathreason.data.tokens import KEPT_FILES, encode_all
from mathreason.progress import Reporter

QUIET = Reporter(quiet=True)


@pytest.fixture(scope="module")
def prompter(tokenizer: Any) -> Prompter:
    return Prompter(PromptConfig(), tokenizer)


@pytest.fixture(scope="module")
def problems() -> list[Problem]:
    return list(generate("train", count=60, seed=3))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MATHREASON_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(tokens, "MANY", 20)
    return tmp_path / "cache" / "tokens"


def one_by_one(problems: list[Problem], prompter: Prompter) -> list[Any]:
    return [prompter.encode(problem) for problem in problems]


def test_first_and_second_time_give_the_ids_of_encode(
    problems: list[Problem], prompter: Prompter, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = one_by_one(problems, prompter)
    assert encode_all(problems, prompter, QUIET) == expected
    assert len(list(cache.iterdir())) == 1

    def never(*_: Any) -> Any:
        raise AssertionError("tokenized again")

    monkeypatch.setattr(tokens, "_in_processes", never)
    monkeypatch.setattr(Prompter, "encode", never)
    assert encode_all(problems, prompter, QUIET) == expected


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_processes_give_the_ids_of_encode_in_their_order(
    problems: list[Problem], prompter: Prompter, count: int
) -> None:
    assert tokens._in_processes(problems, prompter, count) == one_by_one(problems, prompter)


def test_share_of_a_process_that_dies_is_encoded_anyway(
    problems: list[Problem], prompter: Prompter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens, "_work", lambda *_: os._exit(9))
    assert tokens._in_processes(problems, prompter, 3) == one_by_one(problems, prompter)


def test_few_problems_leave_no_file(problems: list[Problem], prompter: Prompter, cache: Path) -> None:
    assert encode_all(problems[:19], prompter, QUIET) == one_by_one(problems[:19], prompter)
    assert not cache.exists()


def damaged(whole: bytes, how: str) -> bytes:
    head, _, payload = whole.partition(b"\n")
    if how == "torn":
        return whole[:-40]
    if how == "empty":
        return b""
    if how == "one number changed":
        return whole[:-4] + b"\7\0\0\0"
    if how == "other key":
        return head.replace(b'"key": "', b'"key": "0', 1) + b"\n" + payload
    return b"[1, 2]\n" + payload


@pytest.mark.parametrize("how", ["torn", "empty", "one number changed", "other key", "foreign"])
def test_bad_file_is_not_used_and_replaced(
    problems: list[Problem], prompter: Prompter, cache: Path, how: str
) -> None:
    expected = encode_all(problems, prompter, QUIET)
    [path] = cache.iterdir()
    whole = path.read_bytes()
    path.write_bytes(damaged(whole, how))
    assert encode_all(problems, prompter, QUIET) == expected
    assert path.read_bytes() == whole


def test_what_decides_the_ids_decides_the_key(problems: list[Problem], tokenizer: Any) -> None:
    def key(problems: list[Problem], prompter: Prompter) -> str:
        return tokens._key(problems, prompter)

    first = Prompter(PromptConfig(), tokenizer)
    other_text = Problem(**{**problems[0].to_dict(), "solution": "2 + 2 = 4"})
    shots = Prompter(PromptConfig(), tokenizer, shots=problems[:1])
    keys = [
        key(problems, first),
        key(problems[::-1], first),
        key([other_text, *problems[1:]], first),
        key(problems, Prompter(PromptConfig(instruction="Solve."), tokenizer)),
        key(problems, shots),
    ]
    assert len(set(keys)) == len(keys)
    assert key(problems, Prompter(PromptConfig(), tokenizer)) == keys[0]


def test_another_vocabulary_is_another_key(problems: list[Problem]) -> None:
    from mathreason.config import ModelConfig
    from mathreason.models import load_tokenizer

    plain, larger = (load_tokenizer(ModelConfig(name="embedded")) for _ in range(2))
    larger.add_tokens(["apples"])
    keys = {tokens._key(problems, Prompter(PromptConfig(), each)) for each in (plain, larger)}
    assert len(keys) == 2


def test_oldest_files_go(problems: list[Problem], prompter: Prompter, cache: Path) -> None:
    cache.mkdir(parents=True)
    for number in range(KEPT_FILES + 2):
        path = cache / f"{number:064x}"
        path.touch()
        os.utime(path, (number, number))
    (cache / "a note").touch()
    encode_all(problems, prompter, QUIET)
    names = {path.name for path in cache.iterdir()}
    assert len(names) == KEPT_FILES + 1
    assert "a note" in names
    assert f"{2:064x}" not in names
    assert f"{3:064x}" in names


SCRIPT = """
import sys
from pathlib import Path
from mathreason.config import ModelConfig, PromptConfig
from mathreason.data import tokens
from mathreason.data.generator import generate
from mathreason.data.prompts import Prompter
from mathreason.models import load_tokenizer
from mathreason.progress import Reporter

tokens.MANY = 20
prompter = Prompter(PromptConfig(), load_tokenizer(ModelConfig(name="embedded")))
problems = list(generate("train", count=30, seed=3))
log = Path(sys.argv[1])
with Reporter(log, quiet=True) as reporter:
    assert tokens.encode_all(problems, prompter, reporter) == [prompter.encode(p) for p in problems]
print([path.name for path in sorted(tokens._folder().glob("*"))])
"""


@pytest.mark.parametrize("home", ["a file", "none"])
def test_folder_that_cannot_be_written_is_noted_and_nothing_else(tmp_path: Path, home: str) -> None:
    (tmp_path / "file").touch()
    left_out = ("MATHREASON_CACHE", "XDG_CACHE_HOME", "HOME")
    environment = {name: value for name, value in os.environ.items() if name not in left_out}
    if home == "a file":
        environment["HOME"] = str(tmp_path / "file")
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path / "log.txt")],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**environment, "PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "[]\n"
    assert "tokens are not kept for the next run" in (tmp_path / "log.txt").read_text()


def test_two_starts_have_one_key(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "MATHREASON_CACHE": str(tmp_path / "two")}
    names = []
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, str(tmp_path / "log.txt")],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env=environment,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        names.append(done.stdout)
    assert names[0] == names[1] != "[]\n"
