"""A Kaggle notebook machine: its file tree in both layouts, and its environment variables.

Inputs are read-only and without execute bits, and there is no network.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

COMPETITION = "arc-prize-2026"
OWNER = "tester"
SLUG = "arc-appliance"
EXECUTE = """
import sys, nbformat, nbclient
book = nbformat.read(sys.argv[1], as_version=4)
try:
    nbclient.NotebookClient(book, timeout=None, kernel_name="python3").execute()
    code = 0
except nbclient.exceptions.CellExecutionError:
    code = 1
for cell in book.cells:
    for output in cell.get("outputs", []):
        sys.stdout.write(output.get("text", "") or "\\n".join(output.get("traceback", [])))
sys.exit(code)
"""


@dataclass(frozen=True)
class Ran:
    """A notebook that was run."""

    code: int
    output: str  # what its log shows
    working: Path  # what is left in /kaggle/working


def lay_out(inputs: Path, dataset: Path, challenges: Path, *, layout: str) -> Path:
    """Make input/, in the "nested" layout of 2026 or the "flat" one before; returns the data set.

    Files are hard links, because the wheels are large.
    """
    nested = layout == "nested"
    competition = inputs / "competitions" / COMPETITION if nested else inputs / COMPETITION
    mounted = inputs / "datasets" / OWNER / SLUG if nested else inputs / SLUG
    competition.mkdir(parents=True)
    shutil.copy(challenges, competition / "arc-agi_test_challenges.json")
    shutil.copytree(dataset, mounted, copy_function=os.link)

    for path in mounted.rglob("*"):
        if path.is_file():
            path.chmod(0o444)
    return mounted


def run_notebook(
    notebook: Path,
    inputs: Path,
    work: Path,
    *,
    is_rerun: bool,
    python: Path | None = None,
    cards: str = "",
) -> Ran:
    """Run a notebook to its end or its first error.

    python: of an environment with nbclient, which executes the notebook as Kaggle does; without it
    this Python runs the cells in order. cards: what nvidia-smi says there, a line for each GPU.
    """
    working, scratch = work / "working", work / "tmp"
    for folder in (working, scratch, scratch / "bin"):
        folder.mkdir(parents=True, mode=0o777)
        folder.chmod(0o777)
    if cards:
        smi = scratch / "bin" / "nvidia-smi"
        smi.write_text(f"#!/bin/sh\ncat <<'CARDS'\n{cards}CARDS\n")
        smi.chmod(0o755)

    if python is None:
        python = Path(sys.executable)
        cells = json.loads(notebook.read_text())["cells"]
        script = "\n\n".join(cell["source"] for cell in cells if cell["cell_type"] == "code")
        (scratch / "cells.py").write_text(script)
        command = [base_python(), "/tmp/cells.py"]
    else:
        (scratch / "execute.py").write_text(EXECUTE)
        shutil.copy(notebook, scratch / "notebook.ipynb")
        command = [str(python), "/tmp/execute.py", "/tmp/notebook.ipynb"]

    walls = _walls(inputs, working, scratch, is_rerun=is_rerun, environment=python.parents[1])
    done = subprocess.run(
        [*walls, *command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    return Ran(done.returncode, done.stdout, working)


def base_python() -> str:
    """The interpreter under this environment, which has a pip of its own as Kaggle's has."""
    return str(Path(sys.base_prefix) / "bin" / "python3")


def _walls(
    inputs: Path, working: Path, scratch: Path, *, is_rerun: bool, environment: Path
) -> list[str]:
    """For bwrap: a fresh root with the system's own folders and Kaggle's.

    Nothing of this repository is in it.
    """
    binds = ["/usr", "/etc", sys.base_prefix, str(environment)]
    variables = {
        "PATH": "/tmp/bin:/usr/local/bin:/usr/bin:/bin",
        "HOME": "/tmp",
        "KAGGLE_KERNEL_RUN_TYPE": "Batch",
    }
    if is_rerun:
        variables["KAGGLE_IS_COMPETITION_RERUN"] = "1"

    command = ["bwrap", "--unshare-all", "--die-with-parent", "--clearenv"]
    command += ["--proc", "/proc", "--dev", "/dev"]
    for name in ("bin", "sbin", "lib", "lib64"):
        command += ["--symlink", f"usr/{name}", f"/{name}"]
    command += ["--bind", str(scratch), "/tmp", "--ro-bind", str(inputs), "/kaggle/input"]
    for path in dict.fromkeys(binds):  # after /tmp, for a checkout may lie there
        command += ["--ro-bind", path, path]
    command += ["--bind", str(working), "/kaggle/working", "--chdir", "/kaggle/working"]
    for name, value in variables.items():
        command += ["--setenv", name, value]
    return command
