"""The canary: does the sampling engine answer one fixed prompt as the trainer's model does?

A wrong, stale or ignored adapter costs nothing but the score, so nobody notices it. After each load
the engine therefore reads one prompt and writes one token; its log-probabilities are compared with
the trainer's, and with what both said at earlier loads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

NUM_PROMPT_TOKENS = 24
"""Tokens of the prompt that every engine is asked to continue."""

NUM_COMPARED = 8
"""Likeliest next tokens whose log-probabilities are compared."""

TOLERANCE = {"float32": 2e-3, "float16": 0.15, "bfloat16": 0.4}
"""Nats by which a right engine may differ from the trainer at most.

In float32 vLLM and Transformers differ by 2e-6 on a tiny model, in 16 bits, where sums are rounded
in another order, by up to `NOISE`.
"""

NOISE = {"float32": 1e-3, "float16": 0.05, "bfloat16": 0.3}
"""Nats of difference that rounding alone explains.

bfloat16: arc-mini on an AMD EPYC with AVX512-BF16, 38 adapters: median 0.08, at most 0.20
(2026-11-27). The steps of float16 are eight times finer.
"""

NOISE_SHARE = 0.5
"""Beyond the noise an engine must come closer to the trainer than this part of the distance between
base and trainer.
"""

STALE_SHARE = 0.1
"""An engine that moved less than this part of the trainer's way still answers as it did before.

One that ignores an adapter does not move at all; rounded anew, a right one moved 0.18 or more
(470 loads in bfloat16, most of adapters that change less than the noise).
"""


@dataclass(frozen=True)
class Heard:
    """What was answered at one load."""

    served: Mapping[int, float]  # log-probability of the tokens that the engine finds likeliest
    trainer: Any  # (V,) log-probabilities, computed in the type that the engine computes in


@dataclass(frozen=True)
class Verdict:
    """All differences are in nats, the largest over the tokens compared."""

    error: float  # between engine and trainer
    distance: float  # between the trainer now and the base model
    allowed: float  # of error
    is_stale: bool = False  # the engine answers as at an earlier load, and the trainer does not

    @property
    def is_right(self) -> bool:
        return not self.is_stale and self.error <= self.allowed

    def __str__(self) -> str:
        found = (
            f"{self.error:.3g} nats from the trainer, which is {self.distance:.3g} from the base"
        )
        return f"{found}; it answers as before this load" if self.is_stale else found


def canary_prompt(vocab_size: int) -> tuple[int, ...]:
    """The same random ids for the same size of vocabulary.

    The first ids are left out, because special tokens have them.
    """
    low = min(4, vocab_size - 1)
    drawn = np.random.default_rng(0).integers(low, vocab_size, NUM_PROMPT_TOKENS)
    return tuple(int(i) for i in drawn)


def logprobs_of(model: Any, prompt_ids: tuple[int, ...]) -> Any:
    """(V,) log-probabilities of the token after the prompt, as numpy. Imports torch."""
    import torch

    device = next(model.parameters()).device
    ids = torch.tensor([prompt_ids], device=device)
    with torch.inference_mode():
        logits = model(input_ids=ids, use_cache=False).logits[0, -1]
        return logits.float().log_softmax(-1).cpu().numpy()


def judge(now: Heard, *, earlier: Sequence[Heard], dtype: str) -> Verdict:
    """Whether what was heard at this load is right.

    earlier: what was heard of the plain base model, then at loads since.
    """
    ids = list(now.served)
    error = _difference(now.served, now.trainer, ids)
    if not np.isfinite(error):
        return Verdict(float("inf"), 0.0, 0.0)
    if not earlier:
        return Verdict(error, 0.0, TOLERANCE[dtype])

    distance = _difference(now.trainer, earlier[0].trainer, ids)
    allowed = min(max(NOISE[dtype], NOISE_SHARE * distance), TOLERANCE[dtype])
    is_stale = any(_is_unmoved(now, then) for then in earlier)
    return Verdict(error, distance, allowed, is_stale)


def _is_unmoved(now: Heard, then: Heard) -> bool:
    """Whether the engine answers as it did then, although the trainer does not."""
    common = [i for i in now.served if i in then.served]
    if not common:
        return False

    way = _difference(now.trainer, then.trainer, common)
    if way <= TOLERANCE["float32"]:  # the trainer itself answers as it did
        return False
    return _difference(now.served, then.served, common) < STALE_SHARE * way


def _difference(left: Any, right: Any, ids: Sequence[int]) -> float:
    return float(np.max([abs(float(left[i]) - float(right[i])) for i in ids]))
