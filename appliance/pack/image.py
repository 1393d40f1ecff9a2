"""The container image of the jobs: how a submit file names it, its size, and what it was built for.

What is sent along from the access point goes through it once for every job. So a file that lies
where the pool itself can fetch it is named by its address (`addresses` in condor/sites.yaml).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from appliance.errors import InputError, UsageError, shorten
from appliance.foreign_text import is_short_path
from appliance.pack.site import Site

URL_IMAGE_BYTES = 4 * 2**30
"""Assumed size of an image that is named by an address: the GPU image, rounded up."""

PLAIN_PATH = re.compile(r"([\w.:@%+=~-]{0,255}/)*[\w.:@%+=~-]{1,255}")
"""What a list of a submit file holds without quotes; each name as long as Linux lets it be."""

HEAD_BYTES = 256 * 1024
"""Where a SIF file keeps its definition and labels as plain text, before the file system."""

LABEL = re.compile(rb'arc-appliance\.target"?\s*:?\s*"?(cpu|gpu)\b')
"""The label of apptainer.def, in the definition itself or as JSON."""


@dataclass(frozen=True)
class Image:
    """What the jobs run in."""

    name: str  # as the submit file names it: a path, or an address with ://
    num_bytes: int
    target: str | None  # cpu or gpu; None where nothing tells

    @property
    def is_sent(self) -> bool:
        """Whether the access point sends it to every job."""
        return "://" not in self.name


def find_image(text: str, site: Site) -> Image:
    """Raises InputError where there is none, UsageError for a name that no submit file can hold."""
    name = plain_path(text, "image")
    if "://" in name:
        return Image(name, URL_IMAGE_BYTES, _target_by_name(name))

    path = Path(name).resolve()
    if not path.is_file():
        raise InputError(
            f"image {text}: not there", expected="a .sif file or a URL", remedy="make sif"
        )
    found = plain_path(site.address_of(path), "image")
    return Image(found, path.stat().st_size, _target_by_label(path) or _target_by_name(path.name))


def plain_path(path: str, what: str) -> str:
    """Raises UsageError unless it can stand in a submit file: lists there are split at commas and
    blanks, and $( begins a macro."""
    if not PLAIN_PATH.fullmatch(path) or not is_short_path(path.encode()):
        raise UsageError(
            f"{what} {shorten(path)!r}: a submit file cannot hold this path",
            expected="letters, digits and . / : @ % + = ~ _ -",
            remedy="copy or rename it: short, without blanks, commas and quotes",
        )
    return path


def _target_by_label(path: Path) -> str | None:
    with path.open("rb") as file:
        found = LABEL.search(file.read(HEAD_BYTES))
    return found[1].decode() if found else None


def _target_by_name(name: str) -> str | None:
    """The names that make gives: arc-appliance-gpu.sif, arc-appliance:gpu.

    >>> _target_by_name("docker://example.org/arc-appliance:gpu")
    'gpu'
    """
    words = set(re.split(r"[^a-z0-9]+", name.rpartition("/")[2].lower()))
    targets = words & {"cpu", "gpu"}
    return targets.pop() if len(targets) == 1 else None
