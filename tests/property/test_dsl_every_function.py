"""What every function of the DSL promises: pure, legal, documented, and alone in its package."""

from __future__ import annotations

import builtins
import copy
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.arc.grid import grid_fault
from appliance.program import dsl
from tests.support.dsl_strategies import FUNCTIONS, calls

every_function = pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.__name__)


def arrays_in(value: Any) -> Iterator[np.ndarray]:
    if isinstance(value, np.ndarray):
        yield value
    elif isinstance(value, dsl.Object):
        yield from (value.grid, value.mask)
    elif isinstance(value, list):
        for item in value:
            yield from arrays_in(item)


@every_function
@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_gives_a_legal_fresh_result_or_a_value_error_and_leaves_its_arguments_alone(
    function: Callable[..., Any], data: st.DataObject
) -> None:
    arguments = data.draw(calls(function))
    before = copy.deepcopy([list(arrays_in(a)) for a in arguments])
    try:
        result = function(*arguments)
    except ValueError:
        result = []

    for a, b in zip(before, [list(arrays_in(a)) for a in arguments], strict=True):
        assert all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))

    takes_objects = any("Object" in str(kind) for kind in function.__annotations__.values())

    is_field = function.__annotations__["return"] == "Field"

    for array in arrays_in(result):
        if is_field:  # its measures may exceed 9
            assert array.dtype == np.int64
            assert array.shape == arguments[0].shape
            assert array.min() >= 0
        elif array.dtype != bool:
            assert grid_fault(array) is None
        if not takes_objects:  # objects share their arrays with the objects made from them
            assert not any(
                np.shares_memory(array, given) for a in arguments for given in arrays_in(a)
            )


@every_function
def test_is_typed_and_says_what_it_gives(function: Callable[..., Any]) -> None:
    assert function.__doc__ is not None
    assert function.__doc__.strip().endswith(".")
    assert "return" in function.__annotations__


def test_the_names_are_unique_and_hide_no_builtin() -> None:
    assert len(set(dsl.__all__)) == len(dsl.__all__)
    assert not set(dsl.__all__) & set(dir(builtins))


def test_a_program_may_give_lists_instead_of_arrays() -> None:
    turned = dsl.rot90([[1, 2], [3, 4]])  # type: ignore[arg-type]
    assert turned.tolist() == [[3, 1], [4, 2]]


@pytest.mark.parametrize("value", [[[1, 2], [3]], [], [[]], [[0.5]], "grid", 7, None])
def test_what_is_no_grid_is_refused(value: object) -> None:
    with pytest.raises(ValueError):
        dsl.flip_h(value)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "call", ["tile(g, 6, 6)", "pad(g, 14)", "recolour(g, 0, 10)", "canvas(0, 3)", "dye(g, -1)"]
)
def test_an_illegal_result_is_refused(call: str) -> None:
    with pytest.raises(ValueError):
        eval(call, {n: getattr(dsl, n) for n in dsl.__all__} | {"g": np.eye(6, dtype=int)})


def test_the_package_loads_by_itself_as_dsl_with_numpy_only() -> None:
    folder = Path(dsl.__file__).parents[1]
    source = (
        f"import sys; sys.path.insert(0, {str(folder)!r})\n"
        "from dsl import *\nimport dsl\n"
        "assert flip_h([[1, 2]]).tolist() == [[2, 1]]\n"
        "assert not {'appliance', 'scipy', 'torch'} & set(sys.modules)\n"
        "print(dsl.DSL_VERSION)"
    )
    run = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True)

    assert run.stdout.strip() == dsl.DSL_VERSION
