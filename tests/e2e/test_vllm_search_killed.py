"""vLLM is killed while a program search samples: a new worker goes on from the programs so far.

The fault is put into the worker process from outside, as in test_vllm_faults.py.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import appliance
from appliance.record.journal import Journal
from bench.job import submit_command
from tests.support.cpu_precision import CpuPrecision

pytestmark = pytest.mark.engine
pytest.importorskip("torch")
pytest.importorskip("vllm")

INJECTION = """
import os, signal, sys
if "appliance.solve.worker" in getattr(sys, "orig_argv", ()):
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
    (tmp_path / "sitecustomize.py").write_text(INJECTION)
    few = [
        f"program.epochs={NUM_EPOCHS}",
        f"program.samples_per_epoch={NUM_PROGRAMS}",
        "program.quick_samples=4",
    ]
    few += ["run.rounds=1", "run.workers=1"]
    flags = ["--strategy", "induction", "--engine", "vllm", "--budget", "4m"]
    _, *words = submit_command(unsolvable, tmp_path / "out", *flags, settings=few)
    # Without this process's own path: packages are found beside the other python.
    path = os.pathsep.join([str(tmp_path), str(Path(appliance.__file__).parents[1])])
    environment = os.environ | {"PYTHONPATH": path, "FAULTS": str(tmp_path)}

    done = subprocess.run(
        [str(python_with_a_space), *words],
        capture_output=True,
        text=True,
        timeout=400,
        env=environment,
    )
    # 5: no program gives the test a grid.
    assert done.returncode in (0, 5), done.stdout + done.stderr
    assert (tmp_path / "killed").exists(), done.stdout
    assert "died with code -9" in done.stdout

    journal = Journal(tmp_path / "out" / "run" / "journal.sqlite")
    programs, rows = journal.programs(), {row.stage: row for row in journal.stages()}
    journal.close()
    assert len(programs["quick"]) == 4
    # One epoch before the kill, and all of them anew.
    assert len(programs["deep"]) == NUM_PROGRAMS * (1 + NUM_EPOCHS)
    assert rows["search"].status == "done"
    epochs = rows["search"].detail["epochs"]
    assert [epoch["num_programs"] for epoch in epochs] == [NUM_PROGRAMS] * NUM_EPOCHS
    assert len(json.loads((tmp_path / "out" / "submission.json").read_text())["random"]) == 1

    deep = rows["deep"].detail
    assert deep["how"] == "vllm merged"
    assert not deep.get("refused")
    log = (tmp_path / "out" / "run" / "logs" / "worker-0.log").read_text()
    assert str(python_with_a_space.parent.parent) in log  # vLLM came from the path with a space
    assert "cannot be preloaded" not in log
