"""The engines under test: each on a real tiny model, with a trainer of its own."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from appliance.arc.task import Task
from appliance.clock import Deadline, SystemClock
from appliance.engine.base import EngineSpec, Served, Server, Trainer, Tuned, TuneSettings
from appliance.solve.language import Language
from appliance.solve.transduce import LessonPlan, lessons

ENGINES = ("transformers", "vllm merged", "vllm on-the-fly")
TUNING = TuneSettings(
    rank=8, alpha=8, max_steps=30, row_tokens=64, rows_per_step=8, learning_rate=5e-3
)


@dataclass
class Bench:
    """An engine with the trainer whose model it serves."""

    spec: EngineSpec
    trainer: Trainer
    server: Server
    engine: Any = None

    def tune(
        self,
        language: Language,
        task: Task,
        folder: Path,
        settings: TuneSettings = TUNING,
        seed: int = 1,
    ) -> Tuned:
        clock = SystemClock()
        outcome = self.trainer.tune(
            lessons(task, language, np.random.default_rng(seed), max_tokens=64, plan=LessonPlan()),
            settings,
            adapter_dir=folder,
            deadline=Deadline(clock.now() + 120, clock),
            seed=seed,
        )
        assert isinstance(outcome, Tuned), outcome
        return outcome

    @contextmanager
    def tuned(self, language: Language, task: Task) -> Iterator[Served]:
        with tempfile.TemporaryDirectory() as folder:
            outcome = self.tune(language, task, Path(folder) / "a")
            with self.server.serve(
                self.trainer, adapter_dir=outcome.adapter_dir, batch_tokens=4096
            ) as served:
                assert not served.refused
                yield served


def make_benches(folder: Path, scratch: Path, *, has_vllm: bool) -> dict[str, Bench]:
    """One vLLM engine serves both ways: it has slots for adapters, and takes merged weights as well."""
    from appliance.engine.load_model import weights_sha
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

    def trainer() -> Trainer:
        return make_trainer("peft", spec, codec)

    first = trainer()
    benches = {"transformers": Bench(spec, first, make_server("transformers", spec, codec, first))}
    if not has_vllm:
        return benches
    from appliance.engine.sampling.vllm_engine import VllmEngine
    from appliance.engine.sampling.vllm_server import VllmServer

    engine = VllmEngine(spec, stop_ids=codec.stop_ids, slots_rank=spec.max_rank, num_slots=2)
    # When the process ends torch's groups may be gone before vLLM wants to close them, which prints a traceback.
    engine.raw().llm_engine.engine_core._finalizer.atexit = False
    for serving in ("merged", "on-the-fly"):
        own = trainer()
        server = VllmServer(
            replace(spec, serving=serving, scratch_dir=scratch / serving),
            engine,
            base_sha=weights_sha(folder),
            base_model=own.model,
            stop_ids=codec.stop_ids,
            otherwise=TransformersServer(codec),
        )
        benches[f"vllm {serving}"] = Bench(spec, own, server, engine)
    return benches
