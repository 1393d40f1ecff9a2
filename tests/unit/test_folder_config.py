"""config.json, appliance.json and generation_config.json: what is refused, and by which name."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from appliance.engine.folder.config import stored_bits
from appliance.engine.folder.examine import examine_files
from appliance.errors import InputError
from tests.support.model_folder import CONFIG, write_model_folder

SU = {"type": "su", "long_factor": [1.0] * 4, "short_factor": [1.0] * 4}

BAD_CONFIGS: dict[str, tuple[dict[str, Any], str]] = {
    "positions text": ({"max_position_embeddings": "big"}, "max_position_embeddings is 'big'"),
    "positions inf": ({"max_position_embeddings": float("inf")}, "max_position_embeddings is inf"),
    "positions true": ({"max_position_embeddings": True}, "max_position_embeddings is True"),
    "positions negative": ({"max_position_embeddings": -1}, "max_position_embeddings is -1"),
    "positions 10^400": ({"max_position_embeddings": 10**400}, "max_position_embeddings is 1000"),
    "hidden a list": ({"hidden_size": [32]}, "hidden_size is [32]"),
    "hidden missing": ({"hidden_size": None}, "no hidden_size"),
    "a billion layers": ({"num_hidden_layers": 10**9}, "num_hidden_layers"),
    "heads 4.0": ({"num_attention_heads": 4.0}, "num_attention_heads is 4.0"),
    "heads and kv heads": ({"num_key_value_heads": 3}, "4 attention heads for 3"),
    "heads and width": ({"hidden_size": 34}, "4 attention heads"),
    "type missing": ({"model_type": None}, "no model_type"),
    "type a list": ({"model_type": ["qwen2"]}, "model_type is ['qwen2']"),
    "type unknown": ({"model_type": "qwen99"}, "'qwen99'"),
    "type of 5,000 characters": ({"model_type": "q" * 5000}, "qqq..."),
    "encoder-decoder": ({"model_type": "t5", "is_encoder_decoder": True}, "encoder-decoder (t5)"),
    "multimodal": ({"text_config": {"hidden_size": 8}}, "multimodal model (qwen2 with text_config"),
    "classification": ({"architectures": ["Qwen2ForSequenceClassification"]}, "no head"),
    "bare": ({"architectures": ["Qwen2Model"]}, "no head"),
    "another family": ({"architectures": ["LlamaForCausalLM"]}, "model_type qwen2"),
    "architectures a text": ({"architectures": "Qwen2ForCausalLM"}, "architectures"),
    "custom code": (
        {"model_type": "my", "auto_map": {"AutoModelForCausalLM": "m.My"}},
        "code of its own",
    ),
    "awq": ({"quantization_config": {"quant_method": "awq", "bits": 4}}, "quantised with awq"),
    "gptq": ({"quantization_config": {"quant_method": "gptq", "bits": 4}}, "quantised with gptq"),
    "fp8": ({"quantization_config": {"quant_method": "fp8"}}, "quantised with fp8"),
    "mxfp4": ({"quantization_config": {"quant_method": "mxfp4"}}, "quantised with mxfp4"),
    "compressed": ({"compression_config": {"quant_method": "compressed-tensors"}}, "compressed"),
    "quantisation a text": ({"quantization_config": "int4"}, "quantization_config is 'int4'"),
    "rope su": ({"rope_scaling": SU}, 'rope_scaling of the kind "su"'),
    "rope unknown": ({"rope_scaling": {"rope_type": "spiral"}}, "unknown kind 'spiral'"),
    "rope kind a list": ({"rope_scaling": {"rope_type": ["yarn"]}}, "unknown kind ['yarn']"),
    "rope a list": ({"rope_scaling": [1]}, "rope_scaling is [1]"),
    "rope without factor": ({"rope_parameters": {"rope_type": "yarn"}}, "without factor"),
    "rope factor nan": (
        {"rope_parameters": {"rope_type": "linear", "factor": float("nan")}},
        "factor is nan",
    ),
    "longrope too short": (
        {"rope_scaling": SU | {"type": "longrope", "long_factor": [1.0]}},
        "long_factor has 1 numbers",
    ),
    "theta a text": ({"rope_theta": "1e6"}, "rope_theta is '1e6'"),
    "tied a text": ({"tie_word_embeddings": "yes"}, "tie_word_embeddings is 'yes'"),
    "pad beyond": ({"pad_token_id": 9999}, "pad_token_id is 9999"),
    "eos a text": ({"eos_token_id": "</s>"}, "eos_token_id is '</s>'"),
    "dtype unknown": ({"dtype": "float8_e4m3fn"}, "dtype is 'float8_e4m3fn'"),
    "layer types": ({"layer_types": ["full_attention"]}, "1 layer_types for 2 layers"),
    "norm eps": ({"rms_norm_eps": 0}, "rms_norm_eps is 0"),
}


def refusal(folder: Path) -> str:
    with pytest.raises(InputError) as caught:
        examine_files(folder)
    assert caught.value.expected and caught.value.remedy
    assert len(str(caught.value)) < 2000 and "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", BAD_CONFIGS)
def test_a_config_that_cannot_be_meant_is_refused_by_its_cause(name: str, tmp_path: Path) -> None:
    changes, expected = BAD_CONFIGS[name]
    folder = write_model_folder(tmp_path / "model")
    config = {k: v for k, v in {**CONFIG, **changes}.items() if v is not None}
    (folder / "config.json").write_text(json.dumps(config))
    assert expected in refusal(folder)


def test_max_positions_null_is_not_the_same_as_left_out(tmp_path: Path) -> None:
    folder = write_model_folder(tmp_path / "model")
    config = dict(CONFIG) | {"max_position_embeddings": None}
    (folder / "config.json").write_text(json.dumps(config))
    assert "max_position_embeddings is None" in refusal(folder)

    del config["max_position_embeddings"]
    (folder / "config.json").write_text(json.dumps(config))
    assert examine_files(folder).card.max_positions == 4096


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"[" * 100_000, "cannot be read"),
        (b'{"a":' * 100_000, "cannot be read"),
        (b"\xff\xfe", "cannot be read"),
        (b"", "cannot be read"),
        (b"[]", "is a list"),
        (b"null", "is a NoneType"),
        (b"7" * 10_000, "cannot be read"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "git lfs pull"),
    ],
)
@pytest.mark.parametrize(
    "name", ["config.json", "appliance.json", "tokenizer.json", "generation_config.json"]
)
def test_a_file_that_is_no_object_is_refused_by_its_name(
    name: str, text: bytes, expected: str, tmp_path: Path
) -> None:
    folder = write_model_folder(tmp_path / "model")
    (folder / name).write_bytes(text)
    message = refusal(folder)
    assert name in message and expected in message


@pytest.mark.parametrize(
    "card",
    [
        {"strategies": 5},
        {"strategies": None},
        {"strategies": "transduction"},
        {"strategies": []},
        {"strategies": [["transduction"]]},
        {"strategies": ["telepathy"]},
        {"style": [1]},
        {"style": None},
        {"style": "output-from-examples-v9"},
        {"style": "s" * 5000},
        {"program_style": 7},
        {"encoder": "MoonEncoder()"},
        {"encoder": {"a": 1}},
        {"encoder": "GridShapeEncoder(" * 3000},
        {"program_tokens": "many"},
        {"program_tokens": None},
        {"program_tokens": True},
        {"program_tokens": 0},
        {"program_tokens": 1e9},
        {"program_tokens": 10**30},
    ],
)
def test_a_card_with_values_of_another_kind_is_refused(
    card: dict[str, Any], tmp_path: Path
) -> None:
    folder = write_model_folder(tmp_path / "model")
    (folder / "appliance.json").write_text(json.dumps(card))
    message = refusal(folder)
    assert "appliance.json" in message and next(iter(card)) in message


@pytest.mark.parametrize("value", ["</s>", [1, "x"], True, {"a": 1}])
def test_an_end_mark_that_is_no_id_is_refused(value: Any, tmp_path: Path) -> None:
    folder = write_model_folder(tmp_path / "model")
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": value}))
    assert "generation_config.json, eos_token_id" in refusal(folder)


def test_what_models_of_the_hub_say_passes(tmp_path: Path) -> None:
    """Code for an older Transformers, an old name of Phi-3's positions, lists of ids, -1 as pad."""
    said = {"auto_map": {"AutoConfig": "c.C"}, "eos_token_id": [258, 256], "pad_token_id": -1}
    folder = write_model_folder(tmp_path / "model", **said, torch_dtype="torch.bfloat16")
    (note,) = examine_files(folder).notes
    assert "is not run" in note

    phi = {"model_type": "phi3", "architectures": ["Phi3ForCausalLM"], "rope_scaling": SU}
    assert not examine_files(write_model_folder(tmp_path / "phi", **phi)).notes
    assert not examine_files(write_model_folder(tmp_path / "old", architectures=None)).notes


def test_only_bitsandbytes_counts_as_bits() -> None:
    def bits(**said: Any) -> int | None:
        return stored_bits({"quantization_config": said})

    assert bits(quant_method="bitsandbytes", load_in_4bit=True) == 4
    assert bits(load_in_8bit=True) == 8
    assert bits(quant_method="awq", bits=4) is None
    assert stored_bits({}) is None


def test_nothing_heavy_is_imported(tmp_path: Path) -> None:
    folder = write_model_folder(tmp_path / "model")
    code = (
        "import sys; from pathlib import Path;"
        "from appliance.engine.folder.examine import examine_files;"
        f"examine_files(Path({str(folder)!r}));"
        "print([m for m in ('torch', 'transformers', 'tokenizers') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
