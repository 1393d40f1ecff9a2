"""The loss by chunks: value and gradients of torch's own cross-entropy, for every kind of head."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.engine.load_model import load_causal_lm
from appliance.engine.training import loss as loss_module
from appliance.engine.training.cross_entropy import cross_entropy
from appliance.engine.training.loss import answer_loss, hidden_states
from appliance.engine.training.packing import Rows, TokenSequence, fill_rows

HIDDEN, VOCABULARY = 24, 61
CPU = torch.device("cpu")

Loss = Callable[[Any, torch.Tensor, torch.Tensor], torch.Tensor]


def plain(head: Any, hidden: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.cross_entropy(head(hidden).float(), labels)


def by_chunks(rows: int) -> Loss:
    return lambda head, hidden, labels: cross_entropy(head, hidden, labels, chunk_rows=rows)


def drawn(num: int, *, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Hidden states and labels. Logits get as sharp as those of a trained model."""
    generator = torch.Generator().manual_seed(seed)
    hidden = 4 * torch.randn(num, HIDDEN, generator=generator)
    return hidden, torch.randint(0, VOCABULARY, (num,), generator=generator)


def linear(*, bias: bool = False, is_trained: bool = True, dtype: Any = torch.float32) -> Any:
    torch.manual_seed(1)
    head = torch.nn.Linear(HIDDEN, VOCABULARY, bias=bias, dtype=dtype)
    return head.requires_grad_(is_trained)


def learned(
    way: Loss,
    head: Any,
    hidden: torch.Tensor,
    labels: torch.Tensor,
    *,
    autocast: torch.dtype | None = None,
    factor: float = 1.0,
) -> list[torch.Tensor]:
    """The loss, the gradient of the hidden states, and those of the head's trained weights."""
    hidden = hidden.clone().requires_grad_()
    weights = [w for w in head.parameters() if w.requires_grad]
    for weight in weights:
        weight.grad = None

    with torch.autocast("cpu", autocast or torch.bfloat16, enabled=autocast is not None):
        loss = way(head, hidden, labels)
    (loss * factor).backward()
    return [loss.detach(), *(t.grad for t in (hidden, *weights))]


def distance(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Relative: the norm of the difference over the norm of what was expected."""
    expected = expected.float()
    return float((found.float() - expected).norm() / expected.norm().clamp_min(1e-12))


def assert_alike(found: list[torch.Tensor], expected: list[torch.Tensor], tolerance: float) -> None:
    for ours, torchs in zip(found, expected, strict=True):
        assert ours.dtype == torchs.dtype and ours.shape == torchs.shape
        assert distance(ours, torchs) <= tolerance


@settings(max_examples=60, deadline=None)
@given(
    num=st.integers(1, 70),
    chunk_rows=st.integers(1, 80),
    bias=st.booleans(),
    is_trained=st.booleans(),
    factor=st.sampled_from([1.0, 0.125, 4096.0]),
)
def test_any_number_of_targets_and_any_chunk_give_torchs_value_and_gradients(
    num: int, chunk_rows: int, bias: bool, is_trained: bool, factor: float
) -> None:
    head = linear(bias=bias, is_trained=is_trained)
    hidden, labels = drawn(num, seed=num)

    ours = learned(by_chunks(chunk_rows), head, hidden, labels, factor=factor)
    assert len(ours) == 2 + is_trained * (1 + bias)
    assert_alike(ours, learned(plain, head, hidden, labels, factor=factor), 1e-6)


@pytest.mark.parametrize("is_trained", [True, False])
@pytest.mark.parametrize("autocast", [torch.bfloat16, torch.float16])
def test_under_autocast_no_more_is_rounded_away_than_by_torch(
    autocast: torch.dtype, is_trained: bool
) -> None:
    """The scale is that of a GradScaler, which float16 cannot do without."""
    head = linear(bias=True, is_trained=is_trained)
    hidden, labels = drawn(500)
    how = {"factor": 4096.0}

    exact = learned(plain, head, hidden, labels, **how)
    ours = learned(by_chunks(64), head, hidden, labels, autocast=autocast, **how)
    torchs = learned(plain, head, hidden, labels, autocast=autocast, **how)

    for found, rounded, truth in zip(ours, torchs, exact, strict=True):
        assert found.dtype == rounded.dtype == torch.float32
        assert distance(found, truth) <= 1.2 * distance(rounded, truth) + 1e-6
    assert 1e-4 < distance(ours[1], exact[1]) < 0.02, "it was computed in 16 bits"


def test_weights_in_sixteen_bits_get_gradients_in_sixteen_bits() -> None:
    head = linear(dtype=torch.bfloat16)
    hidden, labels = drawn(300)
    found = learned(by_chunks(7), head, hidden.bfloat16(), labels)
    assert_alike(found, learned(plain, head, hidden.bfloat16(), labels), 0.01)
    assert [t.dtype for t in found] == [torch.float32, torch.bfloat16, torch.bfloat16]


def test_a_loss_scaler_and_several_passes_give_the_sum_of_gradients() -> None:
    head = linear()
    hidden, labels = drawn(30)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    way, grads = by_chunks(4), []

    for one in (way, plain):
        leaf = hidden.clone().requires_grad_()
        head.weight.grad = None
        with torch.autocast("cpu", torch.float16):  # one context for both passes, as in training
            for part in (slice(0, 11), slice(11, 30)):
                scaler.scale(one(head, leaf[part], labels[part])).backward()
        grads.append([leaf.grad, head.weight.grad])
    assert_alike(grads[0], grads[1], 3e-3)


def test_no_target_costs_nothing_and_teaches_nothing() -> None:
    """One chunk and less goes torch's way, whose mean over nothing would be nan."""
    hidden, labels = drawn(0)
    leaf = hidden.requires_grad_()
    loss = cross_entropy(linear(), leaf, labels, chunk_rows=4)
    loss.backward()
    assert loss.item() == 0.0 and leaf.grad is not None and leaf.grad.shape == (0, HIDDEN)


def test_without_gradients_none_is_prepared() -> None:
    head, (hidden, labels) = linear(), drawn(50)
    expected = plain(head, hidden, labels).item()

    with torch.inference_mode():
        assert float(by_chunks(8)(head, hidden, labels)) == pytest.approx(expected, rel=1e-6)
    frozen = by_chunks(8)(head.requires_grad_(False), hidden, labels)
    assert not frozen.requires_grad
    assert float(frozen) == pytest.approx(expected, rel=1e-6)


def test_a_second_backward_pass_gives_the_same_again() -> None:
    head, (hidden, labels) = linear(), drawn(20)
    hidden.requires_grad_()
    loss = by_chunks(6)(head, hidden, labels)
    first = torch.autograd.grad(loss, [hidden, head.weight], retain_graph=True)
    second = torch.autograd.grad(loss, [hidden, head.weight])
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


# Heads that are no plain Linear.


class Model(torch.nn.Module):  # type: ignore[misc]
    """The smallest thing that peft puts adapters into."""

    def __init__(self) -> None:
        super().__init__()
        self.lm_head = linear()

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.lm_head(hidden)
        return logits


def with_adapter() -> Any:
    """LoRA on the head, and an adapter that already says something."""
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(2)
    head = get_peft_model(Model(), LoraConfig(r=4, target_modules=["lm_head"])).model.lm_head
    torch.nn.init.normal_(head.lora_B["default"].weight)
    return head


def trained_beside_an_adapter() -> Any:
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=4, target_modules=["body"], modules_to_save=["lm_head"])
    model = Model()
    model.body = torch.nn.Linear(HIDDEN, HIDDEN)
    return get_peft_model(model, config).model.lm_head


def in_four_bits() -> Any:
    from bitsandbytes.nn import Linear4bit

    from appliance.engine.quantize import keep_trainable

    head = Linear4bit(64, VOCABULARY, bias=False, quant_type="nf4", compute_dtype=torch.float32)
    head.load_state_dict({"weight": torch.randn(VOCABULARY, 64)})
    head = head.to("cpu").requires_grad_(False)
    keep_trainable(head)
    return head


@pytest.mark.engine
@pytest.mark.parametrize(
    ("make", "num_weights"),
    [(with_adapter, 2), (trained_beside_an_adapter, 1), (in_four_bits, 0)],
)
def test_a_head_that_is_no_plain_matrix_is_read_by_chunks_as_well(
    make: Callable[[], Any], num_weights: int
) -> None:
    head = make()
    width = 64 if make is in_four_bits else HIDDEN
    hidden, labels = torch.randn(50, width), drawn(50)[1]
    counts: list[int] = []
    head.register_forward_hook(lambda module, args, out: counts.append(len(out)))

    found = learned(by_chunks(16), head, hidden, labels)
    assert counts == [16, 16, 16, 2]
    assert len(found) == 2 + num_weights
    assert_alike(found, learned(plain, head, hidden, labels), 1e-5)


# A whole model.


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> Any:
    return load_causal_lm(tiny_model, dtype="float32", device="cpu")


@pytest.fixture()
def rows(model: Any) -> Rows:
    rng = np.random.default_rng(0)
    lessons = [
        TokenSequence(
            rng.integers(3, model.config.vocab_size, size, dtype=np.int32), rng.random(size) < 0.5
        )
        for size in (90, 60, 70)
    ]
    return fill_rows(lessons, [[0], [1, 2]], row_tokens=140, pad_id=0)


def plain_answer_loss(model: Any, rows: Rows) -> torch.Tensor:
    labels = torch.from_numpy(rows.labels)
    hidden = hidden_states(model, rows, device=CPU)
    return plain(model.get_output_embeddings(), hidden[labels >= 0], labels[labels >= 0])


def gradients(model: Any, loss: torch.Tensor) -> Iterator[torch.Tensor]:
    model.zero_grad(set_to_none=True)
    loss.backward()
    return (w.grad.clone() for w in model.parameters())


@pytest.mark.engine
def test_tied_embeddings_get_the_gradient_of_both_their_uses(
    model: Any, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    model.requires_grad_(True)
    monkeypatch.setattr(loss_module, "loss_chunk_rows", lambda vocab_size: 10)

    ours = list(gradients(model, answer_loss(model, rows, device=CPU)))
    torchs = list(gradients(model, plain_answer_loss(model, rows)))
    assert_alike(ours, torchs, 1e-5)


@pytest.mark.engine
def test_no_logits_outlive_their_chunk(
    model: Any, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing that is kept for the backward pass is as large as the logits of all targets."""
    model.requires_grad_(True)
    monkeypatch.setattr(loss_module, "loss_chunk_rows", lambda vocab_size: 10)
    num_rows: list[int] = []
    hook = model.get_output_embeddings().register_forward_hook(
        lambda module, args, out: num_rows.append(len(out))
    )
    kept: list[tuple[int, ...]] = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tuple(tensor.shape))
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = answer_loss(model, rows, device=CPU)
    hook.remove()

    assert loss.requires_grad
    full, rest = divmod(rows.num_targets(), 10)
    assert num_rows == list(itertools.repeat(10, full)) + [rest] * (rest > 0)
    assert (rows.num_targets(), model.config.vocab_size) not in kept
