"""The header of a safetensors file, read and checked without torch.

The format is 8 bytes with the length of the header, the header in JSON, and the data:
https://huggingface.co/docs/safetensors. Nothing but the header is read, whatever its length says.
"""

from __future__ import annotations

import json
import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from appliance.engine.folder.json_file import refuse_pointer, shown
from appliance.errors import InputError

MOST_HEADER_BYTES = 100_000_000
"""Longest header that the format allows."""

BYTES_OF = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0"), 1),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 2),
    **dict.fromkeys(("U32", "I32", "F32"), 4),
    **dict.fromkeys(("U64", "I64", "F64", "C64"), 8),
}
"""Bytes of one value, by the names of the format."""


@dataclass(frozen=True)
class Tensor:
    """One tensor of a file, and where its values stand."""

    file: Path
    dtype: str  # in the names of the format, a key of BYTES_OF
    shape: tuple[int, ...]
    begin: int  # byte of the file at which its values begin
    num_bytes: int


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of the file by name.

    Raises InputError unless the file is exactly as its header says: types, places and length.
    """
    refuse_pointer(path)
    try:
        num_bytes = path.stat().st_size
        with path.open("rb") as stream:
            (header_bytes,) = struct.unpack("<Q", stream.read(8))
            if header_bytes > MOST_HEADER_BYTES:
                raise ValueError("it does not begin as a safetensors file")
            if header_bytes > num_bytes - 8:
                raise ValueError("cut off in its header")
            header = json.loads(stream.read(header_bytes))

        if not isinstance(header, dict):
            raise ValueError(f"its header is a {type(header).__name__}")
        metadata = header.pop("__metadata__", {})
        if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
            raise ValueError("its metadata are no texts")
        tensors = {
            name: _tensor(path, name, entry, begin=8 + header_bytes)
            for name, entry in header.items()
        }
        _check_places(tensors, begin=8 + header_bytes, file_bytes=num_bytes)
    except (OSError, ValueError, struct.error, RecursionError) as fault:
        raise InputError(
            f"{path}: damaged weights ({fault})",
            expected="a whole safetensors file",
            remedy="copy the file again",
        ) from fault
    return tensors


def _tensor(path: Path, name: str, entry: Any, *, begin: int) -> Tensor:
    """begin: of the data. Raises ValueError for an entry that is not as the format says."""
    if not isinstance(entry, dict):
        raise ValueError(f"{shown(name)} is described by a {type(entry).__name__}")
    dtype: Any = entry.get("dtype")
    shape: Any = entry.get("shape")
    offsets: Any = entry.get("data_offsets")
    if not isinstance(dtype, str) or dtype not in BYTES_OF:
        raise ValueError(f"{shown(name)} has the unknown type {shown(dtype)}")
    if not _are_counts(shape):
        raise ValueError(f"{shown(name)} has the shape {shown(shape)}")
    if not _are_counts(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise ValueError(f"{shown(name)} lies at {shown(offsets)}")

    num_bytes = offsets[1] - offsets[0]
    if math.prod(shape) * BYTES_OF[dtype] != num_bytes:
        raise ValueError(f"{shown(name)} has {num_bytes} bytes for {shown(shape)} of {dtype}")
    return Tensor(path, dtype, tuple(shape), begin + offsets[0], num_bytes)


def _are_counts(values: Any) -> bool:
    return isinstance(values, list) and all(
        isinstance(v, int) and not isinstance(v, bool) and 0 <= v < 1 << 63 for v in values
    )


def _check_places(tensors: dict[str, Tensor], *, begin: int, file_bytes: int) -> None:
    """Raises ValueError unless the tensors fill the file, one behind the other."""
    end = begin
    for name, tensor in sorted(
        tensors.items(), key=lambda item: (item[1].begin, item[1].num_bytes)
    ):
        if tensor.begin != end:
            kind = "over another tensor" if tensor.begin < end else "behind a gap"
            raise ValueError(f"{shown(name)} lies {kind}")
        end += tensor.num_bytes
    if end != file_bytes:
        raise ValueError(f"{file_bytes} bytes, its header says {end}")
