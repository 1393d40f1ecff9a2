"""Damaged inputs that once brought a foreign exception to light. `make fuzz` looks for more."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from appliance.config import Settings, assignments_layer, resolve
from appliance.engine.folder.weights import INDEX_FILE, read_weights
from appliance.errors import InputError, UsageError
from appliance.foreign_text import MOST_NAME_BYTES
from appliance.learn.checkpoint import IDENTITY, restore_checkpoint
from appliance.learn.data.corpus import load_corpus
from appliance.pack.kaggle import check_folder
from appliance.run.pool import Died, SubprocessPool
from appliance.sizing.costs.model_card import card_of_folder
from appliance.solve.messages import SearchSetup
from tests.fuzz.folders import make_corpus, make_model, make_package

LONG = "é" * (MOST_NAME_BYTES // 2 + 1)
DEEP = '{"a":' * 20_000


SIZES = ({"hidden_size": "8"}, {"num_attention_heads": [4]}, {"num_attention_heads": {"a": 1}})


@pytest.mark.parametrize("changes", SIZES)
def test_a_size_that_is_no_number_gives_no_card(changes: dict[str, Any], tmp_path: Path) -> None:
    make_model(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | changes))
    with pytest.raises(InputError, match="head_dim"):
        card_of_folder(tmp_path)


@pytest.mark.parametrize("file", ["config.json", "appliance.json"])
def test_json_without_an_end_gives_no_card(file: str, tmp_path: Path) -> None:
    make_model(tmp_path)
    (tmp_path / file).write_text(DEEP)
    with pytest.raises(InputError, match=file):
        card_of_folder(tmp_path)


@pytest.mark.parametrize("name", ["\ud800", LONG, "a\nb", "..", "", "x/y"])
def test_an_index_that_names_what_no_file_is_called(name: str, tmp_path: Path) -> None:
    make_model(tmp_path)
    (tmp_path / INDEX_FILE).write_text(json.dumps({"weight_map": {"w": name}}))
    with pytest.raises(InputError, match="expected: the name of a file"):
        read_weights(tmp_path)


@pytest.mark.parametrize("name", [LONG, "\ud800", "a\0", None, ".."])
def test_a_notebook_whose_code_file_is_no_name(name: object, tmp_path: Path) -> None:
    make_package(tmp_path)
    assert check_folder(tmp_path) == []
    path = tmp_path / "notebook" / "kernel-metadata.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"code_file": name}))
    assert [fault for fault in check_folder(tmp_path) if fault.startswith("code_file")]


CORPORA: dict[str, tuple[str, bytes]] = {
    "no object": ("manifest.json", b"[]"),
    "no families": ("manifest.json", b"{}"),
    "families of another kind": ("manifest.json", b'{"families": 3}'),
    "fewer families": ("manifest.json", b'{"families": ["x"]}'),
    "deep": ("programs.json", DEEP.encode()),
    "no programs": ("programs.json", b"null"),
    "numbers for programs": ("programs.json", b"[1, 2]"),
    "a header that does not end": (
        "cells.npy",
        b"\x93NUMPY\x01\x00v\x00" + b"{'descr': '|u1', 'shape': (8,".ljust(118),
    ),
    "empty": ("shapes.npy", b""),
}


@pytest.mark.parametrize("case", CORPORA)
def test_a_damaged_corpus_is_refused(case: str, tmp_path: Path) -> None:
    make_corpus(tmp_path)
    load_corpus(tmp_path / "corpus")
    file, data = CORPORA[case]
    (tmp_path / "corpus" / file).write_bytes(data)
    with pytest.raises(InputError, match="not a packed corpus"):
        load_corpus(tmp_path / "corpus")


ARRAYS: tuple[tuple[str, list[Any]], ...] = (
    ("first_pair.npy", [0, 5, 9]),
    ("first_pair.npy", [0]),
    ("shapes.npy", [[1, 2, 3, 99]]),
    ("cells.npy", [1]),
)


@pytest.mark.parametrize(("array", "value"), ARRAYS)
def test_a_corpus_whose_arrays_do_not_fit_is_refused(
    array: str, value: list[Any], tmp_path: Path
) -> None:
    """They were taken, and the training broke off in the middle or learnt from shifted grids."""
    import numpy as np

    make_corpus(tmp_path)
    kind = np.uint8 if array == "cells.npy" else np.int64
    np.save(tmp_path / "corpus" / array, np.array(value, dtype=kind))
    with pytest.raises(InputError, match="not a packed corpus"):
        load_corpus(tmp_path / "corpus")


@pytest.mark.parametrize("text", ['"\\ud800"', LONG, f"x/{LONG}", "é" * 2100])
def test_a_path_that_no_file_can_have_is_no_setting(text: str) -> None:
    with pytest.raises(UsageError, match=r"model\.adapter"):
        resolve([assignments_layer([f"model.adapter={text}"])])


def test_a_checkpoint_whose_identity_is_damaged_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints" / "step_00000010"
    folder.mkdir(parents=True)
    (folder / "state.pt").write_bytes(b"")
    (folder / IDENTITY).write_text("[1")
    with pytest.raises(InputError, match=IDENTITY):
        restore_checkpoint(tmp_path, {}, None)  # type: ignore[arg-type]  # not reached


def test_a_line_of_a_worker_that_a_kill_cut_inside_a_character(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread that listened died of it, and the end of the worker was never told."""
    (tmp_path / "sitecustomize.py").write_text(
        'import os\nos.write(1, b\'{"event": "failed", "message": "\\xc3\')\nos._exit(9)\n'
    )
    monkeypatch.syspath_prepend(tmp_path)
    setup = SearchSetup(settings=Settings(), is_beside=False)
    pool = SubprocessPool([setup], [{}], log_dir=tmp_path)
    try:
        pool.start(0)
        arrival = pool.next_arrival(60)
    finally:
        pool.close()
    assert arrival is not None and arrival[0] == 0
    assert isinstance(arrival[1], Died) and arrival[1].exit_code == 9
