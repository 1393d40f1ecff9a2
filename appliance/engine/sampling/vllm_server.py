"""vLLM as the sampling engine of a worker, with each task's adapter.

There are three ways to sample with an adapter, and what cannot be served in one is tried in the
next: on the fly, merged, and last the trainer's own model with Transformers. vLLM's answers are
checked by a canary. Every way that was refused is reported with its reason.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from appliance.engine.adapter_canary import (
    NUM_COMPARED,
    Heard,
    canary_prompt,
    judge,
    logprobs_of,
)
from appliance.engine.adapters import read_adapter
from appliance.engine.base import EngineSpec, Served, Server, Trainer
from appliance.engine.sampling.vllm_engine import LoadedAdapter, VllmEngine
from appliance.engine.sampling.vllm_sampler import VllmSampler
from appliance.engine.training.merging import is_quantized
from appliance.engine.weights import plain_weights
from appliance.errors import EngineError, EngineLost, InputError

MOST_ADAPTERS = 2
"""Adapters that the engine keeps: that of the task at work and the one before.

A hundred tasks then take the memory of two.
"""


class VllmServer:
    """A Server on a running vLLM, with Transformers to fall back on."""

    def __init__(
        self,
        spec: EngineSpec,
        engine: VllmEngine,
        *,
        base_sha: str,
        base_model: Any,
        stop_ids: tuple[int, ...],
        otherwise: Server,
    ) -> None:
        """engine: holds the weights of the spec's model. base_sha: their hash. base_model: the same
        model in torch, in the type that the engine computes in. otherwise: samples when vLLM
        cannot.

        Raises EngineError when the engine does not answer as base_model does.
        """
        self._spec = spec
        self._engine = engine
        self._base_sha = base_sha
        self._stop_ids = stop_ids
        self._otherwise = otherwise
        self._adapters: list[LoadedAdapter] = []
        self._num_added = 0

        self._prompt = canary_prompt(base_model.config.vocab_size)
        self._heard: list[Heard] = []
        self._check(logprobs_of(base_model, self._prompt), None)

    @contextmanager
    def serve(
        self, trainer: Trainer, *, adapter_dir: Path | None, batch_tokens: int
    ) -> Iterator[Served]:
        refused: list[str] = []
        most_rows = max(1, self._spec.max_num_seqs * batch_tokens // self._spec.batch_tokens)

        for way in self._ways(adapter_dir):
            adapter = None
            try:
                if way == "on-the-fly":
                    adapter = self._put_on(trainer, adapter_dir)
                else:
                    self._merge(trainer, adapter_dir)
            except EngineLost:
                raise
            except (InputError, EngineError) as fault:
                refused.append(f"{way}: {fault}")
                continue

            sampler = VllmSampler(
                self._engine, stop_ids=self._stop_ids, adapter=adapter, most_rows=most_rows
            )
            yield Served(sampler, f"vllm {way}", tuple(refused), shows_life=True)
            return

        with self._otherwise.serve(
            trainer, adapter_dir=adapter_dir, batch_tokens=batch_tokens
        ) as served:
            yield Served(served.sampler, served.how, tuple(refused))

    def _ways(self, adapter_dir: Path | None) -> tuple[Literal["on-the-fly", "merged"], ...]:
        """Ways to try in turn. Training of all weights leaves no adapter that could be put on."""
        is_whole = adapter_dir is not None and not (adapter_dir / "adapter_config.json").is_file()
        if is_whole or self._spec.serving == "merged":
            return ("merged",)
        return ("on-the-fly", "merged")

    def _put_on(self, trainer: Trainer, adapter_dir: Path | None) -> LoadedAdapter | None:
        """Load the adapter beside the base weights; None where there is none to load.

        Raises InputError for an adapter of a kind that vLLM does not serve rightly, EngineError for
        one that it refuses or answers wrongly with.
        """
        self._put_base()
        folder = adapter_dir or self._spec.shipped_adapter
        if folder is None:
            return None

        card = read_adapter(folder, base_sha=self._base_sha)
        if card.rank > self._spec.max_rank:
            raise EngineError(f"rank {card.rank}, and there is room for {self._spec.max_rank}")
        self._drop_old()
        own_card = read_adapter(self._own_copy(card.folder), base_sha=self._base_sha)
        adapter = self._engine.add(own_card)
        self._adapters.append(adapter)

        with trainer.merged() as model:
            expected = logprobs_of(model, self._prompt)
        self._check(expected, adapter)
        return adapter

    def _merge(self, trainer: Trainer, adapter_dir: Path | None) -> None:
        """Put the trainer's weights, with the adapter folded in, in place of the engine's.

        Raises EngineError for quantised weights and for wrong answers.
        """
        if adapter_dir is None and self._spec.shipped_adapter is None:
            self._put_base()
            return

        with trainer.merged() as model:
            if is_quantized(model):
                raise EngineError(
                    "the base weights are quantised, nothing can be folded into them without loss"
                )
            expected = logprobs_of(model, self._prompt)
            self._engine.put_weights(plain_weights(model))
        self._check(expected, None)

    def _put_base(self) -> None:
        if not self._engine.has_base_weights:
            self._engine.put_base_weights()

    def _check(self, expected: Any, adapter: LoadedAdapter | None) -> None:
        """Raises EngineError when vLLM does not answer the canary as the trainer's model does.

        expected: (V,) log-probabilities of the trainer's model.
        """
        served = self._engine.next_logprobs(self._prompt, adapter, num_tokens=NUM_COMPARED)
        dtype = self._spec.autocast_dtype or self._spec.dtype
        now = Heard(served, expected)
        verdict = judge(now, earlier=self._heard, dtype=dtype)
        self._heard = [*self._heard[:1], now]  # the base, and the last load

        if not verdict.is_right:
            raise EngineError(
                f"canary: vLLM is {verdict}", expected="the answers of the trainer's model"
            )

    def _own_copy(self, folder: Path) -> Path:
        """A copy of the adapter's folder that no later training writes to.

        The engine may read it again, after it has put the adapter out of its slots.
        """
        self._num_added += 1
        copy = self._spec.scratch_dir / "adapters" / str(self._num_added)
        copy.mkdir(parents=True)
        for path in folder.iterdir():
            if path.is_file():
                _link_or_copy(path, copy / path.name)
        return copy

    def _drop_old(self) -> None:
        """Make room for one more adapter."""
        while len(self._adapters) >= MOST_ADAPTERS:
            adapter = self._adapters.pop(0)
            self._engine.remove(adapter)
            shutil.rmtree(adapter.card.folder, ignore_errors=True)


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source, target)  # saved adapters are replaced, never written to
    except OSError:
        shutil.copy(source, target)
