"""What a model folder says of itself, read and checked without torch, so that a bad one is refused in the first second."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from appliance.arc.prompt import STYLES
from appliance.errors import InputError

EMBEDDED = "arc-mini"
RECORD_FILE = "appliance.json"
"""What a folder of ours says of itself, beside the files that Transformers and PEFT know."""
DEFAULT_STYLE = "output-from-examples-v1"
DEFAULT_PROGRAM_STYLE = "code-from-examples-v2"
DEFAULT_PROGRAM_TOKENS = 1024
"""Of Llama and Qwen tokens; the median program of the induction models has 400 (prior art, 4.2 G)."""
DEFAULT_ENCODER = "GridShapeEncoder(RowNumberEncoder(MinimalGridEncoder()))"


@dataclass(frozen=True)
class FolderCard:
    """style, encoder: from appliance.json, else what the prior systems used. program_style: how it is asked for programs, the
    style itself where that is one of programs. max_positions, program_tokens (longest program): tokens."""

    style: str
    encoder: str
    program_style: str
    strategies: tuple[str, ...]
    max_positions: int
    program_tokens: int


def model_dir(name: str) -> Path:
    """The folder of a model given by path, or of the one that ships inside the package ("arc-mini")."""
    if name == EMBEDDED:
        return Path(str(resources.files("appliance") / "models" / "arc-mini"))
    return Path(name)


def read_card(folder: Path) -> FolderCard:
    """Check that the folder is a whole causal LM and return what it says.

    Raises InputError for a missing folder, a configuration or tokenizer that is no JSON, weights missing or cut off.
    """
    if not folder.is_dir():
        raise InputError(
            f"model folder {folder}: not there",
            expected="a Transformers model folder, or arc-mini",
            remedy="pass --model DIR",
        )
    config = _json(folder, "config.json")
    if (
        not (folder / "tokenizer.json").is_file()
        and not (folder / "tokenizer_config.json").is_file()
    ):
        raise InputError(
            f"model folder {folder}: no tokenizer.json",
            expected="a tokenizer",
            remedy="complete the folder",
        )
    if (folder / "tokenizer.json").is_file():
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
    return FolderCard(
        style=style,
        encoder=card.get("encoder", DEFAULT_ENCODER),
        program_style=card.get(
            "program_style", style if writes_programs else DEFAULT_PROGRAM_STYLE
        ),
        strategies=tuple(
            card.get("strategies", ["induction" if writes_programs else "transduction"])
        ),
        max_positions=int(config.get("max_position_embeddings", 4096)),
        program_tokens=int(card.get("program_tokens", DEFAULT_PROGRAM_TOKENS)),
    )


def read_record(folder: Path) -> dict[str, Any]:
    """The appliance.json of a model or an adapter; empty for one of other make."""
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
    """The file is as long as its header says (format: 8 bytes length, JSON header, data)."""
    try:
        with path.open("rb") as stream:
            (header_bytes,) = struct.unpack("<Q", stream.read(8))
            if header_bytes > path.stat().st_size:
                raise ValueError("cut off in its header")
            header = json.loads(stream.read(header_bytes))
        data_bytes = max(
            (t["data_offsets"][1] for n, t in header.items() if n != "__metadata__"), default=0
        )
        if 8 + header_bytes + data_bytes != path.stat().st_size:
            raise ValueError(
                f"{path.stat().st_size} bytes, its header says {8 + header_bytes + data_bytes}"
            )
    except (OSError, ValueError, KeyError, struct.error) as fault:
        raise InputError(
            f"{path}: damaged weights ({fault})",
            expected="a whole safetensors file",
            remedy="copy the file again",
        ) from fault
