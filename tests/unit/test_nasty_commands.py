"""Command lines that no sane person types: each ends with a few lines and code 2, 3 or 4."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from appliance import cli
from appliance.config import file_layer, resolve
from appliance.errors import EXIT_DONE, EXIT_INPUT, EXIT_PREREQUISITE, EXIT_USAGE
from appliance.pack import kaggle
from appliance.yaml_text import MAX_ALIASES, MAX_BYTES, MAX_DEPTH

GRID = [[1, 2], [3, 4]]
TASKS = {"a": {"train": [{"input": GRID, "output": GRID}] * 2, "test": [{"input": GRID}]}}

ONE = "\N{FULLWIDTH DIGIT ONE}"
"""int() takes it for 1."""

NUMBERS = ["-1", "0", "nan", "inf", "1e400", "9" * 20, "x", ONE, "1_0", "1.5", "0x10", "²"]
PATHS = ["", "d", "bin", "empty", "null.json", "/dev/full", "t.json/x", "x" * 300, "x/" * 3000]
PATHS += ["é\udcff", "a b", "-"]
TEXTS = ["=", "=a", "train.rank=[", "train.rank=2024-13-45", "train.rank=true", "x" * 5000]
TEXTS += ["train.alpha=.inf", "train.rank=&a [*a]", "train.rank=!!python/name:x", "train..rank=1"]
TEXTS += ["train.rank=\udcff", "strategy={}", "model.path=[]", "run.deadline=5", "run.seed=-1"]
TEXTS += [f"train.rank={'9' * 5000}", "run.budget_s=.nan", "sample.temperature=true"]
TIMES = ["", "0", "nan", "1e400h", "9" * 400, "999999999999h", f"{ONE}h", "1h\n2", ".5h", "-1h"]

SUBMIT = ["submit", "--tasks", "t.json", "--out", "o", "--display", "none"]
CONDOR = ["pack", "condor", "--tasks", "t.json", "--shards", "1", "--image", "img.sif"]
CONDOR += ["--profile", "condor-cpu", "--out", "c"]
KAGGLE = ["pack", "kaggle", "--out", "k", "--owner", "me"]
TRAIN = ["train", "--recipe", "r.yaml", "--out", "o", "--corpus", "nope"]

LINES = [
    *([*SUBMIT, flag, n] for flag in ("--limit", "--workers") for n in NUMBERS if n != "0"),
    *(["train", "--recipe", "x", "--out", "o", "--families", n] for n in NUMBERS),
    *(["selftest", "--model", "nope", "--tasks", n] for n in NUMBERS),
    *(["simulate", "--tasks", "nope", "--seeds", n] for n in NUMBERS),
    *([*CONDOR, "--shards", n] for n in NUMBERS),
    *(["exec", "--programs", "nope", "--out", "x", "--workers", n] for n in NUMBERS),
    *(["exec", "--programs", "nope", "--out", "x", "--cpu-s", n] for n in NUMBERS),
    *(["submit", "--tasks", p, "--out", "o", "--budget", "1s"] for p in PATHS),
    *([*SUBMIT, "--config", p, "--only", "z"] for p in PATHS if p != "empty"),
    *(["plan", "--profile", p] for p in PATHS),
    *(["validate", p, "--tasks", "t.json"] for p in PATHS),
    *(["evaluate", "nope", "--solutions", p] for p in PATHS),
    *(["vote", p, "--tasks", "t.json", "--out", "v"] for p in PATHS),
    *(["train", "--recipe", p, "--out", "o", "--set", "seed=x"] for p in PATHS),
    *(["train", "--pack", "pk", "--re-arc", p] for p in PATHS if p != "empty"),
    *(["exec", "--programs", p, "--out", "d"] for p in PATHS),
    *([*CONDOR, "--image", p] for p in PATHS if p not in ("bin", "empty", "null.json")),
    *([*KAGGLE, "--model", p] for p in PATHS),
    *([*SUBMIT, "--set", t, "--only", "z"] for t in TEXTS),
    *(["plan", "--pin", t] for t in TEXTS),
    *([*TRAIN, "--set", t] for t in TEXTS),
    *([*CONDOR, "--set", t] for t in TEXTS),
    *([*KAGGLE, "--owner", t, "--title", "a"] for t in TEXTS),
    *(["simulate", "--tasks", "t.json", "--inject", t] for t in TEXTS),
    *([*SUBMIT, "--deadline", t] for t in [*TEXTS, "0001-01-01", "9999-12-31T23:59-23:59"]),
    *([*SUBMIT, "--shard", t] for t in [*TEXTS, "²/3", "1/0", "2/1", f"1/{'9' * 5000}"]),
    *([*SUBMIT, "--budget", t] for t in TIMES),
    *([*CONDOR, "--every", t] for t in TIMES),
    *([*KAGGLE, "--smoke", t] for t in TIMES),
    *([t] for t in TEXTS),
]


@pytest.fixture(autouse=True)
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the lines name."""
    monkeypatch.chdir(tmp_path)
    Path("t.json").write_text(json.dumps(TASKS))
    Path("null.json").write_text("null")
    Path("bin").write_bytes(b"\xff\xfe\x00" * 50)
    Path("r.yaml").write_text("optimization: {max_steps: 1}\n")
    Path("img.sif").write_text("x")
    Path("empty").touch()
    Path("d").mkdir()


@pytest.mark.parametrize("argv", LINES, ids=lambda argv: ascii(" ".join(a[:30] for a in argv))[:80])
def test_it_ends_with_a_message(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    try:
        code = cli.main(argv)
    except SystemExit as done:  # of argparse
        assert isinstance(done.code, int)
        code = done.code

    told = capsys.readouterr().err
    assert code in (EXIT_USAGE, EXIT_PREREQUISITE, EXIT_INPUT)
    assert 0 < len(told) < 4000
    assert "Traceback" not in told


BOMB = "".join(f"k{i}: &k{i} [{', '.join([f'*k{i - 1}'] * 9) if i else 'x'}]\n" for i in range(9))

BAD_YAML = {
    "a bomb": (BOMB, "aliases"),
    "itself": ("train: &a {rank: *a}", "contains itself"),
    "deep": ("[" * (MAX_DEPTH + 1), "in each other"),
    "large": ("#" * (MAX_BYTES + 1), "characters"),
    "twice": ("train: {rank: 1, rank: 2}", "stands twice"),
    "a tag": ("train: !!set {rank}", "tag"),
    "bytes": ("train: {rank: !!binary aGk=}", "tag"),
    "a wrong tag": ("train: {rank: !!bool x}", "tag"),
    "a date": ("train: {rank: 2024-13-45}", "valid integer"),
    "a clock": ("run: {budget_s: 11:30}", "not a duration"),
    "two documents": ("--- {}\n--- {}", "another document"),
    "a list": ("[1]", "list"),
}


@pytest.mark.parametrize("name", BAD_YAML)
def test_yaml_beyond_the_limits_is_refused(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    text, expected = BAD_YAML[name]
    Path("c.yaml").write_text(text)
    assert cli.main([*SUBMIT, "--config", "c.yaml", "--only", "z"]) == EXIT_USAGE
    told = capsys.readouterr().err
    assert expected in told
    assert told.count("\n") == 1
    assert BOMB.count("*") > MAX_ALIASES


def test_a_pipe_that_nobody_writes_to_is_not_waited_for(capsys: pytest.CaptureFixture[str]) -> None:
    os.mkfifo("pipe")
    assert cli.main([*SUBMIT, "--config", "pipe"]) == EXIT_USAGE
    assert "nothing came" in capsys.readouterr().err


def test_yaml_as_people_write_it() -> None:
    text = "\ufefftrain: {learning_rate: 1e-3, enabled: no}\nsample: &s {views: 010}\n"
    Path("c.yaml").write_text(text, encoding="utf-8")
    settings = resolve([file_layer(Path("c.yaml"))])
    assert settings.train.learning_rate == 1e-3
    assert not settings.train.enabled
    assert settings.sample.views == 10


@pytest.mark.parametrize("variable", ["2024-13-45", "[", "[" * 5000, "\udcff", ".nan"])
def test_variables_are_read_with_the_same_limits(
    variable: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("APPLIANCE_TRAIN__RANK", variable)
    assert cli.main(["plan"]) == EXIT_USAGE
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    "change",
    [
        ["--owner", "My Name"],
        ["--owner", "o'brien"],
        ["--owner", "You_X"],
        ["--title", "short"],
        ["--title", "x" * 51],
        ["--title", "数学数学数学"],
        ["--competition", "a b"],
        ["--model", "nope"],
        ["--adapter", "d"],
        ["--python", f"3.{ONE}2"],
    ],
)
def test_pack_kaggle_checks_before_the_wheels(
    change: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def download(*_: object) -> None:
        raise AssertionError("the wheels are begun")

    monkeypatch.setattr(kaggle, "download", download)
    assert cli.main([*KAGGLE, *change]) in (EXIT_USAGE, EXIT_INPUT)
    assert not Path("k").exists()

    with pytest.raises(AssertionError, match="wheels"):
        cli.main(KAGGLE)


@pytest.mark.parametrize("name", ["a, b.sif", "a b.sif", 'a"b.sif', "a$(b).sif"])
def test_pack_condor_refuses_paths_that_a_submit_file_cannot_hold(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path(name).write_text("x")
    assert cli.main([*CONDOR, "--image", name]) == EXIT_USAGE
    assert "submit file" in capsys.readouterr().err
    assert not Path("c").exists()


def test_pack_condor_quotes_the_folder_that_it_prints(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*CONDOR, "--out", "d 4"]) == EXIT_DONE
    assert "cd 'd 4' &&" in capsys.readouterr().out
