"""Optimizers, learning-rate schedules, and the watch for a loss that diverges."""

from __future__ import annotations

import math
from typing import Any

from appliance.errors import PrerequisiteError, UsageError
from appliance.learn.muon import muon
from appliance.learn.recipe import Optimization
from appliance.machine.software import version_of

SMOOTHING = 0.98
"""Weight of the past in the smoothed loss: it averages over about the last 50 steps."""


NO_MATRICES = ("embed_tokens.weight", "lm_head.weight", "parts", "norms")
"""Ends of the names of weights that are tables or stacks of vectors, not maps."""


def learning_rate_at(step: int, plan: Optimization, *, elapsed_s: float = 0.0) -> float:
    """The learning rate of a step, 0 to max_steps - 1: linear warm-up, then the plan's schedule.

    A schedule that falls to zero would reach it at max_steps, so the last step still learns. With
    max_seconds the schedule follows whichever is further on, the steps or the time.
    """
    warm = min(1.0, (step + 1) / plan.warmup_steps) if plan.warmup_steps else 1.0
    time_share = min(1.0, elapsed_s / plan.max_seconds) if plan.max_seconds else 0.0
    steps_left = plan.max_steps - max(step, time_share * plan.max_steps)

    falling = {
        "constant": float(plan.max_steps),
        "linear": max(1.0, plan.max_steps - plan.warmup_steps),
        "cosine": max(1.0, plan.max_steps - plan.warmup_steps),
        "wsd": plan.decay_fraction * plan.max_steps,
    }[plan.schedule]
    if plan.schedule == "constant" or not falling:
        return plan.learning_rate * warm

    left = min(1.0, steps_left / falling)
    share = 0.5 - 0.5 * math.cos(math.pi * left) if plan.schedule == "cosine" else left
    return plan.learning_rate * min(warm, share)


def check_optimizer(plan: Optimization, *, has_gpu: bool) -> None:
    """Raises PrerequisiteError or UsageError for an optimizer that cannot be had here."""
    if not plan.optimizer.endswith("8bit"):
        return
    if version_of("bitsandbytes") is None:
        raise PrerequisiteError(
            f"optimization.optimizer = {plan.optimizer} without bitsandbytes",
            expected="the package bitsandbytes",
            remedy="install it, or --set optimization.optimizer=adamw",
        )
    if plan.optimizer.startswith("paged") and not has_gpu:
        raise UsageError(
            f"optimization.optimizer = {plan.optimizer} without a GPU",
            expected="a GPU, whose memory it moves pages out of",
            remedy="--set optimization.optimizer=adamw_8bit, the same without pages",
        )


def make_optimizers(weights: list[tuple[str, Any]], plan: Optimization) -> list[Any]:
    """AdamW for all weights; or Muon for the matrices of the layers and AdamW for the rest.

    In 8 bits (Dettmers et al. 2022) weights of fewer than 4,096 numbers keep moments in 32 bits.

    Embeddings count as the rest: Muon is meant for maps between hidden layers (Jordan et al. 2024).
    """
    import torch

    everything = [weight for _, weight in weights]
    settings: dict[str, Any] = {"lr": plan.learning_rate, "betas": plan.betas}
    if plan.optimizer.endswith("8bit"):
        from bitsandbytes import optim

        kind = optim.PagedAdamW8bit if plan.optimizer.startswith("paged") else optim.AdamW8bit
        return [kind(everything, weight_decay=plan.weight_decay, **settings)]

    settings["fused"] = True
    if plan.optimizer == "adamw":
        return [torch.optim.AdamW(everything, weight_decay=plan.weight_decay, **settings)]

    matrices: list[Any] = []
    others: list[Any] = []
    for name, weight in weights:
        is_matrix = weight.ndim >= 2 and not name.endswith(NO_MATRICES)
        (matrices if is_matrix else others).append(weight)

    dtype = torch.bfloat16 if matrices[0].is_cuda else torch.float32
    optimizers = [muon(matrices, plan.learning_rate, weight_decay=plan.weight_decay, dtype=dtype)]
    if others:
        optimizers.append(torch.optim.AdamW(others, weight_decay=0.0, **settings))
    return optimizers


class Watch:
    """Follows the smoothed loss: the run has diverged when it is max_rise nats above its lowest."""

    def __init__(self, max_rise: float) -> None:
        self._max_rise = max_rise
        self.state = (0.0, 0.0)  # smoothed loss, its lowest so far; zeros before the first step

    def see(self, loss: float) -> None:
        """Take in the loss of one step."""
        smoothed, lowest = self.state
        if not lowest:
            self.state = (loss, loss)
            return

        smoothed = SMOOTHING * smoothed + (1 - SMOOTHING) * loss
        self.state = (smoothed, min(lowest, smoothed))

    @property
    def rise(self) -> float:
        """Nats of the smoothed loss above its lowest."""
        return self.state[0] - self.state[1]

    @property
    def has_diverged(self) -> bool:
        return self.rise > self._max_rise

    @property
    def is_safe(self) -> bool:
        """Whether the run is far enough from divergence for a checkpoint worth going back to."""
        return self.rise <= self._max_rise / 2
