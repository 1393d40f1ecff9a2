"""The trees of the cell learner, and what it answers on small tasks."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from appliance.search.cells.learn import CellAnswer, cell_answers
from appliance.search.cells.trees import Forest, grow_forest

Table = NDArray[np.int16]


def grown(
    features: Table, answers: NDArray[np.int64], num_trees: int = 20, seed: int = 0
) -> Forest:
    rng = np.random.default_rng(seed)
    forest = grow_forest(features, answers, num_trees=num_trees, rng=rng)
    assert forest is not None
    return forest


def table(num_rows: int = 300, width: int = 8, most: int = 9) -> Table:
    return np.random.default_rng(1).integers(0, most, (num_rows, width)).astype(np.int16)


@pytest.mark.parametrize(
    "rule",
    [
        lambda x: np.full(len(x), 7),
        lambda x: x[:, 0] % 2,
        lambda x: x[:, 1] ^ x[:, 3],
        lambda x: np.where(x[:, 2] > 1, x[:, 4], 3),
    ],
    ids=["constant", "parity", "xor", "if"],
)
def test_trees_learn_a_rule(rule: Callable[[Table], NDArray[np.int64]]) -> None:
    features, unseen = table(most=4), table(most=4)[::-1][:50]
    forest = grown(features, rule(features).astype(np.int64))
    assert (forest.predict(features) == rule(features)).all()
    assert (forest.predict(unseen) == rule(unseen)).all()


def test_trees_learn_xor_of_rows_they_have_not_seen() -> None:
    rows = np.array(list(itertools.product((0, 1), repeat=6)), np.int16)
    answers = (rows[:, 0] ^ rows[:, 1]).astype(np.int64)
    is_seen = np.arange(len(rows)) % 4 != 3
    forest = grown(rows[is_seen], answers[is_seen], num_trees=40)
    assert (forest.predict(rows[~is_seen]) == answers[~is_seen]).mean() > 0.8


def test_equal_rows_that_contradict_share_a_leaf() -> None:
    features = np.zeros((4, 3), np.int16)
    forest = grown(features, np.array([5, 5, 5, 2]), num_trees=10)
    assert (forest.predict(features) == 5).all()
    assert np.allclose(forest.chances(features) / 10, [0.25, 0.75])


def test_chances_of_a_row_add_up_to_the_number_of_trees() -> None:
    features = table()
    chances = grown(features, features[:, 0].astype(np.int64), num_trees=7).chances(features)
    assert np.allclose(chances.sum(1), 7)


def test_large_numbers_are_split_without_overflow() -> None:
    features = np.array([[-32768], [32767], [-5], [9999]], np.int16)
    assert grown(features, np.arange(4)).predict(features).tolist() == [0, 1, 2, 3]


def test_the_same_seed_gives_the_same_trees_and_another_one_others() -> None:
    features = table()
    answers = np.random.default_rng(2).integers(0, 3, len(features))
    one, two, other = (grown(features, answers, seed=s).chances(table()[:9] + 1) for s in (0, 0, 1))
    assert (one == two).all()
    assert (one != other).any()


def test_no_forest_where_time_is_out() -> None:
    features = table()
    rng = np.random.default_rng(0)
    answers = features[:, 0].astype(np.int64)
    stopped = grow_forest(features, answers, num_trees=4, rng=rng, is_out_of_time=lambda: True)
    assert stopped is None


# The cell learner: a task is a list of base grids and the outputs of all but the last of them.


def solved(
    bases: list[NDArray[np.int64]],
    outputs: list[NDArray[np.int64]],
    pieces: list[NDArray[np.int64]] | None = None,
    is_out_of_time: Callable[[], bool] = lambda: False,
) -> list[CellAnswer]:
    none = [np.zeros((base.size, 0), np.int64) for base in bases]
    return cell_answers(bases, outputs, pieces or none, seed=3, is_out_of_time=is_out_of_time)


def random_grids(num: int, side: int = 8) -> list[NDArray[np.int64]]:
    rng = np.random.default_rng(4)
    return [rng.integers(0, 4, (side, side + k)) for k in range(num)]


def test_a_recolouring_is_learnt_and_trusted() -> None:
    grids = random_grids(4)
    changed = [np.where(grid == 2, 7, grid) for grid in grids]
    answers = solved(grids, changed[:3])
    assert [answer.variant for answer in answers] == ["features", "flips"]
    assert all((answer.grids[0] == changed[3]).all() for answer in answers)
    assert answers[0].accuracy > 0.95
    assert answers[0].cost < 4
    assert answers[1].cost == pytest.approx(answers[0].cost + 0.4)


def test_a_piece_that_is_the_output_is_found() -> None:
    grids = random_grids(4)
    secret = [np.random.default_rng(k).integers(0, 4, grid.shape) for k, grid in enumerate(grids)]
    pieces = [
        np.stack([grid.ravel(), out.ravel()], 1) for grid, out in zip(grids, secret, strict=True)
    ]
    answers = {answer.variant: answer for answer in solved(grids, secret[:3], pieces)}
    assert (answers["pieces"].grids[0] == secret[3]).all()
    assert answers["pieces"].cost < 3


def test_one_demonstration_gives_answers_of_little_weight() -> None:
    grids = random_grids(2)
    answers = solved(grids, grids[:1])
    assert answers
    assert all(answer.cost >= 8.5 for answer in answers)


def test_contradictory_demonstrations_are_not_trusted() -> None:
    grid = random_grids(1)[0]
    answers = solved([grid] * 3, [grid, (grid + 1) % 4])
    assert answers
    assert all(answer.share_left_out == 0 and answer.cost > 8 for answer in answers)


def test_the_answers_are_the_same_each_time() -> None:
    grids = random_grids(3)
    outputs = [grid[::-1] for grid in grids[:2]]
    first, second = solved(grids, outputs), solved(grids, outputs)
    for one, two in zip(first, second, strict=True):
        assert one.cost == two.cost
        assert (one.grids[0] == two.grids[0]).all()


@pytest.mark.parametrize("num_looks", [0, 2, 5, 8, 30])
def test_time_is_respected_at_every_look(num_looks: int) -> None:
    looks = itertools.count()
    grids = random_grids(4)
    changed = [np.where(grid == 2, 7, grid) for grid in grids]
    answers = solved(grids, changed[:3], is_out_of_time=lambda: next(looks) >= num_looks)
    assert next(looks) <= num_looks + 4, "it went on after time was out"
    assert all((answer.grids[0] == changed[3]).all() for answer in answers)


def test_a_base_of_another_shape_is_refused() -> None:
    grids = random_grids(2)
    with pytest.raises(ValueError, match=r"base 0 has shape \(8, 8\), expected \(8, 9\)"):
        solved(grids, [grids[1]])


def test_pieces_that_do_not_cover_the_bases_are_refused() -> None:
    grids = random_grids(2)
    with pytest.raises(ValueError, match="a table of pieces for each output"):
        solved(grids, grids[:1], [np.zeros((3, 1), np.int64)] * 2)
