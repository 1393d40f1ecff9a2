"""A random model for `bench.gpu_check`: python -m bench.gpu_check_model SHAPE FOLDER DEVICE."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from appliance.engine.environment import prepare_process
from bench.gpu_check import CARD, SHAPES


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
    model.save_pretrained(folder)
    tokens.save_pretrained(folder)
    (folder / "appliance.json").write_text(json.dumps(CARD) + "\n")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3])
