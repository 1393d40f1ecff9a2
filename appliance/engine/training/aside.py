"""The weights of a model on the host, while something else needs its GPU. Imports torch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from appliance.errors import EngineLost, first_line


class HostPlace:
    """Where a model's weights wait. The memory is kept, because to pin it takes seconds."""

    def __init__(self) -> None:
        self._places: dict[tuple[object, ...], Any] = {}

    @contextmanager
    def holding(self, model: Any) -> Iterator[None]:
        """All weights are on the host for the time of the `with`, and their memory is free.

        They come back to the bit. What an optimizer keeps of them stays where it is. Raises
        EngineLost when the GPU has no room for them any more.
        """
        import torch

        weights = dict(model.named_parameters())
        devices = {name: weight.device for name, weight in weights.items()}
        has_gpu = any(device.type == "cuda" for device in devices.values())

        for name, weight in weights.items():
            weight.data = self._place(name, weight).copy_(weight.data, non_blocking=True)
        if has_gpu:
            torch.cuda.synchronize()
            torch.cuda.empty_cache()

        try:
            yield
        finally:
            try:
                for name, weight in weights.items():
                    weight.data = weight.data.to(devices[name])
            except RuntimeError as fault:
                # Half a model is on the card: nothing that it answers can be trusted.
                raise EngineLost(
                    f"the model does not come back to the GPU: {first_line(fault)}"
                ) from fault

    def _place(self, name: str, weight: Any) -> Any:
        """Host memory for this weight, pinned where it comes from a GPU."""
        import torch

        key = (name, weight.shape, weight.dtype)
        if key not in self._places:
            self._places[key] = torch.empty(
                weight.shape, dtype=weight.dtype, pin_memory=weight.device.type == "cuda"
            )
        return self._places[key]
