"""A cache of keys and values that grows in strides.

A step writes its own token instead of copying all before it. Transformers' own cache grows by
concatenation: every token written copies the whole of it, which takes most of the time of a long
prompt or a large batch on a CPU. Imports Transformers.
"""

from __future__ import annotations

from functools import cache
from typing import Any

STRIDE = 64
"""Tokens that a layer takes room for beyond those it holds."""

SPARE_SHARE = 4
"""Rows that became more get a quarter more room than they need."""


def growing_cache(config: Any) -> Any:
    """An empty cache for a model of this configuration.

    Layers that hold only a window of the last tokens stay Transformers' own.
    """
    from transformers import DynamicCache
    from transformers.cache_utils import DynamicLayer

    found = DynamicCache(config=config)
    found.layers = [
        growing_layer()() if type(layer) is DynamicLayer else layer for layer in found.layers
    ]
    return found


@cache
def growing_layer() -> Any:
    """The class of a layer of the cache; made at the first call, so that the import is lazy."""
    import torch
    from transformers.cache_utils import DynamicLayer

    class GrowingLayer(DynamicLayer):  # type: ignore[misc]
        """keys, values: (B, heads, tokens, head size).

        They are views of a larger buffer, as long as nobody put other tensors in their place.
        """

        def __init__(self) -> None:
            super().__init__()
            self._buffers: tuple[Any, Any] | None = None  # of keys and of values

        def update(
            self, key_states: Any, value_states: Any, *args: Any, **kwargs: Any
        ) -> tuple[Any, Any]:
            """Add new keys and values, (B, heads, new tokens, head size); returns all."""
            held = self.get_seq_length()
            if held == 0:
                added: tuple[Any, Any] = super().update(key_states, value_states)
                return added

            rows, total = key_states.shape[0], held + key_states.shape[-2]
            keys, values = self._buffers_for(rows, total)
            keys[:rows, :, held:total] = key_states
            values[:rows, :, held:total] = value_states
            self._show(rows, total)
            # Attention that would copy a part of a buffer may take all of it (attention.py).
            self.keys.buffer, self.values.buffer = keys[:rows], values[:rows]
            return self.keys, self.values

        def batch_select_indices(self, indices: Any) -> None:
            """Row i becomes a copy of row indices[i], (rows,). Rows that stay are not touched."""
            held = self.get_seq_length()
            if held == 0:
                return

            rows, indices = len(indices), indices.cpu()
            buffers = self._buffers_for(rows, held)
            changed = (indices != torch.arange(rows)).nonzero()[:, 0]
            if len(changed):
                places, sources = (i.to(self.keys.device) for i in (changed, indices[changed]))
                for buffer in buffers:
                    buffer[places, :, :held] = buffer[sources, :, :held]
            self._show(rows, held)

        def _show(self, rows: int, total: int) -> None:
            assert self._buffers is not None
            keys, values = self._buffers
            self.keys, self.values = keys[:rows, :, :total], values[:rows, :, :total]

        def _buffers_for(self, rows: int, total: int) -> tuple[Any, Any]:
            """Buffers that hold the present keys and values, with space for so many rows and
            tokens."""
            kept = self._buffers
            is_ours = kept is not None and kept[0].data_ptr() == self.keys.data_ptr()
            if kept is not None and is_ours:
                if kept[0].shape[0] >= rows and kept[0].shape[-2] >= total:
                    return kept
                # More rows will come where they became more.
                rows = max(kept[0].shape[0], rows + rows // SPARE_SHARE)

            self._buffers = (
                _enlarged(self.keys, rows, total),
                _enlarged(self.values, rows, total),
            )
            return self._buffers

    return GrowingLayer


def _enlarged(states: Any, rows: int, total: int) -> Any:
    """A copy with space for so many rows, and for `total` tokens and a stride more."""
    batch, heads, held, size = states.shape
    # Zeros, because attention may multiply what is not yet written with a weight of zero.
    buffer = states.new_zeros(max(rows, batch), heads, total + STRIDE, size)
    buffer[:batch, :, :held] = states
    return buffer
