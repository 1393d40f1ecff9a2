"""Cross-entropy chunk by chunk: logits, and what comes of them, never outlive their chunk.

With a vocabulary of 152,000 the logits of one token, their softmax and their gradient take 1.8 MB.
So the gradient is taken in the forward pass, while the logits of a chunk are there anyway. All that
is kept of a chunk is the gradient of its hidden states and, where the head is trained, that of the
head's weights. The backward pass only multiplies these with the gradient that comes in. Nothing is
computed twice. (The idea is Liger Kernel's, Hsu et al. 2024, arXiv:2410.10989.)

Any head will do that reads each token by itself: tied or not, frozen, trained, quantised, or with
an adapter on it. It is called as it is, and its own backward pass gives its gradients.

Imports torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache, partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def cross_entropy(
    head: Any, hidden_N_H: torch.Tensor, labels_N: torch.Tensor, *, chunk_rows: int
) -> torch.Tensor:
    """Mean negative log-likelihood of the labels in nats, a scalar in float32; 0 without labels.

    head: the module that makes logits (n, vocabulary) of hidden states (n, H). chunk_rows: hidden
    states of a chunk, at least 1. Value and gradient are those of torch's own cross_entropy, within
    rounding. No gradient is prepared where none is wanted.
    """
    import torch

    # What is one chunk anyway goes torch's own way, which takes a quarter less time with few words.
    num_labels = len(labels_N)
    if num_labels <= chunk_rows:
        return _nats(head, hidden_N_H, labels_N) / max(1, num_labels)

    weights = [weight for weight in head.parameters() if weight.requires_grad]
    head = _cast_once(head, hidden_N_H.device)
    if torch.is_grad_enabled() and (hidden_N_H.requires_grad or weights):
        loss: torch.Tensor = _function().apply(head, chunk_rows, hidden_N_H, labels_N, *weights)
        return loss

    nats = torch.zeros((), device=hidden_N_H.device)
    for rows in _chunks(num_labels, chunk_rows):
        nats += _nats(head, hidden_N_H[rows], labels_N[rows])
    return nats / num_labels


def _nats(head: Any, hidden_n_H: torch.Tensor, labels_n: torch.Tensor) -> torch.Tensor:
    """Summed over the labels."""
    import torch

    logits = head(hidden_n_H).float()
    summed: torch.Tensor = torch.nn.functional.cross_entropy(logits, labels_n, reduction="sum")
    return summed


def _cast_once(head: Any, device: torch.device) -> Any:
    """The head; a plain one with its frozen weights in the type that autocast multiplies in.

    Autocast keeps the cast of weights that are trained. Frozen ones it would cast for every chunk.
    """
    import torch

    is_plain = type(head) is torch.nn.Linear and not head.weight.requires_grad
    if not is_plain or not torch.is_autocast_enabled(device.type):
        return head
    weight = head.weight.to(torch.get_autocast_dtype(device.type))
    return partial(torch.nn.functional.linear, weight=weight, bias=head.bias)


@cache
def _function() -> Any:
    """The autograd function; made at the first call, so that the import is lazy."""
    import torch

    class ChunkedCrossEntropy(torch.autograd.Function):  # type: ignore[misc]
        @staticmethod
        def forward(
            ctx: Any,
            head: Any,
            chunk_rows: int,
            hidden_N_H: torch.Tensor,
            labels_N: torch.Tensor,
            *weights: torch.Tensor,
        ) -> torch.Tensor:
            nats = torch.zeros((), device=hidden_N_H.device)
            of_hidden = torch.empty_like(hidden_N_H)
            of_weights: list[torch.Tensor | None] = [None] * len(weights)

            for rows in _chunks(len(labels_N), chunk_rows):
                nats += _learn_chunk(
                    head, weights, hidden_N_H[rows], labels_N[rows], of_hidden[rows], of_weights
                )

            ctx.save_for_backward(of_hidden, *of_weights)
            ctx.dtypes = [hidden_N_H.dtype, *(weight.dtype for weight in weights)]
            ctx.num_labels = len(labels_N)
            return nats / ctx.num_labels

        @staticmethod
        @torch.autograd.function.once_differentiable  # type: ignore[untyped-decorator]
        def backward(ctx: Any, given: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
            factor = given / ctx.num_labels

            # In float32, because a 16-bit factor would be rounded before it is multiplied with.
            gradients = (
                None if kept is None else (kept.float() * factor).to(dtype)
                for kept, dtype in zip(ctx.saved_tensors, ctx.dtypes, strict=True)
            )
            of_hidden = next(gradients)
            return None, None, of_hidden, None, *gradients

    return ChunkedCrossEntropy


def _chunks(num_rows: int, chunk_rows: int) -> Iterator[slice]:
    for first in range(0, num_rows, chunk_rows):
        yield slice(first, first + chunk_rows)


def _learn_chunk(
    head: Any,
    weights: Sequence[torch.Tensor],
    hidden_n_H: torch.Tensor,
    labels_n: torch.Tensor,
    of_hidden_n_H: torch.Tensor,
    of_weights: list[torch.Tensor | None],
) -> torch.Tensor:
    """The nats of a chunk, summed. Its gradients are written to of_hidden_n_H and added to
    of_weights.

    They are gradients of the sum over labels, not of the mean: in float16, most entries of a mean
    over thousands of labels would be rounded to 0.
    """
    import torch

    hidden = hidden_n_H.detach().requires_grad_()
    with torch.enable_grad():
        logits = head(hidden)

    nats, of_logits = _nats_and_gradient(logits.detach(), labels_n)
    with torch.autocast(hidden.device.type, enabled=False):  # types are as the forward pass chose
        of_chunk, *parts = torch.autograd.grad(
            logits, [hidden, *weights], of_logits, allow_unused=True
        )

    of_hidden_n_H.copy_(of_chunk)
    # Summed in float32: over many chunks, 16 bits would swallow small terms.
    for i, part in enumerate(parts):
        total = of_weights[i]
        if part is not None:
            of_weights[i] = part.float() if total is None else total.add_(part)
    return nats


def _nats_and_gradient(
    logits_n_V: torch.Tensor, labels_n: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The summed nats of the labels, and the gradient of that sum: the softmax, less 1 at the label
    (n, V), in the type of the logits. In between all is float32.
    """
    import torch

    logprobs = logits_n_V.log_softmax(-1, dtype=torch.float32)
    places = labels_n[:, None]
    of_labels = logprobs.gather(1, places)

    gradient = logprobs.exp_().scatter_(1, places, of_labels.expm1())
    return -of_labels.sum(), gradient.to(logits_n_V.dtype)
