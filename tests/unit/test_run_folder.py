"""What may stand at --out: a run resumes in its own folder, and takes nobody else's."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from appliance.errors import InputError, OutputError
from appliance.record.run_folder import RunFolder, open_run


def start(out: Path, *, is_fresh: bool = False) -> RunFolder:
    folder, journal, lock = open_run(out, identity="i", is_fresh=is_fresh)
    journal.close()
    lock.close()
    return folder


def contents(folder: Path) -> dict[str, str]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): path.read_text() for path in files}


def fill(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "thesis").write_text("years")


@pytest.mark.parametrize("is_fresh", [False, True])
@pytest.mark.parametrize("name", ["config.json", "thesis", "scratch/x", "logs/x", "adapters/a/x"])
def test_a_folder_that_no_run_has_made_is_refused(
    name: str, is_fresh: bool, tmp_path: Path
) -> None:
    (tmp_path / "run" / name).parent.mkdir(parents=True)
    (tmp_path / "run" / name).write_text("years")
    with pytest.raises(OutputError, match=f"{name.split('/')[0]}'? and no journal"):
        start(tmp_path, is_fresh=is_fresh)
    assert contents(tmp_path) == {f"run/{name}": "years"}


KINDS: dict[str, Callable[[Path], object]] = {
    "pipe": lambda path: os.mkfifo(path),
    "link": lambda path: path.symlink_to("/"),
    "dangling link": lambda path: path.symlink_to("nothing"),
    "file": lambda path: path.write_text("x"),
    "folder": fill,
}
FILES = ("lock", "journal.sqlite", "config.json", "plan.json", "report.json", "legs.json")
FOLDERS = ("adapters", "logs", "scratch")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", [*FILES, *FOLDERS, "logs/worker-0.log"])
def test_links_pipes_and_folders_in_the_place_of_files_are_refused(
    name: str, kind: str, tmp_path: Path
) -> None:
    if kind == ("folder" if name in FOLDERS else "file"):
        pytest.skip("what should be there")

    folder = start(tmp_path)
    path = folder.run / name
    if path.is_dir():
        path.rmdir()
    path.unlink(missing_ok=True)
    KINDS[kind](path)
    for is_fresh in (False, True):
        with pytest.raises(OutputError, match=f"{path} is no "):
            start(tmp_path, is_fresh=is_fresh)
    assert os.path.lexists(path)


@pytest.mark.parametrize("kind", ["pipe", "folder"])
def test_the_submission_must_be_a_file(kind: str, tmp_path: Path) -> None:
    KINDS[kind](tmp_path / "submission.json")
    with pytest.raises(OutputError, match="no file but"):
        start(tmp_path)


def test_run_may_be_a_link_and_fresh_keeps_what_is_not_of_the_run(tmp_path: Path) -> None:
    """A Kaggle notebook keeps run/ on scratch, behind a link."""
    (tmp_path / "scratch").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "run").symlink_to(tmp_path / "scratch")

    folder = start(tmp_path / "out")
    fill(folder.adapters / "a")
    (folder.run / "notes").write_text("mine")
    folder.config.write_text("{}")
    start(tmp_path / "out", is_fresh=True)

    assert (tmp_path / "out" / "run").is_symlink()
    held = sorted(path.name for path in (tmp_path / "scratch").iterdir())
    assert held == ["adapters", "journal.sqlite", "lock", "logs", "notes"]
    assert list(folder.adapters.iterdir()) == []


def test_what_a_start_that_failed_left_is_no_hindrance(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    for name in ("lock", "legs.json"):
        (tmp_path / "run" / name).touch()
    start(tmp_path)


def test_what_is_no_journal_is_refused_with_a_remedy_that_works(tmp_path: Path) -> None:
    folder = start(tmp_path)
    folder.journal.write_text("this is no database")
    with pytest.raises(InputError, match="or --fresh to begin anew"):
        start(tmp_path)
    assert folder.journal.read_text() == "this is no database"
    start(tmp_path, is_fresh=True)


@pytest.mark.parametrize("task_id", ["007bbfb7", "../victim", "/", "Abc"])
def test_an_adapter_is_found_by_the_id_of_its_task(task_id: str, tmp_path: Path) -> None:
    from appliance.foreign_text import as_file_name

    folder = start(tmp_path / "out")
    fill(tmp_path / "out" / "run" / "victim")
    assert not folder.has_adapter(task_id)
    (folder.adapters / as_file_name(task_id)).mkdir()
    (folder.adapters / as_file_name(task_id) / "adapter.safetensors").touch()
    assert folder.has_adapter(task_id)
