"""Canary programs, run whenever a sandbox starts: attacks that must fail, limits that must hold."""

from __future__ import annotations

from dataclasses import dataclass

from appliance.program.sandbox.frames import Result


@dataclass(frozen=True)
class Canary:
    """A program that tells whether a layer holds. An attack returns [[1]] where it succeeds."""

    layer: str  # what it tests
    what: str  # what it tries, in words
    source: str
    expected: str | None = None  # the only right outcome; None: anything but a success

    def held(self, result: Result) -> bool:
        """Whether the layer held."""
        if self.expected:
            return result.outcome == self.expected
        succeeded = result.outputs[0] is not None and result.outputs[0].tolist() == [[1]]
        return not succeeded and result.outcome != "timeout"


def _libc(call: str) -> str:
    return (
        "import ctypes, os\n"
        "libc = ctypes.CDLL(None)\n"
        f"def transform(g):\n    return [[int({call})]]\n"
    )


_CALLS = "forbidden calls"

# fmt: off
CANARIES = (
    Canary("program runs", "an honest program", "def transform(g):\n    return g + 1\n", "ok"),
    Canary(_CALLS, "open the root directory", _libc('libc.open(b"/", 0) >= 0')),
    Canary(_CALLS, "create a file in memory", _libc('libc.memfd_create(b"x", 0) >= 0')),
    Canary(_CALLS, "internet socket", _libc("libc.socket(2, 1, 0) >= 0")),
    Canary(_CALLS, "socket to the machine's host", _libc("libc.socket(40, 1, 0) >= 0")),
    Canary(_CALLS, "second process", _libc("libc.fork() >= 0")),
    Canary(_CALLS, "signal to the parent", _libc("libc.kill(libc.getppid(), 0) == 0")),
    Canary(
        _CALLS, "trace the parent",
        _libc("libc.ptrace(16, libc.getppid(), 0, 0) == 0"),
    ),
    Canary(
        _CALLS, "ignore the time signal",
        _libc("libc.signal(24, ctypes.c_void_p(1)) != -1"),
    ),
    Canary(
        _CALLS, "executable memory",
        _libc("libc.mprotect(ctypes.c_void_p(0), 0, 7) == 0"),
    ),
    Canary("CPU limit", "endless loop", "def transform(g):\n    while True: pass\n", "timeout"),
    Canary(
        "memory limit", "1 TiB",
        "def transform(g):\n    return bytearray(1 << 40)\n", "memory",
    ),
    Canary(
        "memory limit", "bit by bit",
        "def transform(g):\n    return [np.zeros(1 << 20) for i in range(9999)]\n", "memory",
    ),
)
# fmt: on
CANARY_CPU_S = 0.2
REQUIRED_LAYERS = ("program runs", "CPU limit", "memory limit")
"""Layers without which no level stands."""
