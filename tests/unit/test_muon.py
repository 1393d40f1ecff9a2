"""Our Muon against PyTorch's, which multiplies in bfloat16."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from appliance.learn.muon import muon, orthogonalize  # noqa: E402

pytestmark = pytest.mark.engine


@pytest.mark.parametrize("shape", [(24, 64), (64, 24), (32, 32)])
def test_singular_values_come_close_to_one(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(orthogonalize(matrix, torch.float32))
    assert values.min() > 0.3
    assert values.max() < 1.3


@pytest.mark.parametrize("shape", [(2, 3, 24, 64), (3, 1, 64, 24)])
def test_a_stack_is_its_matrices_one_by_one(shape: tuple[int, ...]) -> None:
    """Orthogonalised, and over steps with momentum and weight decay."""
    generator = torch.Generator().manual_seed(2)
    start = torch.randn(shape, generator=generator)
    flat = start.view(-1, *shape[-2:])
    alone = torch.stack([orthogonalize(matrix, torch.float32) for matrix in flat])
    together = orthogonalize(start, torch.float32)
    assert torch.allclose(together.view_as(alone), alone, atol=1e-6)

    stack = torch.nn.Parameter(start.clone())
    matrices = [torch.nn.Parameter(matrix.clone()) for matrix in flat]
    first = muon([stack], 0.1, weight_decay=0.1, dtype=torch.float32)
    second = muon(matrices, 0.1, weight_decay=0.1, dtype=torch.float32)
    for _ in range(3):
        gradient = torch.randn(shape, generator=generator)
        stack.grad = gradient.clone()
        for matrix, part in zip(matrices, gradient.view_as(flat), strict=True):
            matrix.grad = part.clone()
        first.step()
        second.step()
    moved = torch.stack([m.detach() for m in matrices])
    assert torch.allclose(stack.detach().view_as(moved), moved, atol=1e-5)
    assert not torch.allclose(moved, flat, atol=0.01)


def test_weights_of_several_shapes_and_without_gradients_take_their_own_steps() -> None:
    generator = torch.Generator().manual_seed(3)
    shapes = [(8, 16), (16, 8), (8, 16), (2, 8, 16), (8, 16)]
    weights = [torch.nn.Parameter(torch.randn(s, generator=generator)) for s in shapes]
    copies = [torch.nn.Parameter(w.detach().clone()) for w in weights]
    for weight, copy in zip(weights[:-1], copies[:-1], strict=True):
        weight.grad = torch.randn(weight.shape, generator=generator)
        copy.grad = weight.grad.clone()

    muon(weights, 0.1, weight_decay=0.1, dtype=torch.float32).step()
    for copy in copies:
        muon([copy], 0.1, weight_decay=0.1, dtype=torch.float32).step()
    for weight, copy in zip(weights, copies, strict=True):
        assert torch.equal(weight, copy)


def test_steps_are_those_of_pytorch_within_bfloat16() -> None:
    generator = torch.Generator().manual_seed(1)
    start = torch.randn(24, 64, generator=generator)
    ours, theirs = torch.nn.Parameter(start.clone()), torch.nn.Parameter(start.clone())
    optimizers = [
        muon([ours], 0.1, weight_decay=0.1, dtype=torch.bfloat16),
        torch.optim.Muon([theirs], 0.1, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"),
    ]

    for _ in range(3):
        gradient = torch.randn(24, 64, generator=generator)
        for parameter, optimizer in zip((ours, theirs), optimizers, strict=True):
            parameter.grad = gradient.clone()
            optimizer.step()

    moved = (theirs - start).abs().mean()

    assert (ours - theirs).abs().mean() < 0.05 * moved  # rounding to 8 bits, 15 products deep
    assert moved > 0.01
