"""ModelCard: the shape of a model, which is all that sizing needs to know of it.

A card is read from the model's folder, or shipped for a model that is known by name.
"""

from __future__ import annotations

import json
import re
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from appliance.errors import InputError, UsageError

ARC_MINI = "arc-mini"
TINY_PARAMS = 100_000_000
"""Below this a model is trained whole as cheaply as through an adapter."""


class ModelCard(BaseModel):
    """A decoder-only transformer with gated MLP."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    model_type: str
    hidden_size: int = Field(gt=0)
    intermediate_size: int = Field(gt=0)
    num_layers: int = Field(gt=0)
    num_heads: int = Field(gt=0)
    num_kv_heads: int = Field(gt=0)
    head_dim: int = Field(gt=0)
    vocab_size: int = Field(gt=0)
    is_tied: bool
    max_positions: int = Field(gt=0)
    has_qkv_bias: bool = False
    # False for a model whose code, as published runs used it, fell back to plain attention without
    # FlashAttention 2. Our engines load it with code that does not.
    has_fused_attention: bool = True
    weights_bytes: int | None = None  # size of the files on disk; None: only the shape is known
    stored_quantization: str = "none"  # of the files: none, int8, nf4 or another method's name
    style: str = "output-from-examples-v1"  # how prompts are written, a name of arc/prompt
    # How grids are written, a name of arc/encode.
    encoder: str = "GridShapeEncoder(RowNumberEncoder(MinimalGridEncoder()))"
    strategies: tuple[str, ...] = ("transduction",)  # how the model may be used

    @property
    def query_size(self) -> int:
        return self.num_heads * self.head_dim

    @property
    def kv_size(self) -> int:
        return self.num_kv_heads * self.head_dim

    @property
    def layer_linear_params(self) -> int:
        """Weights of the matrices of one layer: q, k, v, o, gate, up, down."""
        attention = self.hidden_size * (2 * self.query_size + 2 * self.kv_size)
        return attention + 3 * self.hidden_size * self.intermediate_size

    @property
    def layer_params(self) -> int:
        bias = self.query_size + 2 * self.kv_size if self.has_qkv_bias else 0
        return self.layer_linear_params + bias + 2 * self.hidden_size

    @property
    def embedding_params(self) -> int:
        """One vocabulary matrix; a model that is not tied has two."""
        return self.vocab_size * self.hidden_size

    @property
    def all_embedding_params(self) -> int:
        return self.embedding_params * (1 if self.is_tied else 2)

    @property
    def params(self) -> int:
        return self.all_embedding_params + self.num_layers * self.layer_params + self.hidden_size

    @property
    def writes_programs(self) -> bool:
        """Its answers are Python programs, not grids."""
        return "code" in self.style or "barc" in self.style

    @property
    def is_tiny(self) -> bool:
        return self.params < TINY_PARAMS

    @property
    def kv_bytes_per_token(self) -> int:
        """Keys and values of one token over all layers in 16 bits: 131,072 for Llama-3.1-8B."""
        return 2 * self.num_layers * self.kv_size * 2

    def lora_params(self, rank: int, *, all_linear: bool) -> int:
        """Weights of an adapter, on q, k, v, o or on every matrix of the layers.

        Each matrix gets rank x (inputs + outputs) of them.
        """
        h, q, kv, i = self.hidden_size, self.query_size, self.kv_size, self.intermediate_size
        widths = 2 * (h + q) + 2 * (h + kv) + (3 * (h + i) if all_linear else 0)
        return rank * widths * self.num_layers


def _row(
    name: str,
    shape: tuple[int, int, int, int, int, int, int],
    *,
    model_type: str = "qwen2",
    max_positions: int = 32768,
    is_tied: bool = True,
    has_fused_attention: bool = True,
) -> ModelCard:
    """A shipped card, from the model's published config.json.

    shape: vocabulary, hidden, intermediate, layers, heads, key-value heads, head size.
    """
    vocab, hidden, intermediate, layers, heads, kv_heads, head_dim = shape
    return ModelCard(
        name=name,
        model_type=model_type,
        vocab_size=vocab,
        hidden_size=hidden,
        intermediate_size=intermediate,
        num_layers=layers,
        num_heads=heads,
        num_kv_heads=kv_heads,
        head_dim=head_dim,
        is_tied=is_tied,
        max_positions=max_positions,
        has_qkv_bias=model_type == "qwen2",
        has_fused_attention=has_fused_attention,
    )


_BARC = {"style": "barc-induction", "encoder": "ColorNameEncoder()", "strategies": ("induction",)}
"""The 8B models of the ARC prizes write programs; the appliance.json of a folder may differ."""

SHIPPED = {
    card.name: card
    for card in (
        _row("Qwen2.5-0.5B", (151936, 896, 4864, 24, 14, 2, 64)),
        _row("Qwen2.5-1.5B", (151936, 1536, 8960, 28, 12, 2, 128)),
        _row("Qwen2.5-3B", (151936, 2048, 11008, 36, 16, 2, 128)),
        _row("Qwen2.5-7B", (152064, 3584, 18944, 28, 28, 4, 128), is_tied=False),
        _row(
            "Qwen3-4B",
            (151936, 2560, 9728, 36, 32, 8, 128),
            model_type="qwen3",
            max_positions=40960,
        ),
        _row(
            "Llama-3.1-8B",
            (128256, 4096, 14336, 32, 32, 8, 128),
            model_type="llama",
            max_positions=131072,
            is_tied=False,
        ).model_copy(update=_BARC),
        _row(
            "Llama-3.2-1B",
            (128256, 2048, 8192, 16, 32, 8, 64),
            model_type="llama",
            max_positions=131072,
        ),
        _row(
            "Llama-3.2-3B",
            (128256, 3072, 8192, 28, 24, 8, 128),
            model_type="llama",
            max_positions=131072,
        ),
        _row(
            "Phi-3-mini",
            (32064, 3072, 8192, 32, 32, 32, 96),
            model_type="phi3",
            max_positions=131072,
            is_tied=False,
            has_fused_attention=False,
        ),
        _row(
            "SmolLM-135M", (49152, 576, 1536, 30, 9, 3, 64), model_type="llama", max_positions=2048
        ),
        _row(
            "SmolLM-360M", (49152, 960, 2560, 32, 15, 5, 64), model_type="llama", max_positions=2048
        ),
        _row(
            "SmolLM-1.7B",
            (49152, 2048, 8192, 24, 32, 32, 64),
            model_type="llama",
            max_positions=2048,
        ),
    )
}

"""Cards of models that can be planned for without their folder, by name."""

_ALIASES = {
    "qwen2-7b": "qwen2.5-7b",
    "barc": "llama-3.1-8b",
    "phi-3": "phi-3-mini",
    "phi-3-3.8b": "phi-3-mini",
}
"""Names in small letters that stand for a shipped card of another name."""

_DECORATION = re.compile(
    r"^.*/"
    r"|-(instruct|coder|base|chat|it|2507|thinking|4k|128k|arc|potpourri|induction|transduction)\b"
)
"""What a name may hold beside that of the card: the owner in front, and how it was trained on."""


def load_card(model: str) -> ModelCard:
    """The card of a model folder, of arc-mini, or of a known model: "Qwen/Qwen2.5-0.5B-Instruct".

    Raises UsageError for a name that is none of these, InputError for a folder whose config.json
    cannot be read.
    """
    if model.lower() == ARC_MINI:
        folder = Path(str(resources.files("appliance") / "models" / ARC_MINI))
        return card_of_folder(folder) if (folder / "config.json").is_file() else _ARC_MINI_SHAPE
    if (Path(model) / "config.json").is_file():
        return card_of_folder(Path(model))

    key = (
        _DECORATION.sub("", model.lower())
        .replace("qwen2-", "qwen2.5-")
        .replace("meta-llama", "llama")
    )
    key = _ALIASES.get(key, key)
    for card in SHIPPED.values():
        if key in (card.name.lower(), card.name.lower().replace("-", "")):
            return card

    raise UsageError(
        f"model {model!r} is neither a folder with config.json nor a known model",
        expected="a folder, " + ", ".join([ARC_MINI, *SHIPPED]),
        remedy="pass --model DIR",
    )


def card_of_folder(folder: Path) -> ModelCard:
    """The card that a model's folder describes: config.json, sizes of files, appliance.json if any.

    Opens no weights. Raises InputError naming file and fault.
    """
    config = _json(folder / "config.json")
    card = _json(folder / "appliance.json") if (folder / "appliance.json").is_file() else {}
    hidden, heads = config.get("hidden_size"), config.get("num_attention_heads")
    sizes = [
        p.stat().st_size
        for pattern in ("*.safetensors", "pytorch_model*.bin")
        for p in folder.glob(pattern)
    ]
    # What appliance.json says of prompts; without it, the defaults of ModelCard hold.
    given = {key: card[key] for key in ("style", "encoder", "strategies") if key in card}

    try:
        return ModelCard(
            name=str(card.get("name", folder.resolve().name)),
            model_type=config.get("model_type", "unknown"),
            hidden_size=hidden,
            intermediate_size=config.get("intermediate_size"),
            num_layers=config.get("num_hidden_layers"),
            num_heads=heads,
            num_kv_heads=config.get("num_key_value_heads") or heads,
            head_dim=config.get("head_dim") or _head_dim(hidden, heads),
            vocab_size=config.get("vocab_size"),
            is_tied=config.get("tie_word_embeddings", True),
            max_positions=config.get("max_position_embeddings", 2048),
            has_qkv_bias=config.get("model_type") == "qwen2",
            weights_bytes=sum(sizes) or None,
            stored_quantization=_stored_quantization(config),
            **given,
        )
    except ValidationError as fault:
        keys = ", ".join(str(e["loc"][0]) for e in fault.errors())
        raise InputError(
            f"{folder}: config.json or appliance.json does not give {keys}",
            expected="a decoder-only transformer in the layout of Transformers"
            " (Llama, Qwen2, Qwen3, Phi-3)",
            remedy="pass --model with another folder",
        ) from fault


def _head_dim(hidden: Any, heads: Any) -> int | None:
    """None where either is no number that a model can have, which the card then refuses."""
    are_counts = all(isinstance(n, int) and n > 0 for n in (hidden, heads))
    return hidden // heads if are_counts else None


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as fault:
        raise InputError(
            f"{path}: {fault}", expected="a JSON object", remedy="copy the model again"
        ) from fault
    if not isinstance(value, dict):
        raise InputError(
            f"{path} holds a {type(value).__name__}",
            expected="a JSON object",
            remedy="copy the model again",
        )
    return value


def _stored_quantization(config: dict[str, Any]) -> str:
    stored = config.get("quantization_config")
    if not isinstance(stored, dict):
        return "none"
    # AWQ and GPTQ also have 4 or 8 "bits", and are another thing.
    method = stored.get("quant_method")
    if method not in (None, "bitsandbytes"):
        return str(method)
    if stored.get("load_in_8bit"):
        return "int8"
    return "nf4" if stored.get("load_in_4bit") else str(method or "none")


_ARC_MINI_SHAPE = _row(
    ARC_MINI, (16, 192, 512, 6, 3, 3, 64), model_type="llama", max_positions=8192
).model_copy(update={"style": "grid-tokens-v1", "encoder": "grid-tokens"})
"""The planned shape of arc-mini, for `plan` in a checkout without its weights."""
