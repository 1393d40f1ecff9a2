"""A verb of the appliance, run as a process of its own, to which signals are passed on."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Sequence

from appliance.program.sandbox.linux import die_with_parent

POLL_S = 0.2
"""A signal is passed on after this many seconds at most."""


def as_typed(arguments: Sequence[str]) -> str:
    """The command as a person would type it."""
    return shlex.join(("appliance", *arguments))


def run_verb(arguments: Sequence[str], stopped: list[int]) -> int:
    """Its exit code; of a process that a signal ended 128 + its number, as shells say it.

    stopped: the list of `stopping.noted`, in which signals land.

    The process has a group of its own: else a Ctrl-C would reach it twice. It is killed where this
    process is.
    """
    with subprocess.Popen(
        [sys.executable, "-m", "appliance", *arguments],
        stdin=subprocess.DEVNULL,  # a group in the background that reads from a terminal is stopped
        process_group=0,
        preexec_fn=die_with_parent,
    ) as process:
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
