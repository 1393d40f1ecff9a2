"""Model cards from folders and names, and token lengths of tasks."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from appliance.arc.grid import freeze
from appliance.arc.task import Pair, Task, TaskSet
from appliance.errors import InputError, UsageError
from appliance.sizing.costs.model_card import SHIPPED, card_of_folder, load_card
from appliance.sizing.costs.task_lengths import lengths_of, usual_lengths

CONFIG = {
    "model_type": "qwen3",
    "hidden_size": 256,
    "intermediate_size": 768,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "vocab_size": 16,
    "tie_word_embeddings": True,
    "max_position_embeddings": 4096,
}


def model_folder(path: Path, **changes: object) -> Path:
    (path / "config.json").write_text(json.dumps(CONFIG | changes))
    (path / "model.safetensors").write_bytes(b"\0" * 1000)
    return path


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("Qwen2.5-0.5B", 494_032_768),
        ("Qwen2.5-1.5B", 1_543_714_304),
        ("Qwen2.5-7B", 7_615_616_512),
        ("Llama-3.1-8B", 8_030_261_248),
        ("Phi-3-mini", 3_821_079_552),
        ("SmolLM-135M", 134_515_008),
    ],
)
def test_shipped_cards_count_the_published_number_of_weights(name: str, params: int) -> None:
    assert SHIPPED[name].params == pytest.approx(params, rel=1e-4)


def test_the_cache_of_llama_8b_takes_131072_bytes_a_token() -> None:
    assert SHIPPED["Llama-3.1-8B"].kv_bytes_per_token == 131_072


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Qwen/Qwen2.5-0.5B-Instruct", "Qwen2.5-0.5B"),
        ("Qwen2-7B", "Qwen2.5-7B"),
        ("qwen2.5-coder-1.5b", "Qwen2.5-1.5B"),
        ("barc0/Llama-3.1-ARC-Potpourri-Induction-8B", "Llama-3.1-8B"),
        ("Phi-3-mini-4k-instruct", "Phi-3-mini"),
        ("Qwen3-4B-Thinking-2507", "Qwen3-4B"),
    ],
)
def test_known_models_are_found_under_the_names_people_use(text: str, name: str) -> None:
    assert load_card(text).name == name


def test_a_folder_gives_shape_size_and_its_own_style(tmp_path: Path) -> None:
    (tmp_path / "appliance.json").write_text(
        json.dumps({"style": "grid-tokens-v1", "encoder": "grid-tokens", "sha": "x"})
    )
    card = card_of_folder(model_folder(tmp_path))

    assert (card.hidden_size, card.kv_size, card.weights_bytes, card.encoder) == (
        256,
        128,
        1000,
        "grid-tokens",
    )
    assert card.is_tiny


def test_a_stored_quantisation_is_kept(tmp_path: Path) -> None:
    folder = model_folder(
        tmp_path, quantization_config={"quant_method": "bitsandbytes", "load_in_4bit": True}
    )
    assert card_of_folder(folder).stored_quantization == "nf4"


def test_a_config_of_another_kind_of_model_names_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "t5", "d_model": 512}')
    with pytest.raises(InputError, match="hidden_size"):
        card_of_folder(tmp_path)


def test_a_broken_config_is_an_input_error(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(InputError, match=r"config\.json"):
        load_card(str(tmp_path))


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(UsageError, match="arc-mini"):
        load_card("GPT-17")


def square(side: int) -> Pair:
    grid = freeze(np.zeros((side, side), dtype=np.int8))
    return Pair(grid, grid)


def test_tokens_of_the_longest_arc_task_match_the_published_count() -> None:
    task = Task("longest", tuple(square(30) for _ in range(4)), (square(30).input,))
    barc = lengths_of(TaskSet("one", (task,)), SHIPPED["Llama-3.1-8B"]).tasks[0]
    assert barc.prompt_tokens == pytest.approx(8_635, abs=10)
    arc24 = lengths_of(TaskSet("one", (task,)), SHIPPED["Qwen2.5-0.5B"]).tasks[0]
    assert arc24.prompt_tokens == pytest.approx(9_290, abs=20)
    assert arc24.answer_tokens == pytest.approx(1_028, abs=20)


def test_one_token_a_cell_and_one_a_row_end_is_counted_in_both_vocabularies() -> None:
    task = Task("small", tuple(square(3) for _ in range(4)), (square(3).input,))
    model = load_card("arc-mini")
    for style, encoder in (("grid-tokens-v1", "grid-tokens"), ("grid-tokens-v2",) * 2):
        card = model.model_copy(update={"style": style, "encoder": encoder})
        found = lengths_of(TaskSet("one", (task,)), card).tasks[0]
        # Each grid takes 12 tokens and a mark; the frame is the mark of the beginning and the end.
        assert (found.prompt_tokens, found.lesson_tokens) == (9 * 13 + 2, 8 * 13 + 2)
        assert found.target_tokens == 4 * 13


def test_usual_lengths_have_the_published_percentiles() -> None:
    prompts = sorted(t.prompt_tokens for t in usual_lengths(SHIPPED["Qwen2.5-0.5B"]).tasks)
    assert prompts[len(prompts) // 2] == pytest.approx(2_635, rel=0.02)
    assert prompts[-1] == pytest.approx(9_290, rel=0.01)
