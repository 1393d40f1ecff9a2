"""The fast decoder against the stock layers of Transformers: the same losses, the same gradients,
the same model on disk; and a step that never waits for the device."""

from __future__ import annotations

from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from appliance.engine.load_model import load_causal_lm
from appliance.engine.training.loss import answer_loss
from appliance.engine.training.packing import TokenSequence, fill_rows
from appliance.learn.fast.batches import HostPass, pass_of
from appliance.learn.fast.decoder import (
    STOCK_NAMES,
    Decoder,
    Shape,
    Weights,
    fresh_weights,
    from_stock,
    to_stock,
)
from appliance.learn.fast.parts import parts_of
from appliance.learn.fast.trainer import FastStepper, on_device
from appliance.learn.new_model import fresh_model, save_model
from appliance.learn.recipe import Architecture, Recipe
from appliance.learn.start import make_start
from appliance.models.vocabularies import VOCABULARIES

pytestmark = pytest.mark.engine
torch = pytest.importorskip("torch")
from torch._dynamo.testing import CompileCounter  # noqa: E402
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402

CPU = torch.device("cpu")
PASS_TOKENS = 768
SHAPE = Shape(num_layers=2, hidden_size=128, intermediate_size=192)

each_vocabulary = pytest.mark.parametrize("name", VOCABULARIES)


def architecture(name: str) -> Architecture:
    return Architecture.model_validate(
        {
            "tokens": name,
            "hidden_size": SHAPE.hidden_size,
            "num_layers": SHAPE.num_layers,
            "intermediate_size": SHAPE.intermediate_size,
            "max_positions": 1024,
        }
    )


def bold_weights(name: str) -> Weights:
    """Weights that say something: fresh ones are so small that every token is as likely."""
    weights = fresh_weights(SHAPE, parts_of(name), seed=1, device="cpu")
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        weights.parts.mul_(8.0)
        for stack in (weights.attention, weights.mlp_in, weights.mlp_out):
            stack.mul_(4.0)
        for scales in (weights.norms, weights.final_norm):
            scales.add_(0.3 * torch.randn(scales.shape, generator=generator))
    return weights


def decoder_of(weights: Weights, name: str) -> Decoder:
    return Decoder(weights, SHAPE, parts_of(name), dtype=torch.float32, compiles=False)


def documents_for(name: str, row_tokens: int) -> list[TokenSequence]:
    """Any tokens but padding in any order, one document for each row of a pass, most of them
    shorter."""
    rng = np.random.default_rng(row_tokens)
    found = []
    for row in range(PASS_TOKENS // row_tokens):
        size = row_tokens - 17 * row
        ids = rng.integers(1, len(VOCABULARIES[name].tokens), size).astype(np.int32)
        found.append(TokenSequence(ids, rng.random(size) < 0.4))
    return found


def host_pass(documents: list[TokenSequence], row_tokens: int) -> HostPass:
    return pass_of(documents, row_tokens, 0, PASS_TOKENS // row_tokens)


def stock_loss(model: Any, documents: list[TokenSequence], row_tokens: int) -> Any:
    """Sum over the targets, by the stock layers."""
    plan = [[i] for i in range(len(documents))]
    rows = fill_rows(documents, plan, row_tokens=row_tokens, pad_id=0)
    return answer_loss(model, rows, device=CPU) * rows.num_targets()


@each_vocabulary
@pytest.mark.parametrize("row_tokens", [256, 384, 768])
def test_losses_and_gradients_are_those_of_the_stock_layers(name: str, row_tokens: int) -> None:
    parts, weights = parts_of(name), bold_weights(name)
    model = fresh_model(architecture(name), seed=0)
    to_stock(weights, parts, model)
    documents = documents_for(name, row_tokens)

    stock = stock_loss(model, documents, row_tokens)
    stock.backward()
    batch = host_pass(documents, row_tokens)
    loss = decoder_of(weights, name).loss(on_device(batch, CPU))
    loss.backward()

    assert loss.dtype == torch.float32
    assert batch.num_targets == sum(int(d.is_target[1:].sum()) for d in documents)
    assert loss.item() / batch.num_targets > 1.0
    assert loss.item() == pytest.approx(stock.item(), rel=1e-5)
    theirs = _stacked_gradients(model, name)
    for kind, weight in weights.named():
        expected = theirs[kind]
        error = float((weight.grad - expected).abs().max() / expected.abs().max())
        assert error < 1e-3, kind


def _stacked_gradients(model: Any, name: str) -> dict[str, Any]:
    """The gradients of a stock model, in the form of `Weights`."""
    grads = {n: p.grad for n, p in model.named_parameters()}
    stacked = {"final_norm": grads["model.norm.weight"]}
    for kind, names in STOCK_NAMES.items():
        layers = [
            torch.stack([grads[f"model.layers.{layer}.{n}.weight"] for n in names])
            for layer in range(SHAPE.num_layers)
        ]
        stacked[kind] = torch.stack(layers)

    # A part's gradient is the sum over the tokens that hold it.
    parts = parts_of(name)
    table_grad = grads["model.embed_tokens.weight"]
    of_parts = torch.zeros(parts.num_parts + 1, table_grad.shape[1])
    for column in torch.from_numpy(parts.indices.astype(np.int64)).T:
        of_parts.index_add_(0, column, table_grad)
    return stacked | {"parts": of_parts[:-1]}


@each_vocabulary
def test_a_row_of_padding_changes_nothing(name: str) -> None:
    decoder = decoder_of(bold_weights(name), name)
    documents = documents_for(name, 256)[:2]
    alone = pass_of(documents, 256, 0, 2)
    padded = pass_of(documents, 256, 0, 3)

    assert padded.num_targets == alone.num_targets
    assert padded.num_tokens == alone.num_tokens
    losses = [decoder.loss(on_device(p, CPU)).item() for p in (alone, padded)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    nats, _ = decoder.judged(on_device(padded, CPU))
    assert not nats[512:].any()


@each_vocabulary
def test_the_most_likely_tokens_are_those_of_the_stock_logits(name: str) -> None:
    """Every target is made the likeliest token there, or any other one."""
    weights, parts = bold_weights(name), parts_of(name)
    model = fresh_model(architecture(name), seed=0)
    to_stock(weights, parts, model)

    document = documents_for(name, 256)[0]
    with torch.no_grad():
        ids = torch.from_numpy(document.ids.astype(np.int64))[None]
        likeliest = model(input_ids=ids, use_cache=False).logits[0].argmax(-1)
    is_target = np.ones(len(document), dtype=np.bool_)
    _, is_best = decoder_of(weights, name).judged(
        on_device(pass_of([TokenSequence(document.ids, is_target)], 256, 0, 1), CPU)
    )
    assert torch.equal(is_best[:-1], likeliest[:-1] == ids[0, 1:])

    # The likeliest first two tokens, one after the other.
    chosen = document.ids.copy()
    for at in (9, 10):
        with torch.no_grad():
            ids = torch.from_numpy(chosen[:at].astype(np.int64))[None]
            chosen[at] = int(model(input_ids=ids, use_cache=False).logits[0, -1].argmax())
    _, is_best = decoder_of(weights, name).judged(
        on_device(pass_of([TokenSequence(chosen, is_target)], 256, 0, 1), CPU)
    )
    assert is_best[8:10].all()


@each_vocabulary
def test_what_is_exported_is_what_a_stock_loader_reads(name: str, tmp_path: Path) -> None:
    weights, parts = bold_weights(name), parts_of(name)
    model = fresh_model(architecture(name), seed=0)
    to_stock(weights, parts, model)
    card = {"style": name, "encoder": VOCABULARIES[name].encoder, "strategies": ["transduction"]}
    save_model(model, tmp_path / "model", card=card)

    loaded = load_causal_lm(tmp_path / "model", dtype="float32", device="cpu")
    saved = dict(model.named_parameters())
    assert loaded.state_dict().keys() == model.state_dict().keys()
    for key, weight in loaded.named_parameters():
        assert torch.equal(weight, saved[key].to(torch.bfloat16).float()), key


@each_vocabulary
def test_there_and_back_is_the_same_function(name: str) -> None:
    weights, parts = bold_weights(name), parts_of(name)
    model = fresh_model(architecture(name), seed=0)
    to_stock(weights, parts, model)
    again = from_stock(model, parts, device="cpu")

    for (kind, weight), (_, back) in zip(weights.named(), again.named(), strict=True):
        assert back.requires_grad
        assert back.is_leaf
        if kind != "parts":  # of which many have the same sums
            assert torch.equal(weight, back), kind

    batch = on_device(host_pass(documents_for(name, 384), 384), CPU)
    first, _ = decoder_of(weights, name).judged(batch)
    second, _ = decoder_of(again, name).judged(batch)
    assert torch.allclose(first, second, atol=1e-3)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # torch's own compiler looks
@each_vocabulary
def test_each_piece_compiles_once_whatever_the_rows(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Compiled as on a GPU, but to the same operations: what is counted are the graphs."""
    graphs = CompileCounter()
    monkeypatch.delenv("TORCHDYNAMO_DISABLE", raising=False)
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=graphs))
    weights, parts = bold_weights(name), parts_of(name)
    torch.compiler.reset()
    compiled = Decoder(weights, SHAPE, parts, dtype=torch.float32, compiles=True)
    for row_tokens in (256, 384, 768, 256):
        batch = on_device(host_pass(documents_for(name, row_tokens), row_tokens), CPU)
        loss = compiled.loss(batch)
        loss.backward()
        plain = decoder_of(weights, name).loss(batch)
        assert loss.item() == pytest.approx(plain.item(), rel=1e-6)

    assert graphs.frame_count == 4


def test_fresh_weights_follow_the_seed() -> None:
    def drawn(seed: int) -> Weights:
        return fresh_weights(SHAPE, parts_of("grid-tokens-v2"), seed=seed, device="cpu")

    first, same, other = drawn(1), drawn(1), drawn(2)
    for (kind, a), (_, b), (_, c) in zip(first.named(), same.named(), other.named(), strict=True):
        assert torch.equal(a, b), kind
        is_constant = kind in ("norms", "final_norm")
        assert torch.equal(a, c) == is_constant, kind


WAITING = ("_local_scalar_dense", "nonzero", "masked_select", "item", "is_nonzero", "equal")
"""Operations whose result decides a number or a shape on the host, so that it waits for a GPU."""


class Waits(TorchDispatchMode):  # type: ignore[misc]
    """Counts the operations that wait for the device."""

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[str] = Counter()
        self.num_operations = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.num_operations += 1
        name = func.overloadpacket.__name__
        is_masked = name in ("index", "index_put", "index_put_", "_index_put_impl_") and any(
            i is not None and i.dtype in (torch.bool, torch.uint8) for i in args[1]
        )
        if name in WAITING or is_masked:
            self.found[name] += 1
        return func(*args, **(kwargs or {}))


def test_the_counter_sees_what_waits() -> None:
    values = torch.arange(4.0)
    with Waits() as waits:
        values.sum().item()
        values[values > 1]
        values[values > 1] = 0.0
        values.nonzero()
        values.masked_select(values > 0)
    assert waits.found.keys() >= {"_local_scalar_dense", "index", "nonzero", "masked_select"}
    assert waits.found.total() >= 5


@each_vocabulary
@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_a_step_waits_for_nothing(name: str, optimizer: str) -> None:
    recipe = Recipe.model_validate(
        {
            "loop": "fast",
            "architecture": architecture(name),
            "precision": "float32",
            "optimization": {"optimizer": optimizer},
        }
    )
    stepper = FastStepper(recipe, make_start(recipe, device="cpu"))
    batches = [host_pass(documents_for(name, n), n) for n in (256, 768)]
    before = [weight.detach().clone() for _, weight in stepper.state.weights]

    with Waits() as waits:
        losses = [stepper.step(batches, 1e-3) for _ in range(2)]

    assert waits.num_operations > 500  # backward and optimizers included
    assert not waits.found
    assert float(losses[1][0]) < float(losses[0][0])
    for (kind, weight), old in zip(stepper.state.weights, before, strict=True):
        assert not torch.equal(weight, old), kind
