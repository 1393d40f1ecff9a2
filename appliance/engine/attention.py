"""Attention on a CPU, where torch's own kernel leaves much of it idle.

A CPU with instructions for bfloat16 multiplies matrices far faster than torch's kernel for
attention uses them, and for the next token of a batch that kernel reads a cache of bfloat16 three
to twelve times as slowly as plain products do. So there are two ways of our own, each as exact as
torch's (figures: docs/results/training.md and sampling.md):

    causal_attention      whole sequences in bfloat16, forward and backward: block by block
    next_token_attention  one new token a row in bfloat16, against all keys so far

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

NAME = "appliance_cpu"
"""What Transformers calls this attention."""

SHORT_ROW = 1024
"""Tokens up to which a row is short: its blocks are small, and their weights are kept. These take
about a fifth of what a layer keeps anyway."""

BLOCK_TOKENS = (128, 256)
"""Queries of a block of a short row, and of a long one: the fastest measured."""

HIDDEN_SCORE = -30000.0
"""The score of a key that a query must not see, or what is added to it: its weight rounds to 0."""


def use_cpu_attention(model: Any) -> None:
    """Let a model of Transformers on a CPU use the ways above where they are faster. What they
    cannot do goes to torch's own kernel as before, and so does all of a model on a GPU."""
    if next(model.parameters()).device.type != "cpu":
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


def next_token_attention(
    queries: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    is_seen: torch.Tensor | None = None,
    scale: float | None = None,
) -> torch.Tensor:
    """softmax(queries keys^T scale) values for one query a row, (B, heads, 1, head size).

    queries: (B, heads, 1, head size). keys, values: (B, groups of heads, T, head size), each for a
    whole group. is_seen: (B, 1, 1, T) bool, which keys count; None: all. No gradient is taken.
    """
    import torch

    if hasattr(keys, "buffer"):  # of kv_cache.py: as a whole it need not be copied
        num_spare = keys.buffer.shape[2] - keys.shape[2]
        if is_seen is None:
            is_seen = torch.ones(len(keys), 1, 1, keys.shape[2], dtype=torch.bool)
        is_seen = torch.nn.functional.pad(is_seen, (0, num_spare), value=False)
        keys, values = keys.buffer, values.buffer

    rows, num_heads, _, size = queries.shape
    groups, num_keys = keys.shape[1:3]
    if scale is None:
        scale = float(size) ** -0.5

    # Keys before queries, because a product of these shapes copies nothing.
    q = (queries * scale).view(rows * groups, -1, size).transpose(1, 2)
    k, v = keys.flatten(0, 1), values.flatten(0, 1)
    shape = (rows, groups, num_keys, -1)

    def hide(scores: torch.Tensor) -> torch.Tensor:
        if is_seen is not None:
            scores.view(shape).masked_fill_(~is_seen.transpose(2, 3), HIDDEN_SCORE)
        return scores

    # Twice, as in _weights: what is rounded is the distance from the highest score.
    highest = hide(torch.bmm(k, q)).amax(1, keepdim=True)
    scores = hide(torch.baddbmm(highest, k, q, beta=-1))
    weights = scores.transpose(1, 2).softmax(-1)
    return torch.bmm(weights, v).view(rows, num_heads, 1, size)


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
    import torch.nn.functional as functional
    from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward

    is_plain = not dropout and getattr(module, "is_causal", True) and key.shape == value.shape
    is_plain &= not any(kwargs.get(name) is not None for name in ("is_causal", "position_bias"))
    dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else query.dtype

    if is_plain and query.shape[2] == 1 and _is_next_token(key, attention_mask):
        if dtype == key.dtype == torch.bfloat16:
            out = next_token_attention(query, key, value, attention_mask, scaling)
        else:
            # Transformers repeats the keys of a group for each of its heads where there is a mask.
            out = functional.scaled_dot_product_attention(
                query, key, value, attn_mask=attention_mask, scale=scaling, enable_gqa=True
            )
        return out.transpose(1, 2).contiguous(), None

    is_whole = attention_mask is None and query.shape[2] == key.shape[2]
    if is_plain and is_whole and dtype == torch.bfloat16:
        groups = getattr(module, "num_key_value_groups", 1)
        query, key, value = (
            t.to(dtype) for t in (query, repeat_kv(key, groups), repeat_kv(value, groups))
        )
        return causal_attention(query, key, value, scaling).transpose(1, 2).contiguous(), None

    by_torch: tuple[torch.Tensor, None] = sdpa_attention_forward(
        module, query, key, value, attention_mask, dropout, scaling, **kwargs
    )
    return by_torch


def _is_next_token(keys: torch.Tensor, mask: torch.Tensor | None) -> bool:
    """Whether one new token a row is asked for, with a mask of keys or none."""
    import torch

    is_of_keys = mask is None or (mask.dtype == torch.bool and mask.shape[1:3] == (1, 1))
    return is_of_keys and not torch.is_grad_enabled()


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
            given, upright_v = _flat(gradient), _upright(v)
            upright = None if kept else _upright(k)
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
