"""A folder of wheels from which one set of requirements installs without a package index.

It can serve several Python versions at once.
"""

from __future__ import annotations

import itertools
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Collection, Sequence
from pathlib import Path

from packaging.utils import canonicalize_name

from appliance.errors import PrerequisiteError

PLATFORMS = tuple(f"manylinux_2_{minor}_x86_64" for minor in range(35, 4, -1)) + tuple(
    f"{name}_x86_64" for name in ("manylinux2014", "manylinux2010", "manylinux1", "linux")
)
"""Platform tags of wheels that run on Kaggle, whose image has glibc 2.35 or newer.

pip takes the names literally: one wheel says 2_25, another 2_17. Of the engines' wheels llguidance
asks for the newest glibc, 2.31.
"""

FOLDERS = ("appliance", "condor", "submission")
FILES = ("pyproject.toml", "README.md", "LICENSE")
"""What the wheel of the appliance is built from."""

CHANGED = "-changed"
"""Ending of a revision whose files are not those of its commit."""

_VERBS = ("download", "wheel")
"""Commands of pip that are called here, to name the one that failed."""


def download(lists: Sequence[Path], pythons: Sequence[str], wheels: Path) -> None:
    """Fetch the pinned wheels of each list for every Python ("3.12").

    Where a list has hashes, pip checks them. Needs a package index; pip's own configuration says
    which.

    Raises PrerequisiteError naming what pip did not find.
    """
    wheels.mkdir(parents=True, exist_ok=True)
    for python, requirements in itertools.product(pythons, lists):
        where = ["--no-deps", "--dest", str(wheels)]
        run_pip("download", *_target(python), *where, "-r", str(requirements))


def without(requirements: Path, names: Collection[str], folder: Path) -> Path:
    """A copy of the list in the folder, under the same name, without those packages."""
    entries: list[str] = []
    for line in requirements.read_text(encoding="utf-8").splitlines(keepends=True):
        if line[:1].isspace() and entries:  # hashes stand below the package
            entries[-1] += line
        else:
            entries.append(line)

    left_out = {canonicalize_name(name) for name in names}
    kept = [e for e in entries if canonicalize_name(e.partition("==")[0].strip()) not in left_out]
    copy = folder / requirements.name
    copy.write_text("".join(kept), encoding="utf-8")
    return copy


def versions_of(lists: Sequence[Path]) -> str:
    """The pinned versions of all lists, without hashes: pip wants a hash on each line or none."""
    text = "".join(path.read_text(encoding="utf-8").replace("\\\n", " ") for path in lists)
    return "".join(line.split(" --hash=")[0].rstrip() + "\n" for line in text.splitlines())


def build_appliance(source: Path, wheels: Path) -> str:
    """Build the wheel of the code itself and return its file name."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "source"  # setuptools writes beside the sources: not in the checkout
        copy.mkdir()
        for name in FOLDERS:
            shutil.copytree(
                source / name, copy / name, ignore=shutil.ignore_patterns("__pycache__")
            )
        for name in FILES:
            shutil.copy(source / name, copy / name)

        run_pip("wheel", "--no-deps", "--wheel-dir", str(wheels), str(copy))

    return max(wheels.glob("arc_appliance-*.whl"), key=lambda p: p.stat().st_mtime).name


def revision_of(source: Path) -> str:
    """The last commit that changed what is packed, such as "1a2b3c4d5e6f".

    It ends in CHANGED where a packed file differs from its commit, and is "unknown" outside git.
    """
    packed = ("--", *FOLDERS, *FILES, "requirements")

    def git(*words: str) -> str:
        command = ["git", "-C", str(source), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        revision = git("log", "-1", "--abbrev=12", "--format=%h", *packed)
        changed = git("status", "--porcelain", *packed)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return (revision or "unknown") + (CHANGED if changed else "")


def _target(python: str) -> list[str]:
    """Options by which pip picks wheels for another Python: CPython, its own ABI, abi3 or none."""
    major, minor = python.split(".")
    platforms = [part for name in PLATFORMS for part in ("--platform", name)]
    abis = [part for abi in (f"cp{major}{minor}", "abi3", "none") for part in ("--abi", abi)]
    tags = ["--implementation", "cp", "--python-version", python, *abis]
    return ["--only-binary", ":all:", *platforms, *tags]


def run_pip(*arguments: str) -> None:
    """Run pip, of this Python or the system's. Raises PrerequisiteError with what pip said."""
    command = [*_pip_command(), "--quiet", "--disable-pip-version-check", *arguments]
    done = subprocess.run(command, capture_output=True, text=True)

    if done.returncode:
        errors = [x for x in (done.stderr + done.stdout).splitlines() if "WARNING" not in x]
        raise PrerequisiteError(
            f"pip {next(a for a in arguments if a in _VERBS)}: " + "; ".join(errors[-6:]),
            expected="every pinned wheel, for the Pythons and the platform asked for",
            remedy="check requirements/ and pip's index; other Pythons by --python",
        )


def _pip_command() -> list[str]:
    """pip of this Python, else of the system; from 22.3 on it installs into other environments."""
    base = getattr(sys, "_base_executable", "")  # of a virtual environment, which may lack pip
    for python in (sys.executable, base, shutil.which("python3")):
        if not python:
            continue
        command = [python, "-m", "pip"]
        if subprocess.run([*command, "--version"], capture_output=True).returncode == 0:
            return command

    raise PrerequisiteError(
        "no pip found", expected="python3 -m pip", remedy="apt-get install python3-pip"
    )
