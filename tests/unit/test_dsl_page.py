"""The reference page of the DSL is complete and up to date."""

from __future__ import annotations

import ast

import numpy as np
import pytest

from appliance.program import dsl
from appliance.report import dsl_page
from appliance.report.dsl_examples import EXAMPLES
from tests.support.cases import REPOSITORY


def test_every_function_has_an_example_and_stands_on_the_page_once() -> None:
    shown = [f.__name__ for theme in dsl_page.THEMES for f in dsl_page.functions(theme)]
    assert sorted(shown) == sorted(EXAMPLES)
    assert set(shown) == {n for n in dsl.__all__ if callable(getattr(dsl, n)) and n.islower()}


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_example_uses_its_function_and_changes_what_it_is_given(name: str) -> None:
    grids, result = dsl_page.run_example(name)
    code = ast.parse(EXAMPLES[name][0])
    assert name in {node.id for node in ast.walk(code) if isinstance(node, ast.Name)}
    if isinstance(result, np.ndarray):
        assert not any(np.array_equal(result, grid) for grid in grids)


def test_the_files_in_docs_are_those_that_the_script_makes() -> None:
    for path, text in dsl_page.pages().items():
        assert (REPOSITORY / path).read_text(encoding="utf-8") == text, (
            "run: python -m appliance.report.dsl_page"
        )
    assert {p.name for p in (REPOSITORY / "docs/dsl").iterdir()} == {
        f"{name}.svg" for name in EXAMPLES
    }


def test_the_pictures_stay_small() -> None:
    assert sum(p.stat().st_size for p in (REPOSITORY / "docs/dsl").iterdir()) < 300_000
