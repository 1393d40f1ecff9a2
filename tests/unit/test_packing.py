"""Packed rows: nothing lost, nothing mixed."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from appliance.engine.training.packing import IGNORED, TokenSequence, fill_rows, plan_rows


def sequence(length: int, start: int) -> TokenSequence:
    ids = np.arange(start, start + length, dtype=np.int32)
    is_target = np.arange(length) % 2 == 1
    return TokenSequence(ids, is_target)


@given(
    st.lists(st.integers(1, 40), min_size=1, max_size=30), st.integers(40, 100), st.integers(1, 6)
)
def test_rows_hold_whole_sequences_in_order_and_within_bounds(
    lengths: list[int], row_tokens: int, num_rows: int
) -> None:
    plan = plan_rows(lengths, row_tokens=row_tokens, num_rows=num_rows)
    used = [i for row in plan for i in row]
    assert len(used) == len(set(used))
    assert all(sum(lengths[i] for i in row) <= row_tokens for row in plan)
    assert all(row == sorted(row) for row in plan)


@given(st.lists(st.integers(2, 20), min_size=1, max_size=12))
def test_labels_are_the_targets_shifted_by_one(lengths: list[int]) -> None:
    starts = np.cumsum([1, *lengths])
    sequences = [sequence(n, int(s)) for n, s in zip(lengths, starts, strict=False)]
    plan = plan_rows(lengths, row_tokens=64, num_rows=12)
    rows = fill_rows(sequences, plan, row_tokens=64, pad_id=0)
    expected = sum(int(s.is_target[1:].sum()) for row in plan for s in (sequences[i] for i in row))
    assert rows.num_targets() == expected

    wanted = rows.labels != IGNORED
    assert (rows.labels[wanted] == rows.ids[wanted] + 1).all()


def test_positions_restart_at_every_sequence_and_count_on_through_the_padding() -> None:
    rows = fill_rows([sequence(3, 1), sequence(2, 9)], [[0, 1]], row_tokens=8, pad_id=0)
    assert rows.positions.tolist() == [[0, 1, 2, 0, 1, 2, 3, 4]]
    assert rows.ids.tolist() == [[1, 2, 3, 9, 10, 0, 0, 0]]


def test_a_flat_batch_is_one_row_whose_positions_still_tell_the_sequences_apart() -> None:
    rows = fill_rows([sequence(3, 1), sequence(2, 9)], [[0], [1]], row_tokens=4, pad_id=0)
    flat = rows.flat()
    assert flat.ids.tolist() == [[1, 2, 3, 0, 9, 10, 0, 0]]
    assert flat.positions.tolist() == [[0, 1, 2, 3, 0, 1, 2, 3]]
    assert flat.num_targets() == rows.num_targets()
