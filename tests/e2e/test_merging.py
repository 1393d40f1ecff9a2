"""An adapter folded into the weights, and weights set aside: the base comes back to the bit."""

from __future__ import annotations

import copy
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from appliance.engine.load_model import load_causal_lm
from appliance.engine.training import merging
from appliance.engine.training.aside import HostPlace
from appliance.engine.training.merging import ShortCopy, folded, folded_weights
from appliance.engine.weights import plain_weights
from appliance.errors import EngineError, EngineLost
from tests.support.small_lm import save_chat_model

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.engine

KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "rank-stabilised": {"use_rslora": True},
    "DoRA": {"use_dora": True},
}
NUM_TASKS = 4

Adapted = Callable[..., Any]


@pytest.fixture(params=KINDS)
def adapted(request: pytest.FixtureRequest, tiny_model: Path) -> Adapted:
    """Makes the tiny model with an adapter of this kind on that changes all layers."""
    from peft import LoraConfig, get_peft_model

    def make(dtype: str = "float32") -> Any:
        base = load_causal_lm(tiny_model, dtype=dtype, device="cpu")
        config = LoraConfig(r=4, target_modules="all-linear", **KINDS[request.param])
        model = get_peft_model(base, config).eval()
        draw(model, 0)
        return model

    return make


def draw(model: Any, seed: int) -> None:
    """Other values for the adapter, as a training would leave them."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_" in name:
                weight.add_(0.1 * torch.randn(weight.shape, generator=generator))


def weights_of(model: Any) -> dict[str, Any]:
    return {name: weight.clone() for name, weight in model.named_parameters()}


def same(left: dict[str, Any], right: dict[str, Any]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[n], right[n]) for n in left)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("stays", [True, False], ids=["copies beside it", "base on the host"])
def test_task_after_task_the_base_is_the_same_to_the_bit(
    stays: bool, dtype: str, adapted: Adapted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(merging, "_have_room_for_copies", lambda weights: stays)
    model = adapted(dtype)
    before = dict(plain_weights(model))
    kept = {name: weight.clone() for name, weight in before.items()}

    for number in range(NUM_TASKS):
        draw(model, number)
        adapter = weights_of(model)
        with folded(model) as merged:
            assert not same(dict(plain_weights(merged)), kept)
        for _ in folded_weights(model):
            pass
        assert same(weights_of(model), adapter)
        assert same(dict(plain_weights(model)), kept)

    if stays:  # not even copied back
        places = {name: weight.data_ptr() for name, weight in plain_weights(model)}
        assert places == {name: weight.data_ptr() for name, weight in before.items()}


def test_weights_folded_one_by_one_are_those_of_the_merged_model(adapted: Adapted) -> None:
    model = adapted()
    expected = dict(copy.deepcopy(model).merge_and_unload().named_parameters())
    plain = dict(plain_weights(model))
    found = dict(folded_weights(model))

    assert same(found, expected)
    assert any(not torch.equal(found[name], plain[name]) for name in found)
    with folded(model) as merged:
        assert same(dict(plain_weights(merged)), expected)
    short = ShortCopy("bfloat16").of(model)
    rounded = {name: weight.bfloat16() for name, weight in expected.items()}
    assert same(dict(short.named_parameters()), rounded)


def test_what_was_given_out_is_not_changed_by_what_follows(adapted: Adapted) -> None:
    """vLLM keeps tensors until it has all of a layer."""
    model = adapted()
    all_at_once = list(folded_weights(model))
    one_by_one = [(name, weight.clone()) for name, weight in folded_weights(model)]
    assert same(dict(all_at_once), dict(one_by_one))


@pytest.mark.skipif(find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed")
@pytest.mark.filterwarnings("ignore::UserWarning:bitsandbytes")
def test_nothing_is_folded_into_quantised_weights_and_that_is_said_before_the_first(
    tiny_model: Path,
) -> None:
    """An engine that has begun to take weights could not go back."""
    packed = load_causal_lm(tiny_model, dtype="float32", device="cpu", quantization="nf4")
    with pytest.raises(EngineError, match="quantised, nothing can be folded"):
        folded_weights(packed)


def test_weights_set_aside_come_back_to_the_bit_and_can_be_folded_meanwhile(
    adapted: Adapted,
) -> None:
    model, place = adapted(), HostPlace()
    before, folded_before = weights_of(model), dict(folded_weights(model))
    parameters = {name: id(weight) for name, weight in model.named_parameters()}

    for _ in range(2):
        with place.holding(model):
            assert same(dict(folded_weights(model)), folded_before)
        assert same(weights_of(model), before)
    # An optimizer still knows its parameters.
    assert parameters == {name: id(weight) for name, weight in model.named_parameters()}


def test_a_model_that_does_not_come_back_ends_the_process(
    adapted: Adapted, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise RuntimeError("CUDA out of memory")

    with (
        pytest.raises(EngineLost, match="does not come back to the GPU: CUDA out of memory"),
        HostPlace().holding(adapted()),
    ):
        monkeypatch.setattr(torch.Tensor, "to", full)


def test_a_copy_has_the_head_that_a_tied_model_brings_along(tmp_path: Path) -> None:
    model = load_causal_lm(save_chat_model(tmp_path / "base"), dtype="float32", device="cpu")
    model.lm_head.weight = torch.nn.Parameter(torch.randn_like(model.lm_head.weight))
    assert model.config.tie_word_embeddings

    short, ids = ShortCopy("bfloat16").of(model), torch.arange(8)[None]
    with torch.no_grad():
        gap = (short(input_ids=ids).logits.float() - model(input_ids=ids).logits).abs().max()
        assert gap < 0.05 * model(input_ids=ids).logits.abs().max()
