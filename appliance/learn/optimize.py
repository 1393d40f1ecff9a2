"""Optimizers, learning rates, and the watch over a loss that goes astray. Torch is imported inside functions."""

from __future__ import annotations

import math
from typing import Any

from appliance.learn.muon import muon
from appliance.learn.recipe import Optimization

SMOOTHING = 0.98
"""Of the loss that the watch looks at: about the last 50 steps."""


def learning_rate_at(step: int, plan: Optimization) -> float:
    """Linear warm-up, then by the plan's schedule; the last step still moves."""
    warm = min(1.0, (step + 1) / plan.warmup_steps) if plan.warmup_steps else 1.0
    steps_left = plan.max_steps - step
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


def make_optimizers(weights: list[tuple[str, Any]], plan: Optimization) -> list[Any]:
    """AdamW for all; or Muon for the matrices of the layers and AdamW for embeddings, norms and the rest."""
    import torch

    settings: dict[str, Any] = {"lr": plan.learning_rate, "betas": plan.betas, "fused": True}
    if plan.optimizer == "adamw":
        return [
            torch.optim.AdamW([w for _, w in weights], weight_decay=plan.weight_decay, **settings)
        ]
    is_matrix = {
        n: w.ndim == 2 and "embed_tokens" not in n and "lm_head" not in n for n, w in weights
    }
    matrices = [w for n, w in weights if is_matrix[n]]
    others = [w for n, w in weights if not is_matrix[n]]
    dtype = torch.bfloat16 if matrices[0].is_cuda else torch.float32
    first = muon(matrices, plan.learning_rate, weight_decay=plan.weight_decay, dtype=dtype)
    return [first, *([torch.optim.AdamW(others, weight_decay=0.0, **settings)] if others else [])]


class Watch:
    """Follows the smoothed loss: a run has diverged when that lies max_rise nats above its lowest. state: smoothed loss and
    its lowest so far, (0, 0) before the first step."""

    def __init__(self, max_rise: float) -> None:
        self._max_rise = max_rise
        self.state = (0.0, 0.0)

    def see(self, loss: float) -> None:
        smoothed, lowest = self.state
        smoothed = SMOOTHING * smoothed + (1 - SMOOTHING) * loss if lowest else loss
        self.state = (smoothed, min(lowest, smoothed) if lowest else smoothed)

    @property
    def rise(self) -> float:
        return self.state[0] - self.state[1]

    @property
    def has_diverged(self) -> bool:
        return self.rise > self._max_rise

    @property
    def is_safe(self) -> bool:
        """Far enough from divergence that a checkpoint of now is worth going back to."""
        return self.rise <= self._max_rise / 2
