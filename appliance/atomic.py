"""Write a file or a folder whole or not at all: what bears the name is never half written.

A kill or a full disk at any moment leaves the old file or the new one. A folder that is being
replaced may be missing if the kill falls between the removal of the old one and the rename.

What stands at the path decides:

    nothing, a file    the new file takes its place and its permission bits (not its owner)
    a link             is followed and stays; the file that it names is replaced or made
    a pipe, a terminal, /dev/null, /dev/stdout     is written through
    a folder, a socket, a disk                     OutputError
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import itertools
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from appliance.clock import SystemClock
from appliance.errors import OutputError
from appliance.foreign_text import MOST_NAME_BYTES

MOST_WAIT_S = 10.0
"""Seconds to wait for another process that writes the same file."""

A_FILE = "a file, or nothing yet, in a folder that exists, may be written and has room"
A_FOLDER = "a folder, or nothing yet, where one may be made and there is room"

Write = Callable[[bytes], None]


def write_atomic(path: Path, data: bytes) -> None:
    """Make these bytes the content of `path`. Raises OutputError as `open_atomic` does."""
    with open_atomic(path) as write:
        write(data)


def write_part(path: Path, data: bytes) -> None:
    """One of many files of a folder that counts only when its last one is there, which
    `write_atomic` writes: to wait for the disk after each of thousands takes minutes.

    Raises OutputError when the file system refuses.
    """
    with _refusals(path):
        path.write_bytes(data)


@contextlib.contextmanager
def open_atomic(path: Path) -> Iterator[Write]:
    """A function that takes the content bit by bit; `path` has it when the `with` ends well.

    Temporary file in the same folder, fsync, rename over `path`, fsync of the folder. Two writers
    of one path wait for each other.

    Raises OutputError when the file system refuses (no space, no folder, read-only) or nobody
    reads the pipe; then what stood at `path` is untouched and nothing is left beside it.
    """
    with _refusals(path):
        target = _behind_links(path)
        temporary = None if _is_stream(target) else beside(target, "tmp")
        file = _stream(target) if temporary is None else _temporary(temporary, target)

    def write(data: bytes) -> None:
        with _refusals(path):
            file.write(data)

    try:
        yield write
        with _refusals(path):
            file.flush()
            if temporary is not None:
                _put_in_place(file, temporary, target)
    except BaseException:
        if temporary is not None:  # it is ours as long as the file is open
            temporary.unlink(missing_ok=True)
        raise
    finally:
        # What could not be written is tried once more here; the fault is told already.
        with contextlib.suppress(OSError):
            file.close()


@contextlib.contextmanager
def whole_folder(folder: Path, *, mark: str) -> Iterator[Path]:
    """A folder beside it to write into, which takes the place of `folder` if the `with` ends well.

    mark: name of a file that every folder of this kind holds. One without it is somebody else's
    and stays: raises OutputError, also for a link and where the file system refuses.

    Whoever may read the folder may then read its files too.
    """
    check_replaceable(folder, mark=mark)
    part = beside(folder, "part")
    with _refusals(folder, expected=A_FOLDER):
        _remove(part)
        part.mkdir(parents=True)

    try:
        yield part

        # safetensors 0.8 writes files that only their owner may read: a container could not read
        # a model made by root.
        mode = part.stat().st_mode & 0o666
        for file in filter(Path.is_file, part.rglob("*")):
            file.chmod(mode)

        with _refusals(folder, expected=A_FOLDER):
            _remove(folder)
            part.rename(folder)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise


def check_replaceable(folder: Path, *, mark: str) -> None:
    """Raises OutputError when something is there that is neither empty nor marked as ours."""
    with _refusals(folder, expected=A_FOLDER):
        is_link, is_there = folder.is_symlink(), folder.exists()
        is_ours = folder.is_dir() and (not any(folder.iterdir()) or (folder / mark).is_file())

    if is_link or (is_there and not is_ours):
        raise OutputError(
            f"{folder} {'is a link' if is_link else 'holds something else'}",
            expected=f"nothing there, or a folder that was made by this program (with {mark})",
            remedy="pass another path, or move away what is there",
        )


def make_folder(path: Path) -> None:
    """Make a folder and those above it. Raises OutputError when the file system refuses."""
    with _refusals(path, expected=A_FOLDER):
        path.mkdir(parents=True, exist_ok=True)


def beside(path: Path, ending: str) -> Path:
    """The hidden name beside `path` under which it is written, such as `.report.html.tmp`.

    Always the same one, so that the next write takes up what a kill left there.
    """
    name = f".{path.name}.{ending}"
    if len(os.fsencode(name)) > MOST_NAME_BYTES:
        name = f".{hashlib.sha256(os.fsencode(path.name)).hexdigest()}.{ending}"
    return path.with_name(name)


def _behind_links(path: Path) -> Path:
    """The path that a chain of links ends in, whether anything is there or not.

    What /proc holds are links to open files, such as /dev/stdout: they are not followed.
    """
    with contextlib.suppress(FileNotFoundError):  # a link to nothing: what it names is made
        path.stat()  # raises OSError for links in a circle

    path = Path(os.path.realpath(path.parent)) / path.name
    while path.is_symlink() and not _is_in_proc(path):
        path = path.parent / path.readlink()
        path = Path(os.path.realpath(path.parent)) / path.name
    return path


def _is_stream(path: Path) -> bool:
    """Whether what is there is written through. Raises OSError where nothing can be written."""
    try:
        kind = path.stat().st_mode
    except FileNotFoundError:
        return False
    if stat.S_ISDIR(kind):
        raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))
    is_open_file = _is_in_proc(path)
    if stat.S_ISBLK(kind) or (stat.S_ISSOCK(kind) and not is_open_file):
        raise OSError(errno.EINVAL, "neither a file nor a pipe")
    return is_open_file or not stat.S_ISREG(kind)


def _is_in_proc(path: Path) -> bool:
    return path.parts[1:2] == ("proc",)


def _stream(path: Path) -> BinaryIO:
    if path.parent == Path(f"/proc/{os.getpid()}/fd"):
        # Opened anew it would have a place of its own, and overwrite what is printed.
        return os.fdopen(os.dup(int(path.name)), "wb")

    try:
        # A pipe that nobody reads would wait for ever.
        descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError as fault:
        if fault.errno != errno.ENXIO:
            raise
        raise OSError(errno.ENXIO, "a pipe that nobody reads") from fault
    os.set_blocking(descriptor, True)
    return os.fdopen(descriptor, "wb")


def _temporary(path: Path, target: Path) -> BinaryIO:
    """The temporary file, empty, and locked so that no other writer takes it meanwhile."""
    clock = SystemClock()
    end_s = clock.now() + MOST_WAIT_S
    # Never more open to others than what it replaces.
    mode = (_mode(target) or 0o666) | stat.S_IWUSR

    while True:
        with contextlib.suppress(FileNotFoundError):
            left = path.lstat()
            if not stat.S_ISREG(left.st_mode) or left.st_nlink > 1:
                path.unlink()  # no leftover of ours

        flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        file = os.fdopen(os.open(path, flags, mode), "wb")
        try:
            if _is_locked(file) and _is_still_there(file, path):
                file.truncate()
                return file
        except BaseException:
            file.close()
            raise
        file.close()

        if clock.now() > end_s:
            raise OSError(errno.EBUSY, "another process is writing it")
        clock.sleep(0.01)


def _is_locked(file: BinaryIO) -> bool:
    """Lock it for this writer. Where the file system has no locks, a path has one writer."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        pass
    return True


def _is_still_there(file: BinaryIO, path: Path) -> bool:
    """Whether no other writer has renamed it between our opening and our lock."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.lstat())
    except FileNotFoundError:
        return False


def _put_in_place(file: BinaryIO, temporary: Path, target: Path) -> None:
    mode = _mode(target)
    if mode is not None:
        os.fchmod(file.fileno(), mode)
    os.fsync(file.fileno())
    temporary.replace(target)
    _sync_folder(target.parent)


def _mode(path: Path) -> int | None:
    """Its permission bits, None where nothing is there."""
    try:
        return stat.S_IMODE(path.stat().st_mode)
    except FileNotFoundError:
        return None


def _remove(path: Path) -> None:
    """A file or a folder, if it is there. Of a link only the link."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def _refusals(path: Path, *, expected: str = A_FILE) -> Iterator[None]:
    """Refusals of the file system become OutputError."""
    try:
        yield
    except OutputError:
        raise
    except (OSError, ValueError) as fault:  # ValueError: a zero byte in the path
        raise OutputError(
            f"{path} cannot be written: {getattr(fault, 'strerror', None) or fault}",
            expected=expected,
            remedy="free space or pass another path; what stood there before is untouched",
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


def put_aside(path: Path) -> Path:
    """Rename a damaged file (or folder) to NAME.damaged-1, or the next number that is free.

    Returns the new path. Raises OutputError when the file system refuses.
    """
    numbers = itertools.count(1)
    free = (path.with_name(f"{path.name}.damaged-{n}") for n in numbers)
    aside = next(p for p in free if not os.path.lexists(p))
    try:
        path.rename(aside)
    except OSError as fault:
        raise OutputError(
            f"{path} is damaged and cannot be put aside: {fault.strerror or fault}",
            expected="a folder that may be written",
            remedy="delete it, or choose another folder",
        ) from fault
    return aside
