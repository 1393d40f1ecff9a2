"""A command run as a process of its own, to which the signals of this one are passed on."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence

POLL_S = 0.2
"""A signal is passed on after this many seconds at most."""


def run_child(
    command: Sequence[str], stopped: list[int], *, at_start: Callable[[], None] | None = None
) -> int:
    """Its exit code; of a process that a signal ended 128 + its number, as shells say it.

    stopped: the list of `stopping.noted`, in which signals land. at_start: called in the child
    before the command begins.

    The child has a process group of its own: else a Ctrl-C would reach it twice.
    """
    no_input = subprocess.DEVNULL  # a group in the background that reads from a terminal is stopped
    with subprocess.Popen(command, stdin=no_input, process_group=0, preexec_fn=at_start) as process:
        num_sent = 0
        try:
            while True:
                while num_sent < len(stopped):
                    process.send_signal(stopped[num_sent])
                    num_sent += 1
                try:
                    code = process.wait(POLL_S)
                except subprocess.TimeoutExpired:
                    continue
                return code if code >= 0 else 128 - code
        finally:
            if process.poll() is None:  # whoever asks a second time does not wait
                process.kill()
