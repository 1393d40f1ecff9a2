"""The packages that put LoRA into a model, as the trainer sees them: what differs, and PEFT's way.

unsloth's way is in unsloth_trainer.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from appliance.engine.base import TuneSettings
from appliance.engine.load_model import open_adapter
from appliance.engine.training.lora import sum_weights

_REMEDY = "pass another --adapter"


class LoraLibrary(Protocol):
    """Where the packages differ that put LoRA into a model.

    They differ in how adapter slots are made, and in how the model is switched between training
    and inference.
    """

    is_flat: bool  # its kernels tell packed sequences apart only in a batch of one row
    trains_all: bool  # it can also train all weights

    def add_lora(self, model: Any, settings: TuneSettings) -> Any:
        """The model with new trainable adapter slots."""

    def open_adapter(self, model: Any, adapter_dir: Path, *, base_sha: str) -> Any:
        """The model with the saved adapter in trainable slots.

        Raises InputError when it is of another base or does not fit.
        """

    def for_training(self, model: Any, *, checkpointing: bool) -> None: ...

    def for_inference(self, model: Any) -> None: ...


class PeftLibrary:
    """PEFT itself."""

    is_flat = False
    trains_all = True

    def add_lora(self, model: Any, settings: TuneSettings) -> Any:
        from peft import LoraConfig, get_peft_model

        config = LoraConfig(
            r=settings.rank,
            lora_alpha=settings.alpha,
            use_rslora=settings.rslora,
            target_modules="all-linear",
            task_type="CAUSAL_LM",
        )
        adapted = get_peft_model(model, config)
        sum_weights(adapted)
        return adapted

    def open_adapter(self, model: Any, adapter_dir: Path, *, base_sha: str) -> Any:
        adapted = open_adapter(
            model, adapter_dir, base_sha=base_sha, remedy=_REMEDY, is_trainable=True
        )
        sum_weights(adapted)
        return adapted

    def for_training(self, model: Any, *, checkpointing: bool) -> None:
        if checkpointing:
            model.gradient_checkpointing_enable()
        else:
            model.gradient_checkpointing_disable()
        model.train()

    def for_inference(self, model: Any) -> None:
        model.eval()
