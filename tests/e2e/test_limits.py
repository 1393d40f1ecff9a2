"""Real workers that hang or find no memory: the run says so and ends in time, validly."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest

from appliance.arc.source import load_tasks
from appliance.arc.submission import validate
from appliance.record.journal import Journal
from appliance.sizing.memory_ladder import RUNGS
from bench.job import submit_command

pytestmark = pytest.mark.engine
pytest.importorskip("torch")

ENGINES = ["--engine", "transformers", "--trainer", "peft"]


def workers_of(pid: int) -> list[int]:
    """Worker processes that this process started."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_text().split("\0")
            parent = int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1])
        except OSError:  # ended meanwhile
            continue
        if parent == pid and "appliance.solve.worker" in words:
            found.append(int(folder.name))
    return found


def test_a_worker_that_stands_still_is_killed_and_costs_its_own_share_alone(
    challenges: Path, tiny_model: Path, tmp_path: Path
) -> None:
    """About half a minute: a hang shows when the job's deadline and grace are over.

    The budget is for a busy machine.
    """
    few = [
        "train.max_steps=6",
        "train.tokens_per_step=256",
        "train.rank=4",
        "run.rounds=1",
        "sample.views=4",
    ]
    flags = ["--model", str(tiny_model), "--budget", "10m", "--workers", "1", *ENGINES]
    command = submit_command(challenges, tmp_path, *flags, settings=few)
    shown = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        stopped = 0
        for line in process.stdout:
            shown.append(line)
            if line.startswith("deep") and not stopped:
                stopped = workers_of(process.pid)[0]
                os.kill(stopped, signal.SIGSTOP)
    assert process.returncode == 0, shown
    assert not Path(f"/proc/{stopped}").exists()
    assert any("hung" in line and "killed" in line for line in shown)
    stages = {
        (r.task_id, r.stage): r.status
        for r in Journal(tmp_path / "run" / "journal.sqlite").stages()
    }
    assert [stages[f"copy{i}", "deep"] for i in range(6)] == ["done"] * 6
    tasks = load_tasks(str(challenges))
    assert validate(json.loads((tmp_path / "submission.json").read_text()), tasks) == []


def short_and_long_tasks(path: Path) -> None:
    """Two short tasks, and one whose demonstrations fill 3,662 tokens."""
    rng = np.random.default_rng(0)

    def task(side: int, num_pairs: int) -> dict[str, object]:
        grids = [rng.integers(0, 10, (side, side)) for _ in range(num_pairs + 1)]
        pairs = [{"input": g.tolist(), "output": np.rot90(g).tolist()} for g in grids[:-1]]
        return {"train": pairs, "test": [{"input": grids[-1].tolist()}]}

    shapes = {"short0": (3, 3), "short1": (4, 3), "long": (13, 9)}
    path.write_text(json.dumps({name: task(*shape) for name, shape in shapes.items()}))


def test_a_long_task_in_little_memory_goes_down_the_ladder_and_finishes(tmp_path: Path) -> None:
    """The embedded model in an address space of 2.25 GiB, of which 1.6 may be resident.

    By the plan, training takes 1.70 GiB for the long task, 0.81 with gradient checkpointing, and
    0.93 for the short ones; the probe adds a sixth to a third. What the figures depend on is the
    same on every machine: float32, for in 16 bits all of it might fit, and two cores, for each
    thread has address space of its own.
    """
    short_and_long_tasks(tmp_path / "tasks.json")
    out, limit = tmp_path / "out", int(2.25 * 2**30)
    few = [
        "train.max_steps=1",
        "sample.views=1",
        "sample.quick_views=1",
        "sample.score_views=0",
        "run.rounds=1",
        "model.dtype=float32",
    ]
    flags = ["--budget", "20m", "--workers", "1", *ENGINES]
    command = submit_command(tmp_path / "tasks.json", out, *flags, settings=few)

    def limit_process() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])

    done = subprocess.run(command, capture_output=True, text=True, preexec_fn=limit_process)
    assert done.returncode == 0, done.stdout + done.stderr
    submission = json.loads((out / "submission.json").read_text())
    assert validate(submission, load_tasks(str(tmp_path / "tasks.json"))) == []

    rows = Journal(out / "run" / "journal.sqlite").stages()
    rungs = {r.task_id: r.detail["rung"] for r in rows if r.stage == "deep"}
    assert rungs["short0"] == rungs["short1"] == 0, done.stdout
    assert rungs["long"] > 0, done.stdout
    assert any(rung.name in done.stdout for rung in RUNGS[1:])
