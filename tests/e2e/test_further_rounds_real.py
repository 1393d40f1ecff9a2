"""A further round with a real trainer: another rank and more steps, and its adapter asked again."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.arc.task import Task
from appliance.arc.view import IDENTITY, View
from appliance.clock import SystemClock
from appliance.config import Layer, resolve
from appliance.engine.adapter.config import read_config
from appliance.foreign_text import as_file_name
from appliance.solve.messages import Event, Finished, Job, Sampled, TaskMessage, Trained
from appliance.solve.worker import Worker
from tests.support.worker_setup import cpu_setup

pytest.importorskip("torch")
pytestmark = pytest.mark.engine

RANK, STEPS = 8, 3


def test_an_adapter_of_another_rank_is_trained_and_asked_again(
    tiny_model: Path, task: Task, tmp_path: Path
) -> None:
    values = {"train.rank": RANK, "train.max_steps": STEPS, "train.learning_rate": 1e-3}
    setup = cpu_setup(tiny_model, tmp_path, resolve([Layer("test", values)]))
    events: list[Event] = []
    worker = Worker(setup, events.append)
    now_s = SystemClock().now()
    first = Job(
        job_id=1,
        stage="deep",
        tasks=[TaskMessage.of(task)],
        views=[IDENTITY.name],
        deadline_s=now_s + 600,
        train_until_s=now_s + 500,
    )

    for number, divisor in enumerate((1, 4)):
        fold = 1 + number
        change = {"rank_divisor": divisor, "steps_fold": fold, "seed": number}
        worker.do(first.model_copy(update=change))
        trained = [event for event in events if isinstance(event, Trained)][-1]
        assert (trained.num_steps, trained.reason) == (fold * STEPS, None)
        folder = tmp_path / "adapters" / as_file_name(task.task_id)
        assert read_config(folder).rank == RANK // divisor

        # The job that asks it need not say its rank.
        events.clear()
        asked = {
            "train_until_s": 0.0,
            "adapter_sha": trained.adapter_sha,
            "views": [View(turns=1).name],
        }
        worker.do(first.model_copy(update=asked))
        answers = [c for event in events if isinstance(event, Sampled) for c in event.candidates]
        assert {c.adapter for c in answers} == {trained.adapter_sha}
        assert isinstance(events[-1], Finished)
