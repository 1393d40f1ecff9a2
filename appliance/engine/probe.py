"""What a training step and a prompt really take on this device.

It takes two steps, reads one prompt, and writes a few tokens.
"""

from __future__ import annotations

import resource
from collections.abc import Iterator
from dataclasses import dataclass

from appliance.clock import Deadline
from appliance.engine.base import Request, Sampler, Trainer, TuneSettings
from appliance.engine.training.packing import TokenSequence

WRITTEN_TOKENS = 16
"""Tokens written after the prompt, over which the time of one is taken."""

WARM_UP_TOKENS = 32
"""Tokens of the prompt that is read first, to pay for the start of the engine."""


@dataclass(frozen=True)
class TrainingProbe:
    """What a training step takes."""

    step_s: float
    memory_gib: float  # peak so far: of tensors on a GPU, else of the whole process


@dataclass(frozen=True)
class SamplingProbe:
    """What sampling takes; None where the deadline came first."""

    read_s: float | None  # of the whole prompt
    write_token_s: float | None  # of each token after it


def probe_training(
    trainer: Trainer,
    lessons: Iterator[TokenSequence],
    settings: TuneSettings,
    *,
    device: str,
    deadline: Deadline,
) -> TrainingProbe:
    """Time two steps, and tell of the second.

    The first one pays for allocation and compiled kernels; it counts only when the deadline forbids
    the second. Leaves the model as it was. Raises OutOfMemory when there is no room.
    """
    clock = deadline.clock
    seconds = trainer.time_steps(lessons, settings, num_steps=1, clock=clock)
    if not deadline.is_past():
        seconds = trainer.time_steps(lessons, settings, num_steps=1, clock=clock)
    return TrainingProbe(seconds[-1], peak_memory_gib(device))


def probe_sampling(
    sampler: Sampler, prompt_ids: tuple[int, ...], *, deadline: Deadline
) -> SamplingProbe:
    """Sample after the same prompt twice, for one token and for some more.

    The difference is the time of writing. A short prompt before them pays for the start.
    """
    clock = deadline.clock

    def answer(prompt: tuple[int, ...], num_tokens: int) -> tuple[float, int]:
        began_s = clock.now()
        request = Request(prompt_ids=prompt, max_new_tokens=num_tokens)
        written = sum(
            c.num_tokens for batch in sampler.sample([request], deadline=deadline) for c in batch
        )
        return clock.now() - began_s, written

    if not prompt_ids:
        return SamplingProbe(None, None)

    answer(prompt_ids[:WARM_UP_TOKENS], 2)
    read_s, num_first = answer(prompt_ids, 1)
    both_s, num_both = answer(prompt_ids, WRITTEN_TOKENS)
    if not num_first:
        return SamplingProbe(None, None)
    if num_both <= 1:
        return SamplingProbe(read_s, None)
    return SamplingProbe(read_s, max(0.0, both_s - read_s) / (num_both - 1))


def peak_memory_gib(device: str) -> float:
    """Peak so far: of torch's tensors on the GPU, on a CPU of the whole process."""
    if device == "cpu":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    import torch

    return float(torch.cuda.max_memory_allocated()) / 2**30
