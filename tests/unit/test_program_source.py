"""From the model's text to a program: by the syntax tree, whatever stands in comments."""

from __future__ import annotations

import pytest

from appliance.program.source import DSL_HEADER, runnable, same_form, uses_chance


def names_of(source: str) -> dict[str, object]:
    names: dict[str, object] = {}
    exec(source.replace("from common import *", "").replace("from dsl import *", ""), names)
    return names


def test_a_body_becomes_a_program_in_the_dsl() -> None:
    source = runnable("for i in range(2):\n    grid = rot90(grid)\nreturn grid", "body")
    assert source.startswith(
        DSL_HEADER + "def transform(grid):\n    for i in range(2):\n        grid"
    )
    assert callable(names_of(source)["transform"])


@pytest.mark.parametrize("name", ["transform", "task", "main", "anything"])
def test_the_function_is_called_transform_whatever_its_name(name: str) -> None:
    source = runnable(f"import numpy as np\n\ndef {name}(grid):\n    return 7", "program")
    assert source.startswith("from common import *\n")
    assert names_of(source)["transform"](None) == 7  # type: ignore[operator]


def test_transform_is_preferred_and_helpers_are_left_alone() -> None:
    names = names_of(
        runnable("def task(g):\n    return 1\ndef transform(g):\n    return task(g) + 1", "program")
    )
    assert names["transform"](None) == 2  # type: ignore[operator]


def test_the_library_is_imported_once() -> None:
    source = "from common import *\ndef transform(g):\n    return g"
    assert runnable(source, "program").count("from common") == 1


def test_text_that_is_no_python_stays_as_it_is() -> None:
    assert runnable("def transform(", "program") == "def transform(\n"


@pytest.mark.parametrize(
    "source",
    [
        "import random\ndef transform(g):\n    return random.choice(g)",
        "import random as r\ndef transform(g):\n    return r.choice(g)",
        "from random import shuffle as mix\ndef transform(g):\n    mix(g)\n    return g",
        "import numpy as np\ndef transform(g):\n    return np.random.permutation(g)",
        "import time\ndef transform(g):\n    return [[int(time.time()) % 10]]",
        "from common import *\ndef transform(g):\n    return random_sprite(3, 3)",
        "import os\ndef transform(g):\n    return [[os.urandom(1)[0] % 10]]",
    ],
)
def test_chance_is_seen_where_it_is_used(source: str) -> None:
    assert uses_chance(source)


@pytest.mark.parametrize(
    "source",
    [
        "def transform(g):\n    # random looking pixels, 3 each time.\n    return g",
        "def transform(g):\n    '''a random grid'''\n    return g",
        "import random\ndef transform(g):\n    return g",
        "def transform(g):\n    random = 3\n    return g + random",
        "def transform(g, time=1):\n    return g * time",
        "def random_walk(g):\n    return g\ndef transform(g):\n    return random_walk(g)",
        "def transform(",
    ],
)
def test_chance_is_not_seen_where_there_is_none(source: str) -> None:
    assert not uses_chance(source)


def test_programs_that_differ_in_comments_and_blanks_are_one() -> None:
    assert same_form("def transform(g):\n    return  g # as it is") == same_form(
        "def transform(g): return g"
    )
    assert same_form("def transform(g): return g") != same_form("def transform(g): return g + 0")
