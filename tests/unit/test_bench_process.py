"""Commands of a bench with a time limit: nothing that they start outlives them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from appliance.clock import SystemClock
from bench.process import is_alive, run

PARENT = """
import subprocess, sys, time
child = subprocess.Popen(
    [sys.executable, "-c", "import time; print('lives', flush=True); time.sleep(600)"],
    stdout=subprocess.PIPE, start_new_session=True,
)
child.stdout.readline()
print(child.pid, flush=True)
{end}
"""


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="processes are found in /proc")
@pytest.mark.parametrize(
    ("end", "limit_s", "outcome"),
    [("time.sleep(600)", 3, "no time"), ("sys.exit(3)", 60, "FAILED"), ("", 60, "ok")],
)
def test_what_it_started_goes_with_it_also_from_a_group_of_its_own(
    end: str, limit_s: float, outcome: str
) -> None:
    """As a worker of a run is: killing the group of the run alone would leave it behind."""
    ended = run([sys.executable, "-c", PARENT.format(end=end)], limit_s, SystemClock(), {})
    assert ended.outcome() == outcome
    assert not is_alive(int(ended.text))


def test_a_command_that_runs_others_in_this_way_takes_them_along(tmp_path: Path) -> None:
    told = tmp_path / "pid"
    sleeper = f"import os, time; open({str(told)!r}, 'w').write(str(os.getpid())); time.sleep(600)"
    script = (
        "import sys; from appliance.clock import SystemClock; from bench.process import run; "
        f"run([sys.executable, '-c', {sleeper!r}], 600, SystemClock(), {{}})"
    )
    ended = run([sys.executable, "-c", script], 8, SystemClock(), {})
    assert ended.outcome() == "no time"
    assert not is_alive(int(told.read_text()))


def test_a_process_beyond_its_time_is_stopped_and_its_output_kept() -> None:
    script = "import time; print('begun', flush=True); time.sleep(60)"
    ended = run([sys.executable, "-c", script], 3, SystemClock(), {})
    assert ended.outcome() == "no time"
    assert ended.text.startswith("begun")
    assert ended.seconds < 60


def test_a_failed_process_says_so() -> None:
    ended = run([sys.executable, "-c", "raise SystemExit('gone')"], 30, SystemClock(), {})
    assert (ended.outcome(), ended.last_line()) == ("FAILED", "gone")
