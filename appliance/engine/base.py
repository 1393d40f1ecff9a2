"""What a model engine must be able to do, and the values that cross its border. No torch here.

A Trainer adapts the model to one task at a time, a Sampler writes answers with the adapted model. Every implementation
passes one conformance suite (tests/e2e/test_engine_conformance.py, test_samplers.py, test_scorers.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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


@dataclass(frozen=True)
class TuneSettings:
    """How to adapt the model to one task.

    method: "lora" trains an adapter, "full" all weights (tiny models prefer it). start: "new" adapter or "continue" from the
    one shipped with the model. rank, alpha: LoRA scale is alpha / rank, with rslora alpha / sqrt(rank). learning_rate: peak;
    it warms up over the first tenth and falls linearly to a tenth. row_tokens, rows_per_step: the packed batch of one
    optimizer step. max_steps: upper bound; the deadline may come first.
    """

    method: Literal["lora", "full"] = "lora"
    start: Literal["new", "continue"] = "new"
    rank: int = 64
    alpha: float = 64.0
    rslora: bool = True
    learning_rate: float = 1e-3
    max_steps: int = 300
    row_tokens: int = 2048
    rows_per_step: int = 2
    gradient_checkpointing: bool = False


@dataclass(frozen=True)
class Tuned:
    """The model was adapted: losses in nats per answer token on the same lessons before and after.

    adapter_sha: SHA-256 of the saved adapter's weights; adapter_dir: its folder.
    """

    loss_before: float
    loss_after: float
    num_steps: int
    seconds: float
    adapter_sha: str
    adapter_dir: Path


@dataclass(frozen=True)
class NotTuned:
    """The model is as it was, and why."""

    reason: str


Outcome = Tuned | NotTuned


@dataclass(frozen=True)
class Request:
    """One prompt to continue. temperature 0 is greedy (then num_samples must be 1); seed makes sampling repeatable.
    pattern: a regular expression that the text of the answer must match, where the engine can force it."""

    prompt_ids: tuple[int, ...]
    max_new_tokens: int
    num_samples: int = 1
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    pattern: str | None = None


@dataclass(frozen=True)
class Completion:
    """One answer to requests[request_index]. ids: without the stop token. logprob: natural log of the probability of the
    written tokens (stop token included) under the model at temperature 1. is_complete: the stop token was reached."""

    request_index: int
    ids: tuple[int, ...]
    logprob: float
    num_tokens: int
    is_complete: bool


class Trainer(Protocol):
    """Owns the loaded model; `model` is the torch module as it is now, adapted or plain. base_sha: SHA-256 of the weights that
    it was loaded from."""

    @property
    def model(self) -> Any: ...

    @property
    def base_sha(self) -> str: ...

    def tune(
        self,
        lessons: Iterator[TokenSequence],
        settings: TuneSettings,
        *,
        adapter_dir: Path,
        deadline: Deadline,
        seed: int,
    ) -> Outcome:
        """Adapt a freshly reset model to the lessons and leave it adapted; save the adapter to adapter_dir.

        Raises OutOfMemory when the device has no room; the model is then reset.
        """

    def time_steps(
        self,
        lessons: Iterator[TokenSequence],
        settings: TuneSettings,
        *,
        num_steps: int,
        clock: Clock,
    ) -> list[float]:
        """Seconds of each of so many optimizer steps, for a probe of the device; the model is reset afterwards.

        Raises OutOfMemory when the device has no room for one.
        """

    def reset(self) -> None:
        """Back to the model as it was loaded, with the shipped adapter on where there is one."""

    def start_from_shipped(self) -> None:
        """Put the shipped adapter on. Raises InputError when it does not fit this model."""

    def load(self, adapter_dir: Path, settings: TuneSettings) -> None:
        """Put on what an earlier `tune` with the same settings saved. Raises InputError when it does not fit this model."""

    def merged(self) -> AbstractContextManager[Any]:
        """The adapted model with the adapter folded into its weights, for the time of the `with`."""


class Sampler(Protocol):
    def sample(
        self, requests: Sequence[Request], *, deadline: Deadline
    ) -> Iterator[list[Completion]]:
        """Completions in any order, as they get ready; those that the deadline cuts off are missing, never half-true."""


@dataclass(frozen=True)
class ScoreRequest:
    """Answers to one prompt whose probability is asked for; each ends with its stop token."""

    prompt_ids: tuple[int, ...]
    answers: tuple[tuple[int, ...], ...]


class Scorer(Protocol):
    def score(
        self, requests: Sequence[ScoreRequest], *, deadline: Deadline
    ) -> Iterator[tuple[float, ...]]:
        """For each request in turn the natural log of the probability of each of its answers, at temperature 1; the requests
        that the deadline cuts off are missing. Raises OutOfMemory when the device has no room for a prompt and an answer."""


@dataclass(frozen=True)
class Served:
    """A sampler that answers as the trainer's model does now. how: which way it came about, such as "vllm merged".
    refused: the ways before it that were tried and why they were not taken. shows_life: the sampler yields something about
    every second while it works, so that silence means that it is stuck."""

    sampler: Sampler
    how: str
    refused: tuple[str, ...] = ()
    shows_life: bool = False


class Server(Protocol):
    """The sampling engine of a worker: started once, then brought to each task's model."""

    def serve(
        self, trainer: Trainer, *, adapter_dir: Path | None, batch_tokens: int
    ) -> AbstractContextManager[Served]:
        """A sampler for the time of the `with`, during which the trainer must be left alone.

        adapter_dir: where the trainer's adapter lies, None while its model is as it was loaded. batch_tokens: upper bound for
        (prompt + new tokens) x rows at work at once; an engine with a cache of its own takes it in proportion to the spec's.
        Raises EngineLost when the engine cannot go on in this process.
        """
