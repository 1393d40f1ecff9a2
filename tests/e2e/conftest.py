"""A real, tiny model on disk (random weights, the real tokenizer) and small real tasks, made once a session."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

CARD = {"style": "grid-tokens-v1", "encoder": "grid-tokens", "strategies": ["transduction"]}


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder of 0.1 M parameters in the layout of arc-mini."""
    from appliance.learn.model import fresh_model, save_model
    from appliance.learn.recipe import Architecture

    folder = tmp_path_factory.mktemp("models") / "tiny"
    architecture = Architecture(hidden_size=64, num_layers=2, intermediate_size=128, max_positions=2048)
    save_model(fresh_model(architecture, seed=0), folder, card=CARD)
    return folder


@pytest.fixture(scope="session")
def challenges(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six tasks whose rule is to copy the input, in the Kaggle layout with solutions beside it."""
    rng = np.random.default_rng(0)

    def grid() -> list[list[int]]:
        return rng.integers(0, 10, (2, 3)).tolist()

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
