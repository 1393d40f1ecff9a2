"""The canary: does the sampling engine answer fixed prompts as the trainer's model does?

A wrong, stale or ignored adapter costs nothing but the score, so nobody notices it. After each load
the engine therefore reads some prompts and writes a token to each; its log-probabilities are
compared with the trainer's, and with what both said at earlier loads. By how much they differ from
rounding alone is measured on the plain base model at the start, because it depends on the model,
the types and the kernels.

A difference is the median over the tokens compared, in nats. Random prompts bring some tokens whose
log-probability rounding alone moves by a whole nat: by root mean squares 26 of 192 right adapters
would be refused, by medians none (docs/results/sampling.md).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

NUM_PROMPTS = 8
"""Prompts that every engine is asked to continue.

Rounding moves each answer its own way, so over many the adapter shows below the noise of one.
"""

NUM_PROMPT_TOKENS = 24
"""Tokens of each of them."""

NUM_COMPARED = 8
"""Likeliest next tokens of each prompt whose log-probabilities are compared."""

TOLERANCE = {"float32": 2e-3, "float16": 0.15, "bfloat16": 0.4}
"""Nats by which a right engine may differ from the trainer at most on the plain base model.

In float32 vLLM and Transformers differ by 2e-6 on a tiny model, in bfloat16 by 0.07.
"""

LEAST_NOISE = 3e-4
"""Nats that count as noise however little was measured; sharper models differ by more."""

NOISE_FACTOR = 3.0
"""An engine may differ from the trainer by so many times the noise of the base model.

Right adapters differed by at most 1.7 times.
"""

WAY_SHARE = 0.5
"""Beyond the noise an engine must come closer to the trainer than this part of the distance between
base and trainer.
"""

STALE_SHARE = 0.1
"""An engine none of whose answers moved by this part of the trainer's way answers as before.

One that ignores an adapter does not move at all; rounded anew, a right one moves by the noise.
"""


@dataclass(frozen=True)
class Heard:
    """What was answered to the prompts at one load."""

    # For each prompt the log-probabilities of the tokens that the engine finds likeliest.
    served: Sequence[Mapping[int, float]]
    trainer: Any  # (prompts, V) log-probabilities, in the type that the engine computes in


@dataclass(frozen=True)
class Verdict:
    """All differences are in nats."""

    error: float  # between engine and trainer
    distance: float  # between the trainer now and the base model
    allowed: float  # of error
    is_stale: bool = False  # the engine answers as at an earlier load, and the trainer does not

    @property
    def is_right(self) -> bool:
        return not self.is_stale and self.error <= self.allowed

    def __str__(self) -> str:
        found = (
            f"{self.error:.3g} nats from the trainer, which is {self.distance:.3g} from the base "
            f"({self.allowed:.3g} allowed)"
        )
        return f"{found}; it answers as before this load" if self.is_stale else found


class Canary:
    """The prompts, and what was heard at the start and at the last load."""

    def __init__(self, base_model: Any, *, dtype: str) -> None:
        """base_model: the trainer's, as it was loaded. dtype: that the engine computes in."""
        self.prompts = canary_prompts(base_model.config.vocab_size)
        self._dtype = dtype
        self._base_said = self.said_by(base_model)
        self._heard: list[Heard] = []

    def said_by(self, model: Any) -> Any:
        """(prompts, V) log-probabilities of the token after each prompt. Imports torch."""
        return logprobs_of(model, self.prompts)

    def judge(self, served: Sequence[Mapping[int, float]], said: Any = None) -> Verdict:
        """Whether the engine answers as the trainer does.

        served: for each prompt, log-probabilities of the tokens that the engine finds likeliest.
        said: by the trainer's model that the engine should have; None: by the base model.
        """
        now = Heard(served, self._base_said if said is None else said)
        verdict = judge(now, earlier=self._heard, dtype=self._dtype)
        self._heard = [*self._heard[:1], now]
        return verdict


def canary_prompts(vocab_size: int) -> tuple[tuple[int, ...], ...]:
    """The same random ids for the same size of vocabulary.

    The first ids are left out, because special tokens have them.
    """
    low = min(4, vocab_size - 1)
    drawn = np.random.default_rng(0).integers(low, vocab_size, (NUM_PROMPTS, NUM_PROMPT_TOKENS))
    return tuple(tuple(int(i) for i in row) for row in drawn)


def logprobs_of(model: Any, prompts: Sequence[tuple[int, ...]]) -> Any:
    """(prompts, V) log-probabilities of the token after each prompt, as numpy.

    The prompts are equally long. Imports torch.
    """
    import torch

    device = next(model.parameters()).device
    ids = torch.tensor(prompts, device=device)
    with torch.inference_mode():
        logits = model(input_ids=ids, use_cache=False).logits[:, -1]
        return logits.float().log_softmax(-1).cpu().numpy()


def judge(now: Heard, *, earlier: Sequence[Heard], dtype: str) -> Verdict:
    """Whether what was heard at this load is right.

    earlier: what was heard of the plain base model, then at loads since. dtype: that the engine
    computes in.
    """
    error = _median(_served(now) - _said(now, now))
    if not np.isfinite(error):
        return Verdict(float("inf"), 0.0, 0.0)
    if not earlier:
        return Verdict(error, 0.0, TOLERANCE[dtype])

    base = earlier[0]
    noise = max(LEAST_NOISE, _median(_served(base) - _said(base, base)))
    distance = _median(_said(now, now) - _said(base, now))
    allowed = max(NOISE_FACTOR * noise, WAY_SHARE * distance)
    is_stale = any(_answers_as(then, now, error, noise) for then in earlier)
    return Verdict(error, distance, allowed, is_stale)


def _answers_as(then: Heard, now: Heard, error: float, noise: float) -> bool:
    """Whether the engine answers as it did or should have then, although the trainer does not."""
    way = _median(_said(now, now) - _said(then, now))
    if way > NOISE_FACTOR * noise and _median(_served(now) - _said(then, now)) < error:
        return True

    return _is_unmoved(now, then)


def _is_unmoved(now: Heard, then: Heard) -> bool:
    """Whether the engine gives the same numbers as then, while the trainer moved."""
    moved, way = [], []
    for row, (new, old) in enumerate(zip(now.served, then.served, strict=True)):
        for token in new.keys() & old.keys():
            moved.append(new[token] - old[token])
            way.append(float(now.trainer[row][token]) - float(then.trainer[row][token]))

    if not moved or _median(way) <= TOLERANCE["float32"]:  # the trainer itself answers as it did
        return False
    return max(map(abs, moved)) < STALE_SHARE * _median(way)


def _served(heard: Heard) -> Any:
    """(tokens compared,) log-probabilities that the engine gave."""
    return np.array([value for row in heard.served for value in row.values()])


def _said(heard: Heard, asked: Heard) -> Any:
    """(tokens compared,) what the trainer said at one load of the tokens compared at another."""
    rows = zip(heard.trainer, asked.served, strict=True)
    return np.array([float(said[token]) for said, served in rows for token in served])


def _median(differences: Any) -> float:
    return float(np.median(np.abs(differences)))
