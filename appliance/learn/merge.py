"""`appliance merge-adapter BASE ADAPTER OUT`: one plain model folder that answers as the base with its adapter does.

Verified twice before OUT bears its name: the merged weights, in float32, give the logits of base plus adapter; and the
files on disk hold exactly those weights in the stored type. Computed in float32, so it needs 4 bytes a parameter (twice
for an adapter trained over nf4). Imports torch inside its functions.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from appliance.atomic import whole_folder
from appliance.engine.adapters import check_base
from appliance.engine.load_model import load_causal_lm, open_adapter, weights_sha
from appliance.engine.model_folder import RECORD_FILE, read_card, read_record
from appliance.errors import EngineError, InputError, UsageError

MAX_LOGIT_ERROR = 1e-3
"""Largest gap between merged and adapted logits, as a share of the largest logit: float32 rounding through the layers."""


@dataclass(frozen=True)
class Merged:
    """kind: lora, rslora, dora (or both: "rslora+dora") or full. effect: largest change of a logit by the adapter.
    logit_error: largest gap between the merged model and base plus adapter, both float32. storage_error: the gap that
    storing in `dtype` adds; a limit of the type, not a fault."""

    kind: str
    quantization: str
    dtype: str
    effect: float
    logit_error: float
    storage_error: float


def merge_adapter(
    base: Path, adapter: Path, out: Path, *, onto: str = "trained", dtype: str | None = None
) -> Merged:
    """Write the merged model to `out` and say how exact it is.

    Raises UsageError when `out` exists, InputError when the adapter belongs to another base or does not fit, EngineError
    when the merged logits are not those of base plus adapter; nothing is left at `out` then.
    """
    import torch

    if out.exists():
        raise UsageError(
            f"{out} exists", expected="a folder to make", remedy="choose another OUT or remove it"
        )
    card = read_card(base)
    record = _record(adapter)
    base_sha = weights_sha(base)
    check_base(adapter, base_sha=base_sha)
    stored = dtype or _stored_dtype(base)
    is_nf4 = record.get("quantization") == "nf4" and onto == "trained"
    is_full = not (adapter / "adapter_config.json").is_file()
    plain = load_causal_lm(base, dtype="float32", device="cpu")
    before = _logits(plain)
    if is_full:
        kind, adapted = "full", _logits(load_causal_lm(adapter, dtype="float32", device="cpu"))
        merged = _with_full_weights(plain, adapter)
    else:
        kind = _kind(adapter)
        if is_nf4:
            before, adapted = _put_on_nf4_weights(plain, base, adapter, base_sha=base_sha)
        with_adapter = _open_adapter(plain, adapter, base_sha=base_sha)
        if not is_nf4:
            adapted = _logits(with_adapter)
        merged = with_adapter.merge_and_unload()
    after = _logits(merged)
    error, scale = float((after - adapted).abs().max()), float(adapted.abs().max())
    if not error <= MAX_LOGIT_ERROR * scale:
        raise EngineError(
            f"merged logits differ by {error:.3g} from those of base plus adapter (largest logit {scale:.3g})",
            expected=f"at most {MAX_LOGIT_ERROR:g} of the largest",
            remedy="report this adapter; sample with it unmerged meanwhile",
        )
    with whole_folder(out) as part:
        merged = merged.to(getattr(torch, stored))
        merged.config.dtype = stored
        merged.save_pretrained(part)
        _copy_surroundings(base, adapter, part)
        from_disk = load_causal_lm(part, dtype=stored, device="cpu")
        _check_same(merged, from_disk, part)
        storage = float((_logits(from_disk.float()) - after).abs().max())
        names = {
            "style": record.get("style", card.style),
            "encoder": record.get("encoder", card.encoder),
        }
        names |= {"program_style": card.program_style, "program_tokens": card.program_tokens}
        described = {
            **names,
            "strategies": list(card.strategies),
            "merged_from": record.get("base_sha", ""),
        }
        (part / RECORD_FILE).write_text(json.dumps(described, indent=1) + "\n")
    return Merged(
        kind,
        "nf4" if is_nf4 else "none",
        stored,
        float((adapted - before).abs().max()),
        error,
        max(0.0, storage),
    )


def _record(adapter: Path) -> dict[str, Any]:
    """What the adapter says of itself; empty for one of other make. Raises InputError when it is no adapter at all."""
    if not adapter.is_dir() or not list(adapter.glob("*.safetensors")):
        raise InputError(
            f"{adapter}: no adapter there",
            expected="adapter_model.safetensors with adapter_config.json, or the weights of a full fine-tuning",
            remedy="pass the folder that `appliance train` wrote",
        )
    return read_record(adapter)


def _stored_dtype(base: Path) -> str:
    config = json.loads((base / "config.json").read_text())
    return str(config.get("dtype") or config.get("torch_dtype") or "float32")


def _kind(adapter: Path) -> str:
    config = json.loads((adapter / "adapter_config.json").read_text())
    kinds = [name for name in ("rslora", "dora") if config.get(f"use_{name}")]
    return "+".join(kinds) or "lora"


def _open_adapter(model: Any, adapter: Path, *, base_sha: str) -> Any:
    remedy = "pass the BASE it was trained on"
    return open_adapter(model, adapter, base_sha=base_sha, remedy=remedy).eval()


def _put_on_nf4_weights(plain: Any, base: Path, adapter: Path, *, base_sha: str) -> tuple[Any, Any]:
    """Overwrite the linear weights of `plain` by what their nf4 form stands for; return the logits of the nf4 base without
    and with the adapter."""
    import bitsandbytes
    import torch

    quantized = load_causal_lm(base, dtype="float32", device="cpu", quantization="nf4")
    with torch.no_grad():
        for name, module in quantized.named_modules():
            if isinstance(module, bitsandbytes.nn.Linear4bit):
                weight = bitsandbytes.functional.dequantize_4bit(
                    module.weight.data, module.weight.quant_state
                )
                target = plain.get_submodule(name).weight
                target.copy_(weight.reshape(target.shape))
    before = _logits(quantized)
    return before, _logits(_open_adapter(quantized, adapter, base_sha=base_sha))


def _with_full_weights(plain: Any, adapter: Path) -> Any:
    """The base with every weight of the trained folder; its tied weights stay tied."""
    from safetensors.torch import load_file

    trained = {
        k: v for path in sorted(adapter.glob("*.safetensors")) for k, v in load_file(path).items()
    }
    result = plain.load_state_dict(trained, strict=False)
    missing = [name for name in result.missing_keys if name not in (plain._tied_weights_keys or {})]
    if missing or result.unexpected_keys:
        raise InputError(
            f"{adapter}: {len(missing)} weights missing, {len(result.unexpected_keys)} unknown to the base",
            expected="the weights of the same model, fully trained",
            remedy="pass the BASE it was trained on",
        )
    return plain


def _logits(model: Any) -> Any:
    """float32 logits on two fixed sequences of 48 tokens spread over the vocabulary."""
    import torch

    vocabulary = model.get_input_embeddings().weight.shape[0]
    ids = (torch.arange(96).reshape(2, 48) * 7919 + 3) % vocabulary
    with torch.inference_mode():
        return model(input_ids=ids, use_cache=False).logits.float()


def _copy_surroundings(base: Path, adapter: Path, part: Path) -> None:
    """Tokenizer and chat template: the adapter's own where it has them, else the base's."""
    skipped = {"config.json", "generation_config.json", RECORD_FILE, "manifest.json", "README.md"}
    for folder in (base, adapter):
        for path in folder.iterdir():
            is_text = (
                path.suffix in (".json", ".jinja", ".model", ".txt")
                and "safetensors" not in path.name
            )
            if (
                is_text
                and path.name not in skipped
                and not path.name.startswith(("adapter_", "training"))
            ):
                shutil.copyfile(path, part / path.name)


def _check_same(merged: Any, from_disk: Any, part: Path) -> None:
    import torch

    read = dict(from_disk.named_parameters())
    unequal = [
        name for name, weight in merged.named_parameters() if not torch.equal(weight, read[name])
    ]
    if unequal:
        raise EngineError(
            f"{part}: {len(unequal)} weights read back differ, first {unequal[0]}",
            remedy="check the disk",
        )
