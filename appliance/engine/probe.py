"""What a training step and a prompt really take on this device.

Before everything that is measured comes a little of its kind that is not: the first also pays for
kernels that are compiled, libraries that are loaded and memory that is first asked for, 0.80 s
instead of 0.15 s on a CPU. What took no longer than the noise is no measurement, and the plan's
figure stands.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from appliance.clock import Deadline
from appliance.engine.base import Request, Sampler, Served, Trainer, TuneSettings
from appliance.engine.memory_meter import TrainingMemory
from appliance.engine.training.packing import TokenSequence
from appliance.errors import OutOfMemory

MOST_STEPS = 6
"""Training steps after which a probe ends, whether or not they agree."""

TRAINING_SHARE = 0.7
"""Part of a probe's time that its training steps may take; the rest is for its sampling."""

AGREEMENT = 0.1
"""Two steps agree when the longer one took at most this share more than the shorter one."""

SHORT_TOKENS = 256
"""Tokens of the prompt after which writing is timed: short, so that reading it does not drown the
time of the tokens written."""

WRITTEN_TOKENS = 16
"""Tokens written after it, over which the time of one is taken."""

BATCH = 8
"""Answers that two engines are compared on: as many as a task has views on a small card."""

BATCH_ANSWER_TOKENS = 32
"""Most tokens of each of them."""

NOISE_S = 1e-3
"""A shorter time is mostly the noise of clock and scheduler."""

NOISE_SHARE = 0.1
"""The same for a difference of two times, as a share of the shorter one."""


@dataclass(frozen=True)
class TrainingProbe:
    """What training takes; None for what was not measured."""

    step_s: float | None
    memory_gib: float | None  # peak: of tensors on a GPU, else of the process without its engine


@dataclass(frozen=True)
class SamplingProbe:
    """What sampling takes; None for what was not measured."""

    read_s: float | None = None  # of the whole prompt, with the one token that comes of reading it
    write_token_s: float | None = None  # of each token after that one
    short_tokens: int = 0  # of the prompt after which the tokens were written


def probe_training(
    trainer: Trainer,
    lessons: Iterator[TokenSequence],
    settings: TuneSettings,
    *,
    memory: TrainingMemory,
    deadline: Deadline,
) -> TrainingProbe:
    """Time steps until two agree, and measure the memory of them all.

    A deadline that comes before the first one leaves the time unmeasured. Leaves the model as it
    was. Raises OutOfMemory when there is no room.
    """

    def is_enough(seconds: Sequence[float]) -> bool:
        return deadline.is_past() or _agree(seconds)

    with memory.watched():
        seconds = trainer.time_steps(
            lessons, settings, num_steps=MOST_STEPS, clock=deadline.clock, is_enough=is_enough
        )
    return TrainingProbe(steady_s(seconds), memory.peak_gib)


def steady_s(seconds: Sequence[float]) -> float | None:
    """The time of one step, from those of all that were done; None without any.

    Where no two agree the shortest tells most: whatever disturbs a step makes it longer.
    """
    if _agree(seconds):
        return sum(seconds[-2:]) / 2
    return min(seconds, default=None)


def _agree(seconds: Sequence[float]) -> bool:
    """Whether the last two steps do: whatever there was to warm up is warm."""
    return len(seconds) >= 2 and max(seconds[-2:]) <= (1 + AGREEMENT) * min(seconds[-2:])


def probe_sampling(
    sampler: Sampler, prompt_ids: tuple[int, ...], *, deadline: Deadline
) -> SamplingProbe:
    """Time the reading of the prompt, and the writing of some tokens after its beginning.

    Each follows a request of its own kind that is not counted. The two requests whose difference is
    the time of writing are alike to an engine that remembers prompts; the two that read the whole
    prompt differ from their first token on, so that none of it is remembered.
    """
    clock = deadline.clock

    def answer(prompt: tuple[int, ...], num_tokens: int) -> tuple[float, int]:
        """Seconds, and tokens written; none where the deadline came first."""
        began_s = clock.now()
        request = Request(prompt_ids=prompt, max_new_tokens=num_tokens)
        written = sum(
            c.num_tokens for batch in sampler.sample([request], deadline=deadline) for c in batch
        )
        return clock.now() - began_s, written

    if not prompt_ids:
        return SamplingProbe()

    short = prompt_ids[:SHORT_TOKENS]
    answer(short, 2)
    one_s, num_one = answer(short, 1)
    some_s, num_some = answer(short, 1 + WRITTEN_TOKENS)
    is_written = num_one and num_some > 1 and some_s - one_s > max(NOISE_S, NOISE_SHARE * one_s)
    write_token_s = (some_s - one_s) / (num_some - 1) if is_written else None

    answer(_unlike(prompt_ids, 1), 1)
    read_s, num_read = answer(_unlike(prompt_ids, 2), 1)
    is_read = num_read and read_s > NOISE_S
    return SamplingProbe(read_s if is_read else None, write_token_s, len(short))


def probe_engines(
    engines: Mapping[str, Callable[[], AbstractContextManager[Served]]],
    prompt_ids: tuple[int, ...],
    *,
    deadline: Deadline,
) -> tuple[SamplingProbe, dict[str, float]]:
    """What sampling takes by the fastest of these engines, each with how it is begun.

    Also, where there are several, the seconds that each takes for the same batch of answers. Where
    one was not timed they are empty, and the first engine is what was probed.
    """
    is_timed = len(engines) > 1
    found: dict[str, SamplingProbe] = {}
    batch_s: dict[str, float] = {}
    for i, (name, serve) in enumerate(engines.items()):
        until = deadline.within(deadline.remaining_s() / (len(engines) - i))
        with serve() as served:
            seconds = _batch_s(served.sampler, prompt_ids, deadline=until) if is_timed else None
            if seconds is None and found:
                break  # the other one has no room, or no time
            found[name] = probe_sampling(served.sampler, prompt_ids, deadline=until)

        if seconds is None:
            break
        batch_s[name] = seconds

    if len(batch_s) < len(engines):
        return next(iter(found.values())), {}
    return found[min(batch_s, key=lambda name: batch_s[name])], batch_s


def _batch_s(sampler: Sampler, prompt_ids: tuple[int, ...], *, deadline: Deadline) -> float | None:
    """Seconds that a batch of answers takes, each to a prompt like this one.

    A batch of the same kind comes before it and is not counted. None where the deadline came
    first, or where the engine had no room for them.
    """

    def answer(first_shift: int) -> bool:
        """Whether all were written. No prompt begins as an earlier one did."""
        requests = [
            Request(_unlike(prompt_ids, first_shift + i), max_new_tokens=BATCH_ANSWER_TOKENS)
            for i in range(BATCH)
        ]
        batches = sampler.sample(requests, deadline=deadline)
        return sum(len(batch) for batch in batches) == BATCH and not deadline.is_past()

    try:
        if not prompt_ids or not answer(3):  # `probe_sampling` reads the two before
            return None
        began_s = deadline.clock.now()
        is_written = answer(3 + BATCH)
    except OutOfMemory:
        return None
    return deadline.clock.now() - began_s if is_written else None


def _unlike(prompt_ids: tuple[int, ...], shift: int) -> tuple[int, ...]:
    """As many of the same tokens, the last ones put first: alike in cost, and in no beginning."""
    return prompt_ids[-shift:] + prompt_ids[:-shift]
