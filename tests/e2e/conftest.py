"""A real, tiny model (random weights, the real tokenizer) and small tasks, made once a session."""

from __future__ import annotations

import importlib.util
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from appliance.config import CPU_BF16_VARIABLE
from tests.support.cpu_precision import CPU_PRECISIONS, CpuPrecision

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# See engine/environment.py; read when torch is imported. On a card vLLM does not start without.
if os.environ.get("CONFORMANCE_DEVICE", "cpu") == "cpu":
    os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")

if TYPE_CHECKING:
    from appliance.arc.task import Task
    from appliance.solve.language import Language
    from tests.support.sampling_engines import EngineUnderTest

CARD = {"style": "grid-tokens-v1", "encoder": "grid-tokens", "strategies": ["transduction"]}


@pytest.fixture(params=CPU_PRECISIONS, ids=lambda p: p.name)
def cpu_precision(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> CpuPrecision:
    """The test runs twice: as on a CPU with units for bfloat16, and as on one without.

    Any CPU can do both; where it has no such units bfloat16 is slow.
    """
    precision: CpuPrecision = request.param
    monkeypatch.setenv(CPU_BF16_VARIABLE, precision.switch)
    return precision


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder of 0.1 M parameters in the layout of arc-mini."""
    from appliance.learn.new_model import fresh_model, save_model
    from appliance.learn.recipe import Architecture

    folder = tmp_path_factory.mktemp("models") / "tiny"
    architecture = Architecture(
        hidden_size=64, num_layers=2, intermediate_size=128, max_positions=2048
    )
    save_model(fresh_model(architecture, seed=0), folder, card=CARD)
    return folder


@pytest.fixture(scope="session")
def challenges(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six tasks whose rule is to copy the input, in the Kaggle layout with solutions beside it."""
    rng = np.random.default_rng(0)

    def grid() -> list[list[int]]:
        cells: list[list[int]] = rng.integers(0, 10, (2, 3)).tolist()
        return cells

    tasks, solutions = {}, {}
    for i in range(6):
        pairs = [{"input": g, "output": g} for g in (grid(), grid(), grid())]
        question = grid()
        tasks[f"copy{i}"] = {"train": pairs, "test": [{"input": question}]}
        solutions[f"copy{i}"] = [question]
    folder = tmp_path_factory.mktemp("tasks")
    (folder / "copy_challenges.json").write_text(json.dumps(tasks))
    (folder / "copy_solutions.json").write_text(json.dumps(solutions))
    return folder / "copy_challenges.json"


@pytest.fixture(scope="session")
def language(tiny_model: Path) -> Language:
    from appliance.arc.encode import get_encoder
    from appliance.arc.prompt import get_style
    from appliance.engine.tokens import Codec
    from appliance.solve.language import Language

    return Language(
        get_style("grid-tokens-v1"), get_encoder("grid-tokens"), Codec.load(tiny_model), 2048
    )


@pytest.fixture(scope="session")
def task(challenges: Path) -> Task:
    from appliance.arc.source import load_tasks

    return load_tasks(str(challenges)).tasks[0]


@pytest.fixture(scope="session")
def engines(
    tiny_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, EngineUnderTest]:
    """The sampling engines that are installed, started once a session."""
    from tests.support.sampling_engines import start_engines

    has_vllm = importlib.util.find_spec("vllm") is not None
    return start_engines(tiny_model, tmp_path_factory.mktemp("scratch"), has_vllm=has_vllm)
