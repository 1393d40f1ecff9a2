"""What a model engine must be able to do, and the values that cross its border. No torch here.

A Trainer adapts the model to one task at a time, a Sampler writes answers with the adapted model. Every implementation
passes one conformance suite (tests/e2e/test_engine_conformance.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from appliance.clock import Deadline
from appliance.engine.packing import TokenSequence


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
    """One prompt to continue. temperature 0 is greedy (then num_samples must be 1); seed makes sampling repeatable."""

    prompt_ids: tuple[int, ...]
    max_new_tokens: int
    num_samples: int = 1
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0


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

    def reset(self) -> None:
        """Back to the model as it was loaded."""


class Sampler(Protocol):
    def sample(self, requests: Sequence[Request], *, deadline: Deadline) -> Iterator[list[Completion]]:
        """Completions in any order, as they get ready; those that the deadline cuts off are missing, never half-true."""
