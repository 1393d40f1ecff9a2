"""How a document is written: in ids of our own vocabularies, or by any prompt style and
tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import indent

import numpy as np
from numpy.typing import NDArray

from appliance.arc.encode import GridEncoder
from appliance.arc.grid import Grid, freeze
from appliance.arc.places import write_grid
from appliance.arc.prompt import PromptStyle
from appliance.arc.task import Pair, Task
from appliance.engine.tokens import Codec
from appliance.engine.training.packing import TokenSequence
from appliance.learn.data.corpus import RawPair
from appliance.models import tiny
from appliance.models.vocabularies import GRID_TOKENS_V1, VOCABULARIES, Vocabulary

GRIDS_WITH_PROGRAM_SHARE = 1 / 3
"""Share of the documents with a program that are also trained on their grids.

In the others the program alone is trained: its words would drown in the many tokens of the grids.
"""

PROGRAM_TEXT = "from dsl import *\n\n\ndef task(grid):\n{body}"
"""A program as styles ask for it that want it whole."""


MARKS_PER_PAIR = 3
"""Tokens of a pair beside its grids: before the input, before the output, and the end."""


class TinyWriter:
    """Writes in one of our own vocabularies: every output but the first is an answer, and so is the
    program if known.

    Gives what `StyleWriter` would give with the tokenizer of that vocabulary, tens of times faster.
    """

    needs_program = False

    def __init__(self, vocabulary: Vocabulary = GRID_TOKENS_V1) -> None:
        self._templates = vocabulary.templates
        self._program_ids = vocabulary.program_ids

    def as_answer(self, program: str, *, is_module: bool = False) -> str:
        return "" if is_module or self._program_ids(program) is None else program

    def write(
        self, pairs: Sequence[RawPair], program: str, *, max_tokens: int, rng: np.random.Generator
    ) -> TokenSequence | None:
        words = self._program_ids(program) if program else None
        with_grids = words is None or rng.random() < GRIDS_WITH_PROGRAM_SHARE
        program_tokens = 0 if words is None else words.size + 2  # with its mark and the end

        # How many pairs fit, and how long the document becomes: lengths follow from shapes.
        num_tokens, num_pairs = 1 + program_tokens, 0
        for grid_in, grid_out in pairs:
            num_tokens_then = num_tokens + _num_ids(grid_in) + _num_ids(grid_out) + MARKS_PER_PAIR
            if num_tokens_then > max_tokens:
                break
            num_tokens, num_pairs = num_tokens_then, num_pairs + 1
        if num_pairs < 2:
            return None

        ids = np.empty(num_tokens, dtype=np.int32)
        is_target = np.zeros(num_tokens, dtype=np.bool_)
        ids[0] = tiny.BOS
        at = 1
        for i, (grid_in, grid_out) in enumerate(pairs[:num_pairs]):
            ids[at] = tiny.INPUT
            at = write_grid(ids, at + 1, grid_in, self._templates)

            ids[at] = tiny.OUTPUT
            answer = at + 1
            at = write_grid(ids, answer, grid_out, self._templates)
            ids[at] = tiny.EOS
            at += 1
            if i > 0 and with_grids:
                is_target[answer:at] = True

        if words is not None:
            ids[at] = tiny.PROGRAM
            ids[at + 1 : -1] = words
            ids[-1] = tiny.EOS
            is_target[at + 1 :] = True

        return TokenSequence(ids, is_target)


def _num_ids(grid: NDArray[np.int8]) -> int:
    num_ids: int = grid.shape[0] * (grid.shape[1] + 1)
    return num_ids


@dataclass(frozen=True)
class StyleWriter:
    """Writes in any prompt style with any tokenizer: the last pair is the question, the others show
    it.

    The answer is what the style asks for: an output, a new input (input-from-inputs), or the
    program.
    """

    style: PromptStyle
    encoder: GridEncoder
    codec: Codec

    @property
    def needs_program(self) -> bool:
        return self.style.answer != "grid"

    def as_answer(self, program: str, *, is_module: bool = False) -> str:
        if not self.needs_program or (is_module and self.style.answer == "body"):
            return ""
        if is_module:
            return program

        body = program.rstrip("\n")
        return (
            body if self.style.answer == "body" else PROGRAM_TEXT.format(body=indent(body, "    "))
        )

    def write(
        self, pairs: Sequence[RawPair], program: str, *, max_tokens: int, rng: np.random.Generator
    ) -> TokenSequence | None:
        shown = [Pair(freeze(a), freeze(b)) for a, b in pairs]
        question, demonstrations = shown[-1], tuple(shown[:-1])

        answer: Grid | str = question.output
        if self.needs_program:
            answer = program
        elif self.style.name.startswith("input-from-inputs"):
            answer = question.input

        for num_shown in range(len(demonstrations), 0, -1):
            task = Task("", demonstrations[:num_shown], (question.input,))
            written = self.codec.lesson(self.style.lesson(task, 0, answer, self.encoder))
            if len(written) <= max_tokens:
                return written

        return None


def make_writer(style: PromptStyle, encoder: GridEncoder, codec: Codec) -> TinyWriter | StyleWriter:
    """The fast writer where style, encoder and tokenizer are those of one of our own vocabularies,
    else the general one."""
    vocabulary = VOCABULARIES.get(style.name)
    if (
        vocabulary is not None
        and encoder.name == vocabulary.encoder
        and codec.is_vocabulary(vocabulary.tokens)
    ):
        return TinyWriter(vocabulary)
    return StyleWriter(style, encoder, codec)
