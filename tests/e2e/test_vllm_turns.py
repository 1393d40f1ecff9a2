"""vLLM that takes turns with training on a card, as far as a CPU shows it.

All calls are the same, those of vLLM's own sleep among them. That the memory is really given back
only a GPU shows.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from appliance.arc.source import load_tasks
from appliance.arc.task import Task
from appliance.engine.adapter.canary import Canary
from appliance.engine.base import Request
from appliance.engine.sampling.vllm_server import VllmServer
from appliance.engine.tokens import Codec
from appliance.errors import EngineError, EngineLost
from appliance.solve.language import Language
from tests.support.cases import REPOSITORY
from tests.support.sampling_engines import EngineUnderTest
from tests.support.tuning import in_seconds

pytestmark = pytest.mark.engine
torch = pytest.importorskip("torch")
pytest.importorskip("vllm")

NUM_TASKS = 3


def make_server(engine: EngineUnderTest) -> VllmServer:
    codec = Codec.load(engine.spec.model_dir)
    return VllmServer(
        engine.spec,
        engine.vllm,
        canary=Canary(engine.trainer.adapted(), dtype=engine.spec.dtype),
        base_sha=engine.trainer.base_sha,
        stop_ids=codec.stop_ids,
        otherwise=engine.server,
    )


@pytest.fixture(params=["merged", "on-the-fly"])
def taking_turns(
    request: pytest.FixtureRequest,
    engines: dict[str, EngineUnderTest],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[EngineUnderTest]:
    """The session's engine, told that it sleeps; a server is made by the test."""
    worn = engines["vllm on-the-fly"]
    worn.trainer.reset()
    with worn.serving_untrained():  # puts the base weights back
        pass
    monkeypatch.setattr(worn.vllm, "_sleeps", True)
    spec = replace(worn.spec, sleeps=True, serving=request.param, scratch_dir=tmp_path)
    yield replace(worn, spec=spec, server=engines["transformers"].server)
    worn.vllm.wake_up()


@pytest.fixture
def waiting(taking_turns: EngineUnderTest, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Has an entry while the trainer's weights are aside; vLLM must sleep before and after."""
    trainer, vllm = taking_turns.trainer, taking_turns.vllm
    real, found = trainer.set_aside, list[str]()

    @contextmanager
    def watched() -> Iterator[None]:
        assert vllm.is_asleep
        with real():
            found.append("aside")
            yield
            found.clear()
            assert vllm.is_asleep

    monkeypatch.setattr(trainer, "set_aside", watched)
    return found


def answers(sampler: Any, requests: list[Request]) -> dict[int, tuple[int, ...]]:
    batches = sampler.sample(requests, deadline=in_seconds(120))
    return {c.request_index: c.ids for batch in batches for c in batch}


def test_task_after_task_is_trained_while_vllm_sleeps_and_sampled_while_the_trainer_waits(
    taking_turns: EngineUnderTest,
    waiting: list[str],
    language: Language,
    challenges: Path,
    tmp_path: Path,
) -> None:
    engine, trainer = taking_turns, taking_turns.trainer
    server = make_server(engine)
    assert engine.vllm.is_asleep
    tasks = load_tasks(str(challenges)).tasks[:NUM_TASKS]
    requests = [Request(language.prompt_ids(task, 0), max_new_tokens=10) for task in tasks]

    for number, task in enumerate(tasks):
        outcome = engine.tune(language, task, tmp_path / str(number), seed=number)
        folder = outcome.adapter_dir
        with engine.serving(folder) as served:  # Transformers
            expected = answers(served.sampler, requests)

        with server.serve(trainer, adapter_dir=folder, batch_tokens=4096) as served:
            assert not served.refused
            assert served.how == f"vllm {engine.spec.serving}"
            assert not engine.vllm.is_asleep
            assert waiting
            assert answers(served.sampler, requests) == expected
        assert not waiting

    trainer.reset()
    with engine.serving() as served:
        plain = answers(served.sampler, requests)
    with server.serve(trainer, adapter_dir=None, batch_tokens=4096) as served:
        assert answers(served.sampler, requests) == plain


def test_transformers_has_the_card_when_vllm_is_refused(
    taking_turns: EngineUnderTest,
    waiting: list[str],
    language: Language,
    task: Task,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = make_server(taking_turns)
    folder = taking_turns.tune(language, task, tmp_path / "a").adapter_dir

    def wrong(*_: object, **__: object) -> None:
        raise EngineError("canary: injected")

    monkeypatch.setattr(taking_turns.vllm, "next_logprobs", wrong)
    requests = [Request(language.prompt_ids(task, 0), max_new_tokens=10)]
    with server.serve(taking_turns.trainer, adapter_dir=folder, batch_tokens=4096) as served:
        assert served.how == "transformers"
        assert taking_turns.vllm.is_asleep and not waiting
        assert len(answers(served.sampler, requests)) == 1


def test_an_engine_that_comes_back_otherwise_than_it_went_is_refused_at_the_start(
    taking_turns: EngineUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if its weights had not come back from the host: another model's answers."""
    heard, real = [], taking_turns.vllm.next_logprobs

    def forgetful(prompts: Any, adapter: Any, **more: Any) -> Any:
        heard.append(prompts)
        rows = real(prompts, adapter, **more)
        return rows if len(heard) == 1 else [{t: p - t for t, p in row.items()} for row in rows]

    monkeypatch.setattr(taking_turns.vllm, "next_logprobs", forgetful)
    with pytest.raises(EngineError, match="canary: vLLM is"):
        make_server(taking_turns)
    assert len(heard) == 2


def test_a_sleeping_engine_takes_nothing(taking_turns: EngineUnderTest) -> None:
    taking_turns.vllm.sleep()
    with pytest.raises(EngineLost, match="while it sleeps"):
        taking_turns.vllm.submit(Request((5, 6), 1), 0, None)
    with pytest.raises(EngineLost, match="while it sleeps"):
        taking_turns.vllm.put_base_weights()


REFUSED = """
import gc, sys
from dataclasses import replace
from pathlib import Path
from appliance.engine.environment import prepare_process
prepare_process()
import torch
from appliance.engine.base import EngineSpec
from appliance.engine.registry import make_server, make_trainer
from appliance.engine.tokens import Codec
from appliance.errors import EngineError

model, other, scratch = map(Path, sys.argv[1:])
spec = EngineSpec(model, scratch, max_seq_tokens=512, max_num_seqs=4, kv_cache_bytes=16 << 20,
                  sleeps=True)
codec = Codec.load(model)
trainer = make_trainer("peft", spec, codec)
try:
    make_server("vllm", replace(spec, model_dir=other), codec, trainer)
except EngineError as fault:
    print(fault)
left = [o for o in gc.get_objects() if isinstance(o, torch.nn.Module)]
print("left:", [type(o).__name__ for o in left if type(o).__module__.startswith("vllm.")])
print("trainer:", float(trainer.adapted()(torch.tensor([[5, 6]])).logits.abs().sum()) > 0)
"""


def test_an_engine_that_is_refused_at_the_start_gives_its_memory_back(
    tiny_model: Path, tmp_path: Path
) -> None:
    """It was given another model's weights, which its canary tells."""
    from appliance.learn.new_model import fresh_model, save_model
    from appliance.learn.recipe import Architecture

    shape = Architecture(hidden_size=64, num_layers=2, intermediate_size=128, max_positions=2048)
    card = json.loads((tiny_model / "appliance.json").read_text())
    save_model(fresh_model(shape, seed=1), tmp_path / "other", card=card)
    folders = [str(tiny_model), str(tmp_path / "other"), str(tmp_path / "scratch")]
    command = [sys.executable, "-c", REFUSED, *folders]
    done = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, check=False)

    lines = done.stdout.splitlines()
    assert lines, done.stderr
    assert lines[0].startswith("canary: vLLM is ")
    assert lines[1:] == ["left: []", "trainer: True"], done.stderr
