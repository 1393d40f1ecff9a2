"""`appliance exec`: the contract, line for line."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pytest

from appliance.commands import exec as verb
from appliance.errors import InputError
from appliance.program.sandbox import SEVERITY

GRID = [[0, 1], [2, 3]]
PROGRAMS = {
    "good": "def transform(g): return g.T",
    "half": "def transform(g):\n    return g if g.shape == (2, 2) else None",
    "loop": "def transform(g):\n    while True: pass",
    "bomb": "def transform(g): return np.ones(10**10)",
    "segfault": "import ctypes\ndef transform(g): ctypes.string_at(0)",
    "leaver": "import os\ndef transform(g): os._exit(0)",
    "raiser": "def transform(g): raise ValueError(object())",
    "opener": "def transform(g): return open('/etc/passwd')",
    "killer": "import os\ndef transform(g): os.kill(os.getppid(), 9)",
    "clock": """
from datetime import datetime
def transform(g): return [[int(c) for c in str(datetime.now().microsecond)]]
""",
}
OUTCOMES = {
    "good": "ok",
    "half": "bad_output",
    "loop": "timeout",
    "bomb": "memory",
    "segfault": "crash",
    "leaver": "exit",
    "raiser": "error",
    "opener": "violation",
    "killer": "violation",
    "clock": "nondeterministic",
}


def call(*arguments: str) -> int:
    """The exit code of the verb."""
    parser = argparse.ArgumentParser()
    verb.add_arguments(parser)
    return verb.run(parser.parse_args(arguments))


def run(folder: Path, lines: list[Any], *flags: str) -> list[dict[str, Any]]:
    programs, out = folder / "in.jsonl", folder / "out.jsonl"
    text = b"".join(
        (line if isinstance(line, bytes) else json.dumps(line).encode()) + b"\n" for line in lines
    )
    programs.write_bytes(text)

    assert call("--programs", str(programs), "--out", str(out), "--cpu-s", "0.2", *flags) == 0
    return [json.loads(line) for line in out.read_text().splitlines()]


def record(name: str, *, inputs: Any = (GRID, [[5]])) -> dict[str, Any]:
    return {"id": name, "source": PROGRAMS.get(name, PROGRAMS["good"]), "inputs": list(inputs)}


def test_every_outcome_has_its_name_and_order_is_kept(tmp_path: Path) -> None:
    results = run(tmp_path, [record(name) for name in PROGRAMS], "--workers", "2")
    assert {r["id"]: r["outcome"] for r in results} == OUTCOMES
    assert [r["id"] for r in results] == list(PROGRAMS)
    assert set(OUTCOMES.values()) <= set(SEVERITY)
    for r in results:
        assert list(r) == ["id", "outcome", "outputs", "error", "cpu_s", "wall_s"]
        assert len(r["outputs"]) == 2 and (r["error"] is None) == (r["outcome"] == "ok")
    assert results[0]["outputs"] == [[[0, 2], [1, 3]], [[5]]]
    assert results[1]["outputs"] == [GRID, None]


def test_twice_the_same_byte_for_byte_times_aside(tmp_path: Path) -> None:
    lines = [record(name) for name in PROGRAMS] * 3

    def without_times(results: list[dict[str, Any]]) -> str:
        return json.dumps(
            [{k: v for k, v in r.items() if k not in ("cpu_s", "wall_s")} for r in results]
        )

    first = run(tmp_path, lines, "--workers", "2")
    assert without_times(first) == without_times(run(tmp_path, lines, "--workers", "1"))


def test_bytes_that_are_not_utf8_are_the_programs_own_fault(tmp_path: Path) -> None:
    line = (
        b'{"id": 7, "source": "x = \'\xff\xfe\'\\ndef transform(g): return g", "inputs": [[[1]]]}'
    )
    (result,) = run(tmp_path, [line])

    assert (
        result["id"] == 7
        and result["outcome"] == "error"
        and "UnicodeEncodeError" in result["error"]
    )


def test_an_empty_file_gives_an_empty_file(tmp_path: Path) -> None:
    assert run(tmp_path, []) == []


def test_a_program_without_inputs_is_only_defined(tmp_path: Path) -> None:
    assert [
        r["outcome"] for r in run(tmp_path, [record("good", inputs=()), record("none", inputs=())])
    ] == ["ok", "ok"]


@pytest.mark.parametrize(
    "grid",
    [
        [],
        [[]],
        [[1], [1, 2]],
        [[True]],
        [[1.0]],
        [[10]],
        [[-1]],
        [["1"]],
        [[None]],
        3,
        None,
        [[0] * 31],
        [[0]] * 31,
    ],
)
def test_a_bad_input_grid_stops_everything_before_anything_runs(grid: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="line 2, program bad, input 1"):
        run(tmp_path, [record("good"), record("bad", inputs=(GRID, grid))])
    assert not list(tmp_path.glob("out*"))


@pytest.mark.parametrize(
    "line",
    [
        b"{",
        b"[]",
        b"null",
        b'{"id": "a"}',
        b'{"id": null, "source": "", "inputs": []}',
        b"[" * 100_000,
        b'{"id": "a", "source": 3, "inputs": []}',
        b'{"id": "a", "source": "", "inputs": {}}',
    ],
)
def test_a_line_that_is_no_record_is_named(line: bytes, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="line 2"):
        run(tmp_path, [record("good"), line])


def test_a_missing_file_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        call("--programs", str(tmp_path / "none"), "--out", str(tmp_path / "out"))
