"""One command of the appliance in a process of its own, as a person could type it."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass

from appliance.errors import EXIT_COVERAGE, EXIT_DONE
from appliance.process.stopping import exit_code, noted
from appliance.program.sandbox.linux import die_with_parent

GONE_THROUGH = (EXIT_DONE, EXIT_COVERAGE)
"""Exit codes of a step that came to its end: a run below a floor has written what it has."""

LISTEN_S = 0.2
"""Seconds between two looks at whether a signal has come for the step that runs."""


@dataclass(frozen=True)
class Step:
    """One command, and whether what it makes is there."""

    arguments: tuple[str, ...]  # of `appliance`
    free: tuple[str, ...] = ()  # further ones, which change nothing of what is made
    is_done: Callable[[], bool] = lambda: False

    @property
    def command(self) -> str:
        """As a person would type it."""
        return shlex.join(("appliance", *self.arguments, *self.free))


def run_step(step: Step) -> int:
    """Print the command, run it, and return its exit code; after a signal that of a stopped run.

    A signal is passed on, and the step ends by itself. It is no member of this process's group, so
    that Ctrl-C reaches it once, from here. It is killed where this process is.
    """
    print(f"$ {step.command}", flush=True)
    with noted() as signals:
        num_passed_on = 0
        if signals:
            return exit_code(signals[0], is_resumable=True)

        child = subprocess.Popen(
            [sys.executable, "-m", "appliance", *step.arguments, *step.free],
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=die_with_parent,
        )
        try:
            while child.poll() is None:
                for number in signals[num_passed_on:]:
                    child.send_signal(number)
                num_passed_on = len(signals)
                try:
                    child.wait(LISTEN_S)
                except subprocess.TimeoutExpired:
                    continue
        finally:
            if child.poll() is None:  # a second Ctrl-C does not wait
                child.kill()
                child.wait()

    if signals:
        return exit_code(signals[0], is_resumable=True)
    code = child.returncode
    return code if code >= 0 else 128 - code  # of a process that a signal ended, as shells say it
