"""`bench.learning`: each variant changes a document in what it says, and in nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from appliance.arc.grid import as_grid
from appliance.engine.training.packing import TokenSequence
from appliance.learn.data.styles import TinyWriter
from appliance.learn.fast.parts import parts_of
from appliance.models import placed, tiny
from appliance.models.vocabularies import VOCABULARIES
from bench import learning

PAIRS = [
    (as_grid([[1, 2, 3], [4, 5, 6]]), as_grid([[7, 8]])),
    (as_grid([[1]]), as_grid([[2, 0], [0, 2]])),
    (as_grid([[3, 3]]), as_grid([[4], [4]])),
]


@pytest.fixture
def document() -> TokenSequence:
    writer = TinyWriter(VOCABULARIES["grid-tokens-v2"])
    written = writer.write(PAIRS, "", max_tokens=500, rng=np.random.default_rng(0))
    assert written is not None
    return written


def place_of(token: int) -> tuple[str, int, int, int]:
    """Kind, row, column and colour of a token."""
    if placed.FIRST_CELL <= token < placed.FIRST_ROW_END:
        cell, colour = divmod(token - placed.FIRST_CELL, 10)
        return "cell", cell // 30, cell % 30, colour
    if placed.FIRST_ROW_END <= token < placed.FIRST_WORD:
        return "end", token - placed.FIRST_ROW_END, 0, 0
    return "mark", 0, 0, token


def test_only_the_last_answer_is_learnt(document: TokenSequence) -> None:
    changed = learning.last_answer(document, np.random.default_rng(0))
    assert (changed.ids == document.ids).all()
    # The last output has two rows of one cell and an end each, and the document's own end.
    assert changed.is_target.nonzero()[0].tolist() == list(range(len(document) - 5, len(document)))


def test_inputs_are_learnt_after_the_first_pair(document: TokenSequence) -> None:
    changed = learning.inputs_too(document, np.random.default_rng(0))
    first_end = document.ids.tolist().index(tiny.EOS)
    assert not changed.is_target[: first_end + 1].any()
    assert changed.is_target[first_end + 1 :].all()


def test_grids_begin_elsewhere_and_stay_what_they_are(document: TokenSequence) -> None:
    moved_by = set()
    for seed in range(40):
        changed = learning.anywhere(document, np.random.default_rng(seed))
        assert (changed.is_target == document.is_target).all()

        pairs = [(place_of(a), place_of(b)) for a, b in zip(document.ids, changed.ids, strict=True)]
        assert all(a[0] == b[0] and a[3] == b[3] for a, b in pairs)
        downs = {b[1] - a[1] for a, b in pairs if a[0] != "mark"}
        rights = {b[2] - a[2] for a, b in pairs if a[0] == "cell"}
        assert len(downs) == len(rights) == 1  # all grids by the same
        moved_by.add((downs.pop(), rights.pop()))

    assert (0, 0) in moved_by and len(moved_by) > 10
    assert max(down for down, _ in moved_by) <= 28 and max(right for _, right in moved_by) <= 27


def test_a_table_without_rows_holds_every_token_once() -> None:
    parts = learning.colour_and_column("grid-tokens-v2")
    whole = parts_of("grid-tokens-v2")
    assert parts.num_tokens == whole.num_tokens

    table = parts.table(np.eye(parts.num_parts, dtype=np.float32))
    first, below = (placed.FIRST_CELL + row * 300 + 7 * 10 + 4 for row in (0, 5))
    assert (table[first] == table[below]).all()
    assert table[first].sum() == 2
    ends = table[placed.FIRST_ROW_END : placed.FIRST_WORD]
    assert len({row.tobytes() for row in ends}) == 30  # row ends still tell the row


def test_programs_are_left_alone() -> None:
    writer = learning.ChangedWriter("grid-tokens-v2", learning.inputs_too)
    program = "return rot90(grid)"
    assert writer.as_answer(program) == program
    plain = TinyWriter(VOCABULARIES["grid-tokens-v2"])
    written = writer.write(PAIRS, program, max_tokens=500, rng=np.random.default_rng(1))
    wanted = plain.write(PAIRS, program, max_tokens=500, rng=np.random.default_rng(1))
    assert written is not None and wanted is not None
    assert (written.ids == wanted.ids).all() and (written.is_target == wanted.is_target).all()
