"""A model folder looked at before anything is spent on it: the one place where that is done.

Everything that the files tell is checked here in milliseconds, without torch; tokenizer and chat
template are then tried, in a process of their own. What is found wrong raises InputError with its
cause and a remedy; what can be adapted is adapted and told.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from appliance.engine.adapter.examine import examine_adapter
from appliance.engine.folder.card import FolderCard, is_embedded, read_card
from appliance.engine.folder.config import check_config
from appliance.engine.folder.finite import check_finite
from appliance.engine.folder.json_file import read_object, refuse_pointer
from appliance.engine.folder.place import real_folder
from appliance.engine.folder.speech import examine_speech
from appliance.engine.folder.weights import check_names_and_shapes, read_weights
from appliance.errors import InputError

_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")
"""At least one of them is needed; the first is the tokenizer itself."""

_MAY_BE_POINTERS = (
    *_TOKENIZER_FILES,
    "special_tokens_map.json",
    "chat_template.jinja",
    "tokenizer.model",
    "vocab.json",
    "merges.txt",
)
"""Files beside the weights that Git LFS or an unfinished download may have left as pointers."""


@dataclass(frozen=True)
class Examined:
    """A model folder that can be loaded, trained and asked."""

    folder: Path  # the real one: inside a cache of the hub, that of the snapshot
    card: FolderCard
    notes: tuple[str, ...]  # what was adapted, one sentence each


def examine(model_dir: Path, adapter_dir: Path | None = None) -> Examined:
    """Look at a model folder, and at an adapter for it.

    Raises InputError naming what was found, what was expected and what to do.
    """
    found = examine_files(model_dir)
    notes = found.notes
    if adapter_dir is not None:
        notes += examine_adapter(adapter_dir, found.folder)
    if not is_embedded(found.folder):  # whose speech our tests try on whole sets of tasks
        notes += examine_speech(found.folder, found.card)
    return replace(found, notes=notes)


def examine_files(model_dir: Path) -> Examined:
    """What the files of a model tell, in milliseconds. Raises as `examine` does."""
    folder, notes = real_folder(model_dir)
    config = read_object(folder / "config.json")
    notes += check_config(config, folder)
    card = read_card(folder)
    _check_surroundings(folder)

    tensors = read_weights(folder)
    check_names_and_shapes(tensors, config, folder)
    check_finite(tensors)
    return Examined(folder, card, notes)


def _check_surroundings(folder: Path) -> None:
    """The files beside config.json and weights are files, and hold JSON where they should."""
    for name in _MAY_BE_POINTERS:
        refuse_pointer(folder / name)

    tokenizer = [name for name in _TOKENIZER_FILES if (folder / name).is_file()]
    if not tokenizer:
        raise InputError(
            f"model folder {folder}: no tokenizer.json",
            expected="a tokenizer",
            remedy="complete the folder",
        )
    for name in tokenizer:
        read_object(folder / name)

    generation = folder / "generation_config.json"
    if generation.is_file() or generation.is_symlink():
        _check_generation(read_object(generation), folder)


def _check_generation(said: dict[str, Any], folder: Path) -> None:
    for key in ("eos_token_id", "pad_token_id", "bos_token_id"):
        values = said[key] if isinstance(said.get(key), list) else [said.get(key)]
        if not all(v is None or (isinstance(v, int) and not isinstance(v, bool)) for v in values):
            raise InputError(
                f"{folder}: generation_config.json, {key} is {str(said[key])[:100]!r}",
                expected="the id of a token, or a list of them",
                remedy="take the file from the model's release, or remove it",
            )
