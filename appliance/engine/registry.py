"""The one place that turns the names of a plan ("peft", "transformers", ...) into engines.

A new engine is one function and one line in its table; the conformance suite runs over the same
tables.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from appliance.engine.base import EngineSpec, Scorer, Served, Server, Trainer
from appliance.engine.environment import hide_flashinfer
from appliance.engine.tokens import Codec
from appliance.errors import EngineError


def make_trainer(name: str, spec: EngineSpec, codec: Codec) -> Trainer:
    """The trainer of that name, with the model of the spec loaded.

    Raises InputError for a folder that is no model, EngineError when the trainer cannot load it.
    """
    return TRAINERS[name](spec, codec)


def make_server(name: str, spec: EngineSpec, codec: Codec, trainer: Trainer) -> Server:
    """The sampling engine of that name, started.

    The trainer's model must be as it was loaded. Raises EngineError when the engine does not start;
    it has then given back its memory.
    """
    return SERVERS[name](spec, codec, trainer)


def import_first(name: str, spec: EngineSpec) -> None:
    """Import what changes transformers for this trainer, which must come before transformers.

    unsloth looks at vLLM, so what vLLM must not find is hidden before.
    """
    hide_flashinfer()
    if name == "unsloth":
        from appliance.engine.training.unsloth_trainer import import_unsloth

        import_unsloth(spec.scratch_dir, device=spec.device)


def make_scorer(name: str, model: Any, *, pad_id: int, batch_tokens: int) -> Scorer:
    """A scorer on the model of the trainer of that name."""
    from appliance.engine.sampling.scorer import ModelScorer, read_packed, read_prefix_once

    # unsloth's kernels take no cache of several tokens.
    read = read_packed if name == "unsloth" else read_prefix_once
    return ModelScorer(model, read=read, pad_id=pad_id, batch_tokens=batch_tokens)


def _peft(spec: EngineSpec, codec: Codec) -> Trainer:
    from appliance.engine.folder.identity import weights_sha
    from appliance.engine.load_model import load_causal_lm
    from appliance.engine.training.peft_trainer import PeftTrainer

    model = load_causal_lm(
        spec.model_dir, dtype=spec.dtype, device=spec.device, quantization=spec.quantization
    )
    return PeftTrainer(
        model,
        pad_id=codec.pad_id,
        base_sha=weights_sha(spec.model_dir),
        autocast_dtype=spec.autocast_dtype,
        shipped_adapter=spec.shipped_adapter,
    )


def _unsloth(spec: EngineSpec, codec: Codec) -> Trainer:
    from appliance.engine.folder.identity import weights_sha
    from appliance.engine.training.peft_trainer import PeftTrainer
    from appliance.engine.training.unsloth_trainer import UnslothLibrary, load_with_unsloth

    model = load_with_unsloth(
        spec.model_dir,
        dtype=spec.dtype,
        device=spec.device,
        quantization=spec.quantization,
        max_seq_tokens=spec.max_seq_tokens,
        scratch_dir=spec.scratch_dir,
    )
    return PeftTrainer(
        model,
        pad_id=codec.pad_id,
        base_sha=weights_sha(spec.model_dir),
        autocast_dtype=spec.autocast_dtype,
        shipped_adapter=spec.shipped_adapter,
        library=UnslothLibrary(),
    )


class TransformersServer:
    """Samples with the trainer's own model: nothing to start, nothing to reload."""

    def __init__(self, codec: Codec) -> None:
        self._codec = codec

    @contextmanager
    def serve(
        self, trainer: Trainer, *, adapter_dir: Path | None, batch_tokens: int
    ) -> Iterator[Served]:
        from appliance.engine.sampling.transformers_sampler import TransformersSampler

        with trainer.merged() as model:
            sampler = TransformersSampler(
                lambda: model,
                pad_id=self._codec.pad_id,
                stop_ids=self._codec.stop_ids,
                batch_tokens=batch_tokens,
                # unsloth puts forward passes of its own into every model of the process.
                takes_cache="unsloth" not in sys.modules,
            )
            yield Served(sampler, "transformers")


def _vllm(spec: EngineSpec, codec: Codec, trainer: Trainer) -> Server:
    from appliance.engine.adapter.canary import Canary
    from appliance.engine.device_faults import release_memory
    from appliance.engine.sampling.vllm_engine import VllmEngine
    from appliance.engine.sampling.vllm_server import VllmServer

    canary = Canary(trainer.adapted(), dtype=spec.autocast_dtype or spec.dtype)
    slots_rank = spec.max_rank if spec.serving == "on-the-fly" else None

    engine = None
    with trainer.set_aside() if spec.sleeps else nullcontext():
        try:
            engine = VllmEngine(spec, stop_ids=codec.stop_ids, slots_rank=slots_rank)
            return VllmServer(
                spec,
                engine,
                canary=canary,
                base_sha=trainer.base_sha,
                stop_ids=codec.stop_ids,
                otherwise=TransformersServer(codec),
            )
        except EngineError as fault:
            # The trainer comes back now, and Transformers will sample: both need the room.
            if engine is not None:
                engine.close()
            release_memory(fault)
            raise


TRAINERS: Mapping[str, Callable[[EngineSpec, Codec], Trainer]] = {
    "peft": _peft,
    "unsloth": _unsloth,
}
"""Libraries that fine-tune."""

SERVERS: Mapping[str, Callable[[EngineSpec, Codec, Trainer], Server]] = {
    "transformers": lambda _spec, codec, _trainer: TransformersServer(codec),
    "vllm": _vllm,
}
"""Engines that generate answers."""
