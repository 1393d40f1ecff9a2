"""What a model engine must be able to do, and the values that go in and out. No torch here.

A Trainer adapts the model to one task at a time, a Sampler writes answers with the adapted model, a
Scorer tells how likely given answers are. Every implementation passes one conformance suite
(tests/e2e/test_engine_conformance.py, test_samplers.py, test_scorers.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from appliance.clock import Clock, Deadline
from appliance.config import SampleSettings
from appliance.engine.training.packing import TokenSequence

Serving = Literal["on-the-fly", "merged"]
"""How vLLM gets an adapter: beside the base weights it holds, or folded into them."""

DEFAULT_MEMORY_SHARE = 0.4
"""Part of a GPU's memory that vLLM may fill where no plan says otherwise."""

DEFAULT_MAX_NUM_SEQS = 64
"""Sequences that vLLM writes at once where no plan says otherwise."""


@dataclass(frozen=True)
class EngineSpec:
    """What the trainer and the sampling engine of one worker are made from."""

    model_dir: Path
    scratch_dir: Path  # of this worker alone, for caches and copies of adapters
    device: str = "cpu"  # "cpu" or "cuda", the one card that the worker sees
    dtype: str = "float32"  # that weights are stored in
    autocast_dtype: str | None = None  # that training computes in, None: the stored one
    quantization: str = "none"  # one of quantize.QUANTIZATIONS
    shipped_adapter: Path | None = None  # adapter that comes with the model
    max_seq_tokens: int = 4096  # prompt and answer together
    # (prompt + new tokens) x rows at work at once, as long as memory did not run out
    batch_tokens: int = SampleSettings().batch_tokens

    # The rest is read by vLLM only.
    memory_share: float = DEFAULT_MEMORY_SHARE  # part of the GPU's memory that it may fill
    kv_cache_bytes: int | None = None  # size of its cache, None: what memory_share leaves
    max_num_seqs: int = DEFAULT_MAX_NUM_SEQS  # sequences that it writes at once
    serving: Serving = "merged"
    max_rank: int = 64  # highest rank of an adapter served on the fly
    sleeps: bool = False  # it leaves the GPU to training whenever it does not sample


@dataclass(frozen=True)
class TuneSettings:
    """How to adapt the model to one task."""

    method: Literal["lora", "full"] = "lora"  # train an adapter, or all weights (for tiny models)
    start: Literal["new", "continue"] = "new"  # "continue": from the adapter shipped with the model
    rank: int = 64
    alpha: float = 64.0  # the adapter's output is scaled by alpha / rank
    rslora: bool = True  # scale by alpha / sqrt(rank) instead
    learning_rate: float = 1e-3  # peak: warms up over the first tenth, falls linearly to a tenth
    max_steps: int = 300  # upper bound; the deadline may come first
    row_tokens: int = 2048  # an optimizer step takes rows_per_step rows of so many packed tokens
    rows_per_step: int = 2
    gradient_checkpointing: bool = False  # less memory, more time


@dataclass(frozen=True)
class Tuned:
    """The model was adapted."""

    loss_before: float  # nats per answer token, on the same lessons as loss_after
    loss_after: float
    num_steps: int
    seconds: float
    adapter_sha: str  # SHA-256 of the saved weights
    adapter_dir: Path  # where they were saved


Cause = Literal["time", "length", "memory", "harm", "result", "fault"]
"""Why a task has no adapter of its own.

    time     no time was left, not even for a step
    length   no lesson fits the sequence length, or there are too few demonstrations for one
    memory   no rung of the memory ladder has room
    harm     the check at the start of the run found that training makes answers worse
    result   it was trained, and the model was no better for it
    fault    something failed: an exception, or numbers that are not finite
"""

Blame = Literal["input", "engine"]
"""Of a fault: what was given to the run (model, adapter, tokenizer), or what works with it."""


@dataclass(frozen=True)
class NotTuned:
    """The model was not adapted and is as it was loaded."""

    reason: str
    cause: Cause
    blame: Blame = "engine"  # of a fault


Outcome = Tuned | NotTuned


@dataclass(frozen=True)
class Request:
    """One prompt to continue."""

    prompt_ids: tuple[int, ...]
    max_new_tokens: int
    num_samples: int = 1
    temperature: float = 0.0  # 0 is greedy; num_samples must then be 1
    top_p: float = 1.0
    seed: int = 0  # makes sampling repeatable
    # Instead of samples, every answer whose probability is at least this.
    threshold: float | None = None
    most_tokens: int = 1 << 30  # that the search for them writes, all beginnings together
    pattern: str | None = (
        None  # regular expression for the answer's text, if the engine can force it
    )


@dataclass(frozen=True)
class Completion:
    """One answer to requests[request_index]."""

    request_index: int
    ids: tuple[int, ...]  # without the stop token
    logprob: float  # natural log of the probability of the tokens written, at temperature 1
    num_tokens: int  # this and logprob count the stop token, too
    is_complete: bool  # the stop token was reached
    # Nothing more will come of its sample, or of the search for answers above a threshold. Such a
    # search that finds none gives one completion that is not complete.
    ends: bool = True


class Trainer(Protocol):
    """Owns the loaded model and adapts it."""

    @property
    def model(self) -> Any:
        """The torch module as it is now, adapted or plain."""

    @property
    def base_sha(self) -> str:
        """SHA-256 of the weights that it was loaded from."""

    def tune(
        self,
        lessons: Iterator[TokenSequence],
        settings: TuneSettings,
        *,
        adapter_dir: Path,
        deadline: Deadline,
        seed: int,
    ) -> Outcome:
        """Reset the model, adapt it to the lessons and leave it adapted.

        The adapter is saved to adapter_dir. Raises OutOfMemory when the device has no room; the
        model is then reset.
        """

    def time_steps(
        self,
        lessons: Iterator[TokenSequence],
        settings: TuneSettings,
        *,
        num_steps: int,
        clock: Clock,
        is_enough: Callable[[Sequence[float]], bool] = lambda seconds: False,
    ) -> list[float]:
        """Seconds of each of at most so many optimizer steps, for a probe of the device.

        A short step comes before them and is not timed. is_enough: whether to stop after those so
        far, of which there may be none. The model is reset afterwards. Raises OutOfMemory when the
        device has no room for one.
        """

    def reset(self) -> None:
        """Back to the model as it was loaded, with the shipped adapter on where there is one."""

    def start_from_shipped(self) -> None:
        """Put the shipped adapter on. Raises InputError when it does not fit this model."""

    def load(self, adapter_dir: Path, settings: TuneSettings) -> None:
        """Put on what an earlier `tune` with the same settings saved.

        Raises InputError when it was trained on another base model.
        """

    def merged(self) -> AbstractContextManager[Any]:
        """The adapted model, its adapter folded into the weights, for the time of the `with`."""

    def adapted(self) -> Any:
        """The adapted model for a forward pass, with no time spent on folding.

        Where training computes in a shorter type than it stores, a copy in that type.
        """

    def folded_weights(self) -> Iterator[tuple[str, Any]]:
        """(name in the checkpoint, tensor) of every weight, the adapter folded in.

        The model stays as it is. Raises EngineError for quantised weights.
        """

    def set_aside(self) -> AbstractContextManager[None]:
        """The weights are on the host for the time of the `with`.

        They can still be folded, and nothing else be asked of them. Raises EngineLost when they do
        not come back.
        """


class Sampler(Protocol):
    """Writes answers to prompts."""

    def sample(
        self, requests: Sequence[Request], *, deadline: Deadline
    ) -> Iterator[list[Completion]]:
        """Completions in any order, as they get ready.

        Those that the deadline cuts off are missing.
        """


@dataclass(frozen=True)
class ScoreRequest:
    """Answers to one prompt whose probability is asked for."""

    prompt_ids: tuple[int, ...]
    answers: tuple[tuple[int, ...], ...]  # each ends with its stop token


class Scorer(Protocol):
    """Tells how likely given answers are."""

    def score(
        self, requests: Sequence[ScoreRequest], *, deadline: Deadline
    ) -> Iterator[tuple[float, ...]]:
        """For each request in turn the log-probability of each of its answers.

        In nats, at temperature 1. Requests that the deadline cuts off are missing. Raises
        OutOfMemory when the device has no room for a prompt and an answer.
        """


@dataclass(frozen=True)
class Served:
    """A sampler that answers as the trainer's model does now."""

    sampler: Sampler
    how: str  # engine and way, such as "vllm merged"
    refused: tuple[str, ...] = ()  # ways that were tried before, each with the reason against it
    # It yields something about every second while it works, so that silence means it is stuck.
    shows_life: bool = False


class Server(Protocol):
    """The sampling engine of a worker: started once, then brought to each task's model."""

    def serve(
        self, trainer: Trainer, *, adapter_dir: Path | None, batch_tokens: int
    ) -> AbstractContextManager[Served]:
        """A sampler for the time of the `with`, during which the trainer must be left alone.

        adapter_dir: where the trainer's adapter was saved, None while its model is as it was
        loaded. batch_tokens: upper bound for (prompt + new tokens) x rows at work at once; vLLM,
        which has a cache of its own, cuts its number of rows in the proportion of this to the
        spec's. Raises EngineLost when the engine cannot go on in this process.
        """
