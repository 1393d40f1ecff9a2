"""Causal attention for training in bfloat16 on a CPU: plain matrix products, block by block.

A CPU with instructions for bfloat16 multiplies matrices far faster than torch's own kernel for
attention uses them. On one core of an AMD EPYC with AVX512-BF16, forward and backward of four heads
of 64 take half the time at 512 tokens and 0.6 of it at 2,048 (figures: docs/results/training.md).

Each block of queries meets all keys up to its own end; only the square at that end needs a mask.
Short rows keep the weights of their blocks for the backward pass. Long ones compute them again, so
memory grows with the tokens and not with their square, as in torch's kernel. Imports torch and
transformers inside its functions.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

NAME = "causal_blocks"
"""What Transformers calls this attention."""

SHORT_ROW = 1024
"""Tokens up to which a row is short: its blocks are small, and their weights are kept. These take
about a fifth of what a layer keeps anyway."""

BLOCK_TOKENS = (128, 256)
"""Queries of a block of a short row, and of a long one: the fastest measured."""

HIDDEN_SCORE = -30000.0
"""Added to the score of a key that comes after its query, whose weight then rounds to 0."""


def use_blocks(model: Any, *, device: str, dtype: str) -> None:
    """Let a model of Transformers train with this attention where that is faster: on a CPU, where
    matrices are multiplied in bfloat16. Elsewhere the model stays as it is.

    What the blocks cannot do (a mask, one new token) or need not (no gradient) goes to torch's own
    kernel as before.
    """
    if device != "cpu" or dtype != "bfloat16":
        return

    # A model whose code does not look attention up by name keeps its own.
    if model.config._attn_implementation == "sdpa" and model._can_set_attn_implementation():
        _register()
        model.set_attn_implementation(NAME)


def causal_attention(
    queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, scale: float | None = None
) -> torch.Tensor:
    """softmax(queries keys^T scale) values, where no query sees a key after it.

    All are (B, heads, T, head size) and of one number type. scale: None for one over the root of
    the head size.
    """
    if scale is None:
        scale = float(queries.shape[-1]) ** -0.5
    attended: torch.Tensor = _function().apply(queries, keys, values, scale)
    return attended


@cache
def _register() -> None:
    """Make the attention known to Transformers, with the masks that torch's kernel takes."""
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, AttentionMaskInterface
    from transformers.modeling_utils import AttentionInterface

    AttentionInterface.register(NAME, _forward)
    AttentionMaskInterface.register(NAME, ALL_MASK_ATTENTION_FUNCTIONS["sdpa"])


def _forward(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Attention as Transformers calls it; the result is (B, T, heads, head size)."""
    import torch
    from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward

    is_plain = attention_mask is None and not dropout and getattr(module, "is_causal", True)
    is_plain &= not any(kwargs.get(name) is not None for name in ("is_causal", "position_bias"))
    has_one_length = query.shape[2] == key.shape[2] and key.shape == value.shape
    dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else query.dtype
    is_training = torch.is_grad_enabled() and dtype == torch.bfloat16

    if not (is_plain and has_one_length and is_training):
        by_torch: tuple[torch.Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout, scaling, **kwargs
        )
        return by_torch

    groups = getattr(module, "num_key_value_groups", 1)
    query, key, value = (
        t.to(dtype) for t in (query, repeat_kv(key, groups), repeat_kv(value, groups))
    )
    return causal_attention(query, key, value, scaling).transpose(1, 2).contiguous(), None


@cache
def _function() -> Any:
    """The autograd function; made at the first call, so that the import is lazy."""
    import torch

    class CausalBlocks(torch.autograd.Function):  # type: ignore[misc]
        @staticmethod
        def forward(
            ctx: Any, queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, scale: float
        ) -> torch.Tensor:
            q, k, v = _flat(queries * scale), _flat(keys), _flat(values)
            upright = _upright(k)
            highest = torch.empty_like(q[:, :, :1])
            out = torch.empty_like(v)
            kept: list[torch.Tensor] = []

            for first, end in _blocks(q.shape[1]):
                highest[:, first:end] = _highest(q, upright, first, end)
                weights = _weights(q, upright, highest, first, end)
                out[:, first:end] = torch.bmm(weights, v[:, :end])
                if q.shape[1] <= SHORT_ROW:
                    kept.append(weights)

            ctx.save_for_backward(q, k, v, highest, *kept)
            ctx.scale = scale
            return out.view(values.shape)

        @staticmethod
        def backward(
            ctx: Any, gradient: torch.Tensor
        ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, None]:
            q, k, v, highest, *kept = ctx.saved_tensors
            given, upright, upright_v = _flat(gradient), _upright(k), _upright(v)
            of_q = torch.empty_like(q)
            # Sums over blocks are taken in float32: bfloat16 would swallow small terms.
            of_k = torch.zeros(k.shape, dtype=torch.float32)
            of_v = torch.zeros(v.shape, dtype=torch.float32)

            for block, (first, end) in enumerate(_blocks(q.shape[1])):
                weights = kept[block] if kept else _weights(q, upright, highest, first, end)
                of_v[:, :end] += torch.bmm(weights.transpose(1, 2), given[:, first:end])

                of_weights = torch.bmm(given[:, first:end], upright_v[:, :, :end])
                of_scores = torch.ops.aten._softmax_backward_data(
                    of_weights, weights, -1, weights.dtype
                )
                of_q[:, first:end] = torch.bmm(of_scores, k[:, :end])
                of_k[:, :end] += torch.bmm(of_scores.transpose(1, 2), q[:, first:end])

            shape = gradient.shape
            return (
                of_q.mul_(ctx.scale).view(shape),
                of_k.to(k.dtype).view(shape),
                of_v.to(v.dtype).view(shape),
                None,
            )

    return CausalBlocks


def _flat(x: torch.Tensor) -> torch.Tensor:
    """(B, heads, T, head size) as (B x heads, T, head size) in one piece: products of what lies
    scattered take twice as long."""
    return x.contiguous().view(-1, *x.shape[2:])


def _upright(x: torch.Tensor) -> torch.Tensor:
    """(B x heads, head size, T) in one piece: of this, the first tokens need not be copied to be
    multiplied with."""
    return x.transpose(1, 2).contiguous()


def _blocks(num_tokens: int) -> Iterator[tuple[int, int]]:
    """First and end of each block of queries."""
    size = BLOCK_TOKENS[num_tokens > SHORT_ROW]
    for first in range(0, num_tokens, size):
        yield first, min(num_tokens, first + size)


def _highest(queries: torch.Tensor, upright: torch.Tensor, first: int, end: int) -> torch.Tensor:
    """(B x heads, end - first, 1) the highest score of each query, rounded."""
    import torch

    scores = torch.bmm(queries[:, first:end], upright[:, :, :end])
    scores[:, :, first:end] += _later(end - first, scores.dtype)
    return scores.amax(2, keepdim=True)


def _weights(
    queries: torch.Tensor, upright: torch.Tensor, highest: torch.Tensor, first: int, end: int
) -> torch.Tensor:
    """(B x heads, end - first, end) how much each query of a block, scaled, takes of each key.

    The product takes the highest score off before it is rounded. So the scores that count are near
    zero, where bfloat16 is exact: rounded as they are, scores of 50 would be off by 0.1.
    """
    import torch

    scores = torch.baddbmm(
        highest[:, first:end], queries[:, first:end], upright[:, :, :end], beta=-1
    )
    scores[:, :, first:end] += _later(end - first, scores.dtype)
    return scores.softmax(-1)


@cache
def _later(num_tokens: int, dtype: torch.dtype) -> torch.Tensor:
    """(T, T) what is added to scores so that no key after its query counts."""
    import torch

    return torch.full((num_tokens, num_tokens), HIDDEN_SCORE, dtype=dtype).triu(1)
