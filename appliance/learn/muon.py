"""Muon: momentum with orthogonalised updates, for weight matrices trained from scratch. Imports
torch.

Method: Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks". Scale of the
update: Liu et al. 2025, "Muon is scalable for LLM training" (0.2 * sqrt(larger side)), by which
Muon can share AdamW's learning rate.

Why not PyTorch's own Muon: it always multiplies in bfloat16, which a CPU without such units
emulates, at 0.18 s a matrix instead of 0.007 s. Here the caller chooses the type.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the quintic polynomial of one Newton-Schulz iteration (Jordan et al.)."""

NUM_ITERATIONS = 5
"""Newton-Schulz iterations of one update (Jordan et al.)."""


def orthogonalize(matrices: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Matrices, (..., M, N), with their singular values pushed to about 0.7-1.2, by Newton-Schulz
    iterations. All matrices of a stack take the same few products."""
    a, b, c = COEFFICIENTS
    is_tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.to(dtype)
    if is_tall:
        x = x.mT  # the smaller of both Gram matrices is the cheaper one

    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(NUM_ITERATIONS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x

    return (x.mT if is_tall else x).to(matrices.dtype)


def muon(
    matrices: Iterable[torch.Tensor],
    learning_rate: float,
    *,
    weight_decay: float,
    dtype: torch.dtype,
    momentum: float = 0.95,
) -> Any:
    """A torch optimizer over matrices and stacks of matrices, (..., M, N); dtype: that
    Newton-Schulz multiplies in."""
    import torch

    # The class is made here because torch is imported only now.

    class Muon(torch.optim.Optimizer):  # type: ignore[misc]
        @torch.no_grad()  # type: ignore[untyped-decorator]
        def step(self, closure: None = None) -> None:
            for group in self.param_groups:
                with_grad = [p for p in group["params"] if p.grad is not None]
                for same in _by_shape(with_grad):
                    self._step(same, group["lr"], group["weight_decay"])

        def _step(self, same: list[torch.Tensor], rate: float, weight_decay: float) -> None:
            """One step of weights of one shape. A GPU is slow at many small products, so they are
            stacked; on a CPU the stack would only be a copy more."""
            velocities = [
                self.state[p].setdefault("momentum_buffer", torch.zeros_like(p)) for p in same
            ]
            grads = [p.grad for p in same]
            torch._foreach_lerp_(velocities, grads, 1 - momentum)
            torch._foreach_lerp_(grads, velocities, momentum)

            if same[0].is_cuda:
                updates = list(orthogonalize(torch.stack(grads), dtype).unbind())
            else:
                updates = [orthogonalize(grad, dtype) for grad in grads]

            torch._foreach_mul_(same, 1 - rate * weight_decay)
            scale = 0.2 * max(same[0].shape[-2:]) ** 0.5
            torch._foreach_add_(same, updates, alpha=-rate * scale)

    return Muon(list(matrices), {"lr": learning_rate, "weight_decay": weight_decay})


def _by_shape(weights: Iterable[torch.Tensor]) -> list[list[torch.Tensor]]:
    """The weights in lists of one shape each."""
    shapes: dict[tuple[int, ...], list[torch.Tensor]] = {}
    for weight in weights:
        shapes.setdefault(tuple(weight.shape), []).append(weight)
    return list(shapes.values())
