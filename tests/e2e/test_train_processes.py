"""Two processes train as one does, and a run may go on with another number of them.

They are started by `accelerate launch` on the CPU, where torch's gloo connects them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from appliance import cli
from appliance.learn.processes import leave_processes
from tests.support.cpu_precision import CpuPrecision

pytestmark = pytest.mark.engine
pytest.importorskip("torch")

RECIPE = """
seed: 3
adaptation: {method: lora, rank: 4}
data:
  row_tokens: 768
  rows_per_step: 3   # no multiple of the number of processes
  datasets: {copies: {min_pairs: 2, max_pairs: 3}}
optimization: {learning_rate: 0.002, warmup_steps: 2, max_steps: 4}
evaluation: {every_steps: 2, limit: 3, views: 2}   # three tasks: uneven shares
save_every_steps: 2
log_every_steps: 1
"""


@pytest.fixture(scope="module")
def flags(tmp_path_factory: pytest.TempPathFactory, challenges: Path) -> list[str]:
    folder = tmp_path_factory.mktemp("run")
    (folder / "recipe.yaml").write_text(RECIPE)
    flags = ["--recipe", str(folder / "recipe.yaml"), "--model", "arc-mini", "--display", "none"]
    for key in ("data.datasets.copies.source", "evaluation.tasks"):
        flags += ["--set", f"{key}={challenges}"]
    return flags


def launch(*arguments: str) -> None:
    """`accelerate launch` with two processes on this machine's CPU."""
    places = ["--cpu", "--num_machines", "1", "--num_processes", "2"]
    options = ["--mixed_precision", "no", "--dynamo_backend", "no"]
    options += ["--num_cpu_threads_per_process", "1"]
    command = [sys.executable, "-m", "accelerate.commands.launch", *places, *options]
    words = [*command, "-m", "appliance", "train", *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(words, capture_output=True, text=True, env=environment)

    assert done.returncode == 0, done.stderr[-3000:]


def told(out: Path, name: str) -> list[dict[str, float]]:
    return [json.loads(line) for line in (out / name).read_text().splitlines()]


def losses(out: Path) -> dict[int, float]:
    return {int(line["step"]): line["loss"] for line in told(out, "metrics.jsonl")}


def test_two_processes_train_as_one_and_a_run_may_change_between_them(
    flags: list[str], tmp_path: Path, cpu_precision: CpuPrecision
) -> None:
    assert cli.main(["train", *flags, "--out", str(tmp_path / "one")]) == 0
    launch(*flags, "--out", str(tmp_path / "two"), "--max-steps", "2")

    assert len(told(tmp_path / "two", "metrics.jsonl")) == 2  # one process writes
    before, first, *_ = told(tmp_path / "one", "evaluation.jsonl")
    assert told(tmp_path / "two", "evaluation.jsonl") == [before, first]
    assert first["unanswered"] < 1
    assert cli.main(["train", *flags, "--out", str(tmp_path / "two")]) == 0
    assert losses(tmp_path / "two") == pytest.approx(
        losses(tmp_path / "one"), rel=cpu_precision.loss_tolerance
    )
    assert (tmp_path / "two" / "adapter" / "adapter_model.safetensors").is_file()


def test_a_group_that_another_library_began_outlives_a_training() -> None:
    """vLLM in this process would lose its own."""
    import torch.distributed as dist

    is_own = not dist.is_initialized()
    if is_own:
        dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    leave_processes()
    assert dist.is_initialized()
    if is_own:
        dist.destroy_process_group()
