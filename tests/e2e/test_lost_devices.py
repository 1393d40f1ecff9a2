"""Cards that cannot be used, and engines that kill their process: real runs in real processes.

NVML is a fake (tests/cases/nvml.json) and the card is the CPU by another name, so no GPU is needed.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from appliance.errors import EXIT_COVERAGE, EXIT_DONE
from appliance.record.run_folder import RunFolder
from bench.job import submit_command
from tests.support.fault_injection import faulty_environment
from tests.support.main_job import finish, stage_rows, submission_faults
from tests.support.nvml_machines import as_pynvml

pytestmark = pytest.mark.engine
pytest.importorskip("torch")

TASKS = ("copy0", "copy1", "copy2")
FEW = (
    "train.max_steps=4",
    "train.rank=4",
    "train.min_seconds=20",
    "run.rounds=1",
    "sample.views=2",
)
TORCH_FOR_GPUS = """
from appliance.machine import machine
from appliance.machine.cuda import TorchBuild

machine.torch_build = lambda: TorchBuild("2.13.0+cu130", (13, 0))
"""
"""The main process takes the installed torch, which is for the CPU, for the one pinned for GPUs."""

ONE_CARD_VANISHES = """
import os
from pathlib import Path
from appliance.engine import device_faults
from appliance.engine.training import peft_trainer
from appliance.errors import DeviceLost
from appliance.solve import messages

card, gone = os.environ.get("CUDA_VISIBLE_DEVICES", ""), Path(os.environ["FAULTS"]) / "gone"
read, tune = messages.Setup.model_validate_json, peft_trainer.PeftTrainer.tune

def on_the_cpu(line):
    setup = read(line)
    plain = {"dtype": "float32", "autocast_dtype": None, "trainer": "peft"}
    return setup.model_copy(update={"device": "cpu", "engine": "transformers", **plain})

def check(device):
    if card and gone.exists() and gone.read_text() == card:
        raise DeviceLost("torch cannot use the GPU: No CUDA GPUs are available")

def vanishing(self, *given, **more):
    try:
        with gone.open("x") as name:
            name.write(card)
    except FileExistsError:
        return tune(self, *given, **more)
    os._exit(1)

messages.Setup.model_validate_json = on_the_cpu
device_faults.check_device = check
peft_trainer.PeftTrainer.tune = vanishing
"""
"""Workers compute on the CPU as if it were a card. The first card that trains a task vanishes."""


def run(
    folder: Path,
    challenges: Path,
    model: Path,
    *,
    machine: str,
    code: int,
    worker: str = "",
    flags: Sequence[str] = (),
) -> tuple[Path, str, dict[str, Any]]:
    """The folder of a run on that machine, what it printed, and its coverage."""
    as_pynvml(folder, machine)
    environment = faulty_environment(folder, main=TORCH_FOR_GPUS, worker=worker, FAULTS=folder)
    environment.pop("CUDA_VISIBLE_DEVICES", None)
    words = ["--model", str(model), "--only", ",".join(TASKS), "--budget", "6m", *flags]
    out = folder / "out"
    command = submit_command(challenges, out, *words, settings=FEW)
    done = finish(command, codes=(code,), environment=environment)

    assert submission_faults(out, challenges, TASKS) == []
    report = json.loads(RunFolder(out).report.read_text())
    return out, done.stdout + done.stderr, report["coverage"]


def test_a_driver_that_is_too_old_leaves_the_run_to_the_cpu(
    tmp_path: Path, challenges: Path, tiny_model: Path
) -> None:
    out, printed, coverage = run(
        tmp_path, challenges, tiny_model, machine="T4x2, driver 535", code=EXIT_COVERAGE
    )
    told = "Tesla T4: driver 535.183.01 (CUDA 12.2) is too old for torch 2.13.0+cu130"
    assert f"set back: {told}" in printed
    assert f"set back: 2 x {told}" in printed  # at the end
    assert "below its floor: no GPU could be used" in printed
    assert coverage["without_gpu"] == 1
    assert coverage["sampled"] == coverage["trained"] == len(TASKS)
    assert RunFolder(out).submission.exists()


def test_cards_that_torch_cannot_use_at_the_start_leave_the_run_to_the_cpu(
    tmp_path: Path, challenges: Path, tiny_model: Path
) -> None:
    """The versions are right here, and the real torch says that it knows no card."""
    _, printed, coverage = run(
        tmp_path, challenges, tiny_model, machine="T4x2, driver 580", code=EXIT_COVERAGE
    )
    assert "torch cannot use the GPU: Torch not compiled with CUDA enabled" in printed
    assert "is given up" in printed and "the other 1 go on" in printed
    assert "no GPU is left" in printed and "the run goes on with the CPU" in printed
    assert coverage["sampled"] == coverage["trained"] == len(TASKS)
    assert sum(coverage["setbacks"].values()) == 2


def test_the_tasks_of_a_card_that_vanishes_at_work_go_to_the_other(
    tmp_path: Path, challenges: Path, tiny_model: Path
) -> None:
    out, printed, coverage = run(
        tmp_path,
        challenges,
        tiny_model,
        machine="T4x2, driver 580",
        worker=ONE_CARD_VANISHES,
        code=EXIT_DONE,
    )
    assert "died: it ended with exit code 1" in printed
    assert "is given up (torch cannot use the GPU: No CUDA GPUs" in printed
    assert "the other 1 go on" in printed
    assert coverage["without_gpu"] == 0
    assert {row.status for row in stage_rows(out, "deep").values()} == {"done"}
    assert coverage["trained"] == len(TASKS)


def test_after_the_last_card_the_cpu_goes_on_with_what_is_left(
    tmp_path: Path, challenges: Path, tiny_model: Path
) -> None:
    out, printed, coverage = run(
        tmp_path,
        challenges,
        tiny_model,
        machine="A6000, driver 580",
        worker=ONE_CARD_VANISHES,
        code=EXIT_COVERAGE,
    )
    assert "no GPU is left" in printed
    assert "below its floor: no GPU could be used" in printed
    assert coverage["sampled"] == coverage["trained"] == len(TASKS)
    assert json.loads(RunFolder(out).plan.read_text())["machine"]["gpus"] == []


VLLM_ABORTS = """
import os
from pathlib import Path

with (Path(os.environ["FAULTS"]) / "starts").open("a") as starts:
    starts.write("x")
os.abort()
"""
"""A package named vllm that ends every process which imports it."""


@pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed")
def test_an_engine_that_kills_its_worker_is_not_tried_twice(
    tmp_path: Path, challenges: Path, tiny_model: Path
) -> None:
    package = tmp_path / "vllm"
    package.mkdir()
    (package / "__init__.py").write_text(VLLM_ABORTS)
    _, printed, coverage = run(
        tmp_path,
        challenges,
        tiny_model,
        machine="no card",
        code=EXIT_DONE,
        flags=["--engine", "vllm", "--workers", "1"],
    )
    assert (tmp_path / "starts").read_text() == "x"
    lines = [line for line in printed.splitlines() if "it starts again with" in line]
    assert len(lines) == 1
    assert "worker 0: was killed by SIGABRT" in lines[0]
    assert "transformers in place of vllm" in lines[0]
    assert coverage["setbacks"] == {
        "transformers in place of vllm, because a worker did not start": 1
    }
    assert coverage["sampled"] == len(TASKS)
