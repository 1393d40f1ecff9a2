"""A fit: pieces put together so that they give the outputs of all demonstrations."""

from __future__ import annotations

from dataclasses import dataclass

from appliance.search.pieces import Cells


@dataclass(frozen=True, eq=False)
class Fit:
    """A way to make the outputs, and what it gives for the tests."""

    cost: float  # of all its functions, and penalties of the fit
    kind: str  # exact, colours, pairs, rules, stack
    test: Cells  # cells of all tests, in one row
    output: str  # the expression of the output in a program
    lines: tuple[str, ...] = ()  # statements before it
