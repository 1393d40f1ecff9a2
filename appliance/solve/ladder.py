"""How a worker trains and samples on a rung of the memory ladder (sizing/memory_ladder.py)."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Literal

from appliance.config import TrainSettings
from appliance.engine.adapter.config import read_config
from appliance.engine.base import TuneSettings
from appliance.sizing.memory_ladder import LAST_RUNG, RUNGS


def tune_settings_of(
    train: TrainSettings, row_tokens: int, *, start: Literal["new", "continue"] = "new"
) -> TuneSettings:
    """How to train on a task whose lessons take at most so many tokens, with memory for all of
    it."""
    return TuneSettings(
        method=train.method,
        start=start,
        rank=train.rank,
        alpha=train.alpha,
        rslora=train.rslora,
        learning_rate=train.learning_rate,
        max_steps=train.max_steps,
        row_tokens=row_tokens,
        rows_per_step=max(1, train.tokens_per_step // row_tokens),
    )


def tune_settings_at(settings: TuneSettings, rung: int) -> TuneSettings | None:
    """The settings on that rung; None on the last one, where nothing is trained.

    Sequences are not cut here: lessons are made shorter before they are packed.
    """
    step = RUNGS[min(rung, LAST_RUNG)]
    if not step.trains:
        return None

    return replace(
        settings,
        gradient_checkpointing=settings.gradient_checkpointing or step.gradient_checkpointing,
        rows_per_step=step.rows(settings.rows_per_step),
        rank=step.rank(settings.rank),
        # The scale of an adapter follows its rank.
        alpha=settings.alpha / step.rank_divisor,
    )


def tune_settings_again(
    settings: TuneSettings, *, rank_divisor: int, steps_fold: int
) -> TuneSettings:
    """The settings of a further round. An adapter that goes on from a given one keeps its rank.

    What an adapter's output is multiplied with stays the same, as in the recipe of the plan.
    """
    settings = replace(settings, max_steps=steps_fold * settings.max_steps)
    if settings.method != "lora" or settings.start == "continue":
        return settings

    rank = max(1, settings.rank // rank_divisor)
    share = rank / settings.rank
    alpha = settings.alpha * (math.sqrt(share) if settings.rslora else share)
    return replace(settings, rank=rank, alpha=alpha)


def tune_settings_made(settings: TuneSettings, folder: Path) -> TuneSettings:
    """The settings for the saved adapter in that folder: rounds differ in rank, so it says itself
    which slots it needs.

    Raises InputError where the folder holds no adapter.
    """
    if settings.method != "lora" or settings.start == "continue":
        return settings
    made = read_config(folder)
    return replace(settings, rank=made.rank, alpha=made.alpha)


def batch_tokens_at(batch_tokens: int, rung: int) -> int:
    """The sampling batch in tokens on that rung: halved at every step down."""
    return max(1, batch_tokens >> rung)
