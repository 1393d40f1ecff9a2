"""vLLM on the CPU with real adapters: what it refuses and what is tried next, and many adapters."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from appliance.arc.source import load_tasks
from appliance.arc.task import Task
from appliance.engine.adapter.serving import read_adapter
from appliance.engine.base import Completion, Request, Served
from appliance.engine.environment import VLLM
from appliance.engine.folder.identity import weights_sha
from appliance.engine.training import peft_trainer
from appliance.errors import EngineError
from appliance.solve.language import Language
from tests.support.sampling_engines import EngineUnderTest
from tests.support.tuning import SETTINGS, in_seconds

pytestmark = pytest.mark.engine
pytest.importorskip("torch")
pytest.importorskip("vllm")

NUM_IN_A_ROW = 12


def completions(served: Served, requests: Sequence[Request]) -> dict[int, Completion]:
    batches = served.sampler.sample(requests, deadline=in_seconds(120))
    return {c.request_index: c for batch in batches for c in batch}


def ids(served: Served, requests: Sequence[Request]) -> list[tuple[int, ...]]:
    found = completions(served, requests)
    return [found[i].ids for i in range(len(requests))]


@pytest.fixture
def worn(engines: dict[str, EngineUnderTest]) -> EngineUnderTest:
    """vLLM, which puts adapters on beside the base weights."""
    return engines["vllm on-the-fly"]


@pytest.fixture
def requests_(language: Language, challenges: Path) -> list[Request]:
    return [
        Request(language.prompt_ids(t, 0), max_new_tokens=10) for t in load_tasks(str(challenges))
    ]


def transformers_ids(
    engines: dict[str, EngineUnderTest],
    engine: EngineUnderTest,
    folder: Path | None,
    requests: Sequence[Request],
) -> list[tuple[int, ...]]:
    """What Transformers answers with the model that this engine has just trained."""
    transformers = replace(engines["transformers"], trainer=engine.trainer)
    with transformers.serving(folder) as served:
        return ids(served, requests)


def test_vllm_knows_every_variable_that_it_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that a later version has renamed would be passed over without a word."""
    from vllm import envs

    for name, value in VLLM.items():
        monkeypatch.setenv(name, value)
    assert set(VLLM) <= set(envs.environment_variables)
    assert envs.environment_variables["VLLM_USE_FLASHINFER_SAMPLER"]() is False


@pytest.mark.parametrize("fault", ["corrupt", "another base", "DoRA", "rank"])
def test_an_adapter_that_cannot_be_worn_is_merged_and_the_reason_told(
    fault: str,
    engines: dict[str, EngineUnderTest],
    worn: EngineUnderTest,
    language: Language,
    task: Task,
    requests_: list[Request],
    tmp_path: Path,
) -> None:
    settings = replace(SETTINGS, rank=80) if fault == "rank" else SETTINGS
    folder = worn.tune(language, task, tmp_path / "a", settings).adapter_dir
    expected = transformers_ids(engines, worn, folder, requests_)
    weights, config, record = (
        folder / n for n in ("adapter_model.safetensors", "adapter_config.json", "appliance.json")
    )
    if fault == "corrupt":
        weights.write_bytes(weights.read_bytes()[:-100])
    elif fault == "another base":
        record.write_text(json.dumps(json.loads(record.read_text()) | {"base_sha": "f" * 64}))
    elif fault == "DoRA":
        config.write_text(json.dumps(json.loads(config.read_text()) | {"use_dora": True}))
    named = {
        "corrupt": "damaged weights",
        "another base": "trained on base",
        "DoRA": "DoRA",
        "rank": "rank 80",
    }[fault]

    with worn.serving(folder) as served:
        assert served.how == "vllm merged"
        assert len(served.refused) == 1
        assert named in served.refused[0]
        assert ids(served, requests_) == expected


def test_a_canary_that_sings_wrong_leads_to_transformers(
    engines: dict[str, EngineUnderTest],
    worn: EngineUnderTest,
    language: Language,
    task: Task,
    requests_: list[Request],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The engine ignores adapters and new weights: all that it gives is the base model's."""
    folder = worn.tune(language, task, tmp_path / "a").adapter_dir
    expected = transformers_ids(engines, worn, folder, requests_)
    real = worn.vllm.next_logprobs
    monkeypatch.setattr(worn.vllm, "put_weights", lambda weights: None)
    monkeypatch.setattr(
        worn.vllm, "next_logprobs", lambda prompts, adapter, **more: real(prompts, None, **more)
    )

    with worn.serving(folder) as served:
        assert served.how == "transformers"
        assert [text.split(":")[0] for text in served.refused] == ["on-the-fly", "merged"]
        assert all("canary" in text for text in served.refused)
        assert ids(served, requests_) == expected


def test_an_adapter_that_vllm_refuses_leaves_it_healthy(
    worn: EngineUnderTest, language: Language, task: Task, requests_: list[Request], tmp_path: Path
) -> None:
    """The same adapter handed straight to `generate` would hang it for good."""
    card = read_adapter(
        worn.tune(language, task, tmp_path / "a").adapter_dir,
        base_sha=weights_sha(worn.spec.model_dir),
    )
    config = card.folder / "adapter_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"use_dora": True}))

    with pytest.raises(EngineError, match="vLLM refuses adapter a: vLLM does not yet support DoRA"):
        worn.vllm.add(card)
    with worn.serving_untrained() as served:
        assert len(ids(served, requests_)) == len(requests_)


@pytest.mark.parametrize("way", ["vllm merged", "vllm on-the-fly"])
def test_the_trainers_model_is_not_folded_to_serve_it(
    way: str,
    engines: dict[str, EngineUnderTest],
    language: Language,
    task: Task,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Folding copies all weights, which takes seconds for billions of them."""

    def never(*_: object) -> None:
        raise AssertionError("the whole model was folded")

    engine = engines[way]
    folder = engine.tune(language, task, tmp_path / "a").adapter_dir
    monkeypatch.setattr(peft_trainer, "folded", never)
    with engine.serving(folder) as served:
        assert served.how == way


def test_the_engine_holds_one_adapter_and_the_base_beside_it(
    engines: dict[str, EngineUnderTest],
    worn: EngineUnderTest,
    language: Language,
    task: Task,
    requests_: list[Request],
    tmp_path: Path,
) -> None:
    """Its one slot is taken while the plain model samples and while it goes to the next adapter."""
    settings = replace(SETTINGS, learning_rate=2e-2)
    for number in range(2):
        folder = worn.tune(language, task, tmp_path / str(number), settings, seed=number)
        expected = transformers_ids(engines, worn, folder.adapter_dir, requests_)
        with worn.serving(folder.adapter_dir) as served:
            assert ids(served, requests_) == expected
        assert len(worn.vllm.raw().llm_engine.list_loras()) == 1

        worn.trainer.reset()
        expected = transformers_ids(engines, worn, None, requests_)
        with worn.serving_untrained() as served:
            assert ids(served, requests_) == expected


@pytest.mark.parametrize("way", ["vllm merged", "vllm on-the-fly"])
def test_adapters_in_a_row_never_answer_for_one_another(
    way: str,
    engines: dict[str, EngineUnderTest],
    language: Language,
    task: Task,
    requests_: list[Request],
    tmp_path: Path,
) -> None:
    """The same prompts again and again, so that a stale block of the prefix cache would show.

    Each adapter has a rank of its own.
    """
    engine = engines[way]
    for number in range(NUM_IN_A_ROW):
        rank = (8, 16, 32, 64)[number % 4]
        settings = replace(
            SETTINGS, rank=rank, alpha=rank, rslora=number % 8 < 4, max_steps=4, learning_rate=2e-2
        )
        outcome = engine.tune(language, task, tmp_path / "same-folder", settings, seed=number)
        expected = transformers_ids(engines, engine, outcome.adapter_dir, requests_)
        with engine.serving(outcome.adapter_dir) as served:
            assert served.how == way
            assert ids(served, requests_) == expected


def test_an_answer_keeps_to_its_pattern(
    worn: EngineUnderTest, language: Language, task: Task
) -> None:
    worn.trainer.reset()
    prompt = language.prompt_ids(task, 0)
    with worn.server.serve(worn.trainer, adapter_dir=None, batch_tokens=4096) as served:
        found = completions(
            served, [Request(prompt, 40, pattern="([0-9]{4}\n){3}"), Request(prompt, 40)]
        )

    assert found[0].is_complete
    rows = language.codec.text(found[0].ids).splitlines()
    assert [len(row) for row in rows] == [4, 4, 4]
