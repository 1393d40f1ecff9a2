"""How much other work on the same cores slows this process down."""

from __future__ import annotations

from pathlib import Path

_COUNTERS = Path("proc/self/schedstat")
"""Of the main thread: nanoseconds that it ran, that it was ready and had no core, and its turns."""

MOST = 20.0
"""Of a slowdown: what is counted in the first moments of a process may be chance."""


def slowdown(root: Path = Path("/")) -> float:
    """How many times as long as it computed the main thread took, so far; 1 with a core to itself.

    To wait for a disk does not count. 1 also where the system does not tell.
    """
    try:
        ran_ns, waited_ns, _ = map(int, (root / _COUNTERS).read_text().split())
    except (OSError, ValueError):
        return 1.0
    return min(MOST, 1 + waited_ns / ran_ns) if ran_ns > 0 else 1.0
