"""The comparison of independent samples with search, as the benchmark makes it.

On tasks that training did not have, with figures for each round and equal budgets.
"""

from __future__ import annotations

from argparse import Namespace

from appliance.arc.grid import Grid, as_grid, grid_key
from appliance.arc.task import Pair, Task
from appliance.arc.view import IDENTITY
from appliance.learn.data.generated import compositions
from appliance.learn.synth.catalogue import families_of
from appliance.program.trial import Draft, Trial
from bench.induction import ARMS, Problem, Row, cut, drawn, table

ARGUMENTS = Namespace(families=32, sketches=2, compositions=15, max_calls=2)
RIGHT, WRONG = as_grid([[1, 2]]), as_grid([[2, 1]])
PROBLEM = Problem("families", Task("t", (Pair(WRONG, RIGHT),), (WRONG,)), (RIGHT,))


def trial(output: Grid) -> Trial:
    score = float(output is RIGHT)
    return Trial(
        Draft(PROBLEM.task, IDENTITY, "x", "x"), "ok", None, (output,), (output,), score, score
    )


def test_nothing_that_is_measured_on_was_trained_on() -> None:
    problems = drawn(ARGUMENTS, 0)
    trained = {family.name for family in families_of("train")}
    assert trained and not trained & {p.task.task_id.rpartition("-")[0] for p in problems}

    own = {
        grid_key(pair.input)
        for p in problems
        if p.set_name == "compositions"
        for pair in p.task.train
    }
    assert len(own) == 3 * ARGUMENTS.compositions

    others = {grid_key(before) for family in compositions(60) for before, _ in family.pairs}
    assert not own & others


def test_figures_tell_what_was_solved_after_each_round() -> None:
    figures = PROBLEM.figures([[trial(WRONG)] * 2, [], [trial(WRONG), trial(RIGHT)]])
    assert [figures[f"@{n}"] for n in range(3)] == [0, 0, 1]
    assert figures["programs"] == 4 and figures["fit"] == 0.25 and figures["pass@n"] == 1


def test_the_table_pairs_every_searching_arm_with_the_independent_one() -> None:
    lost, found = PROBLEM.figures([[trial(WRONG)] * 4]), PROBLEM.figures([[trial(RIGHT)] * 2])
    rows = [Row(PROBLEM, dict(zip(ARMS, (lost, found, lost), strict=True)))] * 2
    lines = table("title", rows).splitlines()
    gains = [
        line.split("+ by ")[1].split()
        for line in lines
        if line.startswith("families") and "+ by " in line
    ]

    assert gains[0][:3] == ["search", "2", "-2.0"] and gains[0][-1] == "100.0"
    assert gains[1][:5] == ["search", "and", "learn", "2", "0.0"] and gains[1][-1] == "0.0"
    assert sum(line.startswith("all") for line in lines) == len(ARMS) + 2


def test_a_round_is_a_part_of_what_was_written() -> None:
    written = {"t": [trial(WRONG), trial(RIGHT), trial(WRONG)]}
    assert cut(written, 1, 2) == {"t": written["t"][1:2]}
