"""A folder is there whole, or as it was before."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.atomic import whole_folder


def contents(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_what_was_written_takes_the_place_of_what_was_there(tmp_path: Path) -> None:
    for text in ("first", "second"):
        with whole_folder(tmp_path / "model") as part:
            (part / text).write_text(text)
    assert contents(tmp_path / "model") == {"second": "second"}
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_fault_on_the_way_leaves_the_old_folder_and_the_next_try_starts_anew(
    tmp_path: Path,
) -> None:
    with whole_folder(tmp_path / "model") as part:
        (part / "weights").write_text("old")
    with pytest.raises(OSError, match="disk"), whole_folder(tmp_path / "model") as part:
        (part / "half").write_text("new")
        raise OSError("disk")
    assert contents(tmp_path / "model") == {"weights": "old"}

    with whole_folder(tmp_path / "model") as part:
        (part / "weights").write_text("new")
    assert contents(tmp_path / "model") == {"weights": "new"}


def test_files_are_as_readable_as_the_folder(tmp_path: Path) -> None:
    with whole_folder(tmp_path / "model") as part:
        part.chmod(0o750)
        (part / "deep").mkdir()
        (part / "deep" / "weights").write_text("for the owner alone")
        (part / "deep" / "weights").chmod(0o600)
    assert (tmp_path / "model" / "deep" / "weights").stat().st_mode & 0o777 == 0o640
