"""Runs a program of a search in this process: it is our own text, not a model's."""

from __future__ import annotations

import sys
from typing import Any
from unittest import mock

import numpy as np

from appliance.program import dsl


def run_program(source: str, grid: np.ndarray) -> np.ndarray:
    """What its `transform` gives. Raises what the program raises."""
    names: dict[str, Any] = {}
    with mock.patch.dict(sys.modules, {"dsl": dsl}):
        exec(source, names)
    output: np.ndarray = names["transform"](grid.astype(np.int64))
    return output
