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
