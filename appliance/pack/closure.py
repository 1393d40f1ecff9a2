"""Whether a folder of wheels is complete: whatever one of them needs lies in the folder too.

Told by the wheels' own metadata, so it holds for every Python, whichever one asks. pip's resolver
says the same, but cannot leave out a requirement that is known to be of no use.
"""

from __future__ import annotations

import zipfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from email.parser import Parser
from functools import cache
from pathlib import Path

from packaging.requirements import Requirement
from packaging.tags import compatible_tags, cpython_tags
from packaging.utils import canonicalize_name, parse_wheel_filename
from packaging.version import Version

from appliance.errors import PrerequisiteError
from appliance.pack.wheelhouse import PLATFORMS


@dataclass(frozen=True)
class Wheel:
    """A file of the folder."""

    path: Path
    version: Version


def check_closure(
    requirements: Path, pythons: Sequence[str], wheels: Path, *, left_out: Collection[str] = ()
) -> None:
    """Check that all that the pinned wheels need is there, for each of these Pythons ("3.12").

    requirements: pinned versions, one a line. left_out: packages that may be missing.

    Raises PrerequisiteError naming what is missing.
    """
    faults = []
    for python in pythons:
        pins = [Requirement(line) for line in _lines(requirements)]
        found = _missing(pins, offered(wheels, python), _environment(python), left_out)
        faults += [f"Python {python}: {fault}" for fault in found]

    if faults:
        raise PrerequisiteError(
            "; ".join(faults[:6]),
            expected="every wheel that a pinned one needs",
            remedy="add what is missing to requirements/ (make lock)",
        )


def remove_others(requirements: Path, pythons: Sequence[str], wheels: Path) -> None:
    """Remove wheels that an earlier packing left: other versions, or for other Pythons alone."""
    pins = [Requirement(line) for line in _lines(requirements)]
    pinned = {canonicalize_name(pin.name): pin.specifier for pin in pins}

    kept = set()
    for python in pythons:
        for wheel in _fitting(wheels, python):
            name = parse_wheel_filename(wheel.path.name)[0]
            if name in pinned and pinned[name].contains(wheel.version, prereleases=True):
                kept.add(wheel.path)
    for path in set(wheels.glob("*.whl")) - kept:
        path.unlink()


def names_of(overrides: Path) -> tuple[str, ...]:
    """The packages of a file of overrides, which takes them out of a list."""
    return tuple(Requirement(line).name for line in _lines(overrides))


def _lines(path: Path) -> Iterator[str]:
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.strip() and not line.startswith("#"):
            yield line


def _missing(
    pins: Sequence[Requirement],
    there: Mapping[str, Wheel],
    environment: Mapping[str, str],
    left_out: Collection[str],
) -> Iterator[str]:
    """A sentence for each need that no wheel meets, each need followed once."""
    waiting = [("the list", pin) for pin in pins]
    followed: set[tuple[str, str]] = set()  # package, one of its extras ("" for none)

    while waiting:
        who, need = waiting.pop()
        name = canonicalize_name(need.name)
        if name in left_out:
            continue
        wheel = there.get(name)
        if wheel is None or not need.specifier.contains(wheel.version, prereleases=True):
            instead = "it is not there" if wheel is None else f"{wheel.version} is there"
            yield f"{who} needs {need.name}{need.specifier}, and {instead}"
            continue

        for extra in {"", *need.extras} - {e for n, e in followed if n == name}:
            followed.add((name, extra))
            told = {**environment, "extra": extra}
            for further in _needs(wheel.path):
                if further.marker is None or further.marker.evaluate(told):
                    waiting.append((name, further))


def offered(wheels: Path, python: str) -> dict[str, Wheel]:
    """The wheels of the folder that this Python ("3.12") can install, by package."""
    return {str(parse_wheel_filename(w.path.name)[0]): w for w in _fitting(wheels, python)}


def _fitting(wheels: Path, python: str) -> Iterator[Wheel]:
    """Those that this Python can install."""
    major, minor = (int(part) for part in python.split("."))
    version = (major, minor)
    tags = set(cpython_tags(version, platforms=PLATFORMS))
    tags |= set(compatible_tags(version, f"cp{major}{minor}", PLATFORMS))

    for path in sorted(wheels.glob("*.whl")):
        _, found, _, own_tags = parse_wheel_filename(path.name)
        if own_tags & tags:
            yield Wheel(path, found)


@cache
def _needs(wheel: Path) -> tuple[Requirement, ...]:
    """What its metadata ask for."""
    with zipfile.ZipFile(wheel) as archive:
        name = next(n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        metadata = Parser().parsestr(archive.read(name).decode("utf-8"), headersonly=True)
    return tuple(Requirement(text) for text in metadata.get_all("Requires-Dist") or ())


def _environment(python: str) -> dict[str, str]:
    """How that Python describes Kaggle's machine."""
    return {
        "implementation_name": "cpython",
        "implementation_version": f"{python}.0",
        "os_name": "posix",
        "platform_machine": "x86_64",
        "platform_python_implementation": "CPython",
        "platform_release": "",
        "platform_system": "Linux",
        "platform_version": "",
        "python_full_version": f"{python}.0",
        "python_version": python,
        "sys_platform": "linux",
    }
