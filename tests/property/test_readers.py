"""Whatever is in a file, a reader gives a value or an error of ours. `make fuzz` tries more."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.reader import Reader, good_input, try_one
from tests.fuzz.readers import READERS

QUICK = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@pytest.mark.parametrize("reader", READERS, ids=lambda r: r.name)
def test_a_good_input_is_read(reader: Reader, tmp_path: Path) -> None:
    path = tmp_path / "input"
    path.write_bytes(good_input(reader))
    reader.read(path)


@pytest.mark.parametrize("reader", READERS, ids=lambda r: r.name)
@QUICK
@given(st.data())
def test_only_errors_of_ours_come_out(reader: Reader, tmp_path: Path, data: st.DataObject) -> None:
    def tried(content: bytes) -> None:
        fault = try_one(reader, content, tmp_path)
        if fault is not None:
            raise fault

    if data.draw(st.booleans(), "any bytes"):
        tried(data.draw(st.binary(max_size=300)))
    else:
        seed = data.draw(st.integers(0, 2**32), "seed of the damage")
        tried(reader.damage(Random(seed), good_input(reader)))
