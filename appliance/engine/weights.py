"""The weights of a torch model under the names that its checkpoint has, whatever wraps them. Imports torch."""

from __future__ import annotations

from typing import Any


def plain_weights(model: Any) -> list[tuple[str, Any]]:
    """(name, tensor) of every weight, tied ones once, adapter slots left out: a merged model under its plain names."""
    plain = model.get_base_model() if hasattr(model, "get_base_model") else model
    return [
        (n.replace(".base_layer", ""), p.detach())
        for n, p in plain.named_parameters()
        if ".lora_" not in n
    ]
