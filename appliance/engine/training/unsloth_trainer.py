"""unsloth's faster LoRA: how it is imported, how it loads a model, and how the trainer uses it.

An optional package (parts of it are AGPL and LGPL), used on CUDA. It runs on a CPU as well, through
the same calls, so that they are tested without a card. It changes transformers and peft for the
whole process when it is imported.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

from appliance.engine.adapter.loaded import put_on
from appliance.engine.base import TuneSettings
from appliance.engine.device_faults import is_out_of_memory, poisons_process
from appliance.engine.load_model import adapter_faults, check_logits
from appliance.engine.load_report import refuse_incomplete, reports_of_loading
from appliance.engine.quantize import keep_trainable
from appliance.engine.training.loss import answer_loss
from appliance.engine.training.packing import TokenSequence, fill_rows
from appliance.errors import EngineError, OutOfMemory, PrerequisiteError, UsageError, first_line
from appliance.seeds import generator

TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
"""All linear layers of the Llama and Qwen families, which are those that its kernels know."""

PACKING_TOLERANCE = 0.005
"""Largest relative error of the loss of packed sequences.

Rounding in 16 bits stays well below it; a sequence that sees its neighbour does not.
"""

_VLLM_ON_CPU = "vllm._C"
"""The library of vLLM for CPUs with AVX-512."""


def import_unsloth(scratch_dir: Path, *, device: str) -> Any:
    """The package, set up to keep its compile cache in `scratch_dir` and to ask no network.

    Raises PrerequisiteError when it is not installed or refuses this machine.
    """
    os.environ.setdefault("UNSLOTH_COMPILE_LOCATION", str(scratch_dir / "unsloth"))
    os.environ.setdefault("UNSLOTH_DISABLE_STATISTICS", "1")

    # unsloth loads this library by its name to see whether vLLM is whole. Where the CPU has no
    # AVX-512 the process dies of an illegal instruction; vLLM itself takes another library there.
    # None in sys.modules makes Python say that the module is not there.
    is_hidden = device == "cpu" and _VLLM_ON_CPU not in sys.modules
    if is_hidden:
        sys.modules[_VLLM_ON_CPU] = None  # type: ignore[assignment]
    try:
        import unsloth
    except (ImportError, NotImplementedError, OSError) as fault:
        raise PrerequisiteError(
            f"unsloth cannot be used: {first_line(fault)}",
            expected="the package unsloth, as pinned in requirements/gpu.txt",
            remedy="install it, or --trainer peft",
        ) from fault
    finally:
        if is_hidden:  # unless unsloth removed it itself
            sys.modules.pop(_VLLM_ON_CPU, None)

    return unsloth


def load_with_unsloth(
    folder: Path,
    *,
    dtype: str,
    device: str,
    quantization: str,
    max_seq_tokens: int,
    scratch_dir: Path,
) -> Any:
    """As `load_causal_lm`.

    Raises also UsageError for int8 on a CPU, which unsloth would load in 16 bits without a word,
    and EngineError for a model that it does not know.
    """
    if quantization == "int8" and device == "cpu":
        raise UsageError(
            "unsloth has no int8 on a CPU", expected="none or nf4", remedy="--trainer peft"
        )

    unsloth = import_unsloth(scratch_dir, device=device)  # before torch and transformers
    import torch

    try:
        with reports_of_loading() as reports:
            model, _ = unsloth.FastLanguageModel.from_pretrained(
                str(folder),
                max_seq_length=max_seq_tokens,
                dtype=getattr(torch, dtype),
                load_in_4bit=quantization == "nf4",
                load_in_8bit=quantization == "int8",
                local_files_only=True,
                trust_remote_code=False,
            )
    except RuntimeError as fault:
        if is_out_of_memory(fault):
            raise OutOfMemory(
                f"no room for the weights of {folder} in {dtype} on {device}"
            ) from fault
        if poisons_process(fault):
            raise
        raise EngineError(
            f"unsloth cannot load {folder}: {first_line(fault)}",
            expected="a model of the Llama or Qwen families",
            remedy="--trainer peft",
        ) from fault

    for report in reports:
        refuse_incomplete(report, folder)
    keep_trainable(model)
    check_logits(model.eval(), f"{folder} in {dtype} with unsloth")
    check_packing(model)
    return model


def check_packing(model: Any) -> None:
    """Raises EngineError when a sequence in a flat row is not read as it is read alone.

    Then its kernels see across the borders of sequences, and training would go wrong in silence.
    """
    import torch

    device = next(model.parameters()).device
    rng = generator("packing")
    lessons = []
    for length in (24, 40):
        ids = rng.integers(0, model.config.vocab_size, length, dtype=np.int32)
        lessons.append(TokenSequence(ids, np.arange(length) >= length // 2))

    with torch.inference_mode():
        alone = []
        for lesson in lessons:
            row = fill_rows([lesson], [[0]], row_tokens=len(lesson), pad_id=0)
            alone.append(float(answer_loss(model, row, device=device)))

        rows = fill_rows(lessons, [[0], [1]], row_tokens=48, pad_id=0).flat()
        packed = float(answer_loss(model, rows, device=device))

    # The packed loss is a mean over all answer tokens, so the single ones weigh by their number.
    weights = [int(x.is_target[1:].sum()) for x in lessons]
    expected = float(np.average(alone, weights=weights))
    if not abs(packed - expected) <= PACKING_TOLERANCE * expected:
        raise EngineError(
            f"unsloth reads packed sequences with a loss of {packed:.4f}",
            expected=f"{expected:.4f}, as it reads them alone",
            remedy="--trainer peft",
        )


class UnslothLibrary:
    """The LoraLibrary for PeftTrainer; made after `import_unsloth`."""

    # On CUDA its attention keeps packed sequences apart in a batch of one row, told their lengths
    # (loss.py). In several rows they would see their neighbours, and no error says so.
    is_flat = True
    trains_all = False

    def add_lora(self, model: Any, settings: TuneSettings) -> Any:
        return self.slots(
            model, rank=settings.rank, alpha=settings.alpha, rslora=settings.rslora, targets=TARGETS
        )

    def open_adapter(self, model: Any, adapter_dir: Path, *, base_sha: str) -> Any:
        with adapter_faults(adapter_dir, base_sha=base_sha, remedy="pass another --adapter"):
            return self._open_adapter(model, adapter_dir)

    def _open_adapter(self, model: Any, adapter_dir: Path) -> Any:
        """New slots of unsloth's, filled with the saved weights: PEFT's own way to open an adapter
        would make slots that its kernels do not know.
        """
        from peft import PeftConfig
        from safetensors.torch import load_file

        config = PeftConfig.from_pretrained(str(adapter_dir))
        weights = load_file(adapter_dir / "adapter_model.safetensors")
        adapted = (name.split(".lora_")[0] for name in weights if ".lora_" in name)
        targets = sorted({name.rsplit(".", 1)[-1] for name in adapted})

        is_plain = not getattr(config, "use_dora", False)
        is_plain &= not getattr(config, "modules_to_save", None)
        if not is_plain or set(targets) - set(TARGETS):
            raise ValueError(f"unsloth continues plain LoRA on {', '.join(TARGETS)}, nothing else")

        model = self.slots(
            model, rank=config.r, alpha=config.lora_alpha, rslora=config.use_rslora, targets=targets
        )
        put_on(model, adapter_dir)
        return model

    def slots(
        self, model: Any, *, rank: int, alpha: float, rslora: bool, targets: list[str]
    ) -> Any:
        """The model with new trainable adapter slots in those of the TARGETS."""
        from unsloth import FastLanguageModel

        return FastLanguageModel.get_peft_model(
            model,
            r=rank,
            lora_alpha=alpha,
            use_rslora=rslora,
            target_modules=targets,
            lora_dropout=0.0,
            bias="none",
            # Checkpoints in host memory; `for_training` switches them on and off.
            use_gradient_checkpointing="unsloth",
        )

    def for_training(self, model: Any, *, checkpointing: bool) -> None:
        from unsloth import FastLanguageModel

        FastLanguageModel.for_training(model, use_gradient_checkpointing=checkpointing)

    def for_inference(self, model: Any) -> None:
        from unsloth import FastLanguageModel

        FastLanguageModel.for_inference(model)
