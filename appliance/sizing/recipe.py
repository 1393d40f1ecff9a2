"""The recipe of training at test time: how fast, how strongly and how long a task is trained on.

A model of half a billion parameters that is trained at the rate of a tiny one is spoilt, and nobody
notices: the answers only get worse. So the plan takes the recipe from trainings that worked, by the
size of the model. What the user set always wins. solve/rate_check.py then tries the rate on the
run's own tasks.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from appliance.config import Settings
from appliance.sizing.choice import Choice
from appliance.sizing.costs.model_card import ModelCard
from appliance.sizing.request import SizingRequest


@dataclass(frozen=True)
class Known:
    """A training that worked."""

    name: str
    params: float  # of the model
    learning_rate: float  # peak
    scale: float  # what the adapter's output is multiplied with: alpha / sqrt(rank) under rsLoRA
    steps: int  # on one task


ADAPTERS = (
    # docs/results/training.md: between 5e-4 and 2e-3 nothing differs beyond chance.
    Known("arc-mini, measured", 9.8e6, 1e-3, 8.0, 400),
    # Barbadillo 2024: Qwen2.5-0.5B, a new rsLoRA of rank 64 with alpha 64, one sequence a step.
    Known("arc24", 0.494e9, 8e-5, 8.0, 330),
    # NVARC 2025: Qwen3-4B, rsLoRA of rank 256 with alpha 32, 128 copies of a task, one a step.
    Known("NVARC", 4.0e9, 5e-5, 2.0, 128),
    # Akyürek et al. 2024 (rank 128) took 5e-5 and Franzen et al. 2024 (rsLoRA of rank 64) 1e-4 with
    # about this scale; the slower one does less harm.
    Known("marc", 8.0e9, 5e-5, 2.0, 128),
)
"""New adapters that write grids, by size."""

WHOLE = (
    # docs/results/training.md: 1e-3 did as well as 3e-4.
    Known("arc-mini, measured", 9.8e6, 1e-3, 1.0, 400),
    # A tenth of what adapters take (Schulman et al. 2025, "LoRA Without Regret").
    Known("a tenth of arc24's for adapters", 0.494e9, 8e-6, 1.0, 330),
    Known("a tenth of NVARC's for adapters", 4.0e9, 5e-6, 1.0, 128),
)
"""The same where all weights are trained."""

PROGRAMS = (
    # docs/results/induction.md.
    Known("arc-mini, measured", 9.8e6, 2e-4, 8.0, 16),
    # Barbadillo 2025: an 8B model that learns from its own programs, the best of five rates.
    Known("arc25", 8.0e9, 1e-5, 16.0, 16),
)
"""Adapters that write programs."""

CONTINUED = 0.75
"""Rate of an adapter that is trained further, over that of a new one: arc24 took 4e-5 to 8e-5."""

ALIKE = 0.2
"""Models whose sizes differ by less than this, as a logarithm, are of one size."""


@dataclass(frozen=True)
class Recipe:
    """What training takes, each value with its reason."""

    learning_rate: Choice[float]  # peak
    rank: Choice[int]
    scale: Choice[float]  # what the adapter's output is multiplied with
    alpha: Choice[float] | None  # where it is given, and the scale follows from it
    max_steps: Choice[int]  # on one task
    program_learning_rate: Choice[float]
    is_rslora: bool

    def alpha_at(self, rank: int) -> Choice[float]:
        """That gives the scale with an adapter of this rank."""
        if self.alpha is not None:
            return self.alpha
        divisor = math.sqrt(rank) if self.is_rslora else rank
        divided = "the square root of the rank" if self.is_rslora else "the rank"
        why = f"over {divided} a scale of {self.scale.value:g}: {self.scale.reason}"
        return Choice(_round(self.scale.value * divisor, digits=3), why)

    def applied_to(self, settings: Settings) -> Settings:
        """The settings with this recipe in them, but for alpha, which waits for the final rank."""
        of_grids = {
            "learning_rate": self.learning_rate.value,
            "rank": self.rank.value,
            "max_steps": self.max_steps.value,
        }
        of_programs = {"learning_rate": self.program_learning_rate.value}
        parts = {
            "train": settings.train.model_copy(update=of_grids),
            "program": settings.program.model_copy(update=of_programs),
        }
        return settings.model_copy(update=parts)


def choose_recipe(card: ModelCard, request: SizingRequest) -> Recipe:
    """The recipe for that model. What the user set wins, and is labelled so."""
    train = request.settings.train
    known = WHOLE if train.method == "full" else ADAPTERS
    shipped = _shipped(request.settings)

    learning_rate = _by_size(known, card, [k.learning_rate for k in known])
    alpha = None
    if "train.alpha" in request.given_keys:
        alpha = Choice(train.alpha, "set by train.alpha")

    rank_reason = "64 did as well as 128 (arc24); with rsLoRA the rate does not depend on it"
    rank = request.given("train.rank", Choice(train.rank, rank_reason))
    if shipped is not None:
        of_shipped = "that of the adapter which is trained further"
        rank, alpha = Choice(shipped.rank, of_shipped), Choice(shipped.alpha, of_shipped)
        learning_rate = Choice(
            _round(CONTINUED * learning_rate.value),
            f"{CONTINUED} of a new adapter's, for one is trained further: {learning_rate.reason}",
        )

    steps = _by_size(known, card, [float(k.steps) for k in known])
    of_programs = _by_size(PROGRAMS, card, [k.learning_rate for k in PROGRAMS])
    return Recipe(
        learning_rate=request.given("train.learning_rate", learning_rate),
        rank=rank,
        scale=_by_size(ADAPTERS, card, [k.scale for k in ADAPTERS]),
        alpha=alpha,
        max_steps=request.given("train.max_steps", Choice(round(steps.value), steps.reason)),
        program_learning_rate=request.given("program.learning_rate", of_programs),
        is_rslora=train.rslora,
    )


def _by_size(known: Sequence[Known], card: ModelCard, values: Sequence[float]) -> Choice[float]:
    """A value for a model of that size: straight between its neighbours on logarithmic axes.

    A model beyond the smallest or the largest one is treated as that one, and so is one of nearly
    the same size as a known one.
    """
    params = float(card.params)
    for same, value in zip(known, values, strict=True):
        if abs(math.log(params / same.params)) < ALIKE:
            return Choice(value, f"as {same.name} ({_size(same.params)})")

    above = next((i for i, k in enumerate(known) if k.params >= params), len(known))
    if above in (0, len(known)):
        i = min(above, len(known) - 1)
        return Choice(values[i], f"as {known[i].name} ({_size(known[i].params)})")

    left, right = known[above - 1], known[above]
    share = math.log(params / left.params) / math.log(right.params / left.params)
    value = math.exp((1 - share) * math.log(values[above - 1]) + share * math.log(values[above]))
    why = (
        f"by its size between {left.name} ({_size(left.params)}, {values[above - 1]:g}) "
        f"and {right.name} ({_size(right.params)}, {values[above]:g})"
    )
    return Choice(_round(value), why)


def _round(value: float, digits: int = 2) -> float:
    """To two digits, for nothing here is known better."""
    return float(f"{value:.{digits - 1}e}")


def _size(params: float) -> str:
    """
    >>> _size(9.8e6), _size(4e9)
    ('9.8 M', '4 B')
    """
    return f"{params / 1e9:.2g} B" if params >= 1e8 else f"{params / 1e6:.2g} M"


@dataclass(frozen=True)
class _Shipped:
    """The shape of an adapter that is trained further."""

    rank: int
    alpha: float


def _shipped(settings: Settings) -> _Shipped | None:
    """Of the adapter that comes with the model.

    None without one, and where its folder cannot be read, which the engine tells in full.
    """
    folder: Path | None = settings.model.adapter
    if folder is None or settings.train.method == "full":
        return None
    try:
        config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
        return _Shipped(int(config["r"]), float(config["lora_alpha"]))
    except (OSError, ValueError, LookupError, TypeError, OverflowError, RecursionError):
        return None
