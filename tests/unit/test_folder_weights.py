"""The weights of a model folder against its config.json: files, names, shapes, values."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from appliance.engine.folder.examine import examine_files
from appliance.engine.folder.finite import READ_WHOLE_BYTES
from appliance.engine.folder.weights import has_own_head
from appliance.errors import InputError
from tests.support.model_folder import (
    CONFIG,
    Weights,
    weights_of,
    write_hollow_weights,
    write_model_folder,
    write_raw,
    write_tokenizer,
    write_weights,
)

EMBEDDINGS = "model.embed_tokens.weight"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_model_folder(tmp_path / "model")


def refusal(folder: Path) -> str:
    with pytest.raises(InputError) as caught:
        examine_files(folder)
    assert caught.value.expected and caught.value.remedy
    assert len(str(caught.value)) < 2000
    return str(caught.value)


def entry(**changes: Any) -> dict[str, Any]:
    return {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} | changes


HEADERS: dict[str, tuple[object, str]] = {
    "a list": ([], "its header is a list"),
    "a number": (7, "its header is a int"),
    "deep": (b"[" * 100_000, "damaged"),
    "deep in a tensor": (b'{"w":{"shape":' + b"[" * 50_000, "damaged"),
    "no text": (b"\xff" * 40, "damaged"),
    "a tensor that is a list": ({"w": [1]}, "'w' is described by a list"),
    "no type": ({"w": entry(dtype=None)}, "unknown type None"),
    "unknown type": ({"w": entry(dtype="F3")}, "unknown type 'F3'"),
    "type a list": ({"w": entry(dtype=["F32"])}, "unknown type ['F32']"),
    "shape a text": ({"w": entry(shape="2")}, "the shape '2'"),
    "shape negative": ({"w": entry(shape=[-1, -2])}, "the shape [-1, -2]"),
    "shape true": ({"w": entry(shape=[True, 2])}, "the shape [True, 2]"),
    "shape huge": ({"w": entry(shape=[10**30])}, "the shape"),
    "offsets negative": ({"w": entry(data_offsets=[-8, 0])}, "lies at [-8, 0]"),
    "offsets backwards": ({"w": entry(data_offsets=[8, 0])}, "lies at [8, 0]"),
    "three offsets": ({"w": entry(data_offsets=[0, 4, 8])}, "lies at [0, 4, 8]"),
    "offsets null": ({"w": entry(data_offsets=None)}, "lies at None"),
    "too few bytes": ({"w": entry(shape=[3])}, "8 bytes for [3] of F32"),
    "overlap": ({"a": entry(), "b": entry()}, "over another tensor"),
    "gap": ({"a": entry(data_offsets=[4, 12])}, "behind a gap"),
    "more than the file": ({"a": entry(shape=[4], data_offsets=[0, 16])}, "its header says"),
    "metadata a list": ({"__metadata__": [1], "w": entry()}, "metadata"),
    "name of 5,000 characters": ({"n" * 5000: entry(dtype="F3")}, "unknown type"),
}


@pytest.mark.parametrize("name", HEADERS)
def test_a_header_that_cannot_be_meant_is_refused(name: str, folder: Path) -> None:
    header, expected = HEADERS[name]
    write_raw(folder / "model.safetensors", header, bytes(8))
    assert expected in refusal(folder)


@pytest.mark.parametrize("length", [2**64 - 1, 2**40, 90_000_000, 9])
def test_a_header_of_absurd_length_is_not_read(length: int, folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(length.to_bytes(8, "little") + b"{}")
    assert "damaged weights" in refusal(folder)


@pytest.mark.parametrize("num_bytes", [0, 3, 8, 2000])
def test_a_file_that_was_cut_off_is_refused(num_bytes: int, folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:num_bytes])
    assert "damaged weights" in refusal(folder)


def renamed(change: Callable[[str], str]) -> Callable[[Weights], Weights]:
    return lambda weights: {change(name): tensor for name, tensor in weights.items()}


def without(part: str) -> Callable[[Weights], Weights]:
    return lambda weights: {n: tensor for n, tensor in weights.items() if part not in n}


def with_more(**tensors: Any) -> Callable[[Weights], Weights]:
    more = {name.replace("__", "."): ("F32", (4,), bytes(16)) for name in tensors}
    return lambda weights: weights | more


WEIGHTS: dict[str, tuple[Callable[[Weights], Weights], str]] = {
    "torch.compile": (renamed(lambda n: "_orig_mod." + n), "torch.compile"),
    "torch.compile inside": (renamed(lambda n: n.replace("model.", "model._orig_mod.")), "compile"),
    "data parallel": (renamed(lambda n: "module." + n), "DataParallel"),
    "peft": (renamed(lambda n: "base_model.model." + n), "PEFT"),
    "multimodal": (renamed(lambda n: "language_model." + n), "multimodal"),
    "bare": (renamed(lambda n: n.removeprefix("model.")), "bare model"),
    "unmerged": (with_more(model__layers__0__self_attn__q_proj__lora_A__weight=1), "lora_"),
    "a layer": (without("layers.1."), "no weights of layer 1"),
    "first layer": (without("layers.0."), "no weights of layer 0"),
    "all layers": (without("layers."), "24 weights missing"),
    "a layer more": (
        lambda w: w | {n.replace("s.1.", "s.2."): t for n, t in w.items() if "s.1." in n},
        "weights of layer 2",
    ),
    "layers from 1": (
        renamed(lambda n: n.replace("s.1.", "s.2.").replace("s.0.", "s.1.")),
        "no weights of layer 0 and weights of layer 2",
    ),
    "one matrix": (without("layers.1.mlp.up_proj"), "1 weights missing (model.layers.1.mlp.up"),
    "a bias": (without("layers.0.self_attn.k_proj.bias"), "k_proj.bias"),
    "final norm": (without("model.norm"), "1 weights missing (model.norm.weight)"),
    "embeddings": (without("embed_tokens"), "1 weights missing (model.embed_tokens.weight)"),
    "one more": (with_more(model__layers__0__extra__weight=1), "1 unknown to it"),
    "a head of another size": (with_more(lm_head__weight=1), "lm_head.weight has the shape [4]"),
    "awq unsaid": (
        renamed(lambda n: n.replace("q_proj.weight", "q_proj.qweight")),
        "quantised weights",
    ),
    "nothing": (lambda w: {}, "weights missing"),
}


@pytest.mark.parametrize("name", WEIGHTS)
def test_weights_that_are_not_the_models_are_named(name: str, folder: Path) -> None:
    change, expected = WEIGHTS[name]
    write_weights(folder / "model.safetensors", change(weights_of(CONFIG)))
    assert expected in refusal(folder)


def test_a_head_may_be_left_out_only_where_it_is_tied(tmp_path: Path) -> None:
    tied = write_model_folder(tmp_path / "tied")
    head = weights_of(CONFIG)[EMBEDDINGS]
    write_weights(tied / "model.safetensors", weights_of(CONFIG) | {"lm_head.weight": head})
    examine_files(tied)

    untied = write_model_folder(tmp_path / "untied", tie_word_embeddings=False)
    examine_files(untied)
    write_weights(untied / "model.safetensors", weights_of(CONFIG))
    assert "tie_word_embeddings" in refusal(untied)


def test_a_tied_model_with_a_head_of_its_own_is_known(folder: Path) -> None:
    assert not has_own_head(folder)
    weights = weights_of(CONFIG)
    head = weights[EMBEDDINGS]
    write_weights(folder / "model.safetensors", weights | {"lm_head.weight": head})
    assert not has_own_head(folder)

    other = (head[0], head[1], head[2][:-4] + bytes(4))
    write_weights(folder / "model.safetensors", weights | {"lm_head.weight": other})
    assert has_own_head(folder)
    examine_files(folder)


def test_rows_of_the_embeddings_and_vocab_size_must_agree(folder: Path) -> None:
    config = json.dumps(dict(CONFIG) | {"vocab_size": 300})
    (folder / "config.json").write_text(config)
    assert "correct vocab_size in config.json: the weights have 259 rows" in refusal(folder)


def test_constants_of_early_files_are_no_fault(folder: Path) -> None:
    name = "model.layers.1.self_attn.rotary_emb.inv_freq"
    old: Weights = {name: ("F32", (4,), bytes(16))}
    write_weights(folder / "model.safetensors", weights_of(CONFIG) | old)
    examine_files(folder)


@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_one_value_that_is_no_number_is_found(dtype: str, value: float, folder: Path) -> None:
    name = "model.layers.1.mlp.down_proj.weight"
    weights = weights_of(CONFIG)
    _, shape, stored = weights[name]
    values = np.frombuffer(stored, dtype="<f4").copy()
    values[77] = value
    if dtype == "BF16":
        data = (values.view("<u4") >> 16).astype("<u2").tobytes()
    else:
        data = values.astype("<f4" if dtype == "F32" else "<f2").tobytes()
    write_weights(folder / "model.safetensors", weights | {name: (dtype, shape, data)})

    message = refusal(folder)
    assert name in message and "NaN or infinity in 1 of" in message
    assert "float32" not in message


def test_of_large_weights_only_parts_are_read(tmp_path: Path) -> None:
    """A hollow file of 4 GB takes no time, and what stands at the end of a tensor is found."""
    shape = {"hidden_size": 1024, "intermediate_size": 8192, "vocab_size": 100_000}
    config = dict(CONFIG) | shape | {"num_hidden_layers": 70}
    folder = tmp_path / "large"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    write_tokenizer(folder)
    path = folder / "model.safetensors"
    write_hollow_weights(path, config)
    assert path.stat().st_size > 50 * READ_WHOLE_BYTES

    examine_files(folder)
    with path.open("r+b") as stream:
        stream.seek(-2, 2)
        stream.write(b"\xc0\x7f")
    assert "NaN or infinity in 1 of" in refusal(folder)


@pytest.fixture
def sharded(folder: Path) -> Path:
    weights = list(weights_of(CONFIG).items())
    (folder / "model.safetensors").unlink()
    weight_map: dict[str, str] = {}
    for i, part in enumerate((weights[:9], weights[9:18], weights[18:]), start=1):
        file = f"model-0000{i}-of-00003.safetensors"
        write_weights(folder / file, dict(part))
        weight_map |= {name: file for name, _ in part}
    write_index(folder, weight_map)
    return folder


def write_index(folder: Path, weight_map: object) -> None:
    index = {"metadata": {"total_size": 1}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def read_index(folder: Path) -> dict[str, str]:
    said = json.loads((folder / "model.safetensors.index.json").read_text())
    return dict(said["weight_map"])


def test_shards_and_their_index_pass(sharded: Path) -> None:
    assert examine_files(sharded).folder == sharded


@pytest.mark.parametrize(
    ("weight_map", "expected"),
    [
        (None, "weight_map is None"),
        ([], "weight_map is []"),
        ({}, "weight_map is {}"),
        ({"w": 5}, "'w' is in 5"),
        ({"w": "../../etc/passwd"}, "'w' is in '../../etc/passwd'"),
        ({"w": "/etc/passwd"}, "'w' is in '/etc/passwd'"),
        ({"w": ""}, "'w' is in ''"),
        ({"w": "s" * 5000}, "'w' is in"),
        ({"w": "a\0b"}, "'w' is in"),
    ],
)
def test_an_index_that_cannot_be_meant_is_refused(
    weight_map: object, expected: str, sharded: Path
) -> None:
    write_index(sharded, weight_map)
    assert expected in refusal(sharded)


def test_what_index_and_shards_do_not_share_is_named(sharded: Path) -> None:
    weight_map = read_index(sharded)
    second = "model-00002-of-00003.safetensors"

    write_index(sharded, {n: f for n, f in weight_map.items() if f != second})
    assert f"does not name {second}" in refusal(sharded)

    name = next(iter(weight_map))
    write_index(sharded, {n: f for n, f in weight_map.items() if n != name})
    assert name in refusal(sharded)
    write_index(sharded, weight_map | {name: second})
    assert name in refusal(sharded)

    write_index(sharded, weight_map)
    (sharded / second).unlink()
    assert f"1 of 3 weight files not there ({second})" in refusal(sharded)
    (sharded / second).symlink_to(sharded / "blobs" / "0123")
    assert "a link to a file that is not there" in refusal(sharded)


def test_the_remedy_for_missing_weights_fits_what_is_there(sharded: Path, tmp_path: Path) -> None:
    (sharded / "model.safetensors.index.json").unlink()
    assert "download model.safetensors.index.json too" in refusal(sharded)

    for path in sharded.glob("*.safetensors"):
        path.unlink()
    assert "no *.safetensors" in refusal(sharded)
    write_weights(sharded / "weights.safetensors", weights_of(CONFIG))
    assert "rename the file" in refusal(sharded)
    (sharded / "weights.safetensors").rename(sharded / "pytorch_model.bin")
    (sharded / "training_args.bin").write_bytes(b"")
    message = refusal(sharded)
    assert "only as pytorch_model.bin" in message and "save_pretrained" in message


def test_two_sets_of_weights_are_refused_and_other_formats_beside_pass(sharded: Path) -> None:
    shutil.copyfile(
        sharded / "model-00001-of-00003.safetensors", sharded / "consolidated.safetensors"
    )
    (sharded / "pytorch_model.bin").write_bytes(b"x")
    examine_files(sharded)
    write_weights(sharded / "model.safetensors", weights_of(CONFIG))
    assert "one set of weights" in refusal(sharded)
