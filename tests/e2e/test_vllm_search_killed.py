"""vLLM is killed while a program search samples: a new worker goes on from the programs so far."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

import appliance
from bench.job import submit_command
from tests.support.cpu_precision import CpuPrecision
from tests.support.fault_injection import faulty_environment
from tests.support.main_job import finish, journal_of

pytestmark = pytest.mark.engine
pytest.importorskip("torch")
pytest.importorskip("vllm")

KILLED_IN_THE_THIRD_JOB = """
import os, signal
from pathlib import Path
from appliance.engine.sampling.vllm_engine import VllmEngine
from appliance.engine.sampling.vllm_server import VllmServer

serve, step = VllmServer.serve, VllmEngine.step
num_served = [0]

def counted(self, *given, **named):
    num_served[0] += 1
    return serve(self, *given, **named)

def killed(self):
    mark = Path(os.environ["FAULTS"]) / "killed"
    if num_served[0] == 3 and not mark.exists():
        mark.write_text("")
        os.kill(os.getpid(), signal.SIGKILL)
    yield from step(self)

VllmServer.serve, VllmEngine.step = counted, killed
"""
NUM_EPOCHS, NUM_PROGRAMS = 2, 6


@pytest.fixture
def unsolvable(tmp_path: Path) -> Path:
    """One task of random grids: no program fits it, so a search never ends early."""
    rng = np.random.default_rng(0)
    pairs = [
        {side: rng.integers(0, 10, (3, 4)).tolist() for side in ("input", "output")}
        for _ in range(3)
    ]
    path = tmp_path / "challenges.json"
    path.write_text(
        json.dumps({"random": {"train": pairs, "test": [{"input": pairs[0]["output"]}]}})
    )
    return path


@pytest.fixture
def python_with_a_space(tmp_path: Path) -> Path:
    """This installation under a path with a space, which LD_PRELOAD takes for the end of a name."""
    folder = tmp_path / "a folder"
    folder.mkdir()
    (folder / "venv").symlink_to(sys.prefix)
    return folder / "venv" / Path(sys.executable).relative_to(sys.prefix)


def test_the_search_goes_on_from_the_programs_that_it_had(
    unsolvable: Path, python_with_a_space: Path, tmp_path: Path, cpu_precision: CpuPrecision
) -> None:
    """In bfloat16 an adapter of one training step changes less than rounding does; it is served."""
    few = (
        f"program.epochs={NUM_EPOCHS}",
        f"program.samples_per_epoch={NUM_PROGRAMS}",
        "program.quick_samples=4",
        "run.rounds=1",
        "run.workers=1",
    )
    flags = ["--strategy", "induction", "--engine", "vllm", "--budget", "4m"]
    _, *words = submit_command(unsolvable, tmp_path / "out", *flags, settings=few)
    # Without this process's own path: packages are found beside the other python.
    environment = faulty_environment(
        tmp_path,
        worker=KILLED_IN_THE_THIRD_JOB,
        packages=[Path(appliance.__file__).parents[1]],
        FAULTS=tmp_path,
    )
    done = finish([str(python_with_a_space), *words], environment=environment)
    assert (tmp_path / "killed").exists(), done.stdout
    assert "died: it was killed by SIGKILL" in done.stdout

    with journal_of(tmp_path / "out") as journal:
        programs, rows = journal.programs(), {row.stage: row for row in journal.stages()}
    assert len(programs["quick"]) == 4
    # One epoch before the kill, and all of them anew.
    assert len(programs["deep"]) == NUM_PROGRAMS * (1 + NUM_EPOCHS)
    assert rows["programs"].status == "done"
    epochs = rows["programs"].detail["epochs"]
    assert [epoch["num_programs"] for epoch in epochs] == [NUM_PROGRAMS] * NUM_EPOCHS
    assert len(json.loads((tmp_path / "out" / "submission.json").read_text())["random"]) == 1

    deep = rows["deep"].detail
    assert deep["how"] == "vllm merged"
    assert not deep.get("refused")
    log = (tmp_path / "out" / "run" / "logs" / "worker-0.log").read_text()
    assert str(python_with_a_space.parent.parent) in log  # vLLM came from the path with a space
    assert "cannot be preloaded" not in log
