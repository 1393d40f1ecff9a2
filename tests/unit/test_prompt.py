"""Prompt styles keep the text that models were trained on, and mark what carries the loss."""

from __future__ import annotations

import hashlib

import pytest

from appliance.arc.encode import GridEncoder, ParseError, get_encoder
from appliance.arc.grid import Grid, as_grid, to_lists
from appliance.arc.prompt import STYLES, Conversation, fit_demonstrations, get_style
from appliance.arc.task import Pair, Task
from appliance.errors import UsageError

TASK = Task(
    "t",
    (Pair(as_grid([[1, 2]]), as_grid([[3], [4]])), Pair(as_grid([[5, 2]]), as_grid([[7], [4]]))),
    (as_grid([[9]]), as_grid([[8, 8]])),
)
ROWS = get_encoder("arc24-shape-row-number")
TOKENS = get_encoder("grid-tokens")
PLACED = get_encoder("grid-tokens-v2")
WORDS = get_encoder("colour-words")
ANSWER = as_grid([[4, 4]])
PROGRAM = "def task(grid):\n    return grid"

FINGERPRINTS = {
    "grid-tokens-v1": "ec206f8a6bb5d517",
    "grid-tokens-v2": "26fc5b560410119e",
    "output-from-examples-v0": "8af17e33b1069038",
    "output-from-examples-v1": "7250570bbbce71db",
    "input-from-inputs-v0": "e7acf425f859d0b4",
    "input-from-inputs-v1": "e7acf425f859d0b4",
    "output-from-outputs-v0": "18b48f67a3de2637",
    "code-from-examples-v0": "f9eeca6d5c3afceb",
    "code-from-examples-v1": "026c49a14c283514",
    "code-from-examples-v2": "851a7d75f14c9d7c",
    "code-from-examples-v3": "69b9e788fa98ea10",
    "arc25-code-from-examples-v3": "c1fef446623ab01a",
    "barc-induction": "cfdb6c16abac0f5c",
    "dsl-program-v1": "4085f23afa0cf44f",
}
"""SHA-256 of the lessons below.

Taken when they agreed to the character with the original templates as those render; for
grid-tokens-v2, which has no original, when it was first written.
"""


def answer_of(name: str) -> Grid | str:
    return ANSWER if get_style(name).answer == "grid" else PROGRAM


def fingerprint(conversation: Conversation) -> str:
    whole = repr([(t.role, t.text, t.is_target) for t in conversation.turns])
    return hashlib.sha256(whole.encode()).hexdigest()[:16]


@pytest.mark.parametrize("name", STYLES)
def test_the_text_of_a_style_never_changes(name: str) -> None:
    encoder = {
        "grid-tokens-v1": TOKENS,
        "grid-tokens-v2": PLACED,
        "dsl-program-v1": TOKENS,
        "barc-induction": WORDS,
    }.get(name, ROWS)
    lesson = get_style(name).lesson(TASK, 1, answer_of(name), encoder)
    assert fingerprint(lesson) == FINGERPRINTS[name]


def test_output_from_examples_reads_as_it_should() -> None:
    prompt = get_style("output-from-examples-v1").prompt(TASK, 1, ROWS)
    assert prompt.turns[0].text == "You are a helpful assistant."
    assert prompt.turns[1].text.endswith(
        "\n## Example 2\n\n### Input\n\n```grid shape: 1x2\n1 52\n```\n\n"
        "### Output\n\n```grid shape: 2x1\n1 7\n2 4\n```\n\n"
        "## Test case\n\n### Input\n\n```grid shape: 1x2\n1 88\n```"
    )
    assert prompt.answer_prefix == "### Output\n\n```grid"


def test_the_tiny_chat_is_grids_and_nothing_else() -> None:
    prompt = get_style("grid-tokens-v1").prompt(TASK, 0, TOKENS)
    assert [(t.role, t.text) for t in prompt.turns] == [
        ("user", "12\n"),
        ("assistant", "3\n4\n"),
        ("user", "52\n"),
        ("assistant", "7\n4\n"),
        ("user", "9\n"),
    ]
    assert prompt.answer_prefix == ""


def test_the_tiny_chat_learns_from_the_second_output_on() -> None:
    lesson = get_style("grid-tokens-v1").lesson(TASK, 0, ANSWER, TOKENS)
    assert [t.is_target for t in lesson.turns] == [False, False, False, True, False, True]


def test_a_lone_answer_is_the_target() -> None:
    lesson = get_style("grid-tokens-v1").lesson(TASK.with_train(()), 0, ANSWER, TOKENS)
    assert [t.is_target for t in lesson.turns] == [False, True]


@pytest.mark.parametrize("name", STYLES)
def test_a_prompt_has_no_target_and_a_lesson_ends_in_one(name: str) -> None:
    style = get_style(name)
    assert not any(t.is_target for t in style.prompt(TASK, 0, ROWS).turns)
    lesson = style.lesson(TASK, 0, answer_of(name), ROWS)
    assert lesson.turns[-1].is_target and lesson.turns[-1].role == "assistant"
    assert lesson.answer_prefix == style.prompt(TASK, 0, ROWS).answer_prefix


@pytest.mark.parametrize("name", STYLES)
@pytest.mark.parametrize(
    "encoder", [ROWS, TOKENS, PLACED, WORDS, get_encoder("code-block")], ids=lambda e: e.name
)
def test_the_answer_of_a_lesson_parses_after_the_prefix_of_the_prompt(
    name: str, encoder: GridEncoder
) -> None:
    style = get_style(name)
    prefix = style.prompt(TASK, 0, encoder).answer_prefix
    answer = style.lesson(TASK, 0, answer_of(name), encoder).turns[-1].text
    assert answer.startswith(prefix)

    parsed = style.parse(answer.removeprefix(prefix), encoder)
    if style.answer == "grid":
        assert not isinstance(parsed, str)
        assert to_lists(parsed) == to_lists(ANSWER)
    else:
        assert parsed == PROGRAM


@pytest.mark.parametrize(
    "text",
    ["", "def task(grid):", "```\nno python\n```", "```python\n\n```", "```python\ndef transform("],
)
def test_a_program_that_never_closes_is_a_parse_error(text: str) -> None:
    with pytest.raises(ParseError):
        get_style("barc-induction").parse(text, WORDS)


def test_the_first_program_is_the_answer() -> None:
    text = "So:\n```python\nA = 1\n```\nor\n```python\nB = 2\n```"
    assert get_style("barc-induction").parse(text, WORDS) == "A = 1"


def test_an_answer_of_the_other_kind_is_refused() -> None:
    with pytest.raises(TypeError):
        get_style("grid-tokens-v1").lesson(TASK, 0, PROGRAM, TOKENS)
    with pytest.raises(TypeError):
        get_style("barc-induction").lesson(TASK, 0, ANSWER, WORDS)


def test_a_misspelt_style_is_answered_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean input-from-inputs-v"):
        get_style("input-from-inputs-v7")


def test_demonstrations_are_dropped_from_the_end_until_they_fit() -> None:
    assert fit_demonstrations(TASK, lambda t: len(t.train) <= 2) == TASK
    assert fit_demonstrations(TASK, lambda t: len(t.train) <= 1) == TASK.with_train(TASK.train[:1])
    assert fit_demonstrations(TASK, lambda t: False) is None
