"""An adapter that cannot be put on whole, or does nothing, is refused from its files, by cause."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from appliance.engine.adapter.config import read_config
from appliance.engine.adapter.examine import examine_adapter
from appliance.engine.adapter.record import check_record, write_record
from appliance.errors import InputError
from tests.support.adapter_folders import (
    CONFIG,
    HIDDEN,
    KEYS,
    ROWS,
    SHAPES,
    Tensors,
    lora,
    save_adapter,
    save_base,
    save_tensors,
    values,
    weights,
)

FIRST = "base_model.model.model.layers.0.self_attn.q_proj"
HEAD = "base_model.model.lm_head"
EMBEDDING = "base_model.model.model.embed_tokens"
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "ab" * 32 + "\nsize 98809\n"


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return save_base(tmp_path / "base")


def attention(layers: tuple[int, ...] = (0, 1), *, rank: int = 2) -> Tensors:
    """LoRA on q_proj alone."""
    tensors: Tensors = {}
    for layer in layers:
        name = f"model.layers.{layer}.self_attn.q_proj"
        tensors |= lora(name, (HIDDEN, HIDDEN), rank=rank)
    return tensors


def with_vectors(tensors: Tensors) -> Tensors:
    """DoRA's magnitudes beside A and B."""
    outs = {k.removesuffix(".lora_B.weight"): len(v) for k, v in tensors.items() if "lora_B" in k}
    return tensors | {f"{k}.lora_magnitude_vector": values(n) for k, n in outs.items()}


def refusal(adapter: Path, base: Path) -> str:
    with pytest.raises(InputError) as fault:
        examine_adapter(adapter, base)
    assert fault.value.remedy
    return str(fault.value)


LEGAL_EMBEDDING: Tensors = {
    f"{EMBEDDING}.lora_embedding_A": values(2, ROWS),
    f"{EMBEDDING}.lora_embedding_B": values(HIDDEN, 2),
}
LEGAL: dict[str, tuple[Tensors, dict[str, object]]] = {
    "plain": (weights(), {}),
    "rslora": (weights(), {"use_rslora": True}),
    "dora": (with_vectors(weights()), {"use_dora": True}),
    "half precision": ({k: v.astype(np.float16) for k, v in weights().items()}, {}),
    "rank pattern": (
        attention(rank=3)
        | lora("model.layers.1.mlp.up_proj", (16, 8))
        | lora("model.layers.0.mlp.up_proj", (16, 8)),
        {"target_modules": ["q_proj", "up_proj"], "rank_pattern": {"q_proj": 3}},
    ),
    "rank pattern by expression": (
        attention((0,), rank=3) | attention((1,)),
        {"target_modules": ["q_proj"], "rank_pattern": {r".*\.0\..*q_proj": 3}},
    ),
    "one layer": (attention((1,)), {"target_modules": ["q_proj"], "layers_to_transform": [1]}),
    "one layer by number": (
        attention((0,)),
        {"target_modules": ["q_proj"], "layers_to_transform": 0},
    ),
    "an expression": (attention(), {"target_modules": r".*\.q_proj"}),
    "excluded": (attention((0,)), {"target_modules": ["q_proj"], "exclude_modules": r".*\.1\..*"}),
    "all-linear": (weights(), {"target_modules": "all-linear"}),
    "full names": (attention((0,)), {"target_modules": ["model.layers.0.self_attn.q_proj"]}),
    "head of tied weights": (
        attention() | lora("lm_head", (ROWS, HIDDEN)),
        {"target_modules": ["q_proj", "lm_head"]},
    ),
    "tied to the embedding": (
        LEGAL_EMBEDDING | lora("lm_head", (ROWS, HIDDEN)),
        {"target_modules": ["embed_tokens"], "ensure_weight_tying": True},
    ),
    "saved head": (
        attention() | {f"{HEAD}.weight": values(ROWS, HIDDEN)},
        {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]},
    ),
    "embedding": (
        attention()
        | {
            f"{EMBEDDING}.lora_embedding_A": values(2, ROWS),
            f"{EMBEDDING}.lora_embedding_B": values(HIDDEN, 2),
            f"{EMBEDDING}.base_layer.weight": values(ROWS, HIDDEN),
        },
        {"target_modules": ["q_proj", "embed_tokens"]},
    ),
    "trained tokens": (
        attention() | {f"{EMBEDDING}.token_adapter.trainable_tokens_delta": values(2, HIDDEN)},
        {"target_modules": ["q_proj"], "trainable_token_indices": [3, 5]},
    ),
    "of a newer PEFT, all off": (
        weights(),
        {"quantum_config": None, "use_swirl": False, "swirl_size": 16, "peft_version": "9.9.9"},
    ),
}


@pytest.mark.parametrize("kind", LEGAL)
def test_every_kind_that_fits_is_taken(kind: str, base: Path, tmp_path: Path) -> None:
    tensors, config = LEGAL[kind]
    notes = examine_adapter(save_adapter(tmp_path / "a", tensors, **config), base)
    assert len(notes) == (kind in ("of a newer PEFT, all off", "full names"))


def renamed(old: str, new: str) -> Tensors:
    return {name.replace(old, new): v for name, v in weights().items()}


def without(*parts: str) -> Tensors:
    return {name: v for name, v in weights().items() if not any(p in name for p in parts)}


def with_values(part: str, value: float) -> Tensors:
    return {k: np.full_like(v, value) if part in k else v for k, v in weights().items()}


WHOLE = np.ones((2, HIDDEN), np.int8)
MISFITS: dict[str, tuple[Tensors, dict[str, object], str]] = {
    "no model.": (renamed("model.model.model", "model.model"), {}, "28 of 28 adapter weights"),
    "one layer named otherwise": (renamed("layers.1.", "layers.1.base_layer."), {}, "14 of 28"),
    "wrapped by a compiler": (renamed("base_model.model", "base_model.model._orig_mod"), {}, "28"),
    "the adapter's name in it": (renamed("lora_A", "lora_A.default"), {}, "name of the adapter"),
    "deeper": (weights(4), {}, r"28 of 56 .*base has 2 layers"),
    "shallower": (weights(1), {}, "7 weights are missing"),
    "B lost": (without("0.self_attn.q_proj.lora_B"), {}, "q_proj.lora_B.weight"),
    "A lost": (without("0.self_attn.q_proj.lora_A"), {}, "q_proj.lora_A.weight"),
    "a module lost": (without("1.mlp.up_proj"), {}, "1 weights are missing: model.layers.1.mlp.up"),
    "not named": (weights(), {"target_modules": ["q_proj"]}, "configuration does not name"),
    "another rank": (weights(), {"r": 4}, "has rank 2, adapter_config.json says 4"),
    "a huge rank": (weights(), {"r": 10**9}, "has rank 2, adapter_config.json says 1000000000"),
    "another rank by pattern": (weights(), {"rank_pattern": {"q_proj": 3}}, "says 3"),
    "wider": (weights() | lora(FIRST[17:], (16, 16)), {}, "16 inputs and 16 outputs, the base 8"),
    "no matrix": (weights() | {f"{FIRST}.lora_A.weight": values(16)}, {}, "has the shape"),
    "vectors lost": (weights(), {"use_dora": True}, "14 weights are missing.*magnitude"),
    "head lost": (
        attention(),
        {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]},
        "lm_head.weight",
    ),
    "resized": (
        attention() | {f"{EMBEDDING}.weight": values(ROWS + 3, HIDDEN)},
        {"target_modules": ["q_proj"]},
        "vocabulary was resized",
    ),
    "tokens of another width": (
        attention() | {f"{EMBEDDING}.token_adapter.trainable_tokens_delta": values(2, KEYS)},
        {"target_modules": ["q_proj"], "trainable_token_indices": [3, 5]},
        "trained tokens",
    ),
    "not a number": (with_values("q_proj.lora_B", np.nan), {}, "NaN"),
    "infinite": (with_values("q_proj.lora_A", -np.inf), {}, "infinity"),
    "whole numbers": (weights() | {f"{FIRST}.lora_A.weight": WHOLE}, {}, "type I8"),
    "untrained": (with_values("lora_B", 0.0), {}, "changes nothing"),
    "minus zero": (with_values("lora_A", -0.0), {}, "changes nothing"),
    "scaled by zero": (weights(), {"lora_alpha": 0}, "lora_alpha is 0"),
    "empty": ({}, {}, "no weights"),
}  # fmt: skip


@pytest.mark.parametrize("kind", MISFITS)
def test_what_does_not_fit_is_named(kind: str, base: Path, tmp_path: Path) -> None:
    tensors, config, said = MISFITS[kind]
    adapter = save_adapter(tmp_path / "a", tensors, **config)
    with pytest.raises(InputError, match=f"(?s){said}") as fault:
        examine_adapter(adapter, base)
    assert fault.value.remedy


BAD_VALUES: tuple[tuple[str, object], ...] = (
    ("r", "eight"), ("r", None), ("r", True), ("r", 0), ("r", -1), ("r", 8.5), ("r", [8]),
    ("r", 10**400),
    ("lora_alpha", "16"), ("lora_alpha", float("nan")), ("lora_alpha", 10**400),
    ("lora_alpha", True),
    ("lora_dropout", 1.5), ("lora_dropout", "0.1"),
    ("target_modules", 5), ("target_modules", None), ("target_modules", [5]),
    ("target_modules", {}), ("target_modules", "(q_proj"), ("target_modules", "x" * 5000),
    ("rank_pattern", [1]), ("rank_pattern", {"q_proj": "8"}), ("rank_pattern", {"(": 8}),
    ("alpha_pattern", {"q_proj": None}), ("alpha_pattern", "q_proj"),
    ("modules_to_save", "lm_head"), ("modules_to_save", ["("]), ("modules_to_save", [[]]),
    ("layers_to_transform", "1"), ("layers_to_transform", [-1]), ("layers_to_transform", {}),
    ("layers_pattern", 7),
    ("trainable_token_indices", "3"), ("trainable_token_indices", {"embed_tokens": ["3"]}),
    ("bias", "some"), ("bias", True), ("use_dora", "yes"), ("use_rslora", 1),
    ("init_lora_weights", 3), ("base_model_name_or_path", 5), ("task_type", ["CAUSAL_LM"]),
    ("peft_version", 1),
)  # fmt: skip


@pytest.mark.parametrize(("key", "value"), BAD_VALUES, ids=lambda v: str(v)[:20])
def test_a_value_of_a_wrong_type_is_named(key: str, value: object, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=key) as fault:
        read_config(save_adapter(tmp_path / "a", **{key: value}))
    assert len(str(fault.value)) < 800


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"peft_type": "IA3"}, "IA3.*merge_and_unload"),
        ({"peft_type": "LOHA"}, "LOHA.*merge_and_unload"),
        ({"peft_type": "PREFIX_TUNING"}, "PREFIX_TUNING.*cannot be merged"),
        ({"peft_type": "PROMPT_TUNING"}, "PROMPT_TUNING.*cannot be merged"),
        ({"peft_type": ["LORA"]}, "LORA"),
        ({"task_type": "SEQ_CLS"}, "another task"),
        ({"megatron_config": {"a": 1}}, "Megatron"),
        ({"layer_replication": [[0, 2], [0, 2]]}, "copies layers"),
        ({"alora_invocation_tokens": [1]}, "invocation tokens"),
        ({"use_swirl": True}, "use_swirl"),
        ({"use_swirl": True, "swirl_size": 4}, "use_swirl"),
        ({"swirl_config": {"size": 4}}, "swirl_config"),
        ({"swirl_mode": "left"}, "swirl_mode"),
    ],
)
def test_what_this_peft_cannot_do_is_named(
    change: dict[str, object], said: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=said):
        read_config(save_adapter(tmp_path / "a", **change))


def config_text(text: bytes) -> Callable[[Path], object]:
    return lambda adapter: (adapter / "adapter_config.json").write_bytes(text)


def weights_text(text: bytes) -> Callable[[Path], object]:
    return lambda adapter: (adapter / "adapter_model.safetensors").write_bytes(text)


def as_pickle(adapter: Path) -> None:
    (adapter / "adapter_model.safetensors").rename(adapter / "adapter_model.bin")


def as_checkpoints(adapter: Path) -> None:
    """The folder of a training: checkpoints with the adapter in each."""
    for number in (20, 100):
        save_adapter(adapter / f"checkpoint-{number}")
    for path in adapter.glob("adapter_*"):
        path.unlink()
    (adapter / "trainer_state.json").write_text("{}")


def as_model(adapter: Path) -> None:
    for path in adapter.iterdir():
        path.unlink()
    (adapter / "config.json").write_text("{}")
    save_tensors(adapter / "model.safetensors", {"a.weight": values(2, 2)})


def with_deep_config(adapter: Path) -> None:
    (adapter / "adapter_config.json").write_text('{"a":' * 50_000 + "1" + "}" * 50_000)


def as_link_to_nothing(adapter: Path) -> None:
    (adapter / "adapter_model.safetensors").unlink()
    (adapter / "adapter_model.safetensors").symlink_to("../blobs/gone")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (config_text(b"[1, 2]"), "is a list"),
        (config_text(b"\xff\xfe{}"), "cannot be read"),
        (config_text(b""), "cannot be read"),
        (config_text(b"{}"), "names no rank"),
        (config_text(POINTER.encode()), "git lfs pull"),
        (with_deep_config, "cannot be read"),
        (weights_text(POINTER.encode()), "git lfs pull"),
        (weights_text(b""), "damaged"),
        (weights_text(b"<html>not found</html>"), "damaged"),
        (as_pickle, "pickle"),
        (as_checkpoints, "the adapter is in checkpoint-100"),
        (as_model, "a whole model, not an adapter"),
        (as_link_to_nothing, "link to a file that is not there"),
        (lambda a: (a / "adapter_config.json").unlink(), "no adapter_config.json"),
        (lambda a: (a / "adapter_model.safetensors").unlink(), "no adapter_model.safetensors"),
    ],
)
def test_a_damaged_folder_is_told_by_its_cause(
    damage: Callable[[Path], object], said: str, base: Path, tmp_path: Path
) -> None:
    adapter = save_adapter(tmp_path / "a")
    damage(adapter)
    assert said in refusal(adapter, base)


def test_no_folder_and_a_file_are_told_apart(base: Path, tmp_path: Path) -> None:
    adapter = save_adapter(tmp_path / "a")
    assert "not there" in refusal(tmp_path / "nothing", base)
    assert "a file" in refusal(adapter / "adapter_config.json", base)


def test_changed_weights_are_caught_by_the_record(base: Path, tmp_path: Path) -> None:
    adapter = save_adapter(tmp_path / "a")
    write_record(adapter, {"method": "lora"})
    assert examine_adapter(adapter, base) == ()

    doubled = {k: 2 * v for k, v in weights().items()}
    save_tensors(adapter / "adapter_model.safetensors", doubled)
    assert "not those that were saved" in refusal(adapter, base)

    (adapter / "appliance.json").write_text('{"method": "lora"}')  # as whoever changed it would
    assert examine_adapter(adapter, base) == ()


def test_another_base_is_told_by_the_record(base: Path, tmp_path: Path) -> None:
    adapter = save_adapter(tmp_path / "a")
    write_record(adapter, {"base_sha": "b" * 64})
    assert "trained on base bbbbbbbbbbbb" in refusal(adapter, base)
    check_record(adapter, base_sha="b" * 64)


@pytest.mark.parametrize("said", [{"base_sha": 5}, {"weights_sha": ["a"]}, [1]])
def test_a_record_of_wrong_types_is_refused(said: object, base: Path, tmp_path: Path) -> None:
    adapter = save_adapter(tmp_path / "a")
    (adapter / "appliance.json").write_text(json.dumps(said))
    assert "appliance.json" in refusal(adapter, base)


def test_another_name_of_the_base_is_only_a_note(base: Path, tmp_path: Path) -> None:
    adapter = save_adapter(tmp_path / "a", base_model_name_or_path="unsloth/base-bnb-4bit")
    (note,) = examine_adapter(adapter, base)
    assert "unsloth/base-bnb-4bit" in note


def test_layers_left_out_at_the_end_are_told(tmp_path: Path) -> None:
    """By full names an adapter of a shallower model fits a deeper one."""
    names = [f"model.layers.{layer}.{name}" for layer in range(2) for name in SHAPES]
    adapter = save_adapter(tmp_path / "a", weights(), target_modules=names)
    (note,) = examine_adapter(adapter, save_base(tmp_path / "base", num_layers=3))
    assert "first 2 of 3 layers" in note


def test_packed_weights_of_the_base_have_no_shape_to_compare(tmp_path: Path) -> None:
    base = save_base(tmp_path / "base")
    packed = {
        f"model.layers.{i}.self_attn.q_proj.weight": np.zeros((32, 1), np.uint8) for i in (0, 1)
    }
    save_tensors(
        base / "model.safetensors", {"model.embed_tokens.weight": values(ROWS, HIDDEN)} | packed
    )
    adapter = save_adapter(tmp_path / "a", attention(), target_modules=["q_proj"])
    assert examine_adapter(adapter, base) == ()


def test_the_known_keys_are_those_of_the_installed_peft() -> None:
    """PEFT leaves out keys that it does not know, so ours must be the same."""
    from dataclasses import fields

    from appliance.engine.adapter.config import KNOWN_KEYS

    peft = pytest.importorskip("peft")
    assert {field.name for field in fields(peft.LoraConfig)} == KNOWN_KEYS
    assert set(CONFIG) <= KNOWN_KEYS
