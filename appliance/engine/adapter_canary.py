"""The canary: does the sampling engine answer one fixed prompt as the trainer's model does, and unlike the base?

A wrong, stale or ignored adapter costs nothing but the score, so nobody notices. One prompt a load, one token written.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

NUM_PROMPT_TOKENS = 24
NUM_COMPARED = 8
TOLERANCE = {"float32": 2e-3, "float16": 0.15, "bfloat16": 0.4}
"""Nats. In float32 vLLM and Transformers differ by 2e-6 on a tiny model; 16-bit sums in another order by a few hundredths."""
NOISE_SHARE = 0.5
"""An engine must come closer to the trainer than this part of the way between base and trainer."""


@dataclass(frozen=True)
class Verdict:
    """error: largest difference between engine and trainer; distance: between trainer and base; both in nats."""

    error: float
    distance: float
    dtype: str

    @property
    def is_right(self) -> bool:
        tolerance = TOLERANCE[self.dtype]
        is_close = self.error <= tolerance
        is_told_apart = self.distance > TOLERANCE["float32"]
        return is_close and (not is_told_apart or self.error <= NOISE_SHARE * self.distance)

    def __str__(self) -> str:
        return f"{self.error:.3g} nats from the trainer, which is {self.distance:.3g} from the base"


def canary_prompt(vocab_size: int) -> tuple[int, ...]:
    """The same ids for the same vocabulary; the first ids, where special tokens lie, are left out where there are others."""
    low = min(4, vocab_size - 1)
    return tuple(
        int(i) for i in np.random.default_rng(0).integers(low, vocab_size, NUM_PROMPT_TOKENS)
    )


def logprobs_of(model: Any, prompt_ids: tuple[int, ...]) -> Any:
    """(V,) log-probabilities of the token after the prompt, as numpy. Imports torch."""
    import torch

    device = next(model.parameters()).device
    with torch.inference_mode():
        logits = model(input_ids=torch.tensor([prompt_ids], device=device), use_cache=False).logits[
            0, -1
        ]
        return logits.float().log_softmax(-1).cpu().numpy()


def judge(served: Mapping[int, float], *, trainer: Any, base: Any, dtype: str) -> Verdict:
    """served: what the engine says of its likeliest tokens. trainer, base: (V,) log-probabilities."""
    ids = np.fromiter(served.keys(), dtype=np.int64)
    values = np.fromiter(served.values(), dtype=np.float64)
    if not np.isfinite(values).all():
        return Verdict(float("inf"), 0.0, dtype)
    error = float(np.abs(values - trainer[ids]).max())
    return Verdict(error, float(np.abs(trainer[ids] - base[ids]).max()), dtype)
