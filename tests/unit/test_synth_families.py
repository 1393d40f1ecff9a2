"""Every task family is sound, and the checker would say so if one were not."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from appliance.learn.synth import (
    Family,
    check_family,
    families,
    families_of,
    make_task,
    run_program,
    task_program,
)
from appliance.learn.synth.scene import noisy, some

BY_NAME = {family.name: family for family in families()}
TURN = BY_NAME["turn"]


@pytest.mark.parametrize("name", BY_NAME)
def test_the_family_has_no_faults(name: str) -> None:
    assert check_family(BY_NAME[name], range(100, 103)) == []


def test_there_are_a_hundred_families_with_unique_names_and_most_have_a_program() -> None:
    assert len(families()) == len(BY_NAME) >= 100
    assert sum(family.program is not None for family in families()) >= 0.9 * len(families())


def test_the_split_is_a_partition_that_holds_out_about_15_in_100() -> None:
    held_out = families_of("held_out")
    assert {*held_out, *families_of("train")} == set(families())
    assert len(held_out) + len(families_of("train")) == len(families())
    by_name = [family for family in families() if family.theme != "sketch"]
    assert 0.08 <= sum(family.is_held_out for family in by_name) / len(by_name) <= 0.22


def test_one_theme_is_held_out_whole_and_elsewhere_the_name_alone_decides() -> None:
    for family in families():
        if family.theme == "sketch":
            assert family.is_held_out
        else:
            assert (
                replace(family, theme="other", program="return grid").is_held_out
                == family.is_held_out
            )


def test_a_task_keeps_its_first_pairs_when_more_are_asked_for() -> None:
    few, _ = make_task(TURN, 5, 2)
    many, answers = make_task(TURN, 5, 4, num_test=2)
    assert many.train[:2] == few.train
    assert len(many.train) == 4 and len(many.test) == len(answers) == 2


def test_a_task_is_the_same_in_another_process_with_another_hash_seed() -> None:
    source = (
        "from appliance.learn.synth import families, make_task\n"
        "print(''.join(make_task(f, 3)[0].digest()[:8] for f in families()[::10]))"
    )
    here = "".join(make_task(family, 3)[0].digest()[:8] for family in families()[::10])
    environment = {"PYTHONHASHSEED": "4711", "PYTHONPATH": ":".join(sys.path)}
    run = subprocess.run(
        [sys.executable, "-c", source], env=environment, capture_output=True, text=True, check=True
    )

    assert run.stdout.strip() == here


def test_a_hundred_seeds_make_a_hundred_tasks() -> None:
    for name in ("turn", "histogram", "recolour", "gravity", "logic_and"):
        assert len({make_task(BY_NAME[name], seed, 2)[0].digest() for seed in range(100)}) == 100


def test_a_program_text_runs_on_lists_and_leaves_them_alone() -> None:
    source = task_program(TURN, 1)
    assert source is not None and source.startswith("from dsl import *")
    grid = [[1, 2], [3, 4]]
    run_program(source, grid)
    assert grid == [[1, 2], [3, 4]]


def _family(**changes: object) -> Family:
    sound = Family("sound", "test", some(), noisy(), "return flip_h(grid)", lambda g, p: g[:, ::-1])
    return replace(sound, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("fault", "changes"),
    [
        ("program differs", {"program": "return flip_v(grid)"}),
        ("no pair", {"rule": lambda g, p: g}),
        ("no pair", {"rule": lambda g, p: np.ones((2, 2), dtype=int)}),
        ("no pair", {"rule": lambda g, p: g + 10}),
        ("no pair", {"rule": lambda g, p: np.zeros((0, 3), dtype=int)}),
        (
            "different tasks",
            {"sample_input": lambda r, p: np.array([[1, 2, int(r.integers(5))]]), "params": some()},
        ),
    ],
)
def test_the_checker_finds_the_fault(fault: str, changes: dict[str, object]) -> None:
    assert check_family(_family(), range(3)) == []
    assert fault in " ".join(
        check_family(_family(**changes), range(40) if "different" in fault else range(2))
    )


def test_a_family_without_rule_and_program_is_refused() -> None:
    with pytest.raises(ValueError, match="neither"):
        _family(rule=None, program=None)
