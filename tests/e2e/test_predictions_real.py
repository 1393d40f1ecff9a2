"""Exactly N answers by real arc-mini, real peft and the real sandbox, as `evaluate` counts them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.job import submit_command

pytestmark = pytest.mark.engine
pytest.importorskip("torch")

NUM = 5
FEW = ("train.max_steps=2", "train.check=skip", "train.min_seconds=0", "program.max_new_tokens=24")
KEPT = ("sample.keep_colours=true", "sample.keep_orientation=true")


@pytest.fixture(scope="module")
def two_tasks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One with a test input, one with two, of other sizes; the rule is to copy."""
    rng = np.random.default_rng(0)

    def grid(side: int) -> list[list[int]]:
        cells: list[list[int]] = rng.integers(0, 10, (side, side)).tolist()
        return cells

    tasks, solutions = {}, {}
    for name, sides in (("one", [2]), ("two", [2, 4])):
        questions = [grid(side) for side in sides]
        tasks[name] = {
            "train": [{"input": g, "output": g} for g in (grid(2), grid(3))],
            "test": [{"input": g} for g in questions],
        }
        solutions[name] = questions
    folder = tmp_path_factory.mktemp("tasks")
    (folder / "two_challenges.json").write_text(json.dumps(tasks))
    (folder / "two_solutions.json").write_text(json.dumps(solutions))
    return folder / "two_challenges.json"


def evaluated(challenges: Path, out: Path, strategy: str, *settings: str) -> dict[str, Any]:
    """The figures of a whole run."""
    more = ("--strategy", strategy, "--predictions", str(NUM), "--budget", "8m")
    command = submit_command(challenges, out, *more, settings=(*FEW, *settings))
    done = subprocess.run(command, capture_output=True, text=True, timeout=500)
    assert done.returncode in (0, 5), done.stderr
    assert "stopping" in done.stdout, "the run ends when all predictions are there"

    answers = challenges.with_name("two_solutions.json")
    arguments = ["evaluate", str(out), "--solutions", str(answers), "--json"]
    told = subprocess.run(
        [sys.executable, "-m", "appliance", *arguments], capture_output=True, text=True, check=True
    )
    figures: dict[str, Any] = json.loads(told.stdout)
    return figures


def counts_of(stage: dict[str, float]) -> tuple[float, float, float]:
    return stage["num_tasks"], stage["num_least"], stage["num_most"]


@pytest.mark.parametrize(
    "settings", [(), ("train.enabled=false",), KEPT, (*KEPT, "train.enabled=false")]
)
def test_grids_are_as_many_as_asked(
    settings: tuple[str, ...], two_tasks: Path, tmp_path: Path
) -> None:
    figures = evaluated(two_tasks, tmp_path / "out", "transduction", *settings)
    assert figures["stages"].keys() == {"deep"}
    assert counts_of(figures["stages"]["deep"]) == (2, NUM, NUM)
    assert figures["stages"]["deep"]["num_candidates"] == 3 * NUM


@pytest.mark.parametrize("settings", [(), ("program.learn=false", *KEPT)])
def test_programs_are_as_many_as_asked(
    settings: tuple[str, ...], two_tasks: Path, tmp_path: Path
) -> None:
    figures = evaluated(two_tasks, tmp_path / "out", "induction", *settings)
    assert figures["programs"].keys() == {"deep"}
    assert counts_of(figures["programs"]["deep"]) == (2, NUM, NUM)


def test_grids_and_programs_together_are_as_many_each(two_tasks: Path, tmp_path: Path) -> None:
    figures = evaluated(two_tasks, tmp_path / "out", "transduction,induction")
    assert counts_of(figures["stages"]["deep"]) == (2, NUM, NUM)
    assert counts_of(figures["programs"]["deep"]) == (2, NUM, NUM)
