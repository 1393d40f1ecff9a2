"""Attention by blocks of queries: torch's own results, gradients and masks, at another speed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as functional

from appliance.engine.load_model import load_causal_lm
from appliance.engine.model_folder import model_dir
from appliance.engine.training import attention
from appliance.engine.training.attention import causal_attention, use_blocks


def attended(function: Any, tensors: list[torch.Tensor], given: torch.Tensor) -> list[torch.Tensor]:
    """What attention makes of queries, keys and values, and the gradients of the three."""
    leaves = [tensor.clone().requires_grad_() for tensor in tensors]
    out = function(*leaves)
    out.backward(given)
    return [out.detach(), *(leaf.grad for leaf in leaves)]


def torchs_own(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    return functional.scaled_dot_product_attention(q, k, v, is_causal=True)


@pytest.mark.parametrize(
    ("rows", "heads", "num_tokens", "head_size"),
    [
        (1, 1, 1, 8),
        (2, 3, 127, 16),
        (1, 4, 128, 64),
        (3, 2, 129, 8),
        (1, 2, 700, 32),
        (1, 1, 1024, 8),
        (1, 2, 1025, 16),
        (2, 1, 1300, 8),
    ],
)
def test_blocks_give_torchs_own_results_and_gradients(
    rows: int, heads: int, num_tokens: int, head_size: int
) -> None:
    torch.manual_seed(num_tokens)
    # As a model has them: heads beside each other, so that tokens do not lie side by side.
    tensors = [torch.randn(rows, num_tokens, heads, head_size).transpose(1, 2) for _ in range(3)]
    given = torch.randn(rows, heads, num_tokens, head_size)

    ours = attended(causal_attention, tensors, given)
    wanted = attended(torchs_own, tensors, given)
    for found, right in zip(ours, wanted, strict=True):
        assert torch.allclose(found, right, atol=2e-5)


def test_bfloat16_is_as_near_to_float32_as_rounded_scores_allow() -> None:
    torch.manual_seed(0)
    tensors = [torch.randn(1, 4, 600, 64).bfloat16() for _ in range(3)]
    given = torch.randn(1, 4, 600, 64).bfloat16()

    ours = attended(causal_attention, tensors, given)
    wanted = attended(torchs_own, [tensor.float() for tensor in tensors], given.float())
    for found, right in zip(ours, wanted, strict=True):
        assert (found.float() - right).norm() < 0.01 * right.norm()


def test_no_query_sees_a_later_key() -> None:
    torch.manual_seed(0)
    q, k, v = (torch.randn(1, 2, 300, 16) for _ in range(3))
    before = causal_attention(q, k, v)

    k[:, :, 200:], v[:, :, 200:] = 5.0, 1e6
    assert torch.equal(causal_attention(q, k, v)[:, :, :200], before[:, :, :200])


def mini(dtype: str) -> Any:
    model = load_causal_lm(model_dir("arc-mini"), dtype="float32", device="cpu").train()
    use_blocks(model, device="cpu", dtype=dtype)
    return model


def loss_and_gradient(model: Any, **inputs: torch.Tensor) -> tuple[float, torch.Tensor]:
    """Of one pass in bfloat16; the gradient is that of the first layer's queries."""
    model.zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        hidden = model.get_decoder()(use_cache=False, **inputs).last_hidden_state
    loss = hidden.float().square().mean()
    loss.backward()
    weight = model.get_decoder().layers[0].self_attn.q_proj.weight
    return float(loss.detach()), weight.grad.clone()


def test_a_model_trains_by_blocks_as_by_torchs_own(monkeypatch: pytest.MonkeyPatch) -> None:
    ids = torch.randint(0, 9000, (1, 500), generator=torch.Generator().manual_seed(1))
    wanted, wanted_gradient = loss_and_gradient(mini("float32"), input_ids=ids)

    num_calls = 0
    function = attention.causal_attention

    def counted(*arguments: Any) -> Any:
        nonlocal num_calls
        num_calls += 1
        return function(*arguments)

    monkeypatch.setattr(attention, "causal_attention", counted)
    found, gradient = loss_and_gradient(mini("bfloat16"), input_ids=ids)

    assert num_calls == 8  # one a layer
    assert found == pytest.approx(wanted, rel=2e-3)
    assert (gradient - wanted_gradient).norm() < 0.05 * wanted_gradient.norm()


def test_packed_sequences_do_not_see_each_other() -> None:
    """Such rows need a mask, which blocks have not: torch's own kernel takes them."""
    ids = torch.randint(0, 9000, (1, 300), generator=torch.Generator().manual_seed(2))
    positions = torch.cat([torch.arange(120), torch.arange(180)])[None]
    by_blocks = loss_and_gradient(mini("bfloat16"), input_ids=ids, position_ids=positions)
    by_torch = loss_and_gradient(mini("float32"), input_ids=ids, position_ids=positions)
    assert by_blocks[0] == by_torch[0]
    assert torch.equal(by_blocks[1], by_torch[1])


def test_a_saved_model_does_not_ask_others_for_our_attention(tmp_path: Path) -> None:
    model = mini("bfloat16")
    model.save_pretrained(str(tmp_path))
    assert attention.NAME not in (tmp_path / "config.json").read_text()
    assert json.loads((tmp_path / "config.json").read_text())["num_hidden_layers"] == 8


@pytest.mark.parametrize(("device", "dtype"), [("cpu", "float32"), ("cuda", "bfloat16")])
def test_elsewhere_a_model_keeps_its_attention(device: str, dtype: str) -> None:
    model = load_causal_lm(model_dir("arc-mini"), dtype="float32", device="cpu")
    use_blocks(model, device=device, dtype=dtype)
    assert model.config._attn_implementation == "sdpa"
