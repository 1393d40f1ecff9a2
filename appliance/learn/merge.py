"""One plain model folder that answers as a base model with its adapter does.

Verified twice before the folder bears its name: the merged weights, in float32, give the logits of
base plus adapter; and the files on disk hold exactly those weights in the stored type. All is
computed in float32, so it needs 4 bytes a parameter of memory (twice that for an adapter trained
over nf4). Torch is imported inside functions.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from appliance.atomic import whole_folder
from appliance.engine.adapter.examine import adapts_embeddings, is_whole_model
from appliance.engine.adapter.record import check_record
from appliance.engine.folder.card import RECORD_FILE, read_record
from appliance.engine.folder.config import stored_bits
from appliance.engine.folder.examine import examine
from appliance.engine.folder.finite import check_finite
from appliance.engine.folder.identity import weights_sha
from appliance.engine.folder.json_file import read_object
from appliance.engine.folder.weights import read_weights
from appliance.engine.load_model import adapter_faults, load_causal_lm, open_adapter
from appliance.errors import EngineError, InputError, OutputError, UsageError

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
    notes: tuple[str, ...]  # what was told of base and adapter, one sentence each


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

    Raises UsageError when `out` exists, OutputError when it cannot be made, InputError when the
    adapter belongs to another base, does not fit or changes nothing, EngineError when the merged
    logits are not those of base plus adapter. Nothing is left at `out` then.
    """
    _check_out(out, base, adapter)
    is_full = is_whole_model(adapter)
    found = examine(base, None if is_full else adapter)
    base, card = found.folder, found.card
    _refuse_stored_quantized(base)
    if is_full:
        _check_full(base, adapter)

    record = read_record(adapter)
    base_sha = weights_sha(base)
    check_record(adapter, base_sha=base_sha)
    stored = dtype or _stored_dtype(base)
    is_nf4 = record.get("quantization") == "nf4" and onto == "trained"

    merged = _merge(base, adapter, base_sha=base_sha, is_nf4=is_nf4)
    after = _logits(merged.model)
    error = _largest_gap(after, merged.adapted)
    effect = _largest_gap(merged.adapted, merged.before)
    if effect == 0:
        raise InputError(
            f"{adapter} changes nothing: base and result answer alike",
            expected="an adapter or a model that was trained",
            remedy="pass the one that the training saved at its end",
        )
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
        effect=effect,
        logit_error=error,
        storage_error=storage_error,
        notes=found.notes,
    )


def _merge(base: Path, adapter: Path, *, base_sha: str, is_nf4: bool) -> _InMemory:
    plain = load_causal_lm(base, dtype="float32", device="cpu")
    before = _logits(plain)
    if not is_whole_model(adapter) and adapts_embeddings(adapter):
        _untie(plain)
    if is_whole_model(adapter):
        adapted = _logits(load_causal_lm(adapter, dtype="float32", device="cpu"))
        return _InMemory("full", _with_full_weights(plain, adapter), before, adapted)

    if is_nf4:
        before, adapted = _put_on_nf4_weights(plain, base, adapter, base_sha=base_sha)
        with_adapter = _open_adapter(plain, adapter, base_sha=base_sha)
    else:
        with_adapter = _open_adapter(plain, adapter, base_sha=base_sha)
        adapted = _logits(with_adapter)

    # PEFT refuses some variants of LoRA only now.
    with adapter_faults(adapter, base_sha=base_sha, remedy="sample with it unmerged"):
        merged = with_adapter.merge_and_unload()
    return _InMemory(_kind(adapter), merged, before, adapted)


def _untie(model: Any) -> None:
    """Give the head weights of its own: an adapter on one of two tied matrices changes only that.

    Merged into shared weights it would change both.
    """
    import torch

    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    if head is not None and head.weight is embedding.weight:
        head.weight = torch.nn.Parameter(head.weight.detach().clone())
        model.config.tie_word_embeddings = False


def _store(model: Any, folder: Path, *, dtype: str) -> None:
    """Turn the model itself to the stored type and write it."""
    import torch

    model.to(getattr(torch, dtype))
    model.config.dtype = dtype
    model.save_pretrained(folder)


def _largest_gap(a: Any, b: Any) -> float:
    return float((a - b).abs().max())


def _check_out(out: Path, base: Path, adapter: Path) -> None:
    """Raises UsageError or OutputError for a folder that cannot be made."""
    where = out.absolute()
    try:
        if out.exists() or out.is_symlink():
            raise UsageError(
                f"{out} exists",
                expected="a folder to make",
                remedy="choose another OUT or remove it",
            )
        for folder in (base, adapter):
            if folder.resolve() in where.resolve().parents:
                raise UsageError(
                    f"{out} is inside {folder}",
                    expected="a folder of its own",
                    remedy="choose another OUT",
                )
        parent = next(p for p in where.parents if p.exists())
        is_writable = parent.is_dir() and os.access(parent, os.W_OK | os.X_OK)
    except OSError as fault:  # a name that is too long, or a folder that cannot be looked into
        raise OutputError(
            f"{str(out)[:200]}: {fault.strerror}",
            expected="a folder that can be made",
            remedy="choose another OUT",
        ) from fault
    if not is_writable:
        raise OutputError(
            f"{out} cannot be made: {parent} "
            + ("cannot be written to" if parent.is_dir() else "is a file"),
            expected="a folder to write in",
            remedy="choose another OUT",
        )


def _refuse_stored_quantized(base: Path) -> None:
    bits = stored_bits(read_object(base / "config.json"))
    if bits:
        raise InputError(
            f"{base}: its weights are stored in {bits} bits",
            expected="the unquantised weights of this model",
            remedy="pass them as BASE; an adapter trained over nf4 is merged into its nf4 form",
        )


def _check_full(base: Path, trained: Path) -> None:
    """Raises InputError unless the fully trained folder has finite weights of the base's shapes."""
    theirs, ours = read_weights(trained), read_weights(base)
    differ = [n for n in theirs if n not in ours or theirs[n].shape != ours[n].shape]
    if differ and not (differ == ["lm_head.weight"] and differ[0] not in ours):
        raise InputError(
            f"{trained}: {len(differ)} of {len(theirs)} weights are not those of the base or have "
            f"another shape: {', '.join(differ[:3])}",
            expected="the weights of the same model, fully trained",
            remedy="pass the BASE it was trained on",
        )
    check_finite(theirs)


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
