"""What the host makes of bytes that a program may have written."""

from __future__ import annotations

import signal
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from appliance.arc.grid import Grid, grid_fault, grid_key
from appliance.program.sandbox.child import encode_output
from appliance.program.sandbox.frames import (
    BAD_OUTPUT,
    COMPILED,
    ERROR,
    FRAME,
    GRID,
    READY,
    SEVERITY,
    BrokenFrames,
    decode_grids,
    encode_grids,
    judge,
)
from tests.support.strategies import grids

START = FRAME.pack(READY, 0) + FRAME.pack(COMPILED, 0)


def frame(kind: int, body: bytes) -> bytes:
    return FRAME.pack(kind, len(body)) + body


@given(st.lists(st.none() | grids(), max_size=5))
def test_grids_survive_the_way(sent: list[Grid | None]) -> None:
    received = decode_grids(encode_grids(sent))
    assert [None if g is None else grid_key(g) for g in received] == [
        None if g is None else grid_key(g) for g in sent
    ]


@given(st.binary(max_size=300))
def test_any_bytes_are_legal_grids_or_refused(data: bytes) -> None:
    try:
        received = decode_grids(data)
    except BrokenFrames:
        return
    assert [grid_fault(g) for g in received if g is not None and grid_fault(g)] == []


@given(
    status=st.integers(0, 255).map(lambda s: s << 8) | st.integers(1, 64),
    data=st.binary(max_size=200),
    n=st.integers(0, 4),
)
@example(status=0, data=START + frame(GRID, b"\1\0\1\1\xff"), n=1)
def test_any_bytes_get_a_judgement(status: int, data: bytes, n: int) -> None:
    result = judge(status, data, n)
    assert result.outcome in SEVERITY and len(result.outputs) == n
    assert (result.outcome == "ok") <= all(g is not None for g in result.outputs)
    assert (result.error is None) == (result.outcome == "ok")


def test_the_worst_input_speaks_for_the_program() -> None:
    good = frame(GRID, b"\1\0\1\1\5")
    result = judge(0, START + good + frame(ERROR, b"E: why") + frame(BAD_OUTPUT, b"no grid"), 3)
    assert (result.outcome, result.error) == ("error", "E: why")
    assert [g is not None for g in result.outputs] == [True, False, False]


def test_outputs_before_the_end_of_time_are_kept() -> None:
    result = judge(signal.SIGXCPU, START + frame(GRID, b"\1\0\1\1\5"), 2)
    assert (
        result.outcome == "timeout" and result.num_answered == 1 and result.outputs[0] is not None
    )


def test_a_crash_of_the_compiler_is_an_error_of_the_program() -> None:
    assert judge(signal.SIGSEGV, FRAME.pack(READY, 0), 1).outcome == "error"
    assert judge(signal.SIGSEGV, START, 1).outcome == "crash"


def test_addresses_are_left_out_of_messages() -> None:
    assert judge(0, START + frame(ERROR, b"E: <A at 0x7f00deadbeef>"), 1).error == "E: <A at 0x...>"


@given(
    arrays(
        st.sampled_from([np.int64, np.float64, np.int8, np.uint16, np.bool_]),
        array_shapes(max_dims=3, max_side=32),
    )
)
def test_an_output_is_accepted_exactly_when_it_is_a_grid(value: Any) -> None:
    whole = np.array_equal(value, np.trunc(value)) and bool(((value >= 0) & (value <= 9)).all())
    legal = value.ndim == 2 and max(value.shape) <= 30 and whole
    if legal:
        (grid,) = decode_grids(encode_output(value))
        assert grid is not None and np.array_equal(grid, value)
    else:
        with pytest.raises(ValueError):
            encode_output(value)
