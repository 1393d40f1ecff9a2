"""The weights of a torch model under the names that its checkpoint has, whatever wraps them."""

from __future__ import annotations

from typing import Any


def plain_weights(model: Any) -> list[tuple[str, Any]]:
    """(name, tensor) of every weight: tied ones once, adapter slots left out.

    A PEFT model gives the names of the plain model below it.
    """
    plain = model.get_base_model() if hasattr(model, "get_base_model") else model
    return [
        (name.replace(".base_layer", ""), weight.detach())
        for name, weight in plain.named_parameters()
        if ".lora_" not in name
    ]
