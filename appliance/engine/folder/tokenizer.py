"""The tokenizer of a model folder, read as Transformers reads it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from appliance.engine.folder.json_file import refuse_pointer
from appliance.errors import InputError, first_line

_TEMPLATES = ("chat_template.jinja", "chat_template.json", "additional_chat_templates")
"""Where Transformers looks for a chat template besides tokenizer_config.json."""


def check_files(folder: Path) -> None:
    """What is known of a tokenizer without Transformers, in milliseconds. Raises InputError."""
    refuse_pointer(folder / "tokenizer.json")
    settings = read_settings(folder / "tokenizer_config.json")
    own_code = settings.get("auto_map")
    if own_code:
        raise InputError(
            f"model folder {folder}: its tokenizer is code of its own (auto_map {own_code})",
            expected="a tokenizer of Transformers; code of a folder is never run",
            remedy="use a model with tokenizer.json alone, without auto_map",
        )
    if not settings.get("chat_template") and not any((folder / t).exists() for t in _TEMPLATES):
        raise no_template(f"model folder {folder}: its tokenizer")


def no_template(who: str) -> InputError:
    return InputError(
        f"{who} has no chat template",
        expected="chat_template in tokenizer_config.json or chat_template.jinja",
        remedy="use an instruction-tuned model, or add its template",
    )


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer of the folder. Raises InputError when it cannot be read.

    Code that the folder brings along is never run, and nobody is asked whether it may.
    """
    check_files(folder)

    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(
            str(folder), local_files_only=True, trust_remote_code=False
        )
    # Readers of many formats, which raise whatever a broken file makes them stumble over.
    except Exception as fault:
        raise InputError(
            f"model folder {folder}: tokenizer cannot be read ({first_line(fault)})",
            expected=_expected(folder / "tokenizer.json"),
            remedy="pass --model with a complete Transformers folder",
        ) from fault


def stop_ids(folder: Path) -> tuple[int, ...]:
    """The tokens at which the folder says that its model stops."""
    generation = read_settings(folder / "generation_config.json")
    said = generation.get("eos_token_id")
    if said is None:
        said = read_settings(folder / "config.json").get("eos_token_id")
    ids = said if isinstance(said, list) else [said]
    return tuple(i for i in ids if type(i) is int)


def num_embedding_rows(folder: Path) -> int | None:
    """Tokens that the model has embeddings for; None where the folder does not say, as an
    adapter."""
    config = read_settings(folder / "config.json")
    text_config = config.get("text_config")
    num_rows = (text_config if isinstance(text_config, dict) else config).get("vocab_size")
    return num_rows if type(num_rows) is int else None


def read_settings(path: Path) -> dict[str, Any]:
    """The object in a JSON file; empty where there is none."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _expected(path: Path) -> str:
    """What the file should be, where it holds a tokenizer of a kind that is not known here."""
    from tokenizers import Tokenizer, __version__

    model = read_settings(path).get("model")
    try:
        Tokenizer.from_file(str(path))
    # tokenizers raises the bare Exception.
    except Exception:  # noqa: BLE001
        if isinstance(model, dict):
            return (
                f"a tokenizer.json that tokenizers {__version__} reads; this one has a model of "
                f"type {model.get('type')}, and may be of a newer version"
            )
    return "tokenizer.json and tokenizer_config.json"
