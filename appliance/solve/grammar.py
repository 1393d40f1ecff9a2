"""A regular expression that an answer must match, for engines that can force one.

It allows any legal rectangle, or only the shape that follows from the demonstrations. It is made
from texts that the encoder writes: characters that change with the colour are cells, all others
stand as they are.
"""

from __future__ import annotations

import re
from typing import Literal

import numpy as np

from appliance.arc.encode import GridEncoder
from appliance.arc.grid import MAX_SIDE, NUM_COLOURS, Grid, freeze
from appliance.arc.output_shape import Shape, agreed_output_shape
from appliance.arc.task import Task

Grammar = Literal["none", "rectangular", "shape"]


def answer_pattern(
    grammar: Grammar, task: Task, test_index: int, encoder: GridEncoder
) -> str | None:
    """What the answer to this test input must look like after the encoder's opening.

    None where nothing can be said.
    """
    if grammar == "none":
        return None

    shape = agreed_output_shape(task, test_index) if grammar == "shape" else None
    text = _of_shape(shape, encoder) if shape else _of_any_shape(encoder)
    return None if text is None else text.removeprefix(_literal(encoder.opening))


def _of_shape(shape: Shape, encoder: GridEncoder) -> str | None:
    """The pattern of a grid of this shape.

    None for an encoder whose texts of one shape differ in length.
    """
    texts = [encoder.encode(_plain(shape, colour)) for colour in range(NUM_COLOURS)]
    if len({len(text) for text in texts}) != 1:
        return None

    pattern = []
    for found in zip(*texts, strict=True):
        kinds = "".join(dict.fromkeys(found))  # the distinct characters, in the order of colours
        pattern.append(_literal(kinds) if len(kinds) == 1 else f"[{_literal(kinds)}]")
    return "".join(pattern)


def _of_any_shape(encoder: GridEncoder) -> str | None:
    """The pattern of any legal grid, with one alternative for each width.

    None where the text of a grid is not the texts of its rows one after the other. So for
    grid-tokens-v2 too: there every place is a class of its own, and over all widths and rows they
    are 13,950, a pattern of 170,000 characters.
    """
    kinds = []
    for width in range(1, MAX_SIDE + 1):
        row = _of_shape((1, width), encoder)
        two = _of_shape((2, width), encoder)
        if row is None or two is None:
            return None

        if two == row * 2:
            kinds.append(f"({row}){{1,{MAX_SIDE}}}")
        elif two == f"{row}\n{row}":
            kinds.append(f"{row}(\n{row}){{0,{MAX_SIDE - 1}}}")
        else:
            return None

    return "|".join(f"({kind})" for kind in kinds)


def _plain(shape: Shape, colour: int) -> Grid:
    return freeze(np.full(shape, colour, dtype=np.int8))


def _literal(text: str) -> str:
    """The text as a pattern.

    Not `re.escape`, which also escapes white space; the grammars of vLLM do not know that.
    """
    return re.sub(r"[\\.^$*+?{}\[\]()|-]", lambda sign: f"\\{sign[0]}", text)
