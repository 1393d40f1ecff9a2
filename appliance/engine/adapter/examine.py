"""An adapter folder examined from its files, before an engine is started: PEFT type, names, shapes,
rank, finite values, base, checksum, and whether it changes anything at all. No torch.

Covered: all that the headers, the configuration and the values say. Not covered: what only the
loaded model tells, such as modules that "all-linear" means or LoRA on single parameters; PEFT's own
report on loading is read for these (loaded.py).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from appliance.engine.adapter.config import CONFIG_FILE, AdapterConfig, read_config
from appliance.engine.adapter.keys import EMBEDDINGS, Part, check_keys, parts_of, read_base
from appliance.engine.adapter.record import check_record, names_base
from appliance.engine.folder.finite import check_finite
from appliance.engine.folder.identity import weights_sha
from appliance.engine.folder.json_file import refuse_pointer, shown
from appliance.engine.folder.tensor_file import Tensor, read_tensors
from appliance.errors import InputError

WEIGHTS_FILE = "adapter_model.safetensors"

MOST_HASHED_BYTES = 4 << 30
"""Base models up to this size are hashed here, at one to two GB a second; for larger ones the
worker compares the hash, which it computes anyway."""

NUM_LOOKED_AT = 200
"""Folders inside one that are searched for the adapter that it should be."""

_SIGN_BIT_OFF = {"F16": ("<u2", 0x7FFF), "BF16": ("<u2", 0x7FFF), "F32": ("<u4", 0x7FFF_FFFF),
                 "F64": ("<u8", 0x7FFF_FFFF_FFFF_FFFF)}  # fmt: skip
"""How values are read as bits, and the bits that are all zero in 0 and -0 (IEEE 754)."""

_CHANGES_ALONE = re.compile(r"weight|bias|base_layer\.bias|lora_magnitude.*|token_adapter\..*")
"""Parts of an adapter that may change the model though its A or B are zero."""


def is_whole_model(folder: Path) -> bool:
    """Whether the folder holds the weights of a full fine-tuning, and no PEFT adapter."""
    has_adapter = (folder / CONFIG_FILE).exists() or any(folder.glob("adapter_model*"))
    return not has_adapter and any(folder.glob("model*.safetensors"))


def adapts_embeddings(folder: Path) -> bool:
    """Whether the adapter has weights on the embedding or the head, which may share theirs."""
    names = (*EMBEDDINGS, "lm_head")
    adapted = (p for p in parts_of(read_weights(folder)) if p.part.startswith("lora_"))
    return any(part.module.rpartition(".")[2] in names for part in adapted)


def examine_adapter(adapter: Path, model: Path) -> tuple[str, ...]:
    """Whether the adapter can be put on the model, and what to tell about it.

    model: folder of the base, which has been examined. Raises InputError that says what is wrong.
    """
    tensors = read_weights(adapter)
    config = read_config(adapter)
    base = read_base(model)
    parts = parts_of(tensors)

    if not config.raw.get("target_parameters"):  # whose names only the loaded model tells
        check_keys(adapter, parts, config, base)
    check_finite(tensors)
    check_changes(adapter, tensors, parts, config)

    size = sum(path.stat().st_size for path in model.glob("*.safetensors"))
    is_compared = names_base(adapter) and size <= MOST_HASHED_BYTES
    check_record(adapter, base_sha=weights_sha(model) if is_compared else None)
    return (*config.notes, *_notes_on_base(adapter, model, parts, config.raw, base.num_layers))


def read_weights(adapter: Path) -> dict[str, Tensor]:
    """The tensors of the adapter. Raises InputError when there is none, or no whole one."""
    if not adapter.is_dir():
        raise InputError(
            f"adapter {adapter}: {'a file' if adapter.exists() else 'not there'}",
            expected=f"a folder with {CONFIG_FILE} and {WEIGHTS_FILE}",
            remedy="pass the folder of the adapter",
        )

    path = adapter / WEIGHTS_FILE
    for file in (adapter / CONFIG_FILE, path):
        refuse_pointer(file)
    if not (adapter / CONFIG_FILE).is_file() or not path.is_file():
        raise _no_adapter(adapter)

    tensors = read_tensors(path)
    if not tensors:
        raise InputError(
            f"{path}: no weights", expected="a trained adapter", remedy="copy the file again"
        )
    whole = [n for n, t in tensors.items() if "lora_" in n and t.dtype[0] in "UI"]
    if whole:
        raise InputError(
            f"{path}: {shown(whole[0])} has the type {tensors[whole[0]].dtype}",
            expected="floating-point weights",
            remedy="save the adapter again as float32 or bfloat16",
        )
    return tensors


def check_changes(
    adapter: Path, tensors: Mapping[str, Tensor], parts: list[Part], config: AdapterConfig
) -> None:
    """Raises InputError for an adapter that adds zero to every weight, as one never trained."""
    if any(_CHANGES_ALONE.fullmatch(part.part) for part in parts):
        return

    by_module: dict[str, list[Part]] = {}
    for part in parts:
        by_module.setdefault(part.module, []).append(part)
    for module, own in by_module.items():
        if config.alpha_of(module) and all(_is_nonzero(tensors[p.key]) for p in own):
            return

    reason = "lora_alpha is 0" if not config.alpha else "its lora_A or lora_B are all zero"
    raise InputError(
        f"adapter {adapter} changes nothing: {reason}",
        expected="an adapter that was trained",
        remedy="leave it away, or pass the one that the training saved at its end",
    )


def _is_nonzero(tensor: Tensor) -> bool:
    """Whether any value differs from zero; types that are not read here count as such."""
    if tensor.dtype not in _SIGN_BIT_OFF or not tensor.num_bytes:
        return tensor.num_bytes > 0
    kind, mask = _SIGN_BIT_OFF[tensor.dtype]
    with tensor.file.open("rb") as stream:
        stream.seek(tensor.begin)
        bits = np.frombuffer(stream.read(tensor.num_bytes), dtype=kind)
    return bool((bits & bits.dtype.type(mask)).any())


def _no_adapter(folder: Path) -> InputError:
    """The error for a folder without a part of the adapter, with the likely reason."""
    inside = _adapters_inside(folder)
    if inside and not (folder / WEIGHTS_FILE).is_file():
        more = f" (one of {len(inside)})" if len(inside) > 1 else ""
        return InputError(
            f"adapter {folder}: the adapter is in {inside[-1].relative_to(folder)}{more}",
            expected=f"the folder that holds {CONFIG_FILE}",
            remedy=f"pass {inside[-1]}",
        )
    if not (folder / CONFIG_FILE).is_file():
        if (folder / "config.json").is_file():
            return InputError(
                f"adapter {folder}: a whole model, not an adapter",
                expected=f"{CONFIG_FILE} and {WEIGHTS_FILE}",
                remedy="pass it with --model and leave the adapter away",
            )
        return InputError(
            f"adapter {folder}: no {CONFIG_FILE}",
            expected=f"{CONFIG_FILE} and {WEIGHTS_FILE}, as PEFT saves them",
            remedy="complete the folder",
        )

    if list(folder.glob("adapter_model*.bin")):
        return InputError(
            f"adapter {folder}: its weights are a pickle (adapter_model.bin), which may run code",
            expected=WEIGHTS_FILE,
            remedy="save it again with safe_serialization=True where you trust it: "
            "safetensors.torch.save_file(torch.load(FILE, weights_only=True), "
            f"{WEIGHTS_FILE!r})",
        )
    others = ", ".join(sorted(p.name for p in folder.glob("*.safetensors"))[:3])
    return InputError(
        f"adapter {folder}: no {WEIGHTS_FILE}" + (f", but {others}" if others else ""),
        expected="the weights of the adapter in that one file",
        remedy="copy the folder again",
    )


def _adapters_inside(folder: Path) -> list[Path]:
    """Adapters one or two levels below, the one with the highest number last."""
    below = [p for p in _children(folder) if p.is_dir()]
    below += [q for p in below for q in _children(p) if q.is_dir()]
    found = [p for p in below[:NUM_LOOKED_AT] if (p / CONFIG_FILE).is_file()]

    def order(path: Path) -> tuple[int, str]:
        digits = re.search(r"(\d{1,18})$", path.name)
        return int(digits[1]) if digits else -1, str(path)

    return sorted(found, key=order)


def _children(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())[:NUM_LOOKED_AT]
    except OSError:
        return []


def _notes_on_base(
    adapter: Path, model: Path, parts: list[Part], raw: Mapping[str, Any], num_layers: int
) -> list[str]:
    """What speaks for another base without proving it."""
    notes = []
    said = raw.get("base_model_name_or_path")
    if said and not names_base(adapter) and Path(said).name != model.resolve().name:
        notes.append(
            f"adapter {adapter} names the base {shown(said)}; whether these are its weights "
            "cannot be told from its files"
        )

    layers = {int(n[1]) for p in parts if (n := re.search(r"\.layers\.(\d+)\.", p.module))}
    is_first = bool(layers) and layers == set(range(len(layers)))
    is_meant = raw.get("layers_to_transform") is not None or raw.get("exclude_modules")
    if is_first and len(layers) < num_layers and not is_meant:
        notes.append(
            f"adapter {adapter} adapts the first {len(layers)} of {num_layers} layers: right only "
            "if it was trained so, and not on a shallower model"
        )
    return notes
