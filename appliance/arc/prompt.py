"""Prompt styles: a task becomes a conversation, and the model's answer a grid or a program.

A style has a name with a version, because models are trained on its text. It writes no chat markup:
the chat template of the tokenizer adds that. It shows all demonstrations in the order they have:
shuffling is the business of views.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

from appliance.arc import prompt_texts as texts
from appliance.arc.encode import GridEncoder, ParseError
from appliance.arc.grid import Grid
from appliance.arc.task import Task
from appliance.names import pick

_PYTHON_BLOCK = re.compile(r"```python\n(.*?)```", re.DOTALL)
_PYTHON_FENCE = "```python\n"
PROGRAM_MARK = "P"
"""The user turn by which `PairwiseProgram` asks for a program; one token of our vocabulary."""


@dataclass(frozen=True)
class Turn:
    """One message of a conversation."""

    role: Literal["system", "user", "assistant"]
    text: str
    is_target: bool = False  # whether the training loss counts it


@dataclass(frozen=True)
class Conversation:
    """What a model is shown, to sample from or to train on."""

    turns: tuple[Turn, ...]
    answer_prefix: str = ""  # the prompt holds it, and the model continues right after it


Answer = Literal["grid", "program", "body"]
"""What a model writes: a grid, a whole program, or the dedented body of `transform` in the DSL."""


class PromptStyle(Protocol):
    """One way to put a task to a model and to read its answer."""

    @property
    def name(self) -> str: ...

    @property
    def answer(self) -> Answer:
        """What the model is to write."""

    def prompt(self, task: Task, test_index: int, encoder: GridEncoder) -> Conversation:
        """The conversation to sample from: it holds no answer and no target."""

    def lesson(
        self, task: Task, test_index: int, answer: Grid | str, encoder: GridEncoder
    ) -> Conversation:
        """The conversation to train on, with its answer.

        Raises TypeError for a grid where a program is due, or the other way round.
        """

    def parse(self, text: str, encoder: GridEncoder) -> Grid | str:
        """The answer in what the model wrote after `answer_prefix`.

        Raises ParseError when there is none.
        """


@dataclass(frozen=True)
class PairwiseChat:
    """One user turn per input and one assistant turn per output, and nothing else.

    In a lesson every output but the first is a target: nobody can know the first one, the others
    can be inferred. So a task of n demonstrations gives n targets in one forward pass.
    """

    name: str
    answer: Answer = "grid"

    def prompt(self, task: Task, test_index: int, encoder: GridEncoder) -> Conversation:
        shown = (
            *self._demonstrations(task, encoder, are_targets=False),
            self._question(task, test_index, encoder),
        )
        return Conversation(shown, encoder.opening)

    def lesson(
        self, task: Task, test_index: int, answer: Grid | str, encoder: GridEncoder
    ) -> Conversation:
        answered = Turn("assistant", encoder.encode(_grid(answer)), is_target=True)
        demonstrations = self._demonstrations(task, encoder, are_targets=True)
        question = self._question(task, test_index, encoder)
        return Conversation((*demonstrations, question, answered), encoder.opening)

    def parse(self, text: str, encoder: GridEncoder) -> Grid:
        return encoder.decode(encoder.opening + text)

    def _demonstrations(
        self, task: Task, encoder: GridEncoder, *, are_targets: bool
    ) -> tuple[Turn, ...]:
        turns = []
        for i, pair in enumerate(task.train):
            turns.append(Turn("user", encoder.encode(pair.input)))
            turns.append(
                Turn("assistant", encoder.encode(pair.output), is_target=are_targets and i > 0)
            )

        return tuple(turns)

    def _question(self, task: Task, test_index: int, encoder: GridEncoder) -> Turn:
        return Turn("user", encoder.encode(task.test[test_index]))


@dataclass(frozen=True)
class PairwiseProgram:
    """The demonstrations as `PairwiseChat` shows them, a user turn `P`, the body of the program.

    The test input is not shown: the program must hold for any input. Only the body is a target.
    """

    name: str
    answer: Answer = "body"

    def prompt(self, task: Task, test_index: int, encoder: GridEncoder) -> Conversation:
        turns = []
        for pair in task.train:
            turns.append(Turn("user", encoder.encode(pair.input)))
            turns.append(Turn("assistant", encoder.encode(pair.output)))

        return Conversation((*turns, Turn("user", PROGRAM_MARK)))

    def lesson(
        self, task: Task, test_index: int, answer: Grid | str, encoder: GridEncoder
    ) -> Conversation:
        if not isinstance(answer, str):
            raise TypeError(f"{self.name} answers with a program, not with a grid")
        shown = self.prompt(task, test_index, encoder).turns
        return Conversation((*shown, Turn("assistant", answer + "\n", is_target=True)))

    def parse(self, text: str, encoder: GridEncoder) -> str:
        body = text.strip("\n").rstrip()
        if not body:
            raise ParseError("an empty program")
        return body


@dataclass(frozen=True)
class OneQuestion:
    """A system turn, one user turn with all demonstrations, and one assistant turn, the target."""

    name: str
    system: str  # the system turn
    opening: str  # the user turn is: opening, each demonstration, closing
    demonstration: str  # template with {i} and {input} or {output} or both
    closing: str  # template that may hold {test}
    head: str  # what the assistant turn begins with
    answer: Answer = "grid"
    opens_fence: bool = True  # sampling starts inside ```grid or ```python, not right after `head`

    def prompt(self, task: Task, test_index: int, encoder: GridEncoder) -> Conversation:
        demonstrations = "".join(
            self.demonstration.format(
                i=i, input=encoder.encode(pair.input), output=encoder.encode(pair.output)
            )
            for i, pair in enumerate(task.train, 1)
        )
        closing = self.closing.format(test=encoder.encode(task.test[test_index]))

        turns = (Turn("system", self.system), Turn("user", self.opening + demonstrations + closing))
        return Conversation(turns, self.head + self._fence(encoder))

    def lesson(
        self, task: Task, test_index: int, answer: Grid | str, encoder: GridEncoder
    ) -> Conversation:
        if self.answer == "grid":
            body = encoder.encode(_grid(answer))
        elif isinstance(answer, str):
            body = f"{_PYTHON_FENCE}{answer}\n```"
        else:
            raise TypeError(f"{self.name} answers with a program, not with a grid")

        asked = self.prompt(task, test_index, encoder)
        answered = Turn("assistant", self.head + body, is_target=True)
        return Conversation((*asked.turns, answered), asked.answer_prefix)

    def parse(self, text: str, encoder: GridEncoder) -> Grid | str:
        whole = self._fence(encoder) + text
        if self.answer == "grid":
            return encoder.decode(whole)

        block = _PYTHON_BLOCK.search(whole)
        if block is None or not block[1].strip():
            raise ParseError("no closed block of python")
        return block[1].strip()

    def _fence(self, encoder: GridEncoder) -> str:
        if not self.opens_fence:
            return ""
        return encoder.opening if self.answer == "grid" else _PYTHON_FENCE


def _grid(answer: Grid | str) -> Grid:
    if isinstance(answer, str):
        raise TypeError("this style answers with a grid, not with a program")
    return answer


def _code(name: str, opening: str, demonstration: str, closing: str, head: str = "") -> OneQuestion:
    return OneQuestion(
        name, texts.SYSTEM_SHORT, opening, demonstration, closing, head, answer="program"
    )


_CODE_GRID = texts.opening_code("grid")
_CODE_IMG = texts.opening_code("img")

# input-from-inputs and output-from-outputs answer with a new input (or output) grid, so the answer
# that `lesson` takes is such a grid.
_STYLES: tuple[PromptStyle, ...] = (
    PairwiseChat("grid-tokens-v1"),
    PairwiseChat("grid-tokens-v2"),  # the same turns, for a model that knows its cells by place
    PairwiseProgram("dsl-program-v1"),
    OneQuestion(
        "output-from-examples-v0",
        texts.SYSTEM_LONG,
        texts.OPENING_OUTPUT_V0,
        texts.PAIR_H2,
        texts.TEST_H2,
        texts.ANSWER_OUTPUT,
    ),
    OneQuestion(
        "output-from-examples-v1",
        texts.SYSTEM_SHORT,
        texts.OPENING_OUTPUT_V1,
        texts.PAIR_H2,
        texts.TEST_H2,
        texts.ANSWER_OUTPUT,
    ),
    OneQuestion(
        "input-from-inputs-v0",
        texts.SYSTEM_SHORT,
        texts.OPENING_NEW_GRID,
        texts.GRID_OF_INPUT,
        "",
        texts.ANSWER_NEW_GRID,
    ),
    # arc24 has this text under v0 alone; v1 is the same text under the name that our recipes use.
    OneQuestion(
        "input-from-inputs-v1",
        texts.SYSTEM_SHORT,
        texts.OPENING_NEW_GRID,
        texts.GRID_OF_INPUT,
        "",
        texts.ANSWER_NEW_GRID,
    ),
    OneQuestion(
        "output-from-outputs-v0",
        texts.SYSTEM_SHORT,
        texts.OPENING_NEW_GRID,
        texts.GRID_OF_OUTPUT,
        "",
        texts.ANSWER_NEW_GRID,
    ),
    _code("code-from-examples-v0", texts.OPENING_CODE_V0, texts.PAIR_H2, ""),
    _code("code-from-examples-v1", _CODE_GRID, texts.PAIR_H3, texts.ASK_FOR_CODE),
    _code("code-from-examples-v2", _CODE_GRID, texts.PAIR_H3, "", texts.ANSWER_CODE),
    _code("code-from-examples-v3", _CODE_IMG, texts.PAIR_H3, texts.TEST_H3, texts.ANSWER_CODE),
    # arc25 kept the name v3 but left the test case out.
    _code("arc25-code-from-examples-v3", _CODE_IMG, texts.PAIR_H3, "", texts.ANSWER_CODE),
    OneQuestion(
        "barc-induction",
        texts.SYSTEM_BARC,
        texts.OPENING_BARC,
        texts.PAIR_BARC,
        texts.TEST_BARC,
        texts.ANSWER_BARC,
        answer="program",
        opens_fence=False,
    ),
)
STYLES: Mapping[str, PromptStyle] = {style.name: style for style in _STYLES}


def get_style(name: str) -> PromptStyle:
    """The style of that name. Raises UsageError with the nearest valid name."""
    return pick("prompt style", name, STYLES)


def fit_demonstrations(task: Task, fits: Callable[[Task], bool]) -> Task | None:
    """The task without so many of its last demonstrations that it fits; None where not one fits."""
    for num_pairs in range(len(task.train), 0, -1):
        shorter = task.with_train(task.train[:num_pairs])
        if fits(shorter):
            return shorter

    return None
