"""Texts on which a tokenizer and a chat template are tried: small tasks and awkward programs."""

from __future__ import annotations

from appliance.arc.grid import as_grid
from appliance.arc.task import Pair, Task

_TEN_COLOURS = as_grid([[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]])
_DOT = as_grid([[7]])
_LINE = as_grid([[0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 3]])
_BLOCK = as_grid([[1, 1, 0], [1, 1, 0], [0, 0, 5], [9, 9, 9]])

TASKS = (
    Task("one", (Pair(_DOT, _DOT),), (_LINE,)),
    Task(
        "four",
        (
            Pair(_TEN_COLOURS, _BLOCK),
            Pair(_LINE, _DOT),
            Pair(_BLOCK, _TEN_COLOURS),
            Pair(_DOT, _LINE),
        ),
        (_BLOCK,),
    ),
)

PROGRAMS = (
    "def task(grid):\n    return grid[::-1].T",
    # Quotes, backslashes, braces, blanks that a clean-up would take out, and letters beyond ASCII.
    "\n\n  import numpy as np\n\n\ndef task(grid):\n"
    '    """Say "mirror" \\ and don\'t stop , {it} ."""\n'
    "\ttext = 'a\\\\b\\n' + \"é<b>\" # no . clean ? up !\n"
    "    return  np.fliplr( grid ) \n\n ",
)
