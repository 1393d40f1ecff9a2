"""What a model folder says of itself, read and checked without torch.

So a bad folder is refused in the first second.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from appliance.arc.prompt import STYLES
from appliance.errors import InputError
from appliance.sizing.costs.task_lengths import LONGEST_PROGRAM_TOKENS

EMBEDDED = "arc-mini"
"""Name of the model that ships inside the package."""

RECORD_FILE = "appliance.json"
"""What a folder of ours says of itself, beside the files that Transformers and PEFT know."""

# What the prior systems used, for folders that do not say.
DEFAULT_STYLE = "output-from-examples-v1"
DEFAULT_PROGRAM_STYLE = "code-from-examples-v2"
DEFAULT_ENCODER = "GridShapeEncoder(RowNumberEncoder(MinimalGridEncoder()))"


@dataclass(frozen=True)
class FolderCard:
    """What a model folder says of itself, with defaults for what it leaves out."""

    style: str  # prompt style in which it is asked for grids
    encoder: str  # how grids become text
    program_style: str  # prompt style in which it is asked for programs
    strategies: tuple[str, ...]  # "transduction", "induction": what it was trained to do
    max_positions: int  # tokens of the longest sequence
    program_tokens: int  # tokens of the longest program


def model_dir(name: str) -> Path:
    """The folder of a model given by path, or by the name of the one inside the package."""
    if name == EMBEDDED:
        return Path(str(resources.files("appliance") / "models" / "arc-mini"))
    return Path(name)


def read_card(folder: Path) -> FolderCard:
    """Check that the folder is a whole causal LM and return what it says.

    Raises InputError for a missing folder, for a configuration or tokenizer that is no JSON, and
    for weights that are missing or cut off.
    """
    if not folder.is_dir():
        raise InputError(
            f"model folder {folder}: not there",
            expected="a Transformers model folder, or arc-mini",
            remedy="pass --model DIR",
        )

    config = _json(folder, "config.json")
    has_tokenizer = (folder / "tokenizer.json").is_file()
    if not has_tokenizer and not (folder / "tokenizer_config.json").is_file():
        raise InputError(
            f"model folder {folder}: no tokenizer.json",
            expected="a tokenizer",
            remedy="complete the folder",
        )
    if has_tokenizer:
        _json(folder, "tokenizer.json")

    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        raise InputError(
            f"model folder {folder}: no *.safetensors",
            expected="weights",
            remedy="download or mount the whole model",
        )
    for path in weights:
        check_safetensors(path)

    card = read_record(folder)
    style = card.get("style", DEFAULT_STYLE)
    writes_programs = style in STYLES and STYLES[style].answer != "grid"
    program_style = style if writes_programs else DEFAULT_PROGRAM_STYLE
    strategies = ["induction" if writes_programs else "transduction"]
    return FolderCard(
        style=style,
        encoder=card.get("encoder", DEFAULT_ENCODER),
        program_style=card.get("program_style", program_style),
        strategies=tuple(card.get("strategies", strategies)),
        max_positions=int(config.get("max_position_embeddings", 4096)),
        program_tokens=int(card.get("program_tokens", LONGEST_PROGRAM_TOKENS)),
    )


def read_record(folder: Path) -> dict[str, Any]:
    """The appliance.json of a model or an adapter; empty when another program made the folder."""
    return _json(folder, RECORD_FILE) if (folder / RECORD_FILE).is_file() else {}


def _json(folder: Path, name: str) -> dict[str, Any]:
    try:
        value = json.loads((folder / name).read_text(encoding="utf-8"))
    except (OSError, ValueError) as fault:
        raise InputError(
            f"{folder}: {name} cannot be read ({fault})",
            expected="a JSON object",
            remedy="complete the folder",
        ) from fault
    if not isinstance(value, dict):
        raise InputError(f"{folder}: {name} is a {type(value).__name__}", expected="a JSON object")
    return value


def check_safetensors(path: Path) -> None:
    """Raises InputError unless the file is exactly as long as its header says.

    The format is 8 bytes with the length of the header, the header in JSON, and the data.
    """
    try:
        with path.open("rb") as stream:
            (header_bytes,) = struct.unpack("<Q", stream.read(8))
            if header_bytes > path.stat().st_size:
                raise ValueError("cut off in its header")
            header = json.loads(stream.read(header_bytes))

        ends = (t["data_offsets"][1] for name, t in header.items() if name != "__metadata__")
        expected_bytes = 8 + header_bytes + max(ends, default=0)
        if expected_bytes != path.stat().st_size:
            raise ValueError(f"{path.stat().st_size} bytes, its header says {expected_bytes}")
    except (OSError, ValueError, KeyError, struct.error) as fault:
        raise InputError(
            f"{path}: damaged weights ({fault})",
            expected="a whole safetensors file",
            remedy="copy the file again",
        ) from fault
