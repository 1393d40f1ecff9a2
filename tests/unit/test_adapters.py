"""An adapter that an engine would serve wrongly, or die of, is refused from its files, by name."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest

from appliance.engine.adapter.serving import read_adapter
from appliance.errors import InputError

BASE = "a" * 64
PLAIN = {
    "peft_type": "LORA",
    "r": 16,
    "target_modules": ["q_proj", "v_proj"],
    "init_lora_weights": True,
}


def adapter(folder: Path, config: object, *, base: str = BASE, cut: int = 0) -> Path:
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps(config))
    (folder / "appliance.json").write_text(json.dumps({"base_sha": base}))
    header = json.dumps({"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
    data = struct.pack("<Q", len(header)) + header + bytes(8)
    (folder / "adapter_model.safetensors").write_bytes(data[: len(data) - cut])
    return folder


def test_plain_lora_is_taken(tmp_path: Path) -> None:
    card = read_adapter(
        adapter(tmp_path / "a", PLAIN | {"rank_pattern": {"v_proj": 32}}), base_sha=BASE
    )
    assert (card.rank, card.targets) == (32, ("q_proj", "v_proj"))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"use_dora": True}, "DoRA"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save: lm_head"),
        ({"target_modules": ["q_proj", "embed_tokens"]}, "embeddings"),
        ({"bias": "all"}, "biases"),
        ({"lora_bias": True}, "biases"),
        ({"init_lora_weights": "pissa"}, "pissa"),
        ({"trainable_token_indices": [1]}, "trainable_token_indices"),
    ],
)
def test_what_must_be_merged_says_so(change: dict[str, object], named: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=named) as fault:
        read_adapter(adapter(tmp_path / "a", PLAIN | change), base_sha=BASE)
    assert "sample.serving=merged" in fault.value.remedy


def test_another_base_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="trained on base bbbbbbbbbbbb"):
        read_adapter(adapter(tmp_path / "a", PLAIN, base="b" * 64), base_sha=BASE)


def test_a_file_cut_off_is_damaged(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="damaged weights"):
        read_adapter(adapter(tmp_path / "a", PLAIN, cut=3), base_sha=BASE)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ([1, 2], "is a list"),
        ({"peft_type": "LORA"}, "names no rank"),
        (PLAIN | {"peft_type": "LOHA"}, "LOHA"),
    ],
)
def test_a_configuration_of_something_else_is_refused(
    config: object, said: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=said):
        read_adapter(adapter(tmp_path / "a", config), base_sha=BASE)


def test_no_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not there"):
        read_adapter(tmp_path / "nothing", base_sha=BASE)


def test_a_rank_beyond_every_slot_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="rank 1024"):
        read_adapter(adapter(tmp_path / "a", PLAIN | {"r": 1024}), base_sha=BASE)
