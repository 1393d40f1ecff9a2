"""The probe with a real trainer and a real sampler. tests/unit/test_probe.py has imagined ones."""

from __future__ import annotations

from dataclasses import replace
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from appliance.arc.task import Task
from appliance.arc.view import IDENTITY
from appliance.clock import Deadline, SystemClock
from appliance.config import Settings
from appliance.engine.base import EngineSpec, Server, Trainer
from appliance.engine.memory_meter import HostMeter, TrainingMemory
from appliance.engine.probe import MOST_STEPS, probe_engines, probe_sampling, probe_training
from appliance.engine.registry import make_server, make_trainer
from appliance.engine.tokens import Codec
from appliance.engine.training.packing import Rows, TokenSequence
from appliance.engine.training.peft_trainer import WARM_UP_TOKENS
from appliance.engine.training.tuning_loop import TuningLoop
from appliance.errors import EngineError
from appliance.machine.gpu import GIB
from appliance.solve import worker
from appliance.solve.language import Language
from appliance.solve.messages import Event, Job, Probed, TaskMessage
from tests.support.sampling_engines import EngineUnderTest
from tests.support.tuning import SETTINGS, in_seconds, lessons_of
from tests.support.worker_setup import cpu_setup

pytest.importorskip("torch")
pytestmark = pytest.mark.engine

BALLAST_BYTES = 512 << 20
"""Memory that something else in the worker's process holds, such as a sampling engine."""


@pytest.fixture(scope="module")
def spec(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> EngineSpec:
    return EngineSpec(model_dir=tiny_model, scratch_dir=tmp_path_factory.mktemp("scratch"))


@pytest.fixture(scope="module")
def trainer(spec: EngineSpec) -> Trainer:
    return make_trainer("peft", spec, Codec.load(spec.model_dir))


def test_a_real_trainer_is_measured_without_what_else_is_in_its_process(
    trainer: Trainer, task: Task, language: Language
) -> None:
    memory = TrainingMemory(HostMeter())
    ballast = bytearray(BALLAST_BYTES)
    ballast[::4096] = b"\1" * len(range(0, BALLAST_BYTES, 4096))

    found = probe_training(
        trainer,
        lessons_of(task, language),
        SETTINGS,
        memory=memory,
        deadline=in_seconds(120),
    )
    assert found.step_s is not None and found.step_s > 0
    if memory.fault:
        assert found.memory_gib is None
        pytest.skip(memory.fault)

    whole_bytes = HostMeter().peak_bytes()
    assert found.memory_gib is not None
    assert 0 < found.memory_gib * GIB < whole_bytes - 0.8 * len(ballast)


def test_steps_end_when_they_are_enough(trainer: Trainer, task: Task, language: Language) -> None:
    def seconds(num_steps: int, enough: int) -> list[float]:
        return trainer.time_steps(
            lessons_of(task, language),
            SETTINGS,
            num_steps=num_steps,
            clock=SystemClock(),
            is_enough=lambda done: len(done) >= enough,
        )

    assert len(seconds(MOST_STEPS, 3)) == 3
    assert len(seconds(2, MOST_STEPS)) == 2
    assert seconds(2, 0) == [], "the warm-up took all the time"


def test_a_short_step_warms_up_and_is_not_timed(
    trainer: Trainer, task: Task, language: Language, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens: list[int] = []
    step = TuningLoop.step

    def noted(loop: TuningLoop, rows: Rows, rate: float) -> tuple[float, bool]:
        tokens.append(rows.ids.size)
        assert rows.num_targets() > 0
        return step(loop, rows, rate)

    monkeypatch.setattr(TuningLoop, "step", noted)
    long = TokenSequence(
        np.tile(next(lessons_of(task, language)).ids, 20)[:200], np.full(200, True)
    )
    settings = replace(SETTINGS, row_tokens=200)
    timed = trainer.time_steps(repeat(long), settings, num_steps=2, clock=SystemClock())
    assert len(timed) == 2 and len(tokens) == 3
    assert tokens[0] == WARM_UP_TOKENS < tokens[1]


def test_two_real_engines_write_the_same_batch(
    engines: dict[str, EngineUnderTest], task: Task, language: Language
) -> None:
    if "vllm merged" not in engines:
        pytest.skip("vLLM is not installed")
    prompt = 4 * language.prompt_ids(task, 0)
    compared = {name: engines[name].serving_untrained for name in ("vllm merged", "transformers")}
    found, batch_s = probe_engines(compared, prompt, deadline=in_seconds(120))
    assert set(batch_s) == set(compared) and min(batch_s.values()) > 0
    assert found.read_s is not None and found.read_s > 0


def test_a_real_sampler_is_timed(
    spec: EngineSpec, trainer: Trainer, task: Task, language: Language
) -> None:
    server = make_server("transformers", spec, Codec.load(spec.model_dir), trainer)
    prompt = 8 * language.prompt_ids(task, 0)
    with server.serve(trainer, adapter_dir=None, batch_tokens=4096) as served:
        found = probe_sampling(served.sampler, prompt, deadline=in_seconds(120))
        late = probe_sampling(served.sampler, prompt, deadline=Deadline(0.0, SystemClock()))
    assert found.read_s is not None and found.read_s > 0
    assert found.short_tokens == min(256, len(prompt))
    assert (late.read_s, late.write_token_s) == (None, None)


def test_an_engine_that_did_not_start_is_not_compared_with_itself(
    tiny_model: Path, task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_vllm(name: str, *given: Any) -> Server:
        if name == "vllm":
            raise EngineError("it does not start")
        return make_server(name, *given)

    monkeypatch.setattr(worker, "make_server", no_vllm)
    setup = cpu_setup(tiny_model, tmp_path, Settings(), engine="vllm", is_compared=True)
    job = Job(
        job_id=1,
        stage="probe",
        tasks=[TaskMessage.of(task)],
        views=[IDENTITY.name],
        deadline_s=SystemClock().now() + 120,
    )
    events: list[Event] = []
    worker.Worker(setup, events.append).do(job)

    probed = events[-1]
    assert isinstance(probed, Probed)
    assert probed.batch_s == {} and probed.prompt_tokens > 0
