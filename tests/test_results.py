"""Nothing half-written is ever taken for whole."""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mathreason.errors import InputError, MathreasonError
from mathreason.results import (
    STALE_TRIES,
    RunDir,
    append_jsonl,
    make_directory,
    process_space,
    read_appended,
    read_json,
    read_jsonl,
    write_json,
    write_jsonl,
    write_text,
)


def test_json_carries_schema_version_and_provenance(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"x": 1})
    document = read_json(tmp_path / "a.json")
    assert document["x"] == 1
    assert document["schema_version"] == 1
    assert {"written_at", "versions", "git", "host", "platform", "device"} <= set(document["provenance"])
    assert "torch" in document["provenance"]["versions"]


def test_result_that_is_no_number_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Out of range"):
        write_json(tmp_path / "a.json", {"x": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_newer_schema_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps({"schema_version": 2}))
    with pytest.raises(InputError, match="Upgrade mathreason"):
        read_json(tmp_path / "a.json")


@pytest.mark.parametrize("text", ["", "{", "[1]", "\x00"])
def test_file_that_is_no_json_object_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(InputError, match=r"a\.json"):
        read_json(tmp_path / "a.json")


def test_torn_last_line_of_an_appended_file_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    append_jsonl(path, [{"n": 1}, {"n": "zwei ✓"}])
    whole = path.read_bytes()
    for cut in range(len(whole) - 1, whole.index(b"\n"), -1):
        path.write_bytes(whole[:cut])
        assert read_appended(path) == [{"n": 1}]
    assert read_appended(tmp_path / "none.jsonl") == []


def test_malformed_line_names_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"a": 1}\n\n\xff\n')
    with pytest.raises(InputError, match=r"a\.jsonl:3: not valid UTF-8"):
        list(read_jsonl(path))


def test_failed_write_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "old")
    with pytest.raises(MathreasonError, match=r"cannot write .*: "):
        write_text(tmp_path / "a.txt" / "below", "new")
    assert (tmp_path / "a.txt").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_folder_that_cannot_be_made_is_bad_input(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="--results"):
        make_directory(tmp_path / "file" / "results")


def test_reader_never_sees_a_part_while_a_writer_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    rows = 20_000
    program = (
        "import sys; from pathlib import Path; from mathreason.results import write_jsonl\n"
        f"while True: write_jsonl(Path(sys.argv[1]), ({{'n': n}} for n in range({rows})))"
    )
    write_jsonl(path, ({"n": n} for n in range(rows)))
    for _ in range(5):
        writer = subprocess.Popen([sys.executable, "-c", program, str(path)])
        try:
            for _ in range(10):
                assert sum(1 for _ in read_jsonl(path)) == rows
        finally:
            os.kill(writer.pid, signal.SIGKILL)
            writer.wait()
        assert sum(1 for _ in read_jsonl(path)) == rows


def test_folder_without_run_json_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a run directory"):
        RunDir(tmp_path).require()


def test_container_with_the_name_of_its_host_counts_processes_for_itself() -> None:
    script = "from mathreason.results import process_space; print(process_space())"
    done = subprocess.run(
        ["unshare", "--pid", "--fork", sys.executable, "-c", script],
        text=True,
        capture_output=True,
        check=True,
    )
    assert done.stdout.strip().startswith(socket.gethostname())
    assert done.stdout.strip() != process_space()


def test_file_that_another_host_has_just_replaced_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NFS: what was opened is no longer on the server when it is read."""
    path, stale = tmp_path / "run.json", [True, True]
    write_json(path, {"status": "done"})

    def opened(*arguments: Any, **options: Any) -> Any:
        if stale:
            stale.pop()
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        return open(*arguments, **options)  # noqa: PTH123

    monkeypatch.setattr("mathreason.results.open", opened, raising=False)
    assert read_json(path)["status"] == "done"
    stale.extend([True] * STALE_TRIES)
    with pytest.raises(InputError, match=r"run\.json cannot be read"):
        read_json(path)
