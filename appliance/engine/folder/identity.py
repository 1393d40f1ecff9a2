"""Whose weights these are: the hash of a folder's weights, by which a run knows its base model and
its adapters. No torch."""

from __future__ import annotations

import hashlib
from pathlib import Path

from appliance.errors import InputError


def weights_sha(folder: Path) -> str:
    """SHA-256 over the names and bytes of the folder's weight files.

    It is the identity of a base model or an adapter. Raises InputError when there are no weights,
    or they cannot be read.
    """
    files = sorted(p for p in folder.glob("*.safetensors"))
    if not files:
        raise InputError(
            f"{folder}: no *.safetensors",
            expected="the weights of a model or an adapter",
            remedy="complete the folder",
        )

    sha = hashlib.sha256()
    for path in files:
        sha.update(path.name.encode("utf-8", "surrogateescape"))
        try:
            with path.open("rb") as stream:
                for block in iter(lambda: stream.read(1 << 20), b""):
                    sha.update(block)
        except OSError as fault:
            raise InputError(
                f"{path}: cannot be read ({fault})", expected="weights", remedy="copy it again"
            ) from fault
    return sha.hexdigest()
