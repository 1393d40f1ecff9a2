"""One plain model folder that answers as a base model with its adapter does.

Verified twice before the folder bears its name: the merged weights, in float32, give the logits of
base plus adapter; and the files on disk hold exactly those weights in the stored type. All is
computed in float32, so it needs 4 bytes a parameter of memory (twice that for an adapter trained
over nf4). Torch is imported inside functions.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from appliance.atomic import whole_folder
from appliance.engine.adapters import check_base
from appliance.engine.folder.card import RECORD_FILE, read_record
from appliance.engine.folder.config import stored_bits
from appliance.engine.folder.examine import Examined, examine
from appliance.engine.folder.json_file import read_object
from appliance.engine.load_model import load_causal_lm, open_adapter, weights_sha
from appliance.errors import EngineError, InputError, UsageError

MAX_LOGIT_ERROR = 1e-3
"""Largest accepted gap between merged and adapted logits, as a share of the largest logit.

Room for the rounding of float32 through the layers.
"""


@dataclass(frozen=True)
class Merged:
    """What was merged, and how exactly."""

    kind: str  # full, lora, rslora, dora or rslora+dora
    quantization: str  # of the base that was merged into: nf4 or none
    dtype: str  # of the stored weights
    effect: float  # largest change of a logit by the adapter
    logit_error: float  # largest gap between merged model and base plus adapter, both in float32
    storage_error: float  # what storing in `dtype` adds to that gap: a limit of the type, no fault


@dataclass(frozen=True)
class _InMemory:
    """The merged model in float32, and logits to judge it by."""

    kind: str
    model: Any
    before: Any  # logits of the base
    adapted: Any  # logits of base plus adapter


def merge_adapter(
    base: Path, adapter: Path, out: Path, *, onto: str = "trained", dtype: str | None = None
) -> Merged:
    """Write the merged model to `out` and say how exact it is.

    Raises UsageError when `out` exists, InputError when the adapter belongs to another base or does
    not fit, EngineError when the merged logits are not those of base plus adapter. Nothing is left
    at `out` then.
    """
    if out.exists() or out.is_symlink():
        raise UsageError(
            f"{out} exists", expected="a folder to make", remedy="choose another OUT or remove it"
        )

    record = _record(adapter)
    examined = _examined(base, adapter)
    base, card = examined.folder, examined.card
    base_sha = weights_sha(base)
    check_base(adapter, base_sha=base_sha)
    stored = dtype or _stored_dtype(base)
    is_nf4 = record.get("quantization") == "nf4" and onto == "trained"

    merged = _merge(base, adapter, base_sha=base_sha, is_nf4=is_nf4)
    after = _logits(merged.model)
    error = _largest_gap(after, merged.adapted)
    scale = float(merged.adapted.abs().max())
    if not error <= MAX_LOGIT_ERROR * scale:  # "not" catches NaN too
        raise EngineError(
            f"merged logits differ by {error:.3g} from those of base plus adapter "
            f"(largest logit {scale:.3g})",
            expected=f"at most {MAX_LOGIT_ERROR:g} of the largest",
            remedy="report this adapter; sample with it unmerged meanwhile",
        )

    described = {
        "style": record.get("style", card.style),
        "encoder": record.get("encoder", card.encoder),
        "program_style": card.program_style,
        "program_tokens": card.program_tokens,
        "strategies": list(card.strategies),
        "merged_from": record.get("base_sha", ""),
    }
    with whole_folder(out, mark=RECORD_FILE) as part:
        _store(merged.model, part, dtype=stored)
        _copy_surroundings(base, adapter, part)
        from_disk = load_causal_lm(part, dtype=stored, device="cpu")
        _check_same(merged.model, from_disk, part)
        storage_error = _largest_gap(_logits(from_disk.float()), after)
        (part / RECORD_FILE).write_text(json.dumps(described, indent=1) + "\n")

    return Merged(
        kind=merged.kind,
        quantization="nf4" if is_nf4 else "none",
        dtype=stored,
        effect=_largest_gap(merged.adapted, merged.before),
        logit_error=error,
        storage_error=storage_error,
    )


def _merge(base: Path, adapter: Path, *, base_sha: str, is_nf4: bool) -> _InMemory:
    plain = load_causal_lm(base, dtype="float32", device="cpu")
    before = _logits(plain)
    is_full = not (adapter / "adapter_config.json").is_file()
    if is_full:
        adapted = _logits(load_causal_lm(adapter, dtype="float32", device="cpu"))
        return _InMemory("full", _with_full_weights(plain, adapter), before, adapted)

    if is_nf4:
        before, adapted = _put_on_nf4_weights(plain, base, adapter, base_sha=base_sha)
        with_adapter = _open_adapter(plain, adapter, base_sha=base_sha)
    else:
        with_adapter = _open_adapter(plain, adapter, base_sha=base_sha)
        adapted = _logits(with_adapter)
    return _InMemory(_kind(adapter), with_adapter.merge_and_unload(), before, adapted)


def _store(model: Any, folder: Path, *, dtype: str) -> None:
    """Turn the model itself to the stored type and write it."""
    import torch

    model.to(getattr(torch, dtype))
    model.config.dtype = dtype
    model.save_pretrained(folder)


def _largest_gap(a: Any, b: Any) -> float:
    return float((a - b).abs().max())


def _record(adapter: Path) -> dict[str, Any]:
    """What the adapter says of itself; empty for one of other make. Raises InputError when it is no
    adapter at all."""
    if not adapter.is_dir() or not list(adapter.glob("*.safetensors")):
        raise InputError(
            f"{adapter}: no adapter there",
            expected="adapter_model.safetensors with adapter_config.json, "
            "or the weights of a full fine-tuning",
            remedy="pass the folder that `appliance train` wrote",
        )
    return read_record(adapter)


def _examined(base: Path, adapter: Path) -> Examined:
    """The base, looked at with the adapter before torch is imported.

    Raises InputError also for a base in 4 or 8 bits: what is merged into it would be rounded once
    more, and it could not be stored in 16 bits as what it was.
    """
    is_full = not (adapter / "adapter_config.json").is_file()
    examined = examine(base, None if is_full else adapter)
    if is_full:
        examine(adapter)

    bits = stored_bits(read_object(examined.folder / "config.json"))
    if bits:
        raise InputError(
            f"model folder {base}: weights stored in {bits} bits by bitsandbytes",
            expected="weights in 16 or 32 bits to merge into",
            remedy="pass the unquantised model as BASE; an adapter that `appliance train` trained "
            "over nf4 is then merged into what the 4-bit weights stand for",
        )
    return examined


def _stored_dtype(base: Path) -> str:
    config = read_object(base / "config.json")
    name = str(config.get("dtype") or config.get("torch_dtype") or "float32")
    return "float32" if name == "auto" else name.removeprefix("torch.")


def _kind(adapter: Path) -> str:
    config = json.loads((adapter / "adapter_config.json").read_text())
    kinds = [name for name in ("rslora", "dora") if config.get(f"use_{name}")]
    return "+".join(kinds) or "lora"


def _open_adapter(model: Any, adapter: Path, *, base_sha: str) -> Any:
    remedy = "pass the BASE it was trained on"
    return open_adapter(model, adapter, base_sha=base_sha, remedy=remedy).eval()


def _put_on_nf4_weights(plain: Any, base: Path, adapter: Path, *, base_sha: str) -> tuple[Any, Any]:
    """Overwrite the linear weights of `plain` by what their nf4 form stands for.

    Returns the logits of the nf4 base without and with the adapter.
    """
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
            f"{adapter}: {len(missing)} weights missing, "
            f"{len(result.unexpected_keys)} unknown to the base",
            expected="the weights of the same model, fully trained",
            remedy="pass the BASE it was trained on",
        )
    return plain


def _logits(model: Any) -> Any:
    """float32 logits on two fixed sequences of 48 tokens spread over the vocabulary."""
    import torch

    # Any fixed tokens do; a large prime spreads them over the vocabulary.
    vocabulary = model.get_input_embeddings().weight.shape[0]
    ids = (torch.arange(96).reshape(2, 48) * 7919 + 3) % vocabulary
    with torch.inference_mode():
        return model(input_ids=ids, use_cache=False).logits.float()


def _copy_surroundings(base: Path, adapter: Path, part: Path) -> None:
    """Tokenizer and chat template: the adapter's own where it has them, else the base's."""
    kinds = (".json", ".jinja", ".model", ".txt")
    skipped = {"config.json", "generation_config.json", RECORD_FILE, "manifest.json", "README.md"}

    for folder in (base, adapter):
        for path in folder.iterdir():
            is_of_weights = "safetensors" in path.name
            is_of_training = path.name.startswith(("adapter_", "training"))
            if path.suffix not in kinds or path.name in skipped:
                continue
            if not (is_of_weights or is_of_training):
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
