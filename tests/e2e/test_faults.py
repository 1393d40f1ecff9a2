"""Real workers that run out of memory, rung by rung, or lose their device: task and run go on.

Instead of an optimizer step the workers raise what torch raises on a full and on a broken card.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.errors import EXIT_COVERAGE
from appliance.sizing.memory_ladder import LAST_RUNG
from bench.job import submit_command
from tests.support.fault_injection import faulty_environment
from tests.support.main_job import finish, journal_of, stage_rows, submission_faults

pytestmark = pytest.mark.engine
pytest.importorskip("torch")

TASKS = ("copy0", "copy1", "copy2", "copy3")
FAULTS_OF_TRAINING = """
import os
from pathlib import Path
from appliance.engine.training import peft_trainer, tuning_loop

task = [""]
tune, step = peft_trainer.PeftTrainer.tune, tuning_loop.TuningLoop.step

def known(self, lessons, settings, *, adapter_dir, **more):
    task[0] = adapter_dir.name
    return tune(self, lessons, settings, adapter_dir=adapter_dir, **more)

def faulty(self, rows, rate):
    import torch

    if task[0] == "copy0" and rows.ids.shape[0] > 2:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
    if task[0] == "copy1":
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")
    broken = Path(os.environ["BROKEN_ONCE"])
    if task[0] == "copy2" and not broken.exists():
        broken.touch()
        raise RuntimeError("CUDA error: device-side assert triggered")
    return step(self, rows, rate)

peft_trainer.PeftTrainer.tune, tuning_loop.TuningLoop.step = known, faulty
"""


@pytest.fixture(scope="module")
def finished(
    tmp_path_factory: pytest.TempPathFactory, challenges: Path, tiny_model: Path
) -> tuple[Path, str]:
    """The folder of a run whose workers meet all of these faults, and what it printed."""
    folder = tmp_path_factory.mktemp("faults")
    environment = faulty_environment(
        folder, worker=FAULTS_OF_TRAINING, BROKEN_ONCE=folder / "broken"
    )
    flags = ["--model", str(tiny_model), "--only", ",".join(TASKS), "--budget", "20m"]
    # A lesson takes some 50 tokens: five rows a step, and two once the batch is halved.
    few = (
        "train.max_steps=4",
        "train.tokens_per_step=256",
        "train.rank=4",
        "train.min_seconds=20",
        "run.rounds=1",
        "run.workers=1",
        "sample.views=2",
    )
    command = submit_command(challenges, folder / "out", *flags, settings=few)

    return folder / "out", finish(command, timeout_s=900, environment=environment).stdout


def trainings(out: Path) -> dict[str, tuple[str, int, str | None]]:
    """By task: status, rung of the ladder, reason."""
    return {
        task_id: (row.status, row.detail["rung"], row.detail["reason"])
        for task_id, row in stage_rows(out, "train").items()
    }


def test_a_task_trains_on_the_rung_where_it_fits(finished: tuple[Path, str]) -> None:
    out, printed = finished
    assert trainings(out)["copy0"] == ("done", 2, None)
    assert "next try: gradient checkpointing on" in printed
    assert "next try: batch halved" in printed


def test_a_task_that_fits_nowhere_is_sampled_untrained(finished: tuple[Path, str]) -> None:
    out, _ = finished
    reason = "no room to train on any rung of the ladder"
    assert trainings(out)["copy1"] == ("failed", LAST_RUNG, reason)

    with journal_of(out) as journal:
        answers = journal.candidates("copy1")["deep"]
    assert {answer.adapter for answer in answers} == {""}


def test_an_error_that_poisons_the_process_costs_the_worker_and_not_the_task(
    finished: tuple[Path, str],
) -> None:
    out, printed = finished
    assert "worker 0 died" in printed
    assert printed.count("worker 0 ready") == 2
    assert trainings(out)["copy2"] == ("done", 0, None)


def test_its_neighbours_notice_nothing(finished: tuple[Path, str], challenges: Path) -> None:
    out, printed = finished
    assert trainings(out)["copy3"] == ("done", 0, None)
    assert submission_faults(out, challenges, TASKS) == []
    assert "sampled 4/4" in printed


TRAINING_FAILS = """
import itertools
from appliance.engine.training import tuning_loop

count = itertools.count()

def broken(self, rows, rate):
    raise TypeError(f"step {next(count)} got an unexpected argument")

tuning_loop.TuningLoop.step = broken
"""


def test_a_fault_of_every_task_ends_the_run_at_once_and_is_mended_by_the_same_command(
    tmp_path: Path, challenges: Path, tiny_model: Path
) -> None:
    environment = faulty_environment(tmp_path, worker=TRAINING_FAILS)
    flags = ["--model", str(tiny_model), "--only", "copy0,copy1,copy2", "--budget", "20m"]
    few = ("train.max_steps=4", "train.rank=4", "run.rounds=1", "sample.views=2", "run.workers=1")
    command = submit_command(challenges, tmp_path / "out", *flags, settings=few)

    broken = finish(command, environment=environment, codes=[EXIT_COVERAGE])
    assert "3 tasks in a row (copy0, copy1, copy2): TypeError: step" in broken.stderr
    assert "Traceback" not in broken.stdout + broken.stderr
    assert broken.stdout.count("worker 0 ready") == 1, "the worker lives on"
    assert submission_faults(tmp_path / "out", challenges, TASKS[:3]) == []

    (tmp_path / "fault_of_worker.py").write_text("")
    finish(command, environment=environment)
    assert {row.status for row in stage_rows(tmp_path / "out", "train").values()} == {"done"}


UNSLOTH_FAILS = """
from appliance.engine.training import unsloth_trainer
from appliance.errors import EngineError

def broken(scratch_dir, *, device):
    raise EngineError("unsloth cannot be used: injected")

unsloth_trainer.import_unsloth = broken
"""
UNSLOTH_IS_CHOSEN = """
from appliance.sizing import make_plan
from appliance.sizing.choice import Choice

make_plan.choose_trainer = lambda *given: Choice("unsloth", "as on a GPU")
"""


def test_a_run_goes_on_with_peft_where_unsloth_fails(
    tmp_path: Path, challenges: Path, tiny_model: Path
) -> None:
    environment = faulty_environment(tmp_path, worker=UNSLOTH_FAILS, main=UNSLOTH_IS_CHOSEN)
    flags = ["--model", str(tiny_model), "--only", "copy0", "--budget", "5m"]
    few = ("train.max_steps=4", "train.rank=4", "run.rounds=1", "sample.views=2", "run.workers=1")
    command = submit_command(challenges, tmp_path / "out", *flags, settings=few)
    done = finish(command, environment=environment)

    assert "unsloth cannot be used: injected; it starts again with peft in place of unsloth" in (
        done.stdout
    )
    assert trainings(tmp_path / "out")["copy0"][0] == "done"
