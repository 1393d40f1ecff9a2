"""Test-time training as tests ask for it: lessons of a task, a deadline, what the model says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from appliance.arc.task import Task
from appliance.clock import Deadline, SystemClock
from appliance.engine.base import Outcome, Trainer, TuneSettings
from appliance.engine.training.packing import TokenSequence
from appliance.solve.language import Language
from appliance.solve.transduce import LessonPlan, lessons

SETTINGS = TuneSettings(
    rank=8, alpha=8, max_steps=30, row_tokens=64, rows_per_step=8, learning_rate=5e-3
)
"""Enough for the tiny model to change its answers."""


def in_seconds(seconds: float) -> Deadline:
    clock = SystemClock()
    return Deadline(clock.now() + seconds, clock)


def lessons_of(task: Task, language: Language, seed: int = 0) -> Iterator[TokenSequence]:
    """Lessons of at most 64 tokens, without end."""
    return lessons(task, language, np.random.default_rng(seed), max_tokens=64, plan=LessonPlan())


def tune(
    trainer: Trainer,
    task: Task,
    language: Language,
    folder: Path,
    settings: TuneSettings = SETTINGS,
    *,
    seed: int = 1,
    lesson_seed: int = 0,
    seconds: float = 120,
) -> Outcome:
    """Train on the task within so many seconds; the adapter is saved to the folder."""
    return trainer.tune(
        lessons_of(task, language, lesson_seed),
        settings,
        adapter_dir=folder,
        deadline=in_seconds(seconds),
        seed=seed,
    )


def logits_of(model: Any, prompt: tuple[int, ...], device: str = "cpu") -> Any:
    """Those of the next token, in float32 on the CPU."""
    import torch

    with torch.inference_mode():
        ids = torch.tensor([prompt], device=device)
        return model(input_ids=ids, use_cache=False).logits[0, -1].float().cpu()
