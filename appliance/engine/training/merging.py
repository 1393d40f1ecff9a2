"""An adapted model with its adapter folded into the weights.

It then samples at the speed of a plain one. The weights of the base are never computed back, which
would leave rounding errors that add up from task to task: they are set aside and put back. Imports
torch.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from appliance.engine.weights import plain_weights
from appliance.errors import EngineError

ASIDE_SHARE = 0.5
"""Part of what is free on a GPU that base weights set aside may take; the rest is for sampling."""


def is_peft(model: Any) -> bool:
    from peft import PeftModel

    return isinstance(model, PeftModel)


def is_quantized(model: Any) -> bool:
    """Whether weights are stored as integers (nf4, int8).

    Nothing can be folded into these without loss.
    """
    return any(not p.is_floating_point() for p in model.parameters())


def is_foldable(model: Any) -> bool:
    """Whether the plain model with the adapter folded into its weights answers as both do.

    Not beside modules that were trained whole or tokens that were, and not where the adapter
    changes one of two modules that share their weights, as head and embedding do.
    """
    from peft.utils.other import AuxiliaryTrainingWrapper

    owners = Counter(id(p) for m in model.modules() for p in m.parameters(recurse=False))
    adapted = (p for layer in lora_layers(model) for p in layer.get_base_layer().parameters())
    is_shared = any(owners[id(weight)] > 1 for weight in adapted)
    return not is_shared and not any(
        isinstance(m, AuxiliaryTrainingWrapper) for m in model.modules()
    )


@contextmanager
def folded(model: Any) -> Iterator[Any]:
    """The model itself, its adapter merged in place for the time of the `with`.

    The base weights stay where they are, and the model works on copies; on leaving it is given the
    weights themselves again. Where a GPU has no room for copies, the base goes to the host and
    back, which takes seconds for billions of weights.
    """
    import torch

    layers = lora_layers(model)
    if not layers:
        yield model
        return

    weights = [p for layer in layers for p in layer.get_base_layer().parameters()]
    stays = _have_room_for_copies(weights)
    kept = []
    for weight in weights:
        kept.append(weight.data if stays else weight.data.to("cpu", copy=True))
        if stays:
            weight.data = weight.data.clone()

    model.merge_adapter()
    try:
        yield model
    finally:
        model.unmerge_adapter()
        with torch.no_grad():
            for weight, before in zip(weights, kept, strict=True):
                if stays:
                    weight.data = before
                else:
                    weight.copy_(before)


def folded_weights(model: Any) -> Iterator[tuple[str, Any]]:
    """(name, tensor) of every weight, under the names of `plain_weights`, the adapter folded in.

    One layer at a time, so that hardly any memory is needed; the model stays as it is, and none of
    these tensors is changed later. Raises EngineError for quantised weights, and for an adapter
    that no plain weights stand for.
    """
    if not is_foldable(model):
        raise EngineError("the adapter changes tied weights, or more than linear layers")
    if is_quantized(model):
        raise EngineError(
            "the base weights are quantised, nothing can be folded into them without loss"
        )
    return _folded_one_by_one(model)


def _folded_one_by_one(model: Any) -> Iterator[tuple[str, Any]]:
    plain = model.get_base_model() if is_peft(model) else model
    names = {id(module): name for name, module in plain.named_modules()}
    folded_in = {
        f"{names[id(layer)]}.{part}": (layer, part)
        for layer in lora_layers(model)
        for part, _ in layer.get_base_layer().named_parameters()
        if part == "weight" or any(layer.lora_bias.values())
    }

    for name, weight in plain_weights(model):
        yield name, _fold(*folded_in[name]) if name in folded_in else weight


def _fold(layer: Any, part: str) -> Any:
    """A new tensor: this part of the layer's base (weight or bias) with the adapter folded in."""
    weights = dict(layer.get_base_layer().named_parameters())
    kept = {name: weight.data for name, weight in weights.items()}

    try:
        for name, weight in weights.items():
            weight.data = kept[name].clone()
        layer.merge()
        result = weights[part].data
        # PEFT subtracts the adapter again, from other copies.
        for name, weight in weights.items():
            weight.data = kept[name].clone()
        layer.unmerge()
    finally:
        for name, weight in weights.items():
            weight.data = kept[name]
    return result


class ShortCopy:
    """A plain copy of a model in a 16-bit type.

    Sampling from it takes half the memory traffic, and the trained weights are not touched.
    """

    def __init__(self, dtype: str) -> None:
        self._dtype = dtype
        self._copy: Any = None

    def of(self, model: Any) -> Any:
        """The copy, with the weights of the adapted model as it is now.

        Made once, refreshed at later calls.
        """
        import torch

        if self._copy is None:
            plain = model.get_base_model() if is_peft(model) else model
            device = next(plain.parameters()).device
            # A file may hold a head of its own although config.json calls it tied.
            config = copy.deepcopy(plain.config)
            config.tie_word_embeddings = _is_tied(plain)
            self._copy = type(plain)(config).to(device, getattr(torch, self._dtype)).eval()

        copies = dict(self._copy.named_parameters())
        with torch.no_grad():
            for name, weight in folded_weights(model):
                copies[name].copy_(weight)
        return self._copy


def _is_tied(model: Any) -> bool:
    head = model.get_output_embeddings()
    return head is not None and head.weight is model.get_input_embeddings().weight


def lora_layers(model: Any) -> list[Any]:
    from peft.tuners.lora import LoraLayer

    return [m for m in model.modules() if isinstance(m, LoraLayer)]


def _have_room_for_copies(weights: list[Any]) -> bool:
    """Whether the device can hold all of them twice. On a CPU they would be copied there anyway."""
    import torch

    if weights[0].device.type == "cpu":
        return True
    needed = sum(weight.numel() * weight.element_size() for weight in weights)
    in_cache = torch.cuda.memory_reserved() - torch.cuda.memory_allocated()
    return bool(needed <= ASIDE_SHARE * (torch.cuda.mem_get_info()[0] + in_cache))
