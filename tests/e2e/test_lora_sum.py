"""LoRA through summed weights: the same answers and gradients, and only where it is faster."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from appliance.engine.training.lora import MIN_SHARE, sum_weights

torch = pytest.importorskip("torch")
peft = pytest.importorskip("peft")
pytestmark = pytest.mark.engine

IDS = [[1, 3, 7, 5, 9, 4, 2, 8]]


def adapted(folder: Path, *, rank: int, **values: Any) -> Any:
    from appliance.engine.load_model import load_causal_lm

    model = load_causal_lm(folder, dtype="float32", device="cpu")
    torch.manual_seed(0)
    found = peft.get_peft_model(
        model, peft.LoraConfig(r=rank, target_modules="all-linear", **values)
    )
    with torch.no_grad():
        for name, weight in found.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.1)
    return found


def summed(model: Any) -> list[str]:
    """Layers with a `forward` of their own instead of that of their class."""
    return [name for name, layer in model.named_modules() if "forward" in vars(layer)]


def logits(model: Any) -> Any:
    return model(input_ids=torch.tensor(IDS)).logits


@pytest.fixture
def both(tiny_model: Path) -> Iterator[tuple[Any, Any]]:
    plain, other = (adapted(tiny_model, rank=8, lora_alpha=16, use_rslora=True) for _ in range(2))
    sum_weights(other)
    yield plain, other


def test_only_layers_for_which_it_pays_are_changed(both: tuple[Any, Any], tiny_model: Path) -> None:
    plain, other = both
    assert 8 * (64 + 64) / (64 * 64) >= MIN_SHARE > 8 * (64 + 128) / (64 * 128)
    assert not summed(plain)
    assert {name.split(".")[-1] for name in summed(other)} == {
        "q_proj",
        "k_proj",
        "v_proj",
        "o_proj",
    }
    others: list[dict[str, Any]] = [
        {"rank": 2},
        {"rank": 8, "use_dora": True},
        {"rank": 8, "lora_dropout": 0.1},
    ]

    for values in others:
        model = adapted(tiny_model, **values)
        sum_weights(model)
        assert not summed(model)


def test_answers_and_gradients_are_the_same(both: tuple[Any, Any]) -> None:
    found = []
    for model in both:
        answer = logits(model)
        answer.logsumexp(-1).sum().backward()
        found.append([answer.detach(), *(p.grad for p in model.parameters() if p.requires_grad)])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_switched_off_and_merged_it_steps_aside(both: tuple[Any, Any]) -> None:
    plain, other = both
    worn = logits(other)
    with plain.disable_adapter(), other.disable_adapter():
        bare = logits(other)
        assert torch.equal(bare, logits(plain))

    assert not torch.allclose(bare, worn, atol=1e-3)
    other.merge_adapter()
    torch.testing.assert_close(logits(other), worn, rtol=1e-4, atol=1e-5)
    other.unmerge_adapter()
    torch.testing.assert_close(logits(other), worn, rtol=1e-4, atol=1e-5)


def test_under_autocast_nothing_small_is_lost_in_the_sum(both: tuple[Any, Any]) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(*(logits(model) for model in both))
