"""What a training step and a prompt really take on this device: two steps, one prompt read, a few tokens written."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from dataclasses import dataclass

from appliance.clock import Deadline
from appliance.engine.base import Request, Sampler, Trainer, TuneSettings
from appliance.engine.training.packing import TokenSequence

WRITTEN_TOKENS = 16
WARM_UP_TOKENS = 32


@dataclass(frozen=True)
class Training:
    """Of the last step: seconds, and the peak of memory until then (of tensors on a GPU, else of the whole process)."""

    step_s: float
    memory_gib: float


@dataclass(frozen=True)
class Sampling:
    """Seconds to read the prompt, and to write each token after it. None where the deadline came first."""

    read_s: float | None
    write_token_s: float | None


def probe_training(
    trainer: Trainer,
    lessons: Iterator[TokenSequence],
    settings: TuneSettings,
    *,
    device: str,
    deadline: Deadline,
) -> Training:
    """Two steps; the first one pays for allocation and compiled kernels and counts only where the deadline forbids the second.
    Leaves the model as it was. Raises OutOfMemory when there is no room."""
    clock = deadline.clock
    seconds = trainer.time_steps(lessons, settings, num_steps=1, clock=clock)
    if not deadline.is_past():
        seconds = trainer.time_steps(lessons, settings, num_steps=1, clock=clock)
    return Training(seconds[-1], peak_memory_gib(device))


def probe_sampling(
    sampler: Sampler, prompt_ids: tuple[int, ...], *, deadline: Deadline
) -> Sampling:
    """The same prompt twice: for one token, then for some more; before them a short one that pays for the start."""

    clock = deadline.clock

    def answer(prompt: tuple[int, ...], num_tokens: int) -> tuple[float, int]:
        began_s = clock.now()
        request = Request(prompt_ids=prompt, max_new_tokens=num_tokens)
        written = sum(
            c.num_tokens for batch in sampler.sample([request], deadline=deadline) for c in batch
        )
        return clock.now() - began_s, written

    if not prompt_ids:
        return Sampling(None, None)
    answer(prompt_ids[:WARM_UP_TOKENS], 2)
    read_s, num_first = answer(prompt_ids, 1)
    both_s, num_both = answer(prompt_ids, WRITTEN_TOKENS)
    if not num_first:
        return Sampling(None, None)
    return Sampling(read_s, max(0.0, both_s - read_s) / (num_both - 1) if num_both > 1 else None)


def peak_memory_gib(device: str) -> float:
    if device == "cpu":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    import torch

    return float(torch.cuda.max_memory_allocated()) / 2**30
