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


def orthogonalize(matrix: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """The matrix with its singular values pushed to about 0.7-1.2, by Newton-Schulz iterations."""
    a, b, c = COEFFICIENTS
    x = matrix.to(dtype)
    if x.shape[0] > x.shape[1]:
        x = x.T  # the smaller of both Gram matrices is the cheaper one

    x = x / (x.norm() + 1e-7)
    for _ in range(NUM_ITERATIONS):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x

    return (x.T if matrix.shape[0] > matrix.shape[1] else x).to(matrix.dtype)


def muon(
    matrices: Iterable[torch.Tensor],
    learning_rate: float,
    *,
    weight_decay: float,
    dtype: torch.dtype,
    momentum: float = 0.95,
) -> Any:
    """A torch optimizer over 2-D parameters; dtype: that Newton-Schulz multiplies in."""
    import torch

    # The class is made here because torch is imported only now.

    class Muon(torch.optim.Optimizer):  # type: ignore[misc]
        @torch.no_grad()  # type: ignore[untyped-decorator]
        def step(self, closure: None = None) -> None:
            for group in self.param_groups:
                for p in group["params"]:
                    if p.grad is None:
                        continue

                    velocity = self.state[p].setdefault("momentum_buffer", torch.zeros_like(p))
                    velocity.lerp_(p.grad, 1 - momentum)
                    update = orthogonalize(p.grad.lerp(velocity, momentum), dtype)
                    p.mul_(1 - group["lr"] * group["weight_decay"])
                    p.add_(update, alpha=-group["lr"] * 0.2 * max(p.shape) ** 0.5)

    return Muon(list(matrices), {"lr": learning_rate, "weight_decay": weight_decay})
