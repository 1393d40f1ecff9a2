"""The weights of a model folder: the right files, every tensor that config.json asks for, no other.

No torch. What no file can tell (a family that is not in families.py) is told by the report of the
library that loads it, see engine/load_report.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from appliance.engine.folder.config import stored_bits
from appliance.engine.folder.families import EMBEDDINGS, HEAD, expected_weights, is_tied
from appliance.engine.folder.json_file import read_object, refuse_pointer, shown
from appliance.engine.folder.tensor_file import Tensor, read_tensors
from appliance.errors import InputError
from appliance.foreign_text import is_file_name
from appliance.names import a_few

SINGLE_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
"""What Transformers loads: the one file, or the shards that the index names."""

WRAPPERS: Mapping[str, str] = {
    "_orig_mod.": "torch.compile put it there: save the model inside, model._orig_mod",
    "_fsdp_wrapped_module.": "FSDP put it there: gather the plain model before saving it",
    "base_model.model.": "PEFT put it there: save merge_and_unload(), or pass --adapter",
    "language_model.": "a multimodal model put it there: take its text-only release",
    "module.": "DataParallel or DeepSpeed put it there: save the model inside it, model.module",
}
"""Parts of names that a wrapper leaves behind when a model is saved through it, and what to do."""

_QUANTIZED_ENDS = (".qweight", ".qzeros", ".g_idx", ".weight_scale", ".weight_scale_inv", ".scales")
"""Ends of names in the files of AWQ, GPTQ, FP8 and MLX, whose config.json may not say so."""

_BNB_PARTS = re.compile(
    r"\.weight\.(absmax|quant_map|nested_absmax|nested_quant_map|quant_state\..+)$"
    r"|\.(SCB|weight_format)$"
)
"""What bitsandbytes stores beside a quantised weight."""

_OLD_BUFFERS = ("rotary_emb.inv_freq", ".attn.masked_bias", ".attn.bias")
"""Ends of names of constants that early files hold and Transformers leaves out."""

_LAYER = re.compile(r"^(?P<stack>(?:.*\.)?(?:layers|h|blocks|block))\.(?P<number>\d+)\.")

_MOST_NAMED = 3
"""Names that a message lists before "and N more"."""

_COMPARED_BYTES = 1 << 20
"""Bytes of head and embeddings that are compared at once."""

_FLOATS = ("F32", "F16", "BF16", "F64")


def read_weights(folder: Path) -> dict[str, Tensor]:
    """Every tensor of the files that are loaded, by name. Raises InputError for bad files."""
    single, index = folder / SINGLE_FILE, folder / INDEX_FILE
    for path in (single, index):
        refuse_pointer(path)

    if index.is_file():
        shards = _shards(index)
        if single.is_file() and set(shards.values()) != {SINGLE_FILE}:
            raise InputError(
                f"{folder}: {SINGLE_FILE} and {INDEX_FILE}, which names other files",
                expected="one set of weights",
                remedy="remove the one that is not meant",
            )
        return _read_shards(folder, shards)
    if not single.is_file():
        raise _no_weights(folder)
    return read_tensors(single)


def check_names_and_shapes(
    tensors: Mapping[str, Tensor], config: Mapping[str, Any], folder: Path
) -> None:
    """Raises InputError unless the tensors are those of the model that config.json describes."""
    bits = stored_bits(config)
    names = {name for name in tensors if not name.endswith(_OLD_BUFFERS)}
    if bits:
        names = {name for name in names if not _BNB_PARTS.search(name)}
    else:
        _check_types(tensors, names, folder)

    expected = expected_weights(config)
    if expected is None:
        _check_layers(names, config.get("num_hidden_layers"), folder)
        return

    left_over = names - expected.keys() - ({HEAD} if is_tied(config) else set())
    missing = expected.keys() - names
    if missing or left_over:
        _check_wrapper(names, folder)
        _check_layers(names, config["num_hidden_layers"], folder)
        raise _mismatch(missing, left_over, folder)

    if is_tied(config) and HEAD in names:
        expected[HEAD] = expected[EMBEDDINGS]
    for name, shape in expected.items():
        tensor = tensors[name]
        if tensor.shape != shape and not (bits and tensor.dtype not in _FLOATS):
            raise InputError(
                f"{tensor.file}: {name} has the shape {list(tensor.shape)}",
                expected=f"{list(shape)}, from config.json",
                remedy="take weights and config.json from the same release"
                if name not in (EMBEDDINGS, HEAD) or tensor.shape[1:] != shape[1:]
                else f"correct vocab_size in config.json: the weights have {tensor.shape[0]} rows",
            )


def has_own_head(folder: Path) -> bool:
    """Whether the files hold an output head that differs from the embeddings.

    Transformers then uses it even where config.json says that the two are one; vLLM goes by
    config.json. The whole of both is compared, as Transformers does.
    """
    tensors = read_weights(folder)
    if HEAD not in tensors or EMBEDDINGS not in tensors:
        return False
    head, embeddings = tensors[HEAD], tensors[EMBEDDINGS]
    if (head.dtype, head.shape) != (embeddings.dtype, embeddings.shape):
        return True
    with head.file.open("rb") as one, embeddings.file.open("rb") as other:
        one.seek(head.begin)
        other.seek(embeddings.begin)
        for begin in range(0, head.num_bytes, _COMPARED_BYTES):
            num_bytes = min(_COMPARED_BYTES, head.num_bytes - begin)
            if one.read(num_bytes) != other.read(num_bytes):
                return True
    return False


def _shards(index: Path) -> dict[str, str]:
    """The file of each tensor, as the index names it."""
    said = read_object(index).get("weight_map")
    if not isinstance(said, dict) or not said:
        raise InputError(
            f"{index}: weight_map is {shown(said)}",
            expected="the file of each tensor",
            remedy="copy the file again",
        )
    for name, file in said.items():
        if not isinstance(file, str) or not is_file_name(file):
            raise InputError(
                f"{index}: {shown(name)} is in {shown(file)}",
                expected="the name of a file in the same folder",
                remedy="copy the file again",
            )
    return said


def _read_shards(folder: Path, shards: Mapping[str, str]) -> dict[str, Tensor]:
    files = sorted(set(shards.values()))
    for file in files:
        refuse_pointer(folder / file)
    absent = [file for file in files if not (folder / file).is_file()]
    if absent:
        raise InputError(
            f"{folder}: {len(absent)} of {len(files)} weight files not there ({_some(absent)})",
            expected=f"every file that {INDEX_FILE} names",
            remedy="download the missing files",
        )
    # A shard of another download would be a sign that the index is not that of these files.
    strays = sorted(p.name for p in folder.glob("model-*-of-*.safetensors") if p.name not in files)
    if strays:
        raise InputError(
            f"{folder}: {INDEX_FILE} does not name {_some(strays)}",
            expected="an index of all shards",
            remedy="remove the files of another download, or download the index again",
        )

    tensors: dict[str, Tensor] = {}
    for file in files:
        found = read_tensors(folder / file)
        meant = {name for name, shard in shards.items() if shard == file}
        if found.keys() != meant:
            wrong = sorted(found.keys() ^ meant)
            raise InputError(
                f"{folder / file}: {INDEX_FILE} tells of other tensors; {_some(wrong)} "
                "only in one of them",
                expected="an index that belongs to these files",
                remedy="download index and weights again",
            )
        tensors |= found
    return tensors


def _no_weights(folder: Path) -> InputError:
    """The error for a folder without weights that are loaded, with the remedy that fits."""
    expected = f"{SINGLE_FILE}, or {INDEX_FILE} and its files"
    others = sorted(p.name for p in folder.glob("*.safetensors"))
    if any(re.search(r"-\d+-of-\d+\.", name) for name in others):
        return InputError(
            f"model folder {folder}: shards without {INDEX_FILE}",
            expected=expected,
            remedy=f"download {INDEX_FILE} too",
        )
    if others:
        return InputError(
            f"model folder {folder}: no {SINGLE_FILE}, only {_some(others)}",
            expected=expected,
            remedy=f"rename the file to {SINGLE_FILE} if it holds the whole model",
        )

    old = [p.name for kind in ("*.bin", "*.pt", "*.pth") for p in sorted(folder.glob(kind))]
    old = [name for name in old if not name.startswith(("training_args", "optimizer"))]
    if old:
        return InputError(
            f"model folder {folder}: weights only as {_some(old)}, which can hold code",
            expected=expected,
            remedy="convert them where you trust them: AutoModelForCausalLM.from_pretrained(DIR)"
            ".save_pretrained(NEW) writes safetensors",
        )
    return InputError(
        f"model folder {folder}: no *.safetensors",
        expected=expected,
        remedy="download or mount the whole model",
    )


def _check_types(tensors: Mapping[str, Tensor], names: Iterable[str], folder: Path) -> None:
    """Raises InputError for weights in 8 or 4 bits that config.json does not tell of."""
    for name in names:
        is_stored_so = tensors[name].dtype.startswith("F8") or name.endswith(_QUANTIZED_ENDS)
        if is_stored_so or _BNB_PARTS.search(name):
            raise InputError(
                f"model folder {folder}: quantised weights ({shown(name)}, "
                f"{tensors[name].dtype}), of which config.json says nothing",
                expected="weights in 16 or 32 bits",
                remedy="use the unquantised weights of this model",
            )


def _check_wrapper(names: Iterable[str], folder: Path) -> None:
    """Raises InputError when most names hold what a wrapper left behind."""
    names = list(names)
    for wrapper, cause in WRAPPERS.items():
        count = sum(f".{wrapper}" in f".{name}" for name in names)  # at the start of a part
        if 2 * count > len(names):
            raise InputError(
                f'model folder {folder}: {count} of {len(names)} names of weights hold "{wrapper}"',
                expected=f"names such as {EMBEDDINGS}",
                remedy=cause,
            )
    if any(".lora_" in name for name in names):
        raise InputError(
            f"model folder {folder}: the weights hold an adapter that is not merged (lora_)",
            expected="the weights of a plain model",
            remedy="save merge_and_unload() of it",
        )
    is_bare = any(name.startswith("layers.") for name in names)
    if is_bare and not any(name.startswith("model.") for name in names):
        raise InputError(
            f"model folder {folder}: weights of the bare model, without model. in their names",
            expected=f"names such as {EMBEDDINGS}",
            remedy="save it as a causal LM: AutoModelForCausalLM.from_pretrained(DIR)"
            ".save_pretrained(NEW)",
        )


def _check_layers(names: Iterable[str], num_layers: Any, folder: Path) -> None:
    """Raises InputError unless the layers in the weights are those that config.json counts."""
    stacks: dict[str, set[int]] = {}
    for name in names:
        match = _LAYER.match(name)
        if match:
            number = int(match["number"][:9])
            stacks.setdefault(match["stack"], set()).add(number)
    if not stacks or not isinstance(num_layers, int):
        return

    stack, found = max(stacks.items(), key=lambda item: len(item[1]))
    wanted = set(range(num_layers))
    if found == wanted:
        return
    absent, extra = sorted(wanted - found), sorted(found - wanted)
    parts = [f"no weights of layer {_some(absent)}"] if absent else []
    parts += [f"weights of layer {_some(extra)}"] if extra else []
    raise InputError(
        f"model folder {folder}: {' and '.join(parts)} ({stack})",
        expected=f"the {num_layers} layers that config.json counts",
        remedy="take weights and config.json from the same release, and download them whole",
    )


def _mismatch(missing: Iterable[str], left_over: Iterable[str], folder: Path) -> InputError:
    missing, left_over = sorted(missing), sorted(left_over)
    parts = [f"{len(missing)} weights missing ({_some(missing)})"] if missing else []
    parts += [f"{len(left_over)} unknown to it ({_some(left_over)})"] if left_over else []
    remedy = "take weights and config.json from the same release, and download them whole"
    if missing == [HEAD]:
        remedy = 'write "tie_word_embeddings": true if the model has no head, else ' + remedy
    return InputError(
        f"model folder {folder}: {' and '.join(parts)}",
        expected="the weights that config.json describes",
        remedy=remedy,
    )


def _some(values: Iterable[Any]) -> str:
    return a_few((str(value)[:100] for value in values), _MOST_NAMED)
