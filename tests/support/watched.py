"""Run commands while every file that they or their children write or remove is noted.

An audit hook (PEP 578) is put into each Python process by a `sitecustomize` module. Files that
other languages write (SQLite, tokenizers) are not seen by it: compare the trees as well.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

HOOK = """
import os, sys

LOG = os.environ["WATCHED_LOG"]
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
# Event: places of its paths among the arguments, each with that of its dir_fd (None: it has none).
CHANGES = {
    "os.remove": [(0, 1)], "os.rmdir": [(0, 1)], "os.mkdir": [(0, 2)], "os.truncate": [(0, None)],
    "os.rename": [(0, 2), (1, 3)], "os.link": [(1, 3)], "os.symlink": [(1, 2)],
    "os.chmod": [(0, 2)], "os.chown": [(0, 3)], "os.utime": [(0, 3)],
    "shutil.rmtree": [(0, 1)], "shutil.copyfile": [(1, None)], "shutil.move": [(1, None)],
    "sqlite3.connect": [(0, None)],
}

def _whole(path, folder):
    if isinstance(path, int):
        return None  # open already
    path = os.fsdecode(path)
    if path == ":memory:":
        return None
    if isinstance(folder, int) and folder >= 0:
        path = os.path.join(os.readlink(f"/proc/self/fd/{folder}"), path)
    # The last part itself may be a link, which is removed or renamed and not followed.
    folder, name = os.path.split(os.path.abspath(path))
    return os.path.join(os.path.realpath(folder), name)

_is_busy = False

def _hook(event, given):
    global _is_busy
    if _is_busy or (event != "open" and event not in CHANGES):
        return
    if event == "open" and not (isinstance(given[2], int) and given[2] & WRITING):
        return
    _is_busy = True
    try:
        for place, folder in CHANGES.get(event, [(0, None)]):
            at = given[folder] if folder is not None and folder < len(given) else None
            path = _whole(given[place], at)
            is_done = event == "os.mkdir" and path and os.path.exists(path)  # with exist_ok
            if path is not None and not is_done:
                line = f"{event} {path!r}\\n".encode("ascii", "backslashreplace")
                log = os.open(LOG, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
                os.write(log, line)
                os.close(log)
    except OSError:
        pass  # inside the sandbox, where there is nothing to write to
    finally:
        _is_busy = False

sys.addaudithook(_hook)
"""

HARMLESS = ("/dev/", "/proc/")
"""Devices, and what the sandbox tells the kernel of itself."""


class Watch:
    """A folder of temporary files and a home for commands, and what they changed."""

    def __init__(self, folder: Path) -> None:
        """folder: new; all that may be written to lies in it."""
        self.folder = folder
        self.log = folder / "changes"
        for name in ("hook", "tmp", "home"):
            (folder / name).mkdir(parents=True)
        (folder / "hook" / "sitecustomize.py").write_text(HOOK)

    def run(self, *arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
        """One call of `appliance`."""
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join([str(self.folder / "hook"), *filter(None, sys.path)]),
            "PYTHONDONTWRITEBYTECODE": "1",
            "WATCHED_LOG": str(self.log),
            "TMPDIR": str(self.folder / "tmp"),
            "HOME": str(self.folder / "home"),
        }
        command = [sys.executable, "-m", "appliance", *map(str, arguments)]
        return subprocess.run(
            command, capture_output=True, text=True, cwd=cwd, env=environment, timeout=300
        )

    def forget(self) -> None:
        """What was done before is of no interest."""
        self.log.unlink(missing_ok=True)

    def changed(self) -> set[str]:
        """What was done, such as "open '/tmp/x'"."""
        return set(self.log.read_text().splitlines()) if self.log.exists() else set()

    def outside(self, allowed: Sequence[Path]) -> list[str]:
        """Changes that lie neither in these folders nor in those for temporary files."""
        folders = [str(p.resolve()) for p in (*allowed, self.folder / "tmp", self.folder / "home")]
        found = [(line, ast.literal_eval(line.split(" ", 1)[1])) for line in sorted(self.changed())]
        return [
            line
            for line, path in found
            if not path.startswith(HARMLESS)
            and not any(path == f or path.startswith(f"{f}/") for f in folders)
        ]


def tree_of(folder: Path, *, without: Sequence[Path]) -> dict[str, tuple[int, int, bytes]]:
    """Every path below the folder with mode, time of change and content, but for some folders."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if any(path == left or left in path.parents for left in without):
            continue
        status = path.lstat()
        is_file = path.is_file() and not path.is_symlink()
        content = path.read_bytes() if is_file else b""
        found[str(path)] = (status.st_mode, status.st_mtime_ns if is_file else 0, content)
    return found
