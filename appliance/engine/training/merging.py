"""An adapted model with its adapter folded into the weights.

It then samples at the speed of a plain one. Imports torch.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from appliance.engine.weights import plain_weights


def is_peft(model: Any) -> bool:
    from peft import PeftModel

    return isinstance(model, PeftModel)


def is_quantized(model: Any) -> bool:
    """Whether weights are stored as integers (nf4, int8).

    Nothing can be folded into these without loss.
    """
    return any(not p.is_floating_point() for p in model.parameters())


@contextmanager
def folded(model: Any) -> Iterator[Any]:
    """The model itself, its adapter merged in place for the time of the `with`.

    On leaving, the base weights are put back from a copy in host memory. To subtract the adapter
    again would leave rounding errors, which add up from task to task.
    """
    import torch

    layers = lora_layers(model)
    if not layers:
        yield model
        return

    kept = [layer.get_base_layer().weight.detach().to("cpu", copy=True) for layer in layers]
    model.merge_adapter()
    try:
        yield model
    finally:
        model.unmerge_adapter()
        with torch.no_grad():
            for layer, weight in zip(layers, kept, strict=True):
                layer.get_base_layer().weight.copy_(weight)


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

        plain = model.get_base_model() if is_peft(model) else model
        if self._copy is None:
            device = next(plain.parameters()).device
            self._copy = type(plain)(plain.config).to(device, getattr(torch, self._dtype)).eval()

        base = dict(plain_weights(model))
        names = {id(module): name for name, module in plain.named_modules()}
        deltas = {
            f"{names[id(layer)]}.weight": layer.get_delta_weight("default")
            for layer in lora_layers(model)
        }

        with torch.no_grad():
            for name, weight in self._copy.named_parameters():
                weight.copy_(base[name] + deltas[name] if name in deltas else base[name])
        return self._copy


def lora_layers(model: Any) -> list[Any]:
    from peft.tuners.lora import LoraLayer

    return [m for m in model.modules() if isinstance(m, LoraLayer)]
