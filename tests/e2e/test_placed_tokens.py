"""A model with tokens that know their place (grid-tokens-v2), from end to end on the CPU.

The main checks of samplers run again on a random model of this kind; one that has learnt to copy
grids goes through a submission.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest

from appliance.arc.encode import get_encoder
from appliance.arc.grid import freeze
from appliance.arc.prompt import get_style
from appliance.arc.task import Task
from appliance.engine.base import Request
from appliance.engine.folder.card import read_card, read_record
from appliance.engine.tokens import Codec
from appliance.models import placed
from appliance.models.vocabularies import GRID_TOKENS_V2
from appliance.solve.grammar import answer_pattern
from appliance.solve.language import Language
from bench.job import submit_command
from tests.e2e import test_samplers as samplers
from tests.support.main_job import finish, journal_of, stage_rows, submission_faults
from tests.support.sampling_engines import EngineUnderTest, start_engines

pytestmark = pytest.mark.engine
pytest.importorskip("torch")

ARCHITECTURE = {
    "tokens": "grid-tokens-v2",
    "hidden_size": 64,
    "num_layers": 1,
    "intermediate_size": 128,
    "max_positions": 2048,
}
CARD = {"style": "grid-tokens-v2", "encoder": "grid-tokens-v2", "strategies": ["transduction"]}


@pytest.fixture(scope="module")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder of one layer, 0.7 M parameters, most of them in the table of tokens."""
    from appliance.learn.new_model import fresh_model, save_model
    from appliance.learn.recipe import Architecture

    folder = tmp_path_factory.mktemp("models") / "placed"
    model = fresh_model(Architecture.model_validate(ARCHITECTURE), seed=0)
    save_model(model, folder, card=CARD)
    return folder


@pytest.fixture(scope="module")
def copying_model(tmp_path_factory: pytest.TempPathFactory, challenges: Path) -> Path:
    """A model made by `appliance train` from scratch, which knows what answers look like."""
    folder = tmp_path_factory.mktemp("copying")
    recipe = {
        "architecture": ARCHITECTURE,
        "data": {
            "row_tokens": 128,
            "rows_per_step": 4,
            "datasets": {"tasks": {"source": str(challenges), "min_pairs": 2, "max_pairs": 4}},
        },
        "optimization": {
            "optimizer": "muon",
            "learning_rate": 0.02,
            "warmup_steps": 5,
            "max_steps": 120,
        },
    }
    (folder / "recipe.yaml").write_text(json.dumps(recipe))  # JSON is YAML

    words = ["train", "--recipe", str(folder / "recipe.yaml"), "--out", str(folder / "out")]
    one_thread = os.environ | {"OMP_NUM_THREADS": "1"}
    finish([sys.executable, "-m", "appliance", *words], environment=one_thread)
    return folder / "out" / "model"


@pytest.fixture(scope="module")
def language(tiny_model: Path) -> Language:
    card = read_card(tiny_model)
    return Language(
        get_style(card.style), get_encoder(card.encoder), Codec.load(tiny_model), card.max_positions
    )


@pytest.fixture(scope="module")
def engines(
    tiny_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, EngineUnderTest]:
    has_vllm = importlib.util.find_spec("vllm") is not None
    return start_engines(tiny_model, tmp_path_factory.mktemp("scratch"), has_vllm=has_vllm)


engine, served = samplers.engine, samplers.served
test_greedy_answers = samplers.test_greedy_answers_and_logprobs_equal_decoding_by_hand
test_the_adapter_is_what_answers = samplers.test_the_adapter_is_what_answers


def test_the_saved_tokenizer_is_the_vocabulary(language: Language) -> None:
    assert language.codec.is_vocabulary(GRID_TOKENS_V2.tokens)

    rng = np.random.default_rng(0)
    for shape in ((1, 1), (1, 30), (30, 1), (30, 30), (7, 4)):
        grid = freeze(rng.integers(0, 10, shape).astype(np.int8))
        text = language.encoder.encode(grid)
        ids = language.codec.ids(text)
        assert ids == tuple(placed.grid_ids(grid))
        assert language.codec.text(ids) == text


def test_a_forced_shape_is_a_grid_of_that_shape(
    engines: dict[str, EngineUnderTest], language: Language, task: Task
) -> None:
    if "vllm on-the-fly" not in engines:
        pytest.skip("vLLM is not installed")
    pattern = answer_pattern("shape", task, 0, language.encoder)
    assert pattern is not None

    prompt = language.prompt_ids(task, 0)
    with engines["vllm on-the-fly"].serving_untrained() as served:
        requests = [Request(prompt, 40, pattern=pattern), Request(prompt, 40)]
        found = samplers.answers(served, requests)

    assert found[0].is_complete
    assert language.encoder.decode(language.codec.text(found[0].ids)).shape == (2, 3)


@pytest.mark.parametrize("sampling", ["transformers", "vllm"])
def test_a_whole_submission(
    sampling: str, copying_model: Path, challenges: Path, tmp_path: Path
) -> None:
    if sampling == "vllm":
        pytest.importorskip("vllm")
    assert {k: v for k, v in read_record(copying_model).items() if k in CARD} == CARD
    flags = ["--model", str(copying_model), "--engine", sampling, "--budget", "2m"]
    settings = ("train.max_steps=20", "train.rank=8", "run.rounds=1", "sample.views=4")
    only = ("copy0", "copy1")
    flags += ["--only", ",".join(only)]
    finish(submit_command(challenges, tmp_path / "out", *flags, settings=settings))

    assert submission_faults(tmp_path / "out", challenges, only) == []
    hows = {
        str(row.detail["how"]).split()[0] for row in stage_rows(tmp_path / "out", "deep").values()
    }
    assert hows == {sampling}
    with journal_of(tmp_path / "out") as journal:
        found = [c for t in only for stage in journal.candidates(t).values() for c in stage]
    read = [c for c in found if c.grid is not None]
    assert len(read) >= 0.5 * len(found) > 0
