"""unsloth's attention is told where sequences end; no other model is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from appliance.engine.training.loss import hidden_states
from appliance.engine.training.packing import TokenSequence, fill_rows

torch = pytest.importorskip("torch")


def rows_of(*plan: list[int]) -> Any:
    lessons = [TokenSequence(np.arange(n, dtype=np.int32), np.ones(n, bool)) for n in (3, 4, 2)]
    return fill_rows(lessons, [list(row) for row in plan], row_tokens=8, pad_id=0)


def told(rows: Any, *, module: str) -> list[int] | None:
    """The lengths that a decoder is given whose forward comes from this module."""
    given: dict[str, Any] = {}

    class Decoder:
        def forward(self) -> None: ...

        def __call__(self, **arguments: Any) -> Any:
            given.update(arguments)
            return self

        last_hidden_state = None

        def get_decoder(self) -> Any:
            return self

    Decoder.forward.__module__ = module
    hidden_states(Decoder(), rows, device="cpu")
    lengths = given.get("packed_seq_lengths")
    return None if lengths is None else list(lengths.tolist())


def test_unsloth_is_told_the_lengths_of_a_flat_row() -> None:
    flat = rows_of([0, 1], [2]).flat()
    assert told(flat, module="unsloth.models.llama") == [3, 5, 8]


def test_transformers_reads_the_positions() -> None:
    assert told(rows_of([0, 1], [2]).flat(), module="transformers.models.llama") is None


def test_several_rows_have_no_lengths() -> None:
    assert told(rows_of([0, 1], [2]), module="unsloth.models.llama") is None
