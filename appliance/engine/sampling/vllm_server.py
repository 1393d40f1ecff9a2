"""vLLM as the sampling engine of a worker, with each task's adapter.

There are three ways to sample with an adapter, and what cannot be served in one is tried in the
next: on the fly, merged, and last the trainer's own model with Transformers. vLLM's answers are
checked by a canary. Every way that was refused is reported with its reason.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from appliance.engine.adapter.canary import NUM_COMPARED, Canary
from appliance.engine.adapter.serving import read_adapter
from appliance.engine.base import EngineSpec, Served, Server, Trainer
from appliance.engine.sampling.vllm_engine import LoadedAdapter, VllmEngine
from appliance.engine.sampling.vllm_sampler import VllmSampler
from appliance.errors import EngineError, EngineLost, InputError


class VllmServer:
    """A Server on a running vLLM, with Transformers to fall back on."""

    def __init__(
        self,
        spec: EngineSpec,
        engine: VllmEngine,
        *,
        canary: Canary,
        base_sha: str,
        stop_ids: tuple[int, ...],
        otherwise: Server,
    ) -> None:
        """engine: holds the weights of the spec's model. canary: made from the same model in torch,
        in the type that the engine computes in. base_sha: hash of these weights. otherwise: samples
        when vLLM cannot.

        Raises EngineError when the engine does not answer as that model does, or not after a sleep.
        """
        self._spec = spec
        self._engine = engine
        self._canary = canary
        self._base_sha = base_sha
        self._stop_ids = stop_ids
        self._otherwise = otherwise
        self._adapter: LoadedAdapter | None = None  # the engine has a slot for one
        self._num_added = 0

        self._check(None, None)
        if spec.sleeps:
            # Whether it comes back as it was is seen now, not when the first task is trained.
            engine.sleep()
            engine.wake_up()
            self._check(None, None)
            engine.sleep()

    @contextmanager
    def serve(
        self, trainer: Trainer, *, adapter_dir: Path | None, batch_tokens: int
    ) -> Iterator[Served]:
        refused: list[str] = []
        most_rows = max(1, self._spec.max_num_seqs * batch_tokens // self._spec.batch_tokens)

        # What the engine must answer, asked of the trainer's model while it has the GPU.
        is_adapted = adapter_dir is not None or self._spec.shipped_adapter is not None
        said = self._canary.said_by(trainer.adapted()) if is_adapted else None

        with self._turn(trainer):
            for way in self._ways(adapter_dir):
                adapter = None
                try:
                    if way == "on-the-fly":
                        adapter = self._put_on(said, adapter_dir)
                    else:
                        self._merge(trainer, said)
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

    @contextmanager
    def _turn(self, trainer: Trainer) -> Iterator[None]:
        """The engine's turn on the GPU, where it takes turns with the trainer."""
        with trainer.set_aside() if self._spec.sleeps else nullcontext():
            self._engine.wake_up()
            try:
                yield
            finally:
                self._engine.sleep()

    def _ways(self, adapter_dir: Path | None) -> tuple[Literal["on-the-fly", "merged"], ...]:
        """Ways to try in turn. Training of all weights leaves no adapter that could be put on."""
        is_whole = adapter_dir is not None and not (adapter_dir / "adapter_config.json").is_file()
        if is_whole or self._spec.serving == "merged":
            return ("merged",)
        return ("on-the-fly", "merged")

    def _put_on(self, said: Any, adapter_dir: Path | None) -> LoadedAdapter | None:
        """Load the adapter beside the base weights; None where there is none to load.

        said: by the trainer's model to the canary. Raises InputError for an adapter of a kind that
        vLLM does not serve rightly, EngineError for one that it refuses or answers wrongly with.
        """
        self._put_base()
        folder = adapter_dir or self._spec.shipped_adapter
        if folder is None:
            return None

        card = read_adapter(folder, base_sha=self._base_sha)
        if card.rank > self._spec.max_rank:
            raise EngineError(f"rank {card.rank}, and there is room for {self._spec.max_rank}")
        self._drop_adapter()
        own_card = replace(card, folder=self._own_copy(card.folder))
        self._adapter = self._engine.add(own_card)

        self._check(said, self._adapter)
        return self._adapter

    def _merge(self, trainer: Trainer, said: Any) -> None:
        """Put the trainer's weights, with the adapter folded in, in place of the engine's.

        said: by the trainer's model to the canary; None where it is as it was loaded. Raises
        EngineError for quantised weights and for wrong answers.
        """
        if said is None:
            self._put_base()
            return

        self._engine.put_weights(trainer.folded_weights())
        self._check(said, None)

    def _put_base(self) -> None:
        if not self._engine.has_base_weights:
            self._engine.put_base_weights()

    def _check(self, said: Any, adapter: LoadedAdapter | None) -> None:
        """Raises EngineError when vLLM does not answer the canary as the trainer's model does.

        said: by that model; None: by the base model.
        """
        served = self._engine.next_logprobs(self._canary.prompts, adapter, num_tokens=NUM_COMPARED)
        verdict = self._canary.judge(served, said)
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

    def _drop_adapter(self) -> None:
        """Make room for the next one."""
        if self._adapter is not None:
            self._engine.remove(self._adapter)
            shutil.rmtree(self._adapter.card.folder, ignore_errors=True)
            self._adapter = None


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source, target)  # saved adapters are replaced, never written to
    except OSError:
        shutil.copy(source, target)
