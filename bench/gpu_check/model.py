"""Random models in the shapes of real ones: python -m bench.gpu_check.model SHAPE FOLDER DEVICE."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from appliance.engine.environment import prepare_process

QWEN = {"vocab_size": 151936, "tie_word_embeddings": True, "max_position_embeddings": 8192}
SHAPES: dict[str, dict[str, Any]] = {
    "0.5B": QWEN | {"hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24}
    | {"num_attention_heads": 14, "num_key_value_heads": 2, "head_dim": 64},
    "4B": QWEN | {"hidden_size": 2560, "intermediate_size": 9728, "num_hidden_layers": 36}
    | {"num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128},
    "small": QWEN
    | {
        "vocab_size": 2048,
        "hidden_size": 128,
        "intermediate_size": 256,
        "num_hidden_layers": 2,
    }
    | {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 64},
}  # fmt: skip
"""As Transformers has them: Qwen2.5-0.5B with Qwen3's layers, Qwen3-4B, and one for a CPU."""

CARD_OF = {"0.5B": "Qwen2.5-0.5B", "4B": "Qwen3-4B"}
"""The model that a plan counts with for a shape (sizing/costs/model_card.py)."""

CARD = {"style": "grid-tokens-v1", "encoder": "grid-tokens", "strategies": ["transduction"]}


def main(shape: str, folder: Path, device: str) -> None:
    prepare_process()
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    from appliance.learn.new_model import tokenizer

    # Of arc-mini's tokenizer only a few ids are used; the other rows of the vocabulary take room
    # and time as real ones do.
    tokens = tokenizer()
    ids = {
        "pad_token_id": tokens.pad_token_id,
        "bos_token_id": tokens.bos_token_id,
        "eos_token_id": tokens.eos_token_id,
    }
    torch.manual_seed(0)
    with torch.device(device):
        torch.set_default_dtype(torch.bfloat16)
        model = Qwen3ForCausalLM(Qwen3Config(**SHAPES[shape], **ids))

    # Under another name first: a process that is stopped leaves no half of a model.
    made = folder.with_name(f"{folder.name}.new")
    model.save_pretrained(made)
    tokens.save_pretrained(made)
    (made / "appliance.json").write_text(json.dumps(CARD) + "\n")
    made.rename(folder)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3])
