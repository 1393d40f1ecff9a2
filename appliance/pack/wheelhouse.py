"""A folder of wheels from which one set of requirements installs without an index, for one or several Pythons."""

from __future__ import annotations

import itertools
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from appliance.errors import PrerequisiteError

PLATFORMS = tuple(f"manylinux_2_{minor}_x86_64" for minor in range(35, 4, -1)) + tuple(
    f"{name}_x86_64" for name in ("manylinux2014", "manylinux2010", "manylinux1", "linux")
)
"""pip takes these names literally: one wheel says 2_25, another 2_17. Kaggle's image has a glibc of 2.35 or newer; of the
engines' wheels llguidance asks for the most, 2.31."""


_VERBS = ("download", "wheel", "install", "check")


def download(lists: Sequence[Path], pythons: Sequence[str], wheels: Path) -> None:
    """Fetch the pinned wheels of each list for every Python ("3.12"); a list with hashes is held to them. Needs an index;
    pip's own configuration says which.

    Raises PrerequisiteError naming what pip did not find.
    """
    wheels.mkdir(parents=True, exist_ok=True)
    for python, requirements in itertools.product(pythons, lists):
        _pip(
            "download",
            *_target(python),
            "--no-deps",
            "--dest",
            str(wheels),
            "-r",
            str(requirements),
        )


def versions_of(lists: Sequence[Path]) -> str:
    """The pinned versions of all lists without their hashes, which pip wants of every line or of none."""
    text = "".join(path.read_text(encoding="utf-8").replace("\\\n", " ") for path in lists)
    return "".join(line.split(" --hash=")[0].rstrip() + "\n" for line in text.splitlines())


def build_appliance(source: Path, wheels: Path) -> str:
    """Build the wheel of the code itself, from a copy so that the checkout stays clean; its file name."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "source"
        copy.mkdir()
        for name in ("appliance", "condor", "submission"):
            shutil.copytree(
                source / name, copy / name, ignore=shutil.ignore_patterns("__pycache__")
            )
        for name in ("pyproject.toml", "README.md", "LICENSE"):
            shutil.copy(source / name, copy / name)
        _pip("wheel", "--no-deps", "--wheel-dir", str(wheels), str(copy))
    return max(wheels.glob("arc_appliance-*.whl"), key=lambda p: p.stat().st_mtime).name


def check_closure(requirements: Path, pythons: Sequence[str], wheels: Path) -> None:
    """Every dependency of every wheel lies in the folder: for this Python by an install into an empty environment, for
    others by pip's resolver alone, both without an index.

    Raises PrerequisiteError naming what is missing.
    """
    for python in pythons:
        with tempfile.TemporaryDirectory() as folder:
            if python == f"{sys.version_info.major}.{sys.version_info.minor}":
                environment = Path(folder) / "environment"
                subprocess.run(
                    [sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True
                )
                where = ["--python", str(environment / "bin" / "python")]
                _pip(
                    *where,
                    "install",
                    "--no-index",
                    "--no-compile",
                    "--find-links",
                    str(wheels),
                    "-r",
                    str(requirements),
                )
                _pip(*where, "check")
            else:
                offline = [
                    "--dry-run",
                    "--ignore-installed",
                    "--no-index",
                    "--find-links",
                    str(wheels),
                ]
                _pip(
                    "install",
                    *offline,
                    "--target",
                    folder,
                    *_target(python),
                    "-r",
                    str(requirements),
                )


def _target(python: str) -> list[str]:
    major, minor = python.split(".")
    abi = f"cp{major}{minor}"
    tags = [
        "--implementation",
        "cp",
        "--python-version",
        python,
        "--abi",
        abi,
        "--abi",
        "abi3",
        "--abi",
        "none",
    ]
    return [
        "--only-binary",
        ":all:",
        *(part for p in PLATFORMS for part in ("--platform", p)),
        *tags,
    ]


def _pip(*arguments: str) -> None:
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
    """pip 22.3 or newer, which can install into another environment: of this Python, else of the system."""
    for python in (
        sys.executable,
        getattr(sys, "_base_executable", ""),
        shutil.which("python3") or "",
    ):
        if (
            python
            and not subprocess.run(
                [python, "-m", "pip", "--version"], capture_output=True
            ).returncode
        ):
            return [python, "-m", "pip"]
    raise PrerequisiteError(
        "no pip found", expected="python3 -m pip", remedy="apt-get install python3-pip"
    )
