"""What an adapter of ours says of itself, and whether it is still so.

What the appliance saves has in its appliance.json the hash of its base (`base_sha`) and of its own
weights (`weights_sha`). Both are verified wherever such a folder is opened. Another program's
folder has no record and passes; whoever changes weights by hand takes `weights_sha` out. No torch.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from appliance.engine.folder.card import RECORD_FILE, read_record
from appliance.engine.folder.identity import weights_sha
from appliance.engine.folder.json_file import shown
from appliance.errors import InputError


def write_record(folder: Path, said: Mapping[str, Any]) -> None:
    """The appliance.json of an adapter whose weights are in the folder, their hash in it."""
    record = {**said, "weights_sha": weights_sha(folder)}
    (folder / RECORD_FILE).write_text(json.dumps(record, indent=1) + "\n")


def save_adapter(model: Any, folder: Path, said: Mapping[str, Any], *, readme: str = "") -> None:
    """Write what was trained of a model of PEFT, or of Transformers, and its record.

    readme: text of the README.md. PEFT's own is an empty form and is never left there.
    """
    options = {"save_embedding_layers": False} if hasattr(model, "peft_config") else {}
    model.save_pretrained(str(folder), **options)
    write_record(folder, said)

    page = folder / "README.md"
    page.unlink(missing_ok=True)
    if readme:
        page.write_text(readme, encoding="utf-8")


def check_record(folder: Path, *, base_sha: str | None) -> None:
    """Raises InputError when the adapter is not as its record says.

    base_sha: hash of the base that it is to be put on; None where that is not to be compared. The
    record may name another base, or other weights than those that are there.
    """
    named_base = _named(folder, "base_sha")
    if base_sha is not None and named_base not in (None, base_sha):
        raise InputError(
            f"adapter {folder} was trained on base {str(named_base)[:12]}",
            expected=f"this model, {base_sha[:12]}",
            remedy="give the base that it was trained on",
        )

    named = _named(folder, "weights_sha")
    if named is not None and named != (found := weights_sha(folder)):
        raise InputError(
            f"adapter {folder}: its weights are {found[:12]}, not those that were saved",
            expected=f"{named[:12]}, as its {RECORD_FILE} says",
            remedy="copy the folder again; if you changed the weights yourself, take weights_sha "
            f"out of {RECORD_FILE}",
        )


def names_base(folder: Path) -> bool:
    """Whether the record says which base the adapter belongs to."""
    return _named(folder, "base_sha") is not None


def _named(folder: Path, key: str) -> str | None:
    value = read_record(folder).get(key)
    if value is not None and not isinstance(value, str):
        raise InputError(
            f"{folder / RECORD_FILE}: {key} is {shown(value)}",
            expected="a SHA-256 in hexadecimal digits",
            remedy=f"copy {RECORD_FILE} again, or take {key} out",
        )
    return value
