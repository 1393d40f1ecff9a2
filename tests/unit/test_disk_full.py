"""A full disk (really one, of 300 kB): one clear line, exit 4, and what stood there stays."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance import cli

GRID = [[1, 2], [3, 4]]
TASKS = {"a": {"train": [{"input": GRID, "output": GRID}] * 2, "test": [{"input": GRID}]}}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "small disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(folder)],
        capture_output=True,
        text=True,
    )
    if mounted.returncode != 0:
        pytest.skip(f"no right to mount a small file system: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def fill(folder: Path) -> None:
    with (
        (folder / "filler").open("wb", buffering=0) as filler,
        pytest.raises(OSError, match="No space"),
    ):
        while True:
            filler.write(bytes(4096))


def test_a_full_disk_leaves_the_old_submission_and_one_clear_line(
    small_disk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tasks = tmp_path / "tasks.json"
    tasks.write_text(json.dumps(TASKS))
    (small_disk / "submission.json").write_text('{"old": 1}')
    fill(small_disk)
    assert (
        cli.main(["submit", "--tasks", str(tasks), "--out", str(small_disk), "--display", "none"])
        == 4
    )

    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert "do:" in lines[0]
    assert (small_disk / "submission.json").read_text() == '{"old": 1}'
    assert [p.name for p in small_disk.glob(".submission*")] == []


def test_vote_on_a_full_disk_leaves_the_old_file(
    small_disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from appliance.arc.submission import write_submission
    from appliance.errors import OutputError

    (small_disk / "submission.json").write_text('{"old": 1}')
    fill(small_disk)
    with pytest.raises(OutputError, match="cannot be written"):
        write_submission(
            small_disk / "submission.json", {"a": [{"attempt_1": GRID, "attempt_2": GRID}]}
        )
    assert (small_disk / "submission.json").read_text() == '{"old": 1}'


def test_exec_on_a_full_disk_leaves_nothing(
    small_disk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    programs = tmp_path / "programs.jsonl"
    line = {"id": "x" * 2000, "source": "def transform(grid): return grid", "inputs": [GRID]}
    programs.write_text((json.dumps(line) + "\n") * 20)
    fill(small_disk)
    (small_disk / "results.jsonl").symlink_to("link to nothing")

    for name in ("results.jsonl", "x" * 255):
        assert cli.main(["exec", "--programs", str(programs), "--out", str(small_disk / name)]) == 4
        assert "do:" in capsys.readouterr().err.strip().splitlines()[-1]
    assert sorted(p.name for p in small_disk.iterdir()) == ["filler", "results.jsonl"]
