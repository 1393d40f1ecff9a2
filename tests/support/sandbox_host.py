"""A host that notices what is done to it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from appliance.arc.grid import as_grid, to_lists
from appliance.program.sandbox import Limits, Program, Result, Sandbox

SECRET = "EXPECTED-OUTPUT-93c1"
INPUTS = (as_grid([[0, 1, 2], [3, 4, 5], [6, 7, 8]]), as_grid([[1, 1], [2, 2]]))
ATTACK_MODULES = (
    "mmap",
    "multiprocessing",
    "urllib.request",
    "shutil",
    "faulthandler",
    "resource",
    "select",
    "subprocess",
    "socket",
    "gc",
    "_thread",
    "threading",
    "signal",
)
"""What attacks import; a program can import only what was loaded before it."""

# Harmless programs that run after each attack, one for each group of workers: what the attack did
# to the interpreter would show in their answers.
CONTROL = """
import math, random, re
from collections import Counter
from dsl import *
def transform(g):
    assert len([1, 2]) == 2 and isinstance(1, int) and list(range(3)) == [0, 1, 2] and 3 // 2 == 1
    drawn = random.randrange(3) + random.Random().randrange(3)
    drawn += int(np.random.randint(3) + np.random.default_rng().integers(3))
    return (rot90(g) * 3 + drawn + len({1, 2})) % 10
"""
SCIPY_CONTROL = """
from scipy.ndimage import label
def transform(g):
    return label(g > 0)[0]
"""


@dataclass(frozen=True)
class Host:
    """What an attack is after, and the sandbox that stands before it."""

    sandbox: Sandbox
    folder: Path
    control: str = ""
    num_processes: int = 0

    def run(
        self, source: str, inputs: tuple[Any, ...] = INPUTS, *, may_time_out: bool = True
    ) -> Result:
        """The program's result.

        With may_time_out=False a program that timed out runs once more with forty times the time,
        because how long a program takes depends on this machine.
        """
        (result,) = self.sandbox.run([Program(source, inputs)])
        if result.outcome == "timeout" and not may_time_out:
            with Sandbox(Limits(cpu_s=20), workers=1, preload=ATTACK_MODULES) as patient:
                (result,) = patient.run([Program(source, inputs)])
        return result

    def run_control(self) -> str:
        programs = [Program(source, INPUTS) for source in (CONTROL, SCIPY_CONTROL)]
        return "\n".join(spoken(result) for result in self.sandbox.run(programs))

    def secrets(self) -> dict[str, str]:
        return {
            "{SOLUTIONS}": str(self.folder / "solutions.json"),
            "{CANARY}": str(self.folder / "canary"),
            "{SCRATCH}": str(self.folder),
            "{KRAM}": SECRET[::-1],
        }

    def assert_unharmed(self) -> None:
        assert (self.folder / "canary").read_text() == "sings"
        assert (self.folder / "canary").stat().st_mode & 0o777 == 0o666
        assert sorted(path.name for path in self.folder.iterdir()) == ["canary", "solutions.json"]
        assert not [
            path for d in ("/tmp", "/dev/shm", "/var/tmp", "/") for path in Path(d).glob("*pwned*")
        ]
        assert self.run_control() == self.control, "the next program is affected"
        assert num_processes() == self.num_processes, "a process is left behind"


def num_processes() -> int:
    return len(psutil.Process().children(recursive=True))


def spoken(result: Result) -> str:
    """All of a result but its times."""
    outputs = [None if g is None else to_lists(g) for g in result.outputs]
    return json.dumps([result.outcome, outputs, result.error])
