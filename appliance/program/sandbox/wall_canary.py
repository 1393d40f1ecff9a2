"""Canary programs: attacks that must fail and limits that must bite, run for real whenever a sandbox starts."""

from __future__ import annotations

from dataclasses import dataclass

from appliance.program.sandbox.frames import Result


@dataclass(frozen=True)
class Canary:
    """An attack returns [[1]] where it succeeded. `layer` is what it tests; `expected`, if any, is the only right end."""

    layer: str
    what: str
    source: str
    expected: str | None = None

    def held(self, result: Result) -> bool:
        if self.expected:
            return result.outcome == self.expected
        succeeded = result.outputs[0] is not None and result.outputs[0].tolist() == [[1]]
        return not succeeded and result.outcome != "timeout"


def _libc(call: str) -> str:
    return f"import ctypes, os\nlibc = ctypes.CDLL(None)\ndef transform(g):\n    return [[int({call})]]\n"


CANARIES = (
    Canary("program runs", "an honest program", "def transform(g):\n    return g + 1\n", expected="ok"),
    Canary("forbidden calls", "open the root directory", _libc('libc.open(b"/", 0) >= 0')),
    Canary("forbidden calls", "create a file in memory", _libc('libc.memfd_create(b"x", 0) >= 0')),
    Canary("forbidden calls", "internet socket", _libc("libc.socket(2, 1, 0) >= 0")),
    Canary("forbidden calls", "socket to the machine's host", _libc("libc.socket(40, 1, 0) >= 0")),
    Canary("forbidden calls", "second process", _libc("libc.fork() >= 0")),
    Canary("forbidden calls", "signal to the parent", _libc("libc.kill(libc.getppid(), 0) == 0")),
    Canary("forbidden calls", "trace the parent", _libc("libc.ptrace(16, libc.getppid(), 0, 0) == 0")),
    Canary("forbidden calls", "ignore the time signal", _libc("libc.signal(24, ctypes.c_void_p(1)) != -1")),
    Canary("forbidden calls", "executable memory", _libc("libc.mprotect(ctypes.c_void_p(0), 0, 7) == 0")),
    Canary("CPU limit", "endless loop", "def transform(g):\n    while True: pass\n", expected="timeout"),
    Canary("memory limit", "1 TiB", "def transform(g):\n    return bytearray(1 << 40)\n", expected="memory"),
    Canary("memory limit", "bit by bit", "def transform(g):\n    return [np.zeros(1 << 20) for i in range(9999)]\n", "memory"),
)  # fmt: skip
CANARY_CPU_S = 0.2
LIMITS = ("program runs", "CPU limit", "memory limit")  # layers without which no level stands
