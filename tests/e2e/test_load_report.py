"""What Transformers and unsloth report of a loading is read, and the families' names are theirs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from appliance.engine.environment import prepare_process
from appliance.engine.folder.families import FAMILIES, expected_weights, is_tied
from appliance.engine.load_model import load_causal_lm
from appliance.errors import InputError
from tests.support.model_folder import (
    CONFIG,
    Weights,
    weights_of,
    write_model_folder,
    write_weights,
)

LAST = "model.layers.1.mlp.up_proj.weight"


def load(folder: Path) -> Any:
    return load_causal_lm(folder, dtype="float32", device="cpu")


UNSLOTH = """
import sys
from pathlib import Path
from appliance.engine.environment import prepare_process
from appliance.engine.training.unsloth_trainer import load_with_unsloth
from appliance.errors import InputError

prepare_process()
try:
    load_with_unsloth(
        Path(sys.argv[1]), dtype="float32", device="cpu", quantization="none",
        max_seq_tokens=256, scratch_dir=Path(sys.argv[2]),
    )
except InputError as fault:
    print(fault)
"""
"""A process of its own, because unsloth must be imported before Transformers."""


def broken(whole: Weights) -> dict[str, tuple[Weights, str]]:
    dtype, (rows, columns), data = whole[LAST]
    return {
        "missing": ({n: t for n, t in whole.items() if n != LAST}, "1 weights missing"),
        "unknown": (whole | {"model.extra.weight": ("F32", (1,), bytes(4))}, "unknown to the"),
        "shape": (whole | {LAST: (dtype, (columns, rows), data)}, "of another shape"),
    }


def test_weights_that_are_not_the_models_are_never_made_up(tmp_path: Path) -> None:
    prepare_process()
    folder = write_model_folder(tmp_path / "model")
    load(folder)
    for weights, expected in broken(weights_of(CONFIG)).values():
        write_weights(folder / "model.safetensors", weights)
        with pytest.raises(InputError, match=expected):
            load(folder)


def test_a_head_in_the_file_of_a_tied_model_is_loaded(tmp_path: Path) -> None:
    folder = write_model_folder(tmp_path / "model")
    weights = weights_of(CONFIG)
    write_weights(
        folder / "model.safetensors",
        weights | {"lm_head.weight": weights["model.embed_tokens.weight"]},
    )
    load(folder)


def test_unsloths_loading_is_read_too(tmp_path: Path) -> None:
    folder = write_model_folder(tmp_path / "model")
    weights, expected = broken(weights_of(CONFIG))["missing"]
    write_weights(folder / "model.safetensors", weights)
    words = [sys.executable, "-c", UNSLOTH, str(folder), str(tmp_path / "scratch")]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert expected in done.stdout and LAST in done.stdout


@pytest.mark.parametrize("with_biases", [False, True])
@pytest.mark.parametrize("kind", FAMILIES)
def test_names_and_shapes_are_those_of_transformers(kind: str, with_biases: bool) -> None:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    said = {k: v for k, v in CONFIG.items() if k not in ("architectures", "model_type", "dtype")}
    said |= {"attention_bias": with_biases, "mlp_bias": with_biases, "head_dim": 16}
    if kind in ("qwen2", "phi3"):
        del said["head_dim"]  # it is not theirs to choose
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **said))

    config = said | {"model_type": kind}
    found = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    if is_tied(config):
        del found["lm_head.weight"]
    assert expected_weights(config) == found
