"""Makes a fresh model of the arc-mini kind: stock configuration, random weights, real tokenizer.
Imports torch."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

from appliance.engine.folder.card import RECORD_FILE
from appliance.engine.tokens import Codec
from appliance.learn.recipe import Architecture
from appliance.models import tiny
from appliance.models.vocabularies import GRID_TOKENS_V1, VOCABULARIES, Vocabulary

SHARD_SIZE = "15MB"
"""Largest file of weights: some machines give back no larger ones."""

HEAD_SIZE = 64
"""Width of one attention head: a size that every engine serves."""


def fresh_model(architecture: Architecture, *, seed: int) -> Any:
    """A causal LM of transformers with random float32 weights, the same for the same seed and
    torch."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM, Qwen3Config, Qwen3ForCausalLM

    kinds = {"llama": (LlamaConfig, LlamaForCausalLM), "qwen3": (Qwen3Config, Qwen3ForCausalLM)}
    config_class, model_class = kinds[architecture.layout]
    num_heads = architecture.hidden_size // HEAD_SIZE

    config = config_class(
        vocab_size=len(VOCABULARIES[architecture.tokens].tokens),
        hidden_size=architecture.hidden_size,
        intermediate_size=architecture.intermediate_size,
        num_hidden_layers=architecture.num_layers,
        num_attention_heads=num_heads,
        num_key_value_heads=num_heads,
        head_dim=HEAD_SIZE,
        max_position_embeddings=architecture.max_positions,
        tie_word_embeddings=True,
        pad_token_id=tiny.PAD,
        bos_token_id=tiny.BOS,
        eos_token_id=tiny.EOS,
    )

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return model_class(config)


def tokenizer(vocabulary: Vocabulary = GRID_TOKENS_V1) -> Any:
    """The tokenizer of one of our own vocabularies: every cell and every word of a program is a
    token."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    id_of = {token: i for i, token in enumerate(vocabulary.tokens)}
    core = Tokenizer(models.WordLevel(id_of, unk_token="<pad>"))
    core.pre_tokenizer = pre_tokenizers.Split(Regex(tiny.SPLIT), "isolated")
    core.decoder = decoders.Fuse()

    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="<pad>",
        bos_token="<bos>",
        eos_token="<eos>",
        chat_template=tiny.CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
    )


def save_model(
    model: Any, folder: Path, *, card: dict[str, Any], codec: Codec | None = None
) -> None:
    """Write weights in bfloat16, configuration, tokenizer and the appliance.json card.

    card: names style and encoder. codec: None for the tokenizer of our own vocabulary that the
    style names. The model itself stays as it is.
    """
    import torch

    with torch.device("meta"):
        stored = type(model)(deepcopy(model.config))  # takes no memory; only its layout is needed

    weights = {
        name: weight.detach().to(torch.bfloat16) for name, weight in model.state_dict().items()
    }
    stored.load_state_dict(weights, assign=True)
    stored.tie_weights()  # so that shared weights are written once

    stored.save_pretrained(str(folder), max_shard_size=SHARD_SIZE)
    (codec or Codec(tokenizer(VOCABULARIES[card["style"]]))).save(folder)
    (folder / RECORD_FILE).write_text(json.dumps(card, indent=1) + "\n")
