"""Write a file or a folder whole or not at all: what bears the name is never half written.

A kill or a full disk at any moment leaves the old file or the new one. A folder that is being
replaced may be missing if the kill falls between the removal of the old one and the rename.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from appliance.errors import OutputError


def write_atomic(path: Path, data: bytes) -> None:
    """Temporary file in the same folder, fsync, rename over `path`, fsync of the folder.

    A path has one writer at a time. Raises OutputError when the file system refuses (no space, no
    folder, read-only); then `path` is untouched and nothing is left beside it.
    """
    # A fixed name, so that the next write takes up what a kill left there.
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        try:
            with temporary.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as fault:
        raise OutputError(
            f"{path} cannot be written: {fault.strerror or fault}",
            expected=f"room for {len(data)} bytes in a folder that exists and may be written",
            remedy="free space or choose another folder; what stood there before is untouched",
        ) from fault

    _sync_folder(path.parent)


@contextlib.contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """A folder beside it to write into, which takes the place of `folder` if the `with` ends well.

    Whoever may read the folder may then read its files too.
    """
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    yield part

    # safetensors 0.8 writes files that only their owner may read: a container could not read a
    # model made by root.
    mode = part.stat().st_mode & 0o666
    for file in filter(Path.is_file, part.rglob("*")):
        file.chmod(mode)

    shutil.rmtree(folder, ignore_errors=True)
    part.rename(folder)


def make_folder(folder: Path) -> None:
    """With its parents, if it is not there. Raises OutputError where that cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as fault:
        raise OutputError(
            f"folder {folder} cannot be made: {fault.strerror or fault}",
            expected="a path where folders may be made, and no file in its way",
            remedy="choose another path",
        ) from fault


def _sync_folder(folder: Path) -> None:
    """Make the rename last through a power cut."""
    # Some network file systems cannot sync a folder; the rename stands all the same.
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
