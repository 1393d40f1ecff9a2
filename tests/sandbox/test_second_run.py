"""What differs between a first and a second run by construction, not by luck."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.arc.grid import as_grid, to_lists
from appliance.program.sandbox import Program, Sandbox, start
from appliance.program.sandbox.frames import encode_grids
from appliance.program.sandbox.workers import Group
from appliance.program.sandbox.zygote_client import ProgramJob

CELL = as_grid([[0]])
NONE_SET = "def transform(g): return [[x[1] for x in {(None, i) for i in range(9)}]]"
ELLIPSIS_SET = NONE_SET.replace("None", "...")
HASHES_BY_ADDRESS = sys.version_info < (3, 12)  # of None; Ellipsis is still hashed so


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(workers=1) as shared:
        yield shared


def run_as(sandbox: Sandbox, source: str, *, is_second: bool) -> list[list[int]]:
    """The grid that the program gives in an interpreter for first or for second runs."""
    (worker,) = sandbox._workers.group(Group(needs_libraries=False, is_second=is_second))
    worker.send(ProgramJob(0, source.encode(), encode_grids([CELL]), 1, cpu_s=5))
    while not (answers := worker.receive()):
        pass

    (grid,) = answers[0][1].outputs
    assert grid is not None, answers[0][1].error
    return to_lists(grid)


@pytest.mark.parametrize("value", ["None", "...", "NotImplemented"])
def test_the_hash_of_a_constant_is_given_by_the_kind_of_run(sandbox: Sandbox, value: str) -> None:
    if value == "None" and not HASHES_BY_ADDRESS:
        pytest.skip("this Python gives None one hash for all")

    source = f"def transform(g): return [[int(c) for c in str(hash({value}))]]"
    said = [run_as(sandbox, source, is_second=is_second) for is_second in (False, True)]
    assert said == [[[int(c) for c in str(h)]] for h in (start.FIRST_HASH, start.SECOND_HASH)]


@pytest.mark.skipif(not HASHES_BY_ADDRESS, reason="this Python gives None one hash for all")
def test_the_order_of_a_set_of_none_is_one_in_first_runs_and_another_in_second_runs(
    sandbox: Sandbox,
) -> None:
    with Sandbox(workers=1) as other:
        first = [run_as(s, NONE_SET, is_second=False) for s in (sandbox, other)]
    assert first[0] == first[1] != run_as(sandbox, NONE_SET, is_second=True)


def test_a_set_of_ellipses_is_chance(sandbox: Sandbox) -> None:
    (result,) = sandbox.run([Program(ELLIPSIS_SET, (CELL,))])
    assert result.outcome == "nondeterministic"


def test_tables_made_before_are_found_by_the_new_hash() -> None:
    said = subprocess.run(
        [sys.executable, "-c", TABLES, str(Path(start.__file__)), start.SECOND],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert json.loads(said) == [[1, 2, 3], ["None", "Ellipsis", "x"], "c_void_p"]


TABLES = """
import ctypes, json, runpy, sys
held = {None: 1, ...: 2, "x": 3, "itself": []}
runpy.run_path(sys.argv[1])["fix_hashes"](sys.argv[2])
names = [str(key) for key in held if key != "itself"]
print(json.dumps([[held[None], held[...], held["x"]], names, ctypes.POINTER(None).__name__]))
"""


@pytest.mark.parametrize(
    "clock", ["resource.getrusage(0).ru_utime", "resource.getrusage(0).ru_stime", "os.times()[1]"]
)
def test_clocks_that_stand_at_zero_in_a_first_run_do_not_in_a_second(
    sandbox: Sandbox, clock: str
) -> None:
    source = f"import os, resource\ndef transform(g): return [[int({clock} > 100)]]"
    said = [run_as(sandbox, source, is_second=is_second) for is_second in (False, True)]
    assert said == [[[0]], [[1]]]
