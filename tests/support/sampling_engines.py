"""The sampling engines under test: each on a real tiny model, with a trainer of its own."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from appliance.arc.task import Task
from appliance.engine.base import EngineSpec, Served, Server, Trainer, Tuned, TuneSettings
from appliance.solve.language import Language
from tests.support.tuning import SETTINGS, tune

ENGINES = ("transformers", "vllm merged", "vllm on-the-fly")


@dataclass
class EngineUnderTest:
    """An engine with the trainer whose model it serves."""

    spec: EngineSpec
    trainer: Trainer
    server: Server
    vllm: Any = None  # the VllmEngine behind the server, if there is one

    def tune(
        self,
        language: Language,
        task: Task,
        folder: Path,
        settings: TuneSettings = SETTINGS,
        seed: int = 1,
    ) -> Tuned:
        """Train on the task, which must succeed; the adapter is saved to the folder."""
        outcome = tune(self.trainer, task, language, folder, settings, seed=seed, lesson_seed=seed)
        assert isinstance(outcome, Tuned), outcome
        return outcome

    @contextmanager
    def serving(
        self, adapter_dir: Path | None = None, batch_tokens: int = 4096
    ) -> Iterator[Served]:
        """Serve this adapter, or the weights as they are."""
        with self.server.serve(
            self.trainer, adapter_dir=adapter_dir, batch_tokens=batch_tokens
        ) as served:
            yield served

    @contextmanager
    def serving_untrained(self, batch_tokens: int = 4096) -> Iterator[Served]:
        """Serve the model as it was before any training."""
        self.trainer.reset()
        with self.serving(batch_tokens=batch_tokens) as served:
            yield served

    @contextmanager
    def serving_tuned(self, language: Language, task: Task) -> Iterator[Served]:
        """Train on the task and serve what came of it, which the engine must take."""
        with tempfile.TemporaryDirectory() as folder:
            outcome = self.tune(language, task, Path(folder) / "a")
            with self.serving(outcome.adapter_dir) as served:
                assert not served.refused
                yield served


def start_engines(folder: Path, scratch: Path, *, has_vllm: bool) -> dict[str, EngineUnderTest]:
    """By name, all on the model of this folder.

    One vLLM engine serves both ways: it has a slot for adapters, and takes merged weights as well.
    """
    from appliance.engine.folder.identity import weights_sha
    from appliance.engine.registry import TransformersServer, make_server, make_trainer
    from appliance.engine.tokens import Codec

    codec = Codec.load(folder)
    spec = EngineSpec(
        folder,
        scratch,
        device=os.environ.get("CONFORMANCE_DEVICE", "cpu"),
        max_seq_tokens=2048,
        batch_tokens=4096,
        kv_cache_bytes=32 << 20,
        max_num_seqs=16,
        max_rank=64,
    )
    trainer = make_trainer("peft", spec, codec)
    server = make_server("transformers", spec, codec, trainer)
    engines = {"transformers": EngineUnderTest(spec, trainer, server)}
    if not has_vllm:
        return engines

    from appliance.engine.adapter.canary import Canary
    from appliance.engine.sampling.vllm_engine import VllmEngine
    from appliance.engine.sampling.vllm_server import VllmServer

    vllm = VllmEngine(spec, stop_ids=codec.stop_ids, slots_rank=spec.max_rank)
    # When the process ends torch's groups may be gone before vLLM wants to close them, which prints
    # a traceback.
    vllm.raw().llm_engine.engine_core._finalizer.atexit = False

    for serving in ("merged", "on-the-fly"):
        own = make_trainer("peft", spec, codec)
        vllm_server = VllmServer(
            replace(spec, serving=serving, scratch_dir=scratch / serving),
            vllm,
            canary=Canary(own.adapted(), dtype=spec.dtype),
            base_sha=weights_sha(folder),
            stop_ids=codec.stop_ids,
            otherwise=TransformersServer(codec),
        )
        engines[f"vllm {serving}"] = EngineUnderTest(spec, own, vllm_server, vllm)
    return engines
