"""vLLM is killed while a program search samples: the search goes on in a new worker from the programs that it had.

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

from appliance.record.journal import Journal
from bench.job import submit_command

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


def test_the_search_goes_on_from_the_programs_that_it_had(unsolvable: Path, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(INJECTION)
    few = [
        f"program.epochs={NUM_EPOCHS}",
        f"program.samples_per_epoch={NUM_PROGRAMS}",
        "program.quick_samples=4",
    ]
    few += ["run.rounds=1", "run.workers=1"]
    flags = ["--strategy", "induction", "--engine", "vllm", "--budget", "4m"]
    command = submit_command(unsolvable, tmp_path / "out", *flags, settings=few)
    path = os.pathsep.join([str(tmp_path), *(p for p in sys.path if p)])
    environment = os.environ | {"PYTHONPATH": path, "FAULTS": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=400, env=environment)
    assert done.returncode in (0, 5), (
        done.stdout + done.stderr
    )  # 5: no program gives the test a grid
    assert (tmp_path / "killed").exists() and "died with code -9" in done.stdout
    journal = Journal(tmp_path / "out" / "run" / "journal.sqlite")
    programs, rows = journal.programs(), {row.stage: row for row in journal.stages()}
    journal.close()
    assert len(programs["quick"]) == 4
    assert len(programs["deep"]) == NUM_PROGRAMS * (
        1 + NUM_EPOCHS
    )  # one epoch before the kill, and all of them anew
    assert rows["search"].status == "done"
    assert [epoch["num_programs"] for epoch in rows["search"].detail["epochs"]] == [
        NUM_PROGRAMS
    ] * NUM_EPOCHS
    assert len(json.loads((tmp_path / "out" / "submission.json").read_text())["random"]) == 1
