"""Which prompts go together in a batch, and how they are padded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from appliance.engine.base import Request

MAX_PADDING_RATIO = 1.25
"""Longest prompt of a batch in shortest ones: padding costs attention as text does."""

MIN_PADDING = 32
"""Tokens that the longest prompt may have beyond that, so that short prompts go together."""


class Batch:
    """Rows that are written together: sampled in the same way, with little padding, and within the
    token bound.
    """

    def __init__(self, most_tokens: int) -> None:
        self.rows: list[int] = []
        self._most_tokens = most_tokens
        self._way = (0.0, 1.0)  # temperature and top_p
        self._shortest = self._longest = self._new_tokens = 0

    def takes(self, index: int, request: Request) -> bool:
        """Whether the row joins the others; the first one always does."""
        way, width = (request.temperature, request.top_p), len(request.prompt_ids)
        if not self.rows:
            self._way, self._shortest = way, width

        shortest, longest = min(self._shortest, width), max(self._longest, width)
        new_tokens = max(self._new_tokens, request.max_new_tokens)
        is_padded = longest > MAX_PADDING_RATIO * shortest + MIN_PADDING
        is_full = (longest + new_tokens) * (len(self.rows) + 1) > self._most_tokens
        if self.rows and (way != self._way or is_padded or is_full):
            return False

        self._shortest, self._longest, self._new_tokens = shortest, longest, new_tokens
        self.rows.append(index)
        return True


def padded(prompts: Sequence[tuple[int, ...]], *, pad_id: int, device: Any) -> tuple[Any, Any]:
    """Ids and attention mask, (B, T), padded on the left."""
    import torch

    width = max(map(len, prompts))
    ids = torch.full((len(prompts), width), pad_id)
    mask = torch.zeros((len(prompts), width), dtype=torch.long)
    for row, prompt in enumerate(prompts):
        ids[row, width - len(prompt) :] = torch.tensor(prompt)
        mask[row, width - len(prompt) :] = 1
    return ids.to(device), mask.to(device)
