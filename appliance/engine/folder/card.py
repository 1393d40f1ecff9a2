"""What a model folder says of itself in config.json and appliance.json. No torch."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from appliance.arc.encode import get_encoder
from appliance.arc.prompt import STYLES, get_style
from appliance.engine.folder.json_file import read_object, shown
from appliance.errors import InputError, UsageError
from appliance.foreign_text import is_short_path
from appliance.names import did_you_mean
from appliance.sizing.costs.task_lengths import LONGEST_PROGRAM_TOKENS

EMBEDDED = "arc-mini"
"""Name of the model that ships inside the package."""

RECORD_FILE = "appliance.json"
"""What a folder of ours says of itself, beside the files that Transformers and PEFT know."""

# What the prior systems used, for folders that do not say.
DEFAULT_STYLE = "output-from-examples-v1"
DEFAULT_PROGRAM_STYLE = "code-from-examples-v2"
DEFAULT_ENCODER = "GridShapeEncoder(RowNumberEncoder(MinimalGridEncoder()))"
DEFAULT_MAX_POSITIONS = 4096

STRATEGIES = ("transduction", "induction")
"""What a model can be trained to do."""

_MOST_PROGRAM_TOKENS = 1 << 20
"""Longest program that an appliance.json may tell of: more than any model's sequence."""


@dataclass(frozen=True)
class FolderCard:
    """What a model folder says of itself, with defaults for what it leaves out."""

    style: str  # prompt style in which it is asked for grids
    encoder: str  # how grids become text
    program_style: str  # prompt style in which it is asked for programs
    strategies: tuple[str, ...]  # "transduction", "induction": what it was trained to do
    max_positions: int  # tokens of the longest sequence
    program_tokens: int  # tokens of the longest program


def is_embedded(folder: Path) -> bool:
    """Whether it is the folder of the model inside the package."""
    return folder.resolve() == model_dir(EMBEDDED).resolve()


def model_dir(name: str) -> Path:
    """The folder of a model given by path, or by the name of the one inside the package.

    Raises UsageError for a name that no folder can have.
    """
    if name == EMBEDDED:
        return Path(str(resources.files("appliance") / "models" / "arc-mini"))

    reason = _no_path(name)
    if reason:
        raise UsageError(
            f"model {shown(name)}: {reason}",
            expected="a Transformers model folder, or arc-mini",
            remedy="pass --model DIR",
        )
    return Path(name)


def _no_path(name: str) -> str | None:
    if not name.strip():
        return "an empty name"
    if "\0" in name:
        return "a name with a NUL"
    try:
        encoded = os.fsencode(name)
    except UnicodeError:
        return "a name that is no text"
    if not is_short_path(encoded):
        return f"a name of {len(name)} characters"
    return None


def read_card(folder: Path) -> FolderCard:
    """What the folder says. Raises InputError for values that cannot be meant.

    Only config.json and appliance.json are read; `examine` looks at the rest.
    """
    config = read_object(folder / "config.json")
    card = read_record(folder)

    style = _name_of_style(card, "style", DEFAULT_STYLE, folder)
    writes_programs = STYLES[style].answer != "grid"
    own = style if writes_programs else DEFAULT_PROGRAM_STYLE
    return FolderCard(
        style=style,
        encoder=_encoder(card, folder),
        program_style=_name_of_style(card, "program_style", own, folder),
        strategies=_strategies(card, writes_programs, folder),
        max_positions=_count(
            config, "max_position_embeddings", DEFAULT_MAX_POSITIONS, folder / "config.json"
        ),
        program_tokens=_count(card, "program_tokens", LONGEST_PROGRAM_TOKENS, folder / RECORD_FILE),
    )


def read_record(folder: Path) -> dict[str, Any]:
    """The appliance.json of a model or an adapter; empty when another program made the folder."""
    path = folder / RECORD_FILE
    return read_object(path) if path.is_file() or path.is_symlink() else {}


def _name_of_style(card: Mapping[str, Any], key: str, default: str, folder: Path) -> str:
    name = card.get(key, default)
    if not isinstance(name, str):
        raise _refused(folder / RECORD_FILE, key, name, "the name of a prompt style")
    try:
        return get_style(name).name
    except UsageError as fault:
        expected = f"{fault.expected}{did_you_mean(name, STYLES)}"
        raise _refused(folder / RECORD_FILE, key, name, expected) from fault


def _encoder(card: Mapping[str, Any], folder: Path) -> str:
    name = card.get("encoder", DEFAULT_ENCODER)
    if not isinstance(name, str):
        raise _refused(folder / RECORD_FILE, "encoder", name, "the name of a grid encoder")
    try:
        get_encoder(name)
    except (UsageError, RecursionError) as fault:
        expected = fault.expected if isinstance(fault, UsageError) else "a short name"
        raise _refused(folder / RECORD_FILE, "encoder", name, expected) from fault
    return name


def _strategies(card: Mapping[str, Any], writes_programs: bool, folder: Path) -> tuple[str, ...]:
    default = ["induction" if writes_programs else "transduction"]
    names = card.get("strategies", default)
    if not isinstance(names, list) or not names or not all(name in STRATEGIES for name in names):
        expected = "a list of " + " and ".join(STRATEGIES)
        raise _refused(folder / RECORD_FILE, "strategies", names, expected)
    return tuple(names)


def _count(values: Mapping[str, Any], key: str, default: int, file: Path) -> int:
    value = values.get(key, default)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise _refused(file, key, value, "a whole number above 0")
    if key == "program_tokens" and value > _MOST_PROGRAM_TOKENS:
        raise _refused(file, key, value, f"at most {_MOST_PROGRAM_TOKENS}")
    return value


def _refused(file: Path, key: str, value: object, expected: str) -> InputError:
    return InputError(
        f"{file}: {key} is {shown(value)}", expected=expected, remedy=f"correct {key} in {file}"
    )
