"""The decoder of arc-mini in few, large operations: Llama's layers, with the weights stacked.

It computes what `LlamaForCausalLM` computes (a test compares both) on passes of a fixed number of
tokens N. Attention is the only operation that sees rows: N tokens are B rows of T, and B and T may
change from pass to pass while every other shape stays. So the rest compiles once.

Nothing here waits for the device: no `.item()`, no boolean indexing. Imports torch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from appliance.engine.attention import causal_attention
from appliance.learn.fast.parts import Parts
from appliance.learn.new_model import HEAD_SIZE
from appliance.seeds import seed_of

if TYPE_CHECKING:
    import torch

INIT_STD = 0.02
"""Spread of fresh weights, as in Llama."""


@dataclass(frozen=True)
class Shape:
    """Size of a model."""

    num_layers: int  # L
    hidden_size: int  # H
    intermediate_size: int  # F
    rope_theta: float = 10000.0
    norm_eps: float = 1e-6


@dataclass
class Weights:
    """All weights in float32; each kind of all layers is one tensor, so that a step of an optimizer
    takes few operations."""

    attention: torch.Tensor  # (L, 4, H, H) query, key, value and output projections
    mlp_in: torch.Tensor  # (L, 2, F, H) gate and up
    mlp_out: torch.Tensor  # (L, 1, H, F) down
    norms: torch.Tensor  # (L, 2, H) before attention, before the MLP
    final_norm: torch.Tensor  # (H,)
    parts: torch.Tensor  # (P, H) of the token table

    def named(self) -> list[tuple[str, torch.Tensor]]:
        """Name and tensor of each."""
        return list(vars(self).items())


@dataclass(frozen=True)
class Pass:
    """N tokens on the device, as B rows of T."""

    ids: torch.Tensor  # (N,) int16, row after row
    is_target: torch.Tensor  # (N,) bool: whether the prediction of this token is trained
    row_tokens: int  # T


def fresh_weights(shape: Shape, parts: Parts, *, seed: int, device: str) -> Weights:
    """Random weights, the same for the same seed and torch, on every device."""
    import torch

    generator = torch.Generator().manual_seed(seed_of(seed, "fresh weights"))
    num, hidden, inner = shape.num_layers, shape.hidden_size, shape.intermediate_size

    def normal(*size: int) -> torch.Tensor:
        drawn = torch.randn(*size, generator=generator) * INIT_STD
        return drawn.to(device).requires_grad_()

    def ones(*size: int) -> torch.Tensor:
        return torch.ones(*size, device=device, requires_grad=True)

    return Weights(
        attention=normal(num, 4, hidden, hidden),
        mlp_in=normal(num, 2, inner, hidden),
        mlp_out=normal(num, 1, hidden, inner),
        norms=ones(num, 2, hidden),
        final_norm=ones(hidden),
        parts=normal(parts.num_parts, hidden),
    )


class Decoder:
    """The forward pass of weights in one number type.

    compiles: whether the pieces are compiled (a GPU needs it; a CPU wants a C++ compiler for it).
    """

    def __init__(
        self, weights: Weights, shape: Shape, parts: Parts, *, dtype: torch.dtype, compiles: bool
    ) -> None:
        import torch

        self.weights, self.shape, self.parts = weights, shape, parts
        self.dtype = dtype
        self._device = weights.parts.device
        self._indices = torch.from_numpy(parts.indices).to(self._device)
        self._rotations: dict[tuple[int, int], tuple[torch.Tensor, torch.Tensor]] = {}

        is_blocked = self._device.type == "cpu" and dtype == torch.bfloat16
        self._attend = causal_attention if is_blocked else _torch_attention
        self.kernels = _kernels(self._device)  # of torch's attention, in the order of preference
        pieces: Any = _pieces(shape.norm_eps, parts)
        if compiles:
            pieces = tuple(torch.compile(p, fullgraph=True, dynamic=False) for p in pieces)
        self._embed, self._before, self._after, self._judge = pieces

    def loss(self, batch: Pass) -> torch.Tensor:
        """Sum over the targets of their negative log-likelihood in nats, a scalar in float32."""
        nats, _ = self.judged(batch)
        return nats.sum()

    def judged(self, batch: Pass) -> tuple[torch.Tensor, torch.Tensor]:
        """For each of the N tokens: nats for the token that follows it, 0 where that is no target;
        and whether that token is the most likely one."""
        hidden = self.hidden(batch)
        weights = self.weights

        following = self._indices[batch.ids.long().roll(-1)]
        is_target = batch.is_target.view(-1, batch.row_tokens).roll(-1, dims=1)
        is_target[:, -1] = False  # what follows the end of a row is another row
        judged: tuple[torch.Tensor, torch.Tensor] = self._judge(
            hidden,
            weights.final_norm.to(self.dtype),
            weights.parts.to(self.dtype),
            following,
            is_target.reshape(-1),
        )
        return judged

    def hidden(self, batch: Pass) -> torch.Tensor:
        """(N, H) what the layers make of the tokens, before the last norm."""
        from torch.nn.attention import sdpa_kernel

        weights, dtype = self.weights, self.dtype
        num_tokens = batch.ids.shape[0]
        heads = (num_tokens // batch.row_tokens, batch.row_tokens, -1, HEAD_SIZE)
        cos, sin = self._rotation(num_tokens, batch.row_tokens)

        x = self._embed(self._indices[batch.ids.long()], weights.parts.to(dtype))
        layers = zip(
            weights.attention.to(dtype).unbind(),
            weights.mlp_in.to(dtype).unbind(),
            weights.mlp_out.to(dtype).unbind(),
            weights.norms.to(dtype).unbind(),
            strict=True,
        )
        for attention, mlp_in, mlp_out, norms in layers:
            q, k, v = self._before(x, norms, attention, cos, sin)
            q, k, v = (t.view(heads).transpose(1, 2) for t in (q, k, v))
            with sdpa_kernel(self.kernels, set_priority=True):
                attended = self._attend(q, k, v)
            merged = attended.transpose(1, 2).reshape(num_tokens, -1)
            x = self._after(x, merged, norms, attention, mlp_in, mlp_out)

        return x

    def _rotation(self, num_tokens: int, row_tokens: int) -> tuple[torch.Tensor, torch.Tensor]:
        """(N, 1, head size) cosine and sine of the rotary position embedding, kept for each T."""
        import torch

        key = (num_tokens, row_tokens)
        if key not in self._rotations:
            half = torch.arange(0, HEAD_SIZE, 2, device=self._device).float() / HEAD_SIZE
            angle = torch.arange(row_tokens, device=self._device)[:, None] / (
                self.shape.rope_theta**half
            )
            angle = torch.cat([angle, angle], dim=1).repeat(num_tokens // row_tokens, 1)[:, None]
            self._rotations[key] = (angle.cos().to(self.dtype), angle.sin().to(self.dtype))
        return self._rotations[key]


def _torch_attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    import torch.nn.functional as functional

    return functional.scaled_dot_product_attention(q, k, v, is_causal=True)


def _kernels(device: torch.device) -> list[Any]:
    """cuDNN's has code for Hopper; FlashAttention 2, which torch prefers, has none
    (docs/results/gpu.md)."""
    import torch
    from torch.nn.attention import SDPBackend as Kernel

    first, second = Kernel.FLASH_ATTENTION, Kernel.CUDNN_ATTENTION
    if device.type == "cuda" and torch.cuda.get_device_capability(device) >= (9, 0):
        first, second = second, first
    return [first, second, Kernel.EFFICIENT_ATTENTION, Kernel.MATH]


def _pieces(eps: float, parts: Parts) -> tuple[Callable[..., Any], ...]:
    """The four pieces between which attention stands, each a function of tensors alone."""
    import torch
    import torch.nn.functional as functional

    num_parts, products = parts.num_parts, parts.products

    def norm(x: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        wide = x.float()
        return (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps)).to(x.dtype) * scale

    def several_hot(indices: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """(N, P) a 1 for each part of a token: a product with it is a lookup, and so is its
        gradient, without the collisions of a scatter."""
        all_parts = torch.arange(num_parts, device=indices.device, dtype=indices.dtype)
        return (indices[:, :, None] == all_parts).sum(1).to(dtype)

    def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        left, right = x.chunk(2, dim=-1)
        return x * cos + torch.cat([-right, left], dim=-1) * sin

    def embed(indices: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
        return several_hot(indices, vectors.dtype) @ vectors

    def before(
        x: torch.Tensor,
        norms: torch.Tensor,
        attention: torch.Tensor,
        cos: torch.Tensor,
        sin: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Queries, keys and values, (N, heads, head size) each."""
        width = x.shape[1]
        normed = norm(x, norms[0])
        q, k, v = (
            (normed @ attention[:3].reshape(3 * width, width).T)
            .view(x.shape[0], 3, -1, HEAD_SIZE)
            .unbind(1)
        )
        return rotate(q, cos, sin), rotate(k, cos, sin), v

    def after(
        x: torch.Tensor,
        attended: torch.Tensor,
        norms: torch.Tensor,
        attention: torch.Tensor,
        mlp_in: torch.Tensor,
        mlp_out: torch.Tensor,
    ) -> torch.Tensor:
        x = x + attended @ attention[3].T
        normed = norm(x, norms[1])
        gate, up = (normed @ mlp_in.reshape(-1, x.shape[1]).T).chunk(2, dim=1)
        return x + (functional.silu(gate) * up) @ mlp_out[0].T

    def judge(
        hidden: torch.Tensor,
        final_norm: torch.Tensor,
        vectors: torch.Tensor,
        following: torch.Tensor,
        is_target: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        logits = (norm(hidden, final_norm) @ vectors.T).float()

        # exp(logit) summed over all tokens that take one part of each group is a product of sums,
        # and the best of them takes the best part of each.
        sums, bests = [], []
        for product in products:
            groups = [logits[:, first:end] for first, end in product]
            sums.append(torch.stack([g.logsumexp(1) for g in groups]).sum(0))
            bests.append(torch.stack([g.amax(1) for g in groups]).sum(0))

        wanted = (several_hot(following, torch.float32) * logits).sum(1)
        nats = torch.stack(sums).logsumexp(0) - wanted
        is_best = wanted >= torch.stack(bests).amax(0) - 1e-5
        return torch.where(is_target, nats, 0.0), is_best

    return embed, before, after, judge


STOCK_NAMES = {
    "attention": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj"),
    "mlp_in": ("mlp.gate_proj", "mlp.up_proj"),
    "mlp_out": ("mlp.down_proj",),
    "norms": ("input_layernorm", "post_attention_layernorm"),
}
"""Names of each layer's weights in Transformers, in the order in which they are stacked."""


def to_stock(weights: Weights, parts: Parts, model: Any) -> None:
    """Copy the weights into a Llama of Transformers of the same size."""
    import torch

    state = {"model.norm.weight": weights.final_norm}
    table = parts.table(weights.parts.detach().float().cpu().numpy())
    state["model.embed_tokens.weight"] = torch.from_numpy(table)

    num_layers = weights.attention.shape[0]
    for kind, names in STOCK_NAMES.items():
        stacked = getattr(weights, kind).detach()
        for layer in range(num_layers):
            for i, name in enumerate(names):
                state[f"model.layers.{layer}.{name}.weight"] = stacked[layer, i]

    own = dict(model.named_parameters())
    with torch.no_grad():
        for name, weight in state.items():
            own[name].copy_(weight)


def from_stock(model: Any, parts: Parts, *, device: str) -> Weights:
    """The weights of a Llama of Transformers, stacked; the table as sums of parts, as near as
    least squares gets."""
    import torch

    own = {name: weight.detach().float() for name, weight in model.named_parameters()}
    num_layers = int(model.config.num_hidden_layers)

    def ready(weight: torch.Tensor) -> torch.Tensor:
        return weight.clone().contiguous().to(device).requires_grad_()

    def stacked(kind: str) -> torch.Tensor:
        names = STOCK_NAMES[kind]
        layers = [
            torch.stack([own[f"model.layers.{layer}.{name}.weight"] for name in names])
            for layer in range(num_layers)
        ]
        return ready(torch.stack(layers))

    table = own["model.embed_tokens.weight"].cpu().numpy().astype(np.float32)
    return Weights(
        attention=stacked("attention"),
        mlp_in=stacked("mlp_in"),
        mlp_out=stacked("mlp_out"),
        norms=stacked("norms"),
        final_norm=ready(own["model.norm.weight"]),
        parts=ready(torch.from_numpy(parts.vectors(table))),
    )
