"""Whether weights are numbers: NaN and infinity found by their bits, without torch.

A small model is read whole. Of a large one a few thousand values of each tensor are: that finds
weights that went wrong in training, which are wrong everywhere, and blocks that were overwritten,
but not one single bad value.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from appliance.engine.folder.tensor_file import BYTES_OF, Tensor
from appliance.errors import InputError

READ_WHOLE_BYTES = 64 << 20
"""Weights of at most this size are read whole: a tenth of a second from memory."""

NUM_BLOCKS = 4
BLOCK_VALUES = 1024
"""Of each tensor of larger weights, so many blocks of so many values, the first and last among
them: four small reads, of which 8B weights need about a thousand."""

_EXPONENT_BITS: Mapping[str, tuple[str, int]] = {
    "BF16": ("<u2", 0x7F80),
    "F16": ("<u2", 0x7C00),
    "F32": ("<u4", 0x7F80_0000),
    "F64": ("<u8", 0x7FF0_0000_0000_0000),
}
"""How the bits of a value are read, and those that are all set in NaN and infinity (IEEE 754)."""


def check_finite(tensors: Mapping[str, Tensor]) -> None:
    """Raises InputError naming the tensors that hold NaN or infinity. Integers always pass."""
    total_bytes = sum(tensor.num_bytes for tensor in tensors.values())
    by_file: dict[Path, list[str]] = {}
    for name, tensor in tensors.items():
        if tensor.dtype in _EXPONENT_BITS and tensor.num_bytes:
            by_file.setdefault(tensor.file, []).append(name)

    bad = []
    for path, names in by_file.items():
        with path.open("rb") as stream:
            for name in names:
                kind, mask = _EXPONENT_BITS[tensors[name].dtype]
                for begin, num_bytes in _blocks(tensors[name], whole=total_bytes):
                    stream.seek(begin)
                    bits = np.frombuffer(stream.read(num_bytes), dtype=kind)
                    if bool(((bits & bits.dtype.type(mask)) == mask).any()):
                        bad.append(name)
                        break
    if bad:
        raise InputError(
            f"{tensors[bad[0]].file}: NaN or infinity in {len(bad)} of {len(tensors)} tensors, "
            f"first in {bad[0]}",
            expected="finite weights",
            remedy="download the file again; if it is the same then, the training that wrote it "
            "went wrong: take an earlier checkpoint",
        )


def _blocks(tensor: Tensor, *, whole: int) -> Iterator[tuple[int, int]]:
    """(first byte, number of bytes) of what is read. whole: bytes of all weights together."""
    block_bytes = BLOCK_VALUES * BYTES_OF[tensor.dtype]
    if whole <= READ_WHOLE_BYTES or tensor.num_bytes <= NUM_BLOCKS * block_bytes:
        yield tensor.begin, tensor.num_bytes
        return

    value_bytes = BYTES_OF[tensor.dtype]
    last = (tensor.num_bytes - block_bytes) // value_bytes
    for i in range(NUM_BLOCKS):
        yield tensor.begin + i * last // (NUM_BLOCKS - 1) * value_bytes, block_bytes
