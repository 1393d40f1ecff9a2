"""Every bad input gets one clear line and its exit code, and nothing is overwritten. No torch."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from appliance import cli
from appliance.errors import EXIT_INPUT, EXIT_USAGE

GRID = [[1, 2], [3, 4]]
TASKS = {"a": {"train": [{"input": GRID, "output": GRID}] * 2, "test": [{"input": GRID}]}}


@pytest.fixture
def tasks(tmp_path: Path) -> Path:
    path = tmp_path / "challenges.json"
    path.write_text(json.dumps(TASKS))
    return path


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A folder with a submission of old, which must survive every fault."""
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "submission.json").write_text('{"old": 1}')
    return folder


def submit(*arguments: object) -> int:
    return cli.main(["submit", "--display", "none", *map(str, arguments)])


def changed(change: Callable[[dict[str, Any]], object]) -> str:
    value = json.loads(json.dumps(TASKS))
    change(value["a"])
    return json.dumps(value)


BAD_TASKS = {
    "not JSON": ("{", "JSON"),
    "a list": ("[]", "object"),
    "ragged grid": (
        changed(lambda t: t["train"][1].update(input=[[1, 2], [3]])),
        "train pair 1, input: ragged",
    ),
    "value 10": (changed(lambda t: t["train"][0].update(output=[[10]])), "train pair 0, output"),
    "value true": (changed(lambda t: t["test"][0].update(input=[[True]])), "test 0, input"),
    "value 1.0": (changed(lambda t: t["test"][0].update(input=[[1.0]])), "test 0, input"),
    "31 rows": (changed(lambda t: t["test"][0].update(input=[[0] * 30] * 31)), "31 rows"),
    "no test": (changed(lambda t: t.pop("test")), '"test"'),
    "empty test": (changed(lambda t: t.update(test=[])), '"test"'),
    "empty grid": (changed(lambda t: t["train"][0].update(input=[])), "no rows"),
}


@pytest.mark.parametrize("name", BAD_TASKS)
def test_bad_tasks_are_refused_with_their_place(
    name: str, out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text, expected = BAD_TASKS[name]
    path = tmp_path / "bad.json"
    path.write_text(text)
    assert submit("--tasks", path, "--out", out) == 4

    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert "bad.json" in lines[0]
    assert expected in lines[0]
    assert (out / "submission.json").read_text() == '{"old": 1}'


def test_a_truncated_gz_is_refused(
    tasks: Path, out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "challenges.json.gz"
    path.write_bytes(gzip.compress(tasks.read_bytes())[:-9])
    assert submit("--tasks", path, "--out", out) == 4
    assert "challenges.json.gz" in capsys.readouterr().err


def test_a_missing_file_is_refused(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert submit("--tasks", "no/such/file.json", "--out", out) == 4
    assert "no/such/file.json" in capsys.readouterr().err


def test_solutions_with_other_ids_are_refused(
    tasks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "solutions.json").write_text(json.dumps({"b": [GRID]}))
    assert submit("--tasks", tasks, "--out", tmp_path / "new") == 4
    assert "no solution for a" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--budget", "0"], "budget"),
        (["--budget", "soon"], "budget"),
        (["--deadline", "2001-01-01T00:00"], "past"),
        (["--set", "train.rnak=3"], "did you mean train.rank?"),
        (["--set", "train.rank=0"], "train.rank"),
        (["--config", "no.yaml"], "no.yaml"),
        (["--profile", "labtop"], "laptop"),
        (["--limit", "0"], "--limit"),
        (["--shard", "3/2"], "--shard"),
        (["--only", "zzz"], "zzz"),
    ],
)
def test_bad_settings_are_refused_before_anything_is_touched(
    flags: list[str], expected: str, tasks: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = submit("--tasks", tasks, "--out", out, *flags)
    assert code == (EXIT_INPUT if "--only" in flags else EXIT_USAGE)
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert expected in lines[0]
    assert (out / "submission.json").read_text() == '{"old": 1}'
    assert not (out / "run").exists()


def break_model(folder: Path, how: str) -> None:
    weights = folder / "model.safetensors"
    if how == "missing":
        shutil.rmtree(folder)
    elif how == "no config":
        (folder / "config.json").unlink()
    elif how == "cut weights":
        weights.write_bytes(weights.read_bytes()[:-100])
    elif how == "no weights":
        weights.unlink()
    elif how == "config no JSON":
        (folder / "config.json").write_text("{")
    elif how == "no tokenizer":
        (folder / "tokenizer.json").unlink()


@pytest.mark.parametrize(
    "how", ["missing", "no config", "cut weights", "no weights", "config no JSON", "no tokenizer"]
)
def test_an_unreadable_model_folder_is_refused_and_the_file_stays_valid(
    how: str, tasks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "tokenizer.json").write_text("{}")
    header = json.dumps({"w": {"dtype": "U8", "shape": [200], "data_offsets": [0, 200]}}).encode()
    (folder / "model.safetensors").write_bytes(
        len(header).to_bytes(8, "little") + header + bytes(200)
    )
    break_model(folder, how)

    assert submit("--tasks", tasks, "--out", tmp_path / "new", "--model", folder) == 4
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
    assert cli.main(["validate", str(tmp_path / "new"), "--tasks", str(tasks)]) == 0


def test_an_out_folder_that_cannot_be_made_is_a_missing_prerequisite(
    tasks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert submit("--tasks", tasks, "--out", tmp_path / "file" / "out") == 4
    assert "--out" in capsys.readouterr().err


def test_a_journal_that_is_none_is_refused(
    tasks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "new" / "run").mkdir(parents=True)
    (tmp_path / "new" / "run" / "journal.sqlite").write_text(
        "this is no database, and long enough to be read as one"
    )
    assert submit("--tasks", tasks, "--out", tmp_path / "new") == 4
    assert "journal.sqlite" in capsys.readouterr().err


def test_validate_lists_every_fault(
    tasks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "submission.json"
    path.write_text(json.dumps({"a": [{"attempt_1": [[1, True]], "attempt_2": [[11]]}], "z": []}))
    assert cli.main(["validate", str(path), "--tasks", str(tasks)]) == 4
    text = capsys.readouterr().err
    assert "$.z" in text
    assert "true" in text
    assert "11" in text


def test_evaluate_without_answers_for_the_tasks_is_refused(
    tasks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "submission.json").write_text(
        json.dumps({"a": [{"attempt_1": GRID, "attempt_2": GRID}]})
    )
    (tmp_path / "answers.json").write_text(json.dumps({"b": [GRID]}))
    code = cli.main(
        [
            "evaluate",
            str(tmp_path / "submission.json"),
            "--solutions",
            str(tmp_path / "answers.json"),
        ]
    )

    assert code == 4
    assert "no answers for a" in capsys.readouterr().err


def test_continuing_without_an_adapter_is_refused(
    tasks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert submit("--tasks", tasks, "--out", tmp_path / "new", "--set", "train.start=continue") == 2
    assert "train.start" in capsys.readouterr().err


def test_a_bad_model_leaves_the_old_file_and_binds_nobody(tasks: Path, out: Path) -> None:
    assert submit("--tasks", tasks, "--out", out, "--model", out / "none") == 4
    assert (out / "submission.json").read_text() == '{"old": 1}'
    assert (
        submit("--tasks", tasks, "--out", out, "--model", out / "another") == 4
    )  # not refused as another configuration
