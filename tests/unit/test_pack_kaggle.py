"""The Kaggle package: golden metadata, Kaggle's rules, the manifest."""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.commands import pack as verb
from appliance.errors import InputError, UsageError
from appliance.pack import kaggle, kaggle_notebook
from appliance.pack.kaggle_rules import dataset_faults, kernel_faults, slug_of
from appliance.pack.wheelhouse import CHANGED, revision_of, versions_of
from tests.support.cases import GOLDEN_FILES
from tests.support.kaggle_package import TITLE, config, packed

GOLDEN = GOLDEN_FILES / "kaggle"


@pytest.mark.parametrize("profile", ["kaggle-l4x4", "kaggle-t4x2"])
def test_the_metadata_are_as_they_were(tmp_path: Path, profile: str) -> None:
    kaggle_notebook.write_notebook(tmp_path, "someone", TITLE, config(profile))
    book = json.loads((tmp_path / kaggle_notebook.NOTEBOOK).read_text())
    texts = {
        "kernel-metadata.json": (tmp_path / "kernel-metadata.json").read_text(),
        "dataset-metadata.json": json.dumps(kaggle.dataset_metadata("someone", TITLE), indent=1)
        + "\n",
        "config.py": book["cells"][1]["source"] + "\n",
    }

    for name, text in texts.items():
        golden = GOLDEN / profile / name
        if "UPDATE_GOLDEN" in os.environ:
            golden.parent.mkdir(parents=True, exist_ok=True)
            golden.write_text(text)
        assert text == golden.read_text()


def test_the_metadata_keep_kaggles_rules(tmp_path: Path) -> None:
    kaggle_notebook.write_notebook(tmp_path, "someone", TITLE, config("kaggle-l4x4"))
    metadata = json.loads((tmp_path / "kernel-metadata.json").read_text())
    assert list(kernel_faults(metadata, tmp_path)) == []
    assert list(dataset_faults(kaggle.dataset_metadata("someone", TITLE))) == []


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"enable_internet": True}, "no internet"),
        ({"title": "Another name"}, "does not give the slug"),
        ({"code_file": "gone.ipynb"}, "not there"),
        ({"dataset_sources": ["no-owner"]}, "has no owner"),
        ({"kernel_type": "script"}, "expected notebook"),
        ({"id": "someone/abc", "title": "abc"}, "5 characters or more"),
    ],
)
def test_a_notebook_that_kaggle_would_refuse_is_refused_here(
    tmp_path: Path, change: dict[str, Any], fault: str
) -> None:
    kaggle_notebook.write_notebook(tmp_path, "someone", TITLE, config("kaggle-l4x4"))
    metadata = json.loads((tmp_path / "kernel-metadata.json").read_text()) | change
    assert any(fault in text for text in kernel_faults(metadata, tmp_path))


@pytest.mark.parametrize(
    "change",
    [
        {"title": "short"},
        {"title": "x" * 51},
        {"licenses": []},
        {"subtitle": "too short"},
        {"id": "arc"},
    ],
)
def test_a_dataset_that_kaggle_would_refuse_is_refused_here(change: dict[str, Any]) -> None:
    assert list(dataset_faults(kaggle.dataset_metadata("someone", TITLE) | change))


@given(title=st.text(max_size=60))
def test_a_slug_has_only_what_addresses_hold(title: str) -> None:
    slug = slug_of(title)
    assert slug == slug_of(slug)
    assert set(slug) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")


def test_the_notebook_is_valid_python_and_names_its_kernel() -> None:
    book = kaggle_notebook.notebook(config("kaggle-l4x4"))
    assert book["metadata"]["kernelspec"]["name"] == "python3"
    for cell in book["cells"]:
        if cell["cell_type"] == "code":
            compile(cell["source"], cell["id"], "exec")


LISTS = kaggle.REPOSITORY / "requirements"


@pytest.mark.parametrize("name", ["cpu", "gpu", "engines", "dev", "kaggle", "hpc"])
def test_every_pinned_package_but_torch_has_hashes(name: str) -> None:
    pins = (LISTS / f"{name}.txt").read_text().replace("\\\n", " ").splitlines()
    assert all("==" in pin and " --hash=sha256:" in pin for pin in pins)
    assert not any(pin.startswith("torch==") for pin in pins)


@pytest.mark.parametrize("target", ["cpu", "gpu"])
def test_the_packed_list_holds_versions_alone_and_torch(target: str) -> None:
    lines = versions_of([LISTS / f"torch-{target}.txt", LISTS / f"{target}.txt"]).splitlines()
    assert lines[0].startswith("torch==")
    assert all(re.fullmatch(r"[a-z0-9._-]+==[^ ]+", line) for line in lines)
    assert any(line.startswith("numpy==") for line in lines)


def test_a_whole_package_has_no_fault(tmp_path: Path) -> None:
    assert kaggle.check_folder(packed(tmp_path)) == []


def test_every_change_of_a_package_is_found(tmp_path: Path) -> None:
    wheels = packed(tmp_path) / "dataset/wheels"
    (wheels / "a-1-py3-none-any.whl").write_bytes(b"weeel")
    (wheels / "b-1-py3-none-any.whl").write_bytes(b"more")
    (tmp_path / "dataset/requirements.txt").unlink()

    assert kaggle.check_folder(tmp_path) == [
        "requirements.txt: missing",
        "wheels/b-1-py3-none-any.whl: not in the manifest",
        "wheels/a-1-py3-none-any.whl: changed since it was packed",
    ]


def test_a_folder_that_is_no_package_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"manifest\.json"):
        kaggle.check_folder(tmp_path)


def test_packing_needs_an_owner(tmp_path: Path) -> None:
    parser = argparse.ArgumentParser()
    verb.add_arguments(parser)
    with pytest.raises(UsageError, match="no Kaggle user named"):
        verb.run(parser.parse_args(["kaggle", "--out", str(tmp_path)]))


def test_a_package_that_only_searches_holds_no_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The wheels are left out: they need an index."""
    monkeypatch.setattr(kaggle, "download", lambda *given: None)
    monkeypatch.setattr(kaggle, "check_closure", lambda *given, **more: None)
    monkeypatch.setattr(kaggle, "build_appliance", lambda *given: "arc_appliance-0.0-py3.whl")

    def pack(out: Path, *settings: str) -> None:
        request = kaggle.KaggleRequest(
            "someone", TITLE, "arc-prize-2026", "kaggle-l4x4", "no/such/model", settings=settings
        )
        kaggle.pack_kaggle(request, out)

    pack(tmp_path / "search", "strategy=search")
    assert kaggle.check_folder(tmp_path / "search") == []
    assert not (tmp_path / "search/dataset/model").exists()
    with pytest.raises(InputError, match="no/such/model"):
        pack(tmp_path / "both")


def test_a_notebook_of_another_dataset_is_found(tmp_path: Path) -> None:
    packed(tmp_path / "a", "aaaa")
    packed(tmp_path / "b", "bbbb")
    (tmp_path / "a/notebook" / kaggle_notebook.NOTEBOOK).write_bytes(
        (tmp_path / "b/notebook" / kaggle_notebook.NOTEBOOK).read_bytes()
    )
    assert kaggle.check_folder(tmp_path / "a") == [
        f"{kaggle_notebook.NOTEBOOK}: packed with another dataset"
    ]


@pytest.mark.parametrize(
    "content", ["", "{}", '{"cells": [{"id": "config", "source": "CONFIG = 1 +"}]}', "[1]", "null"]
)
def test_a_notebook_that_is_none_of_ours_is_refused(tmp_path: Path, content: str) -> None:
    (packed(tmp_path) / "notebook" / kaggle_notebook.NOTEBOOK).write_text(content)
    with pytest.raises(InputError, match="pack it anew"):
        kaggle.check_folder(tmp_path)


DIGEST = "gcr.io/kaggle-gpu-images/python@sha256:" + "0123456789abcdef" * 4


def test_a_pinned_image_stands_in_the_metadata(tmp_path: Path) -> None:
    told = config("kaggle-l4x4")
    kaggle_notebook.write_notebook(tmp_path, "someone", TITLE, told, image=DIGEST)
    metadata = json.loads((tmp_path / "kernel-metadata.json").read_text())
    assert metadata["docker_image"] == DIGEST
    assert "docker_image_pinning_type" not in metadata
    assert list(kernel_faults(metadata, tmp_path)) == []

    for image in ("gcr.io/kaggle-gpu-images/python:v170", "python", 7, DIGEST + "0"):
        faults = list(kernel_faults(metadata | {"docker_image": image}, tmp_path))
        assert len(faults) == 1 and "docker_image" in faults[0]


def git(folder: Path, *words: str) -> str:
    who = ["-c", "user.name=a", "-c", "user.email=a@b"]
    command = ["git", "-C", str(folder), *who, *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_a_package_names_the_commit_of_what_is_packed(tmp_path: Path) -> None:
    assert revision_of(tmp_path) == "unknown"

    (tmp_path / "appliance").mkdir()
    (tmp_path / "appliance/a.py").write_text("1")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "first")
    (tmp_path / "notes.txt").write_text("not packed")
    assert revision_of(tmp_path) == git(tmp_path, "rev-parse", "--short=12", "HEAD")

    (tmp_path / "appliance/a.py").write_text("2")
    assert revision_of(tmp_path).endswith(CHANGED)
