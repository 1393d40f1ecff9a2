"""The shape of a test output: foretold exactly where all demonstrations agree, and nowhere else."""

from __future__ import annotations

import numpy as np
import pytest

from appliance.arc.grid import Grid, freeze
from appliance.arc.output_shape import Shape, agreed_output_shape
from appliance.arc.task import Pair, Task


def blank(shape: Shape) -> Grid:
    return freeze(np.zeros(shape, dtype=np.int8))


def task(*pairs: tuple[Shape, Shape], test: Shape) -> Task:
    """A task whose demonstrations go from the first shape to the second."""
    return Task("t", tuple(Pair(blank(i), blank(o)) for i, o in pairs), (blank(test),))


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        pytest.param(task(((2, 3), (2, 3)), ((4, 5), (4, 5)), test=(6, 7)), (6, 7), id="own"),
        pytest.param(task(((3, 3), (3, 3)), ((3, 3), (3, 3)), test=(4, 5)), (4, 5), id="own first"),
        pytest.param(task(((2, 3), (3, 3)), ((4, 5), (3, 3)), test=(6, 7)), (3, 3), id="common"),
        pytest.param(
            task(((4, 4), (2, 2)), ((4, 4), (2, 2)), test=(8, 8)), (2, 2), id="common before ratio"
        ),
        pytest.param(
            task(((2, 2), (4, 6)), ((3, 1), (6, 3)), test=(5, 4)), (10, 12), id="constant ratio"
        ),
        pytest.param(task(((4, 4), (2, 4)), ((6, 2), (3, 2)), test=(8, 3)), (4, 3), id="halved"),
        pytest.param(
            task(((7, 2), (9, 2)), ((14, 3), (18, 3)), test=(21, 5)), (27, 5), id="exact fractions"
        ),
        pytest.param(
            task(((2, 4), (6, 2)), ((3, 6), (9, 3)), test=(4, 10)), (12, 5), id="mixed axes"
        ),
        pytest.param(task(((2, 2), (4, 2)), ((2, 2), (2, 4)), test=(2, 2)), None, id="axes differ"),
        pytest.param(task(((4, 4), (2, 4)), ((6, 2), (3, 2)), test=(7, 3)), None, id="no integer"),
        pytest.param(task(((2, 2), (3, 3)), ((2, 2), (4, 4)), test=(2, 2)), None, id="no rule"),
        pytest.param(task(((2, 2), (6, 6)), ((1, 3), (3, 9)), test=(20, 20)), None, id="over 30"),
        pytest.param(task(((2, 2), (6, 6)), ((1, 3), (3, 9)), test=(10, 10)), (30, 30), id="30"),
        pytest.param(task(test=(2, 2)), None, id="no demonstrations"),
    ],
)
def test_the_shape_is_known_where_all_demonstrations_agree(
    made: Task, expected: Shape | None
) -> None:
    assert agreed_output_shape(made, 0) == expected
