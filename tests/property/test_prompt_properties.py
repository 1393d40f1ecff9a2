"""Whatever the task, a style shows every demonstration once, in order, and never the answer."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.arc.encode import GridEncoder, get_encoder
from appliance.arc.grid import Grid, same_grid
from appliance.arc.prompt import get_style
from appliance.arc.task import Pair, Task
from tests.support.strategies import grids

GRIDS = grids(max_side=8)
PAIRS = st.builds(Pair, GRIDS, GRIDS)
TASKS = st.builds(
    Task,
    st.just("t"),
    st.lists(PAIRS, min_size=1, max_size=5).map(tuple),
    st.tuples(GRIDS) | st.tuples(GRIDS, GRIDS),
)
GRID_STYLES = st.sampled_from(
    [
        "grid-tokens-v1",
        "grid-tokens-v2",
        "output-from-examples-v0",
        "output-from-examples-v1",
        "input-from-inputs-v0",
    ]
)
ENCODERS = st.sampled_from(
    ["grid-tokens", "grid-tokens-v2", "arc24-shape-row-number", "colour-words"]
).map(get_encoder)


@settings(deadline=None)
@given(TASKS, GRIDS, GRID_STYLES, ENCODERS)
def test_a_lesson_is_its_prompt_plus_an_answer_that_parses_back(
    task: Task, answer: Grid, name: str, encoder: GridEncoder
) -> None:
    style = get_style(name)
    prompt = style.prompt(task, 0, encoder)
    lesson = style.lesson(task, 0, answer, encoder)
    assert [(t.role, t.text) for t in lesson.turns[:-1]] == [(t.role, t.text) for t in prompt.turns]

    written = lesson.turns[-1].text
    assert written.startswith(prompt.answer_prefix)

    parsed = style.parse(written.removeprefix(prompt.answer_prefix), encoder)
    assert not isinstance(parsed, str)
    assert same_grid(parsed, answer)


@settings(deadline=None)
@given(TASKS, ENCODERS)
def test_the_chat_shows_every_pair_in_order(task: Task, encoder: GridEncoder) -> None:
    turns = get_style("grid-tokens-v1").prompt(task, len(task.test) - 1, encoder).turns
    grids = [g for pair in task.train for g in (pair.input, pair.output)] + [task.test[-1]]
    assert [t.text for t in turns] == [encoder.encode(g) for g in grids]
    assert [t.role for t in turns] == ["user", "assistant"] * len(task.train) + ["user"]
