"""How a document is written: in ids of the tiny vocabulary, or by any prompt style and
tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import indent

import numpy as np
from numpy.typing import NDArray

from appliance.arc.encode import GridEncoder
from appliance.arc.grid import Grid, freeze
from appliance.arc.prompt import PromptStyle
from appliance.arc.task import Pair, Task
from appliance.engine.tokens import Codec
from appliance.engine.training.packing import TokenSequence
from appliance.learn.data.corpus import RawPair
from appliance.models import tiny

TINY_STYLES = ("grid-tokens-v1", "dsl-program-v1")
"""Prompt styles of arc-mini."""

GRIDS_WITH_PROGRAM_SHARE = 1 / 3
"""Share of the documents with a program that are also trained on their grids.

In the others the program alone is trained: its words would drown in the many tokens of the grids.
"""

PROGRAM_TEXT = "from dsl import *\n\n\ndef task(grid):\n{body}"
"""A program as styles ask for it that want it whole."""


class TinyWriter:
    """Writes for arc-mini: every output but the first is an answer, and so is the program if known.

    Gives what `StyleWriter` would give with the tokenizer of arc-mini, tens of times faster.
    """

    needs_program = False

    def can_write(self, program: str) -> bool:
        return tiny.program_ids(program) is not None

    def write(
        self, pairs: Sequence[RawPair], program: str, *, max_tokens: int, rng: np.random.Generator
    ) -> TokenSequence | None:
        words = tiny.program_ids(program) if program else None
        with_grids = words is None or rng.random() < GRIDS_WITH_PROGRAM_SHARE

        pieces: list[NDArray[np.int32]] = [np.array([tiny.BOS], dtype=np.int32)]
        targets: list[NDArray[np.bool_]] = [np.zeros(1, dtype=np.bool_)]
        room = max_tokens - 1 - (0 if words is None else words.size + 2)
        for grid_in, grid_out in pairs:
            ids, is_target = _pair_sequence(grid_in, grid_out)
            room -= ids.size
            if room < 0:
                break
            targets.append(
                is_target if len(pieces) > 1 and with_grids else np.zeros_like(is_target)
            )
            pieces.append(ids)
        if len(pieces) < 3:  # the mark of the beginning and two pairs
            return None

        if words is not None:
            pieces.append(np.concatenate([[tiny.PROGRAM], words, [tiny.EOS]]).astype(np.int32))
            targets.append(np.arange(words.size + 2) > 0)  # all but the PROGRAM mark

        return TokenSequence(np.concatenate(pieces), np.concatenate(targets))


def _pair_sequence(
    grid_in: NDArray[np.int8], grid_out: NDArray[np.int8]
) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """Ids of one pair, and which of them are its answer: the output grid and the end mark."""
    a, b = tiny.grid_ids(grid_in), tiny.grid_ids(grid_out)

    ids = np.concatenate([[tiny.INPUT], a, [tiny.OUTPUT], b, [tiny.EOS]]).astype(np.int32)
    is_target = np.zeros(ids.shape, dtype=np.bool_)
    is_target[a.size + 2 :] = True
    return ids, is_target


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

    def can_write(self, program: str) -> bool:
        return self.needs_program and bool(program)

    def write(
        self, pairs: Sequence[RawPair], program: str, *, max_tokens: int, rng: np.random.Generator
    ) -> TokenSequence | None:
        shown = [Pair(freeze(a), freeze(b)) for a, b in pairs]
        question, demonstrations = shown[-1], tuple(shown[:-1])

        answer: Grid | str = question.output
        if self.style.answer == "body":
            answer = program.rstrip("\n")
        elif self.needs_program:
            answer = PROGRAM_TEXT.format(body=indent(program.rstrip("\n"), "    "))
        elif self.style.name.startswith("input-from-inputs"):
            answer = question.input

        for num_shown in range(len(demonstrations), 0, -1):
            task = Task("", demonstrations[:num_shown], (question.input,))
            written = self.codec.lesson(self.style.lesson(task, 0, answer, self.encoder))
            if len(written) <= max_tokens:
                return written

        return None


def make_writer(style: PromptStyle, encoder: GridEncoder, codec: Codec) -> TinyWriter | StyleWriter:
    """The fast writer where style and vocabulary are those of arc-mini, else the general one."""
    is_tiny = (
        style.name in TINY_STYLES
        and encoder.name == "grid-tokens"
        and codec.is_vocabulary(tiny.TOKENS)
    )
    if is_tiny and style.answer == "grid":
        return TinyWriter()
    return StyleWriter(style, encoder, codec)
