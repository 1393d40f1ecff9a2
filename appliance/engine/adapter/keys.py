"""Whether every weight of an adapter has its place in a base model, told from both headers.

PEFT puts on what fits by name and leaves out the rest with at most a warning: an adapter saved
under other names, or of a deeper model, changes nothing or only a part. No torch.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from appliance.engine.adapter.config import AdapterConfig
from appliance.engine.folder.json_file import shown
from appliance.engine.folder.tensor_file import Tensor
from appliance.engine.folder.weights import read_weights
from appliance.errors import InputError
from appliance.names import a_few

PREFIX = "base_model.model."
"""What PEFT writes before the name of every module."""

EMBEDDINGS = ("embed_tokens", "wte", "embed_in")
"""Last parts of the names of modules that turn ids into vectors; a tied head has their weights."""

STEMS = ("model", "transformer", "gpt_neox")
"""First parts of the names of modules, which a checkpoint without the head lacks."""

NUM_SHOWN = 3
"""Names that a message repeats."""

_PARTS = re.compile(
    r"(?P<module>.+?)\.(?P<part>"
    r"lora_A\.weight|lora_B\.weight|lora_B\.bias|lora_embedding_A|lora_embedding_B"
    r"|lora_magnitude_vector(?:\.weight)?|token_adapter\.trainable_tokens_delta"
    r"|base_layer\.weight|base_layer\.bias|weight|bias"
    r"|lora_[a-zA-Z]+(?:\.weight|\.bias)?)"
)
"""Names of what PEFT saves of a module; the last line is for variants of LoRA."""

_LAYER = re.compile(r"(?:^|\.)(?:layers|h|blocks)\.(\d+)(?:\.|$)")
_PACKED = ("U8", "U32", "I32")
"""Types of weights whose shape is that of their packing: nf4 of bitsandbytes, and others."""


@dataclass(frozen=True)
class Base:
    """The modules of a base model that have a weight."""

    shapes: Mapping[str, tuple[int, ...] | None]  # (out, in); None where the weight is packed
    num_layers: int  # 0 where the names do not say

    def find(self, module: str) -> str | None:
        """The name that the checkpoint has for a module of the loaded model."""
        if module in self.shapes:
            return module
        # A checkpoint of the model without its head lacks the first part of every name.
        first, _, rest = module.partition(".")
        is_bare = first in STEMS and not any(name.startswith(f"{first}.") for name in self.shapes)
        return rest if is_bare and rest in self.shapes else None

    def shape_of(self, module: str) -> tuple[int, ...] | None:
        """None where the module is unknown, or its shape is."""
        name = self.find(module)
        return None if name is None else self.shapes[name]


def read_base(model: Path) -> Base:
    """Raises InputError for damaged weights."""
    shapes: dict[str, tuple[int, ...] | None] = {}
    for name, tensor in read_weights(model).items():
        if name.endswith(".weight"):
            packed = tensor.dtype in _PACKED
            shapes[name.removesuffix(".weight")] = None if packed else tensor.shape

    if "lm_head" not in shapes:
        embedding = [name for name in shapes if name.rpartition(".")[2] in EMBEDDINGS]
        if embedding:
            shapes["lm_head"] = shapes[embedding[0]]
    layers = {int(found[1]) for name in shapes if (found := _LAYER.search(name))}
    return Base(shapes, len(layers))


@dataclass(frozen=True)
class Part:
    """One weight of an adapter."""

    key: str  # its name in the file
    module: str
    part: str  # what it is of the module; "" for a name that PEFT does not write
    shape: tuple[int, ...]


def parts_of(tensors: Mapping[str, Tensor]) -> list[Part]:
    parts = []
    for key, tensor in tensors.items():
        match = _PARTS.fullmatch(key.removeprefix(PREFIX)) if key.startswith(PREFIX) else None
        module, part = (match["module"], match["part"]) if match else (key, "")
        parts.append(Part(key, module, part, tensor.shape))
    return parts


def check_keys(folder: Path, parts: list[Part], config: AdapterConfig, base: Base) -> None:
    """Raises InputError unless every weight fits its module and none is missing."""
    _check_names(folder, parts, config, base)

    by_module: dict[str, dict[str, tuple[int, ...]]] = defaultdict(dict)
    for part in parts:
        by_module[part.module][part.part] = part.shape
    _check_whole(folder, by_module, config, base)

    for module, shapes in by_module.items():
        fault = _fault_of_shapes(module, shapes, config, base.shape_of(module))
        if fault:
            raise InputError(
                f"adapter {folder}: {shown(module)}: {fault}",
                expected="an adapter of the shape of this base",
                remedy="pass the base that it was trained on",
            )


def _check_names(folder: Path, parts: list[Part], config: AdapterConfig, base: Base) -> None:
    foreign = [p for p in parts if not p.part or base.find(p.module) is None]
    if foreign:
        raise InputError(
            f"adapter {folder}: {len(foreign)} of {len(parts)} adapter weights do not belong to "
            f"this base: {_some(p.key for p in foreign)}{_why_foreign(foreign, base)}",
            expected=f"names as PEFT saves them, such as {PREFIX}{_example(base)}.lora_A.weight",
            remedy="pass the base that it was trained on; if this is the base, save the adapter "
            "again with PEFT's save_pretrained",
        )

    # A head that is tied to an adapted embedding gets the embedding's A and B.
    also = {"lm_head"} if config.raw.get("ensure_weight_tying") else set()
    adapted = [p for p in parts if "lora_" in p.part and p.module not in also]
    unnamed = [p for p in adapted if not config.is_target(p.module)]
    if unnamed and not config.is_on_every_layer:
        raise InputError(
            f"adapter {folder}: {len(unnamed)} of {len(parts)} adapter weights are of modules that "
            f"its configuration does not name: {_some(p.key for p in unnamed)}",
            expected="all modules with weights among target_modules",
            remedy="copy adapter_config.json and adapter_model.safetensors of one training",
        )


def _why_foreign(foreign: list[Part], base: Base) -> str:
    """The likely reason, in words behind the names."""
    numbers = [int(found[1]) for p in foreign if (found := _LAYER.search(p.module))]
    if numbers and 0 < base.num_layers <= max(numbers):
        return f" (the base has {base.num_layers} layers)"
    if any(".default" in p.key for p in foreign):
        return " (saved with the name of the adapter in them)"
    inner = (p.key.removeprefix(PREFIX).partition(".lora_")[0] for p in foreign)
    if any(name.endswith(f".{module}") or module.endswith(f".{name}")
           for module in inner for name in base.shapes):  # fmt: skip
        return " (their beginnings differ)"
    return ""


def _example(base: Base) -> str:
    layered = (name for name, shape in base.shapes.items() if _LAYER.search(name) and shape)
    matrices = (name for name in layered if len(base.shapes[name] or ()) == 2)
    return next(matrices, "model.layers.0.mlp.up_proj")


def _check_whole(
    folder: Path,
    by_module: Mapping[str, Mapping[str, tuple[int, ...]]],
    config: AdapterConfig,
    base: Base,
) -> None:
    """Raises InputError for weights that the configuration promises and the file does not have."""
    missing = []
    for module, parts in by_module.items():
        for one, other in (
            ("lora_A.weight", "lora_B.weight"),
            ("lora_embedding_A", "lora_embedding_B"),
        ):
            missing += [f"{module}.{b}" for a, b in ((one, other), (other, one))
                        if a in parts and b not in parts]  # fmt: skip
        has_vector = any(part.startswith("lora_magnitude_vector") for part in parts)
        is_adapted = any(part.startswith(("lora_A", "lora_embedding_A")) for part in parts)
        if config.raw.get("use_dora") and is_adapted and not has_vector:
            missing.append(f"{module}.lora_magnitude_vector")

    for module, shape in base.shapes.items():
        is_layer = shape is None or len(shape) == 2
        if is_layer and ".experts." not in module and config.is_target(module):
            parts = _parts_under(module, by_module)
            if not any(part.startswith("lora_") for part in parts):
                missing.append(f"{module}.lora_A.weight")
        for saved in config.raw.get("modules_to_save") or []:
            is_saved = module == saved or module.endswith(f".{saved}")
            if is_saved and "weight" not in _parts_under(module, by_module):
                missing.append(f"{module}.weight")

    if missing:
        raise InputError(
            f"adapter {folder}: {len(missing)} weights are missing: {_some(missing)}",
            expected="weights for every module of this base that adapter_config.json names"
            + (f" (it has {base.num_layers} layers)" if base.num_layers else ""),
            remedy="pass the base that it was trained on, or copy the adapter again",
        )


def _parts_under(
    module: str, by_module: Mapping[str, Mapping[str, tuple[int, ...]]]
) -> Mapping[str, tuple[int, ...]]:
    """What the adapter has of a module of the checkpoint, whose first part may be lacking there."""
    if module in by_module:
        return by_module[module]
    return next((v for k, v in by_module.items() if k.partition(".")[2] == module), {})


def _fault_of_shapes(
    module: str,
    shapes: Mapping[str, tuple[int, ...]],
    config: AdapterConfig,
    base: tuple[int, ...] | None,
) -> str:
    """What is wrong with the weights of one module; "" for nothing. base: shape of its weight."""
    rank = config.rank_of(module)
    for name in ("lora_A.weight", "lora_embedding_A", "lora_B.weight", "lora_embedding_B"):
        if name in shapes:
            axis = 0 if "A" in name else 1
            if len(shapes[name]) != 2:
                return f"{name} has the shape {shown(list(shapes[name]))}"
            if shapes[name][axis] != rank:
                return f"{name} has rank {shapes[name][axis]}, adapter_config.json says {rank}"
    if base is None:
        return ""

    if "weight" in shapes or "base_layer.weight" in shapes:
        saved = shapes.get("weight", shapes.get("base_layer.weight"))
        if saved != base:
            return f"saved whole as {list(saved or ())}, the base has {list(base)}" + (
                "; the vocabulary was resized"
                if len(base) == 2 and (saved or ())[1:] == base[1:]
                else ""
            )
    if len(base) != 2:
        return ""

    num_out, num_in = reversed(base) if config.raw.get("fan_in_fan_out") else base
    if "lora_A.weight" in shapes and "lora_B.weight" in shapes:
        found = (shapes["lora_B.weight"][0], shapes["lora_A.weight"][1])
        if found != (num_out, num_in):
            return f"the adapter has {found[1]} inputs and {found[0]} outputs, " + (
                f"the base {num_in} and {num_out}"
            )
    if "lora_embedding_A" in shapes and "lora_embedding_B" in shapes:
        found = (shapes["lora_embedding_A"][1], shapes["lora_embedding_B"][0])
        if found != base:
            return f"the adapter embeds {found[0]} ids in {found[1]} values, " + (
                f"the base {base[0]} in {base[1]}"
            )
    delta = shapes.get("token_adapter.trainable_tokens_delta")
    if delta is not None and delta[1:] != base[1:]:
        return f"trained tokens have the shape {list(delta)}, those of the base {base[1]} values"
    return ""


def _some(names: Iterable[str]) -> str:
    return a_few((name[:100] for name in names), NUM_SHOWN)
