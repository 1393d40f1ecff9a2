"""The loss by chunks on a real card: torch's own results, without waiting for the card."""

from __future__ import annotations

import pytest

from appliance.machine.gpu import find_gpus

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not find_gpus().gpus, reason="no NVIDIA GPU on this machine"),
]


@pytest.mark.parametrize("is_trained", [True, False])
@pytest.mark.parametrize("autocast", [None, "bfloat16", "float16"])
def test_chunks_give_torchs_value_and_gradients(autocast: str | None, is_trained: bool) -> None:
    import torch

    from appliance.engine.training.cross_entropy import cross_entropy

    torch.manual_seed(0)
    head = torch.nn.Linear(256, 5000, device="cuda").requires_grad_(is_trained)
    hidden = torch.randn(1000, 256, device="cuda", requires_grad=True)
    labels = torch.randint(0, 5000, (1000,), device="cuda")
    dtype = getattr(torch, autocast or "bfloat16")

    found = []
    for chunk_rows in (10**6, 300):  # one chunk goes torch's own way
        hidden.grad = head.weight.grad = head.bias.grad = None
        torch.cuda.synchronize()
        torch.cuda.set_sync_debug_mode("error")
        try:
            with torch.autocast("cuda", dtype, enabled=autocast is not None):
                loss = cross_entropy(head, hidden, labels, chunk_rows=chunk_rows)
            (loss * 1024).backward()
        finally:
            torch.cuda.set_sync_debug_mode("default")
        grads = [hidden.grad, head.weight.grad, head.bias.grad]
        found.append([loss.detach(), *(g for g in grads if g is not None)])

    torchs, ours = found
    assert len(ours) == len(torchs) == 2 + 2 * is_trained
    for one, other in zip(ours, torchs, strict=True):
        tolerance = 0.02 if autocast else 1e-5
        assert float((one - other).norm() / other.norm()) <= tolerance
