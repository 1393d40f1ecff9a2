"""A file or a folder is there whole, or as it was before, and only what is ours is replaced."""

from __future__ import annotations

import os
import select
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from appliance.atomic import open_atomic, whole_folder, write_atomic
from appliance.errors import OutputError


def contents(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_what_was_written_takes_the_place_of_what_was_there(tmp_path: Path) -> None:
    for text in ("first", "second"):
        with whole_folder(tmp_path / "model", mark="weights") as part:
            (part / "weights").write_text(text)
            (part / text).write_text(text)
    assert contents(tmp_path / "model") == {"weights": "second", "second": "second"}
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_fault_on_the_way_leaves_the_old_folder_and_the_next_try_starts_anew(
    tmp_path: Path,
) -> None:
    with whole_folder(tmp_path / "model", mark="weights") as part:
        (part / "weights").write_text("old")
    with (
        pytest.raises(OSError, match="disk"),
        whole_folder(tmp_path / "model", mark="weights") as part,
    ):
        (part / "half").write_text("new")
        raise OSError("disk")
    assert contents(tmp_path / "model") == {"weights": "old"}

    with whole_folder(tmp_path / "model", mark="weights") as part:
        (part / "weights").write_text("new")
    assert contents(tmp_path / "model") == {"weights": "new"}


def test_files_are_as_readable_as_the_folder(tmp_path: Path) -> None:
    with whole_folder(tmp_path / "model", mark="weights") as part:
        part.chmod(0o750)
        (part / "deep").mkdir()
        (part / "deep" / "weights").write_text("for the owner alone")
        (part / "deep" / "weights").chmod(0o600)
    assert (tmp_path / "model" / "deep" / "weights").stat().st_mode & 0o777 == 0o640


def test_a_folder_of_somebody_else_is_never_emptied(tmp_path: Path) -> None:
    foreign = tmp_path / "model"
    foreign.mkdir()
    (foreign / "thesis").write_text("years")
    link = tmp_path / "link"
    link.symlink_to(foreign)
    (tmp_path / "file").write_text("text")

    for name in ("model", "link", "file", "file/below"):
        with pytest.raises(OutputError), whole_folder(tmp_path / name, mark="weights"):
            raise AssertionError("must not begin")
    assert contents(foreign) == {"thesis": "years"}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "link", "model"]


def test_what_lies_in_the_way_of_the_part_is_removed_but_not_what_it_links_to(
    tmp_path: Path,
) -> None:
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "thesis").write_text("years")
    (tmp_path / ".model.part").symlink_to(foreign)
    (tmp_path / ".file.tmp").symlink_to(foreign / "thesis")

    with whole_folder(tmp_path / "model", mark="weights") as part:
        (part / "weights").write_text("new")
    write_atomic(tmp_path / "file", b"new")
    assert contents(foreign) == {"thesis": "years"}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "foreign", "model"]


def test_a_link_stays_and_its_file_is_replaced_or_made(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    for name in ("old", "none"):
        (tmp_path / name).symlink_to(f"there/{name}.json")
        (tmp_path / f"again-{name}").symlink_to(tmp_path / name)
    (tmp_path / "there" / "old.json").write_text("old")

    for name in ("old", "none"):
        write_atomic(tmp_path / f"again-{name}", b"new")
        assert (tmp_path / name).is_symlink()
    assert contents(tmp_path / "there") == {"old.json": "new", "none.json": "new"}


def test_permissions_of_the_file_stay(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.touch()
    for mode in (0o600, 0o640, 0o444):
        path.chmod(mode)
        write_atomic(path, b"new")
        assert path.stat().st_mode & 0o777 == mode


def test_a_pipe_gets_the_content_and_stays(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(OutputError, match="nobody reads"):
        write_atomic(pipe, b"lost")

    content = bytes(range(256)) * 1024  # more than a pipe holds at once
    heard: list[bytes] = []
    descriptor = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    os.set_blocking(descriptor, True)

    def read() -> None:
        select.select([descriptor], [], [])
        with os.fdopen(descriptor, "rb") as stream:
            heard.append(stream.read())

    reader = threading.Thread(target=read)
    reader.start()
    write_atomic(pipe, content)
    reader.join(10)
    assert heard == [content]
    assert pipe.is_fifo()


def test_devices_are_written_through(tmp_path: Path) -> None:
    write_atomic(Path("/dev/null"), b"x")
    assert Path("/dev/null").is_char_device()

    (tmp_path / "full").symlink_to("/dev/full")
    for path in (Path("/dev/full"), tmp_path / "full"):
        with pytest.raises(OutputError, match="No space"):
            write_atomic(path, b"x")
    assert Path("/dev/full").is_char_device()


@pytest.mark.parametrize("name", ["/dev/stdout", "/proc/self/fd/1", "/dev/fd/1"])
def test_standard_output_takes_its_place_among_what_is_printed(name: str, tmp_path: Path) -> None:
    program = (
        "import pathlib, sys; from appliance.atomic import write_atomic\n"
        "print('before', flush=True)\n"
        "write_atomic(pathlib.Path(sys.argv[1]), b'content\\n')\n"
        "print('after')"
    )
    command = [sys.executable, "-c", program, name]
    with (tmp_path / "out").open("wb") as out:
        subprocess.run(command, stdout=out, check=True)
    assert (tmp_path / "out").read_text() == "before\ncontent\nafter\n"
    assert subprocess.run(command, capture_output=True, check=True).stdout.split()[1] == b"content"


def test_what_cannot_be_replaced_is_refused_and_left(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("old")
    (tmp_path / "circle").symlink_to("circle")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))

    names = ["folder", "file/below", "none/below", "circle", "socket", "x" * 256, "zero\0byte"]
    for path in [*(tmp_path / name for name in names), Path("/"), Path(), Path("..")]:
        with pytest.raises(OutputError):
            write_atomic(path, b"new")
    assert (tmp_path / "file").read_text() == "old"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["circle", "file", "folder", "socket"]


@pytest.mark.parametrize("name", ["x" * 255, "é" * 127, "-rf", "*", "a\nb", "%s"])
def test_any_name_that_the_file_system_takes(name: str, tmp_path: Path) -> None:
    for text in (b"old", b"new"):
        write_atomic(tmp_path / name, text)
    with whole_folder(tmp_path / "below" / name, mark="weights") as part:
        (part / "weights").touch()
    assert contents_of(tmp_path) == {name: b"new", f"below/{name}/weights": b""}


def contents_of(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_a_fault_between_two_writes_leaves_the_old_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "results"
    path.write_text("old")
    with pytest.raises(KeyError), open_atomic(path) as write:
        write(b"half")
        raise KeyError
    assert contents(tmp_path) == {"results": "old"}


def test_two_writers_never_mix(tmp_path: Path) -> None:
    """Each writes its own letter, many times; what is there is always of one of them, and whole."""
    path = tmp_path / "results"
    size, seen = 100_000, set[bytes]()
    write_atomic(path, b"a" * size)

    def put(letter: bytes) -> None:
        for _ in range(50):
            write_atomic(path, letter * size)

    writers = [threading.Thread(target=put, args=(letter,)) for letter in (b"a", b"b", b"c")]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        seen.add(path.read_bytes())

    assert seen <= {letter * size for letter in (b"a", b"b", b"c")}
    assert [p.name for p in tmp_path.iterdir()] == ["results"]
