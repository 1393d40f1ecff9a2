"""Real workers on a real model that run out of memory, rung by rung, or lose their device: the task goes on, the run too.

The faults are put into the worker process from outside: a `sitecustomize` module on its path raises, in place of an optimizer
step, what torch raises on a full card and on a broken one.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from appliance.arc.source import load_tasks
from appliance.arc.submission import read_submission, validate
from appliance.record.journal import Journal
from appliance.sizing.memory_ladder import LAST_RUNG
from bench.job import submit_command

pytestmark = pytest.mark.engine
pytest.importorskip("torch")

INJECTION = """
import os, sys
if "appliance.solve.worker" in getattr(sys, "orig_argv", ()):
    from pathlib import Path
    from appliance.engine.training import tuning_loop as loop, peft_trainer
    task = [""]
    tune, step = peft_trainer.PeftTrainer.tune, loop.TuningLoop.step

    def known(self, lessons, settings, *, adapter_dir, **more):
        task[0] = adapter_dir.name
        return tune(self, lessons, settings, adapter_dir=adapter_dir, **more)

    def faulty(self, rows, rate):
        import torch
        if task[0] == "copy0" and rows.ids.shape[0] > 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has 14.56 GiB in all.")
        if task[0] == "copy1":
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")
        broken = Path(os.environ["BROKEN_ONCE"])
        if task[0] == "copy2" and not broken.exists():
            broken.touch()
            raise RuntimeError("CUDA error: device-side assert triggered")
        return step(self, rows, rate)

    peft_trainer.PeftTrainer.tune, loop.TuningLoop.step = known, faulty
"""


@pytest.fixture(scope="module")
def finished(
    tmp_path_factory: pytest.TempPathFactory, challenges: Path, tiny_model: Path
) -> tuple[Path, str]:
    """A run whose workers meet all of it, and what it printed."""
    folder = tmp_path_factory.mktemp("faults")
    (folder / "sitecustomize.py").write_text(INJECTION)
    # A lesson takes some 50 tokens: five rows a step, and two once the batch is halved.
    few = [
        "train.max_steps=4",
        "train.tokens_per_step=256",
        "train.rank=4",
        "train.min_seconds=20",
        "run.rounds=1",
    ]
    flags = ["--model", str(tiny_model), "--only", "copy0,copy1,copy2,copy3", "--budget", "20m"]
    command = submit_command(
        challenges, folder / "out", *flags, settings=[*few, "sample.views=2", "run.workers=1"]
    )
    path = os.pathsep.join([str(folder), *(p for p in sys.path if p)])
    environment = os.environ | {"PYTHONPATH": path, "BROKEN_ONCE": str(folder / "broken")}
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "out", done.stdout


def trainings(out: Path) -> dict[str, tuple[str, int, str | None]]:
    """By task: status, rung of the ladder, reason."""
    journal = Journal(out / "run" / "journal.sqlite")
    rows = [r for r in journal.stages() if r.stage == "train"]
    journal.close()
    return {r.task_id: (r.status, r.detail["rung"], r.detail["reason"]) for r in rows}


def test_a_task_trains_on_the_rung_where_it_fits(finished: tuple[Path, str]) -> None:
    out, printed = finished
    assert trainings(out)["copy0"] == ("done", 2, None)
    assert "next try: gradient checkpointing on" in printed
    assert "next try: batch halved" in printed


def test_a_task_that_fits_nowhere_is_sampled_untrained(finished: tuple[Path, str]) -> None:
    out, _ = finished
    status, rung, reason = trainings(out)["copy1"]
    assert (status, rung) == ("failed", LAST_RUNG)
    assert reason is not None
    assert "memory" in reason or "room" in reason
    journal = Journal(out / "run" / "journal.sqlite")
    answers = journal.candidates("copy1")["deep"]
    journal.close()
    assert answers and all(a.adapter == "" for a in answers)


def test_an_error_that_poisons_the_process_costs_the_worker_and_not_the_task(
    finished: tuple[Path, str],
) -> None:
    out, printed = finished
    assert "worker 0 died" in printed
    assert printed.count("worker 0 ready") == 2
    assert trainings(out)["copy2"] == ("done", 1, None)


def test_its_neighbours_notice_nothing(finished: tuple[Path, str], challenges: Path) -> None:
    out, printed = finished
    assert trainings(out)["copy3"] == ("done", 0, None)
    tasks = load_tasks(str(challenges)).select(("copy0", "copy1", "copy2", "copy3"))
    assert validate(read_submission(out / "submission.json"), tasks) == []
    assert "4/4" in printed or "4 of 4" in printed


UNSLOTH_FAILS = """
import sys
words = getattr(sys, "orig_argv", ())
if "appliance.solve.worker" in words:
    from appliance.engine.training import unsloth_trainer
    from appliance.errors import EngineError

    def broken(scratch_dir, *, device):
        raise EngineError("unsloth cannot be used: injected")

    unsloth_trainer.import_unsloth = broken
elif "appliance" in words:
    from appliance.sizing.choice import Choice
    from appliance.run import workers

    workers.choose_trainer = lambda machine, settings: Choice("unsloth", "as on a GPU")
"""


def test_a_run_goes_on_with_peft_where_unsloth_fails(
    tmp_path: Path, challenges: Path, tiny_model: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(UNSLOTH_FAILS)
    few = ["train.max_steps=4", "train.rank=4", "run.rounds=1", "sample.views=2", "run.workers=1"]
    flags = ["--model", str(tiny_model), "--only", "copy0", "--budget", "5m"]
    command = submit_command(challenges, tmp_path / "out", *flags, settings=few)
    path = os.pathsep.join([str(tmp_path), *(p for p in sys.path if p)])
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=300, env=os.environ | {"PYTHONPATH": path}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "unsloth cannot be used: injected; it starts again with the trainer peft" in done.stdout
    assert trainings(tmp_path / "out")["copy0"][0] == "done"
