"""Names and shapes of the weights of the model families that we know by heart. No torch.

Taken from the classes of Transformers 5.17 (models/<type>/modeling_<type>.py). Of other families
only the numbering of the layers is checked here, and the rest by the engine's own report when it
loads them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Family:
    """What the decoders of one `model_type` have in their layers, beside the common parts."""

    is_tied: bool = False  # default of tie_word_embeddings
    qkv_bias: bool = False  # biases on q, k and v, whatever config.json says
    takes_bias: bool = False  # attention_bias and mlp_bias of config.json add biases
    is_fused: bool = False  # q, k, v in one matrix, gate and up in another
    qk_norm: bool = False  # a norm on the queries and keys of each head
    four_norms: bool = False  # a norm before and after both parts of a layer
    head_size: int | None = None  # default of head_dim; None: hidden size / heads


FAMILIES: Mapping[str, Family] = {
    "llama": Family(takes_bias=True),
    "mistral": Family(),
    "qwen2": Family(qkv_bias=True),
    "qwen3": Family(takes_bias=True, qk_norm=True, head_size=128),
    "phi3": Family(is_fused=True),
    "gemma": Family(is_tied=True, takes_bias=True, head_size=256),
    "gemma2": Family(is_tied=True, takes_bias=True, four_norms=True, head_size=256),
    "gemma3_text": Family(
        is_tied=True, takes_bias=True, four_norms=True, qk_norm=True, head_size=256
    ),
    "smollm3": Family(is_tied=True, takes_bias=True),
}
"""By model_type. SmolLM and SmolLM2 are of the type llama."""

MLP_BIAS_TYPES = ("llama", "smollm3")
"""Types that read mlp_bias."""

HEAD = "lm_head.weight"
EMBEDDINGS = "model.embed_tokens.weight"


def is_tied(config: Mapping[str, Any]) -> bool:
    """Whether the output head is the embedding matrix itself, which a file may then leave out."""
    family = FAMILIES.get(config["model_type"])
    # The default of Transformers' configurations, where a family has no other.
    default = family.is_tied if family else True
    said = config.get("tie_word_embeddings")
    return default if said is None else bool(said)


def expected_weights(config: Mapping[str, Any]) -> dict[str, Shape] | None:
    """Name and shape of every weight, a tied head left out; None for a family not known here.

    config: a config.json that `check_config` has passed.
    """
    family = FAMILIES.get(config["model_type"])
    if family is None:
        return None

    hidden, vocab = config["hidden_size"], config["vocab_size"]
    expected: dict[str, Shape] = {EMBEDDINGS: (vocab, hidden), "model.norm.weight": (hidden,)}
    if not is_tied(config):
        expected[HEAD] = (vocab, hidden)
    layer = _layer(family, config)
    for i in range(config["num_hidden_layers"]):
        expected |= {f"model.layers.{i}.{name}": shape for name, shape in layer.items()}
    return expected


def _layer(family: Family, config: Mapping[str, Any]) -> dict[str, Shape]:
    """The weights of one layer, without its prefix."""
    hidden, inner, heads = (
        config[key] for key in ("hidden_size", "intermediate_size", "num_attention_heads")
    )
    head = config.get("head_dim") or family.head_size or hidden // heads
    query, kv = heads * head, (config.get("num_key_value_heads") or heads) * head

    if family.is_fused:
        shapes = {
            "self_attn.qkv_proj": (query + 2 * kv, hidden),
            "self_attn.o_proj": (hidden, query),
            "mlp.gate_up_proj": (2 * inner, hidden),
            "mlp.down_proj": (hidden, inner),
        }
    else:
        shapes = {
            "self_attn.q_proj": (query, hidden),
            "self_attn.k_proj": (kv, hidden),
            "self_attn.v_proj": (kv, hidden),
            "self_attn.o_proj": (hidden, query),
            "mlp.gate_proj": (inner, hidden),
            "mlp.up_proj": (inner, hidden),
            "mlp.down_proj": (hidden, inner),
        }

    layer: dict[str, Shape] = {f"{name}.weight": shape for name, shape in shapes.items()}
    biased = _biased(family, config)
    layer |= {f"{n}.bias": shape[:1] for n, shape in shapes.items() if n.split(".")[1] in biased}
    layer |= {f"{norm}.weight": (hidden,) for norm in _norms(family)}
    if family.qk_norm:
        layer |= {"self_attn.q_norm.weight": (head,), "self_attn.k_norm.weight": (head,)}
    return layer


def _biased(family: Family, config: Mapping[str, Any]) -> list[str]:
    """Names of the matrices that have a bias."""
    names = ["q_proj", "k_proj", "v_proj"] if family.qkv_bias else []
    if family.takes_bias and config.get("attention_bias"):
        names += ["q_proj", "k_proj", "v_proj", "o_proj"]
    if config["model_type"] in MLP_BIAS_TYPES and config.get("mlp_bias"):
        names += ["gate_proj", "up_proj", "down_proj"]
    return names


def _norms(family: Family) -> list[str]:
    names = ["input_layernorm", "post_attention_layernorm"]
    if family.four_norms:
        names += ["pre_feedforward_layernorm", "post_feedforward_layernorm"]
    return names
