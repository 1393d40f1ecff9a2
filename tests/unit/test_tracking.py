"""Figures go to a tracking service in a process of its own; whatever becomes of it, the run goes
on."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from appliance.errors import PrerequisiteError
from appliance.record.tracking import Figures, check_service, open_tracking
from tests.support.cases import REPOSITORY

PACKAGE = """
import json
out = open({told!r}, "a")
def tell(*words): print(json.dumps(words), file=out, flush=True)
def init(project, name, config): tell(project, name, config)
def log(values, step): tell(step, values)
def finish(): tell("end")
"""


class World:
    """A package named trackio, whose text a test gives, and what a run is told of it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.notes = folder, list[str]()
        self.packages = folder / "packages"
        self.packages.mkdir()

    def package(self, text: str) -> None:
        (self.packages / "trackio.py").write_text(text)

    def open(self, name: str = "trackio") -> Figures:
        return open_tracking(
            name,
            self.folder / "tracking",
            run="first",
            config={"seed": 4},
            note=self.notes.append,
        )

    def told(self) -> list[Any]:
        return [json.loads(line) for line in (self.folder / "told").read_text().splitlines()]


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    made = World(tmp_path)
    monkeypatch.setenv("PYTHONPATH", f"{made.packages}:{REPOSITORY}")
    made.package(PACKAGE.format(told=str(tmp_path / "told")))
    return made


def test_a_service_gets_every_number_and_then_the_end(world: World) -> None:
    figures = world.open()
    figures.log(50, {"step": 50, "loss": 0.5, "dataset": "outputs"})
    figures.log(50, {"accuracy": 0.25})
    figures.close()
    figures.close()
    assert world.told() == [
        ["arc-appliance", "first", {"seed": 4}],
        [50, {"loss": 0.5}],
        [50, {"accuracy": 0.25}],
        ["end"],
    ]
    assert not world.notes


@pytest.mark.parametrize("broken", ["init", "log", "finish"])
def test_a_service_that_fails_is_one_note(world: World, broken: str) -> None:
    text = (world.packages / "trackio.py").read_text()
    raising = f"def {broken}(*_, **__): raise OSError('no route to host')\n"
    world.package(text + raising)
    figures = world.open()
    for step in range(2000):
        figures.log(step, {"loss": 1.0})
    figures.close()
    (note,) = world.notes
    assert "trackio ended: OSError: no route to host" in note


def test_one_that_hangs_neither_holds_a_run_up_nor_stays(world: World) -> None:
    world.package("import time\ndef init(**_): time.sleep(1000)\n")
    figures = world.open()
    for step in range(3000):  # more than a pipe holds
        figures.log(step, {"loss": 1.0, "a figure with a long name": 2.0})
    figures.close(within_s=0.5)
    (note,) = world.notes
    assert "it was not done 0 s after the run" in note


def test_a_service_far_behind_is_given_up(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("appliance.record.tracking.MOST_WAITING_BYTES", 10_000)
    world.package("import time\ndef init(**_): time.sleep(1000)\n")
    figures = world.open()
    for step in range(3000):
        figures.log(step, {"a figure with a long name": 2.0, "another such figure": 1.0})
    (note,) = world.notes
    assert "it does not take what it is sent" in note


def test_none_starts_nothing_and_makes_nothing(world: World) -> None:
    figures = world.open("none")
    figures.log(1, {"loss": 1.0})
    figures.close()
    assert not (world.folder / "tracking").exists()
    check_service("none")


def test_a_service_that_is_not_installed_is_named() -> None:
    with pytest.raises(PrerequisiteError, match="no_such_tracker is not installed"):
        check_service("no_such_tracker")


def test_a_run_without_tracking_imports_no_service() -> None:
    code = (
        "import sys, appliance.run.launch, appliance.learn.train; "
        "print([m for m in ('wandb', 'trackio') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=REPOSITORY
    )
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.skipif(importlib.util.find_spec("wandb") is None, reason="wandb is not installed")
def test_wandb_itself_writes_below_the_folder_alone(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setenv("WANDB_MODE", "offline")
    figures = world.open("wandb")
    figures.log(1, {"loss": 0.5, "done/search": 3})
    figures.close()
    assert not world.notes and not list(here.iterdir())
    (kept,) = (tmp_path / "tracking").glob("wandb/offline-run-*/run-*.wandb")
    assert b"done/search" in kept.read_bytes()
