"""Attention on a CPU: torch's own results, gradients and masks, at another speed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as functional
from transformers import LlamaConfig, LlamaForCausalLM

from appliance.engine import attention
from appliance.engine.attention import causal_attention, next_token_attention
from appliance.engine.folder.card import model_dir, read_card
from appliance.engine.load_model import load_causal_lm
from appliance.engine.sampling.kv_cache import growing_layer
from appliance.learn.data.corpus import assemble
from appliance.learn.data.documents import DocumentSampler
from appliance.learn.data.generated import family_tasks
from appliance.learn.data.styles import TinyWriter
from appliance.models.vocabularies import VOCABULARIES


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


def mini(*, by: str = attention.NAME) -> Any:
    """arc-mini, with its attention by name."""
    model = load_causal_lm(model_dir("arc-mini"), dtype="float32", device="cpu").train()
    model.set_attn_implementation(by)
    return model


def loss_and_gradient(
    model: Any, *, short: bool = True, **inputs: torch.Tensor
) -> tuple[float, torch.Tensor]:
    """Of one pass; the gradient is that of the first layer's queries, which all noise reaches.

    short: matrices are multiplied in bfloat16.
    """
    model.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=short):
        hidden = model.get_decoder()(use_cache=False, **inputs).last_hidden_state
    loss = hidden.float().square().mean()
    loss.backward()
    weight = model.get_decoder().layers[0].self_attn.q_proj.weight
    return float(loss.detach()), weight.grad.clone()


def grids(num_tokens: int) -> torch.Tensor:
    """(1, T) ids of documents as arc-mini learns them."""
    writer = TinyWriter(VOCABULARIES[read_card(model_dir("arc-mini")).style])
    sampler = DocumentSampler(assemble(family_tasks(1)), writer, max_tokens=512, min_pairs=3)
    rng = np.random.default_rng(0)
    ids = np.concatenate([sampler.document(rng).ids for _ in range(20)])
    return torch.from_numpy(ids[:num_tokens].astype(np.int64))[None]


@pytest.mark.parametrize("num_tokens", [500, 1200])
def test_a_model_trains_by_blocks_as_exactly_as_by_torchs_own(
    num_tokens: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = grids(num_tokens)
    assert ids.shape == (1, num_tokens)
    right, right_gradient = loss_and_gradient(mini(by="sdpa"), short=False, input_ids=ids)
    by_torch, torchs_gradient = loss_and_gradient(mini(by="sdpa"), input_ids=ids)

    num_calls = 0
    function = attention.causal_attention

    def counted(*arguments: Any) -> Any:
        nonlocal num_calls
        num_calls += 1
        return function(*arguments)

    monkeypatch.setattr(attention, "causal_attention", counted)
    by_blocks, gradient = loss_and_gradient(mini(), input_ids=ids)
    assert num_calls == 8  # one a layer

    # Measured: both are off by 1e-3 of the loss at most, and blocks by less than torch's own.
    assert by_torch == pytest.approx(right, rel=5e-3)
    assert by_blocks == pytest.approx(right, rel=5e-3)
    noise = (torchs_gradient - right_gradient).norm()
    assert (gradient - right_gradient).norm() < 2 * noise


def test_sharp_scores_lose_nothing_by_rounding() -> None:
    """Scores of 60 are rounded to half of one in bfloat16; what is below the highest is not."""
    torch.manual_seed(0)
    tensors = [(x * torch.randn(1, 2, 300, 64)).bfloat16() for x in (6.0, 2.0, 1.0)]
    wanted = torchs_own(*(tensor.float() for tensor in tensors))
    assert (causal_attention(*tensors).float() - wanted).norm() < 0.005 * wanted.norm()


def test_packed_sequences_do_not_see_each_other() -> None:
    """Such rows need a mask, which blocks have not: torch's own kernel takes them."""
    ids = torch.randint(0, 9000, (1, 300), generator=torch.Generator().manual_seed(2))
    positions = torch.cat([torch.arange(120), torch.arange(180)])[None]
    by_blocks = loss_and_gradient(mini(), input_ids=ids, position_ids=positions)
    by_torch = loss_and_gradient(mini(by="sdpa"), input_ids=ids, position_ids=positions)
    assert by_blocks[0] == by_torch[0]
    assert torch.equal(by_blocks[1], by_torch[1])


def test_a_saved_model_does_not_ask_others_for_our_attention(tmp_path: Path) -> None:
    model = mini()
    model.save_pretrained(str(tmp_path))
    assert attention.NAME not in (tmp_path / "config.json").read_text()
    assert json.loads((tmp_path / "config.json").read_text())["num_hidden_layers"] == 8


def test_a_loaded_model_has_it() -> None:
    model = load_causal_lm(model_dir("arc-mini"), dtype="float32", device="cpu")
    assert model.config._attn_implementation == attention.NAME


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("rows", "groups", "heads", "num_keys"),
    [(1, 1, 1, 1), (3, 2, 1, 70), (2, 2, 7, 300), (8, 4, 1, 513)],
)
def test_the_next_token_sees_what_torchs_own_sees(
    rows: int, groups: int, heads: int, num_keys: int, dtype: torch.dtype
) -> None:
    """As a growing cache has them: keys are the first of a longer buffer, and padding is hidden."""
    torch.manual_seed(rows)
    queries = 3 * torch.randn(rows, groups * heads, 1, 64)
    keys, values = (torch.randn(rows, groups, num_keys + 9, 64)[:, :, :num_keys] for _ in range(2))
    is_seen = torch.rand(rows, 1, 1, num_keys) < 0.8
    is_seen[..., -1] = True
    queries, keys, values = (t.to(dtype) for t in (queries, keys, values))

    for mask in (None, is_seen):
        found = next_token_attention(queries, keys, values, mask)
        wanted = functional.scaled_dot_product_attention(
            queries.float(), keys.float(), values.float(), attn_mask=mask, enable_gqa=True
        )
        bound = 1e-6 if dtype == torch.float32 else 0.006
        assert (found.float() - wanted).norm() < bound * wanted.norm()


@pytest.mark.parametrize("is_padded", [False, True])
def test_the_whole_buffer_of_a_cache_counts_for_no_more_than_its_keys(is_padded: bool) -> None:
    cache = growing_layer()()
    for num_tokens in (90, 1):  # the second time it takes a buffer
        states = [torch.randn(2, 3, num_tokens, 64).bfloat16() for _ in range(2)]
        keys, values = cache.update(*states)
    assert keys.buffer.shape[2] > keys.shape[2] == 91

    queries = torch.randn(2, 3, 1, 64).bfloat16()
    is_seen = torch.rand(2, 1, 1, 91) < 0.8 if is_padded else None
    found = next_token_attention(queries, keys, values, is_seen)
    wanted = next_token_attention(queries, keys.clone(), values.clone(), is_seen)
    assert torch.allclose(found.float(), wanted.float(), atol=0.01)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_a_model_writes_what_it_writes_with_torchs_own(groups: int, dtype: str) -> None:
    """Prompts of several lengths, padded, and heads that share keys."""
    config = LlamaConfig(
        vocab_size=50, hidden_size=64, intermediate_size=96, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=groups, head_dim=16, pad_token_id=0,
    )  # fmt: skip
    torch.manual_seed(groups)
    model = LlamaForCausalLM(config).eval().to(getattr(torch, dtype))
    prompts = torch.randint(1, 50, (3, 40))
    prompts[1, :10], prompts[2, :25] = 0, 0
    mask = (prompts != 0).long()

    def logits(name: str) -> torch.Tensor:
        """Of a forced text, one token after the other."""
        model.set_attn_implementation(name)
        with torch.inference_mode():
            read = model(input_ids=prompts[:, :20], attention_mask=mask[:, :20], use_cache=True)
            steps = [read.logits[:, -1:]]
            for i in range(20, 40):
                read = model(
                    input_ids=prompts[:, i : i + 1],
                    attention_mask=mask[:, : i + 1],
                    past_key_values=read.past_key_values,
                    use_cache=True,
                )
                steps.append(read.logits)
        return torch.cat(steps, dim=1).float()[mask[:, 19:] == 1]

    attention._register()
    found, wanted = logits(attention.NAME), logits("sdpa")
    assert (found - wanted).norm() < (1e-5 if dtype == "float32" else 0.01) * wanted.norm()
