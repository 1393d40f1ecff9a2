"""A cache of keys and values that grows in strides, so that a step writes its own token instead of copying all before it.

Transformers' own grows by concatenation: every token written copies the whole cache, which is most of the time of a long prompt
or a large batch on a CPU. Imports torch by Transformers.
"""

from __future__ import annotations

from functools import cache
from typing import Any

STRIDE = 64
"""Tokens that a layer takes room for beyond those it holds."""


def growing_cache(config: Any) -> Any:
    """An empty cache for a model of this configuration; layers that hold a window of tokens only stay Transformers' own."""
    from transformers import DynamicCache
    from transformers.cache_utils import DynamicLayer

    found = DynamicCache(config=config)
    found.layers = [
        growing_layer()() if type(layer) is DynamicLayer else layer for layer in found.layers
    ]
    return found


@cache
def growing_layer() -> Any:
    """The class of a layer of the cache."""
    from transformers.cache_utils import DynamicLayer

    class GrowingLayer(DynamicLayer):  # type: ignore[misc]
        """keys, values: (B, heads, tokens, head size), views of the room while nobody put other tensors in their place."""

        def __init__(self) -> None:
            super().__init__()
            self._room: tuple[Any, Any] | None = None

        def update(
            self, key_states: Any, value_states: Any, *args: Any, **kwargs: Any
        ) -> tuple[Any, Any]:
            """Adds (B, heads, new tokens, head size); returns all."""
            held = self.get_seq_length()
            if held == 0:
                added: tuple[Any, Any] = super().update(key_states, value_states)
                return added
            total = held + key_states.shape[-2]
            keys, values = self._room_for(total)
            keys[..., held:total, :] = key_states
            values[..., held:total, :] = value_states
            self.keys, self.values = keys[..., :total, :], values[..., :total, :]
            return self.keys, self.values

        def _room_for(self, total: int) -> tuple[Any, Any]:
            """The room that holds what is here, with space for so many tokens."""
            is_here = self._room is not None and self._room[0].data_ptr() == self.keys.data_ptr()
            if self._room is None or not is_here or self._room[0].shape[-2] < total:
                self._room = _roomier(self.keys, total), _roomier(self.values, total)
            return self._room

    return GrowingLayer


def _roomier(states: Any, total: int) -> Any:
    batch, heads, held, size = states.shape
    room = states.new_empty(batch, heads, total + STRIDE, size)
    room[..., :held, :] = states
    return room
