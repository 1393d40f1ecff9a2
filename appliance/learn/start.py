"""What a training starts from (a fresh model, or a folder), and the result that it leaves. Imports
torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from appliance.arc.prompt import PromptStyle, get_style
from appliance.atomic import whole_folder
from appliance.engine.adapter.record import save_adapter
from appliance.engine.attention import use_cpu_attention
from appliance.engine.folder.card import RECORD_FILE, read_card, read_record
from appliance.engine.folder.identity import weights_sha
from appliance.engine.load_model import load_causal_lm
from appliance.engine.tokens import Codec
from appliance.engine.training.loss import answer_loss
from appliance.engine.training.packing import Rows
from appliance.engine.training.unsloth_trainer import UnslothLibrary, load_with_unsloth
from appliance.learn.adapt import with_adapter
from appliance.learn.new_model import fresh_model, save_model, tokenizer
from appliance.learn.provenance import readme_of
from appliance.learn.recipe import PROGRAM_STYLE, Dataset, Recipe
from appliance.machine.catalogue import has_bfloat16
from appliance.machine.host import find_host
from appliance.models.vocabularies import VOCABULARIES, Vocabulary

NEW_GRID_STYLES = ("input-from-inputs", "output-from-outputs")
"""Beginnings of styles that ask for a new grid, not for the output of a test input."""

TINY_CARD = {
    "program_style": "dsl-program-v1",
    "program_tokens": 72,  # 95 of 100 programs of our training families are shorter
    "strategies": ["transduction"],
}
"""Card of a fresh model, which also names style and encoder of its vocabulary."""


@dataclass(frozen=True)
class Start:
    """A model that is ready to be trained."""

    model: Any  # on its device; the parameters that are trained require a gradient
    codec: Codec
    style: str  # prompt style of the model so far
    program_style: str  # prompt style in which it is asked for programs
    encoder: str  # grid encoder of the model so far
    card: dict[str, Any]  # its appliance.json
    autocast_dtype: str | None  # that matrices are multiplied in; None: float32
    base_sha: str = ""  # of the weights that it was loaded from; "" for a fresh model
    adapter_sha: str = ""  # of the adapter that it goes on from; "" without one
    # unsloth's own; None where the layers are those of Transformers and PEFT.
    unsloth: UnslothLibrary | None = None
    checkpoints_gradients: bool = False

    def weights(self) -> list[tuple[str, Any]]:
        """The parameters that are trained: name and tensor."""
        return [(n, p) for n, p in self.model.named_parameters() if p.requires_grad]

    @property
    def device(self) -> Any:
        return next(self.model.parameters()).device

    def for_training(self) -> None:
        """The model learns from now on."""
        if self.unsloth:
            self.unsloth.for_training(self.model, checkpointing=self.checkpoints_gradients)
        else:
            self.model.train()

    def for_inference(self) -> None:
        """The model answers from now on."""
        if self.unsloth:
            self.unsloth.for_inference(self.model)
        else:
            self.model.eval()

    def loss(self, rows: Rows) -> Any:
        """Mean loss over the answer tokens of a pass, in nats; a gradient can be taken of it."""
        is_flat = self.unsloth is not None and self.unsloth.is_flat
        return answer_loss(self.model, rows.flat() if is_flat else rows, device=self.device)

    def read_loss(self, rows: Rows) -> float:
        """The same number, where nothing is to be trained."""
        import torch

        with torch.inference_mode(), self.autocast():
            return float(self.loss(rows))

    def autocast(self) -> Any:
        """A context in which matrices are multiplied in the autocast type, where there is one."""
        import torch

        dtype = getattr(torch, self.autocast_dtype or "float32")
        return torch.autocast(self.device.type, dtype, enabled=self.autocast_dtype is not None)


def make_start(
    recipe: Recipe, *, device: str, trainer: str = "peft", scratch_dir: Path | None = None
) -> Start:
    """The start of a recipe, the same in every process.

    trainer: peft, or unsloth, which was imported before and compiles into scratch_dir.

    Raises InputError for a folder that is no model or no adapter, or an adapter of another base.
    """
    autocast = _autocast(recipe.precision, device)
    if recipe.start_from is None:
        model = fresh_model(recipe.architecture, seed=recipe.seed).to(device)
        use_cpu_attention(model)
        vocabulary = VOCABULARIES[recipe.architecture.tokens]
        style, encoder = vocabulary.name, vocabulary.encoder
        card = {"style": style, "encoder": encoder} | TINY_CARD
        codec = Codec(tokenizer(vocabulary))
        return Start(model, codec, style, str(card["program_style"]), encoder, card, autocast)

    said = read_card(recipe.start_from)
    is_lora = recipe.adaptation.method == "lora"
    on_gpu = device.startswith("cuda")
    # Frozen weights need no more bits than the arithmetic; on a CPU autocast needs float32 to pay.
    stored = autocast if is_lora and on_gpu and autocast else "float32"
    unsloth = UnslothLibrary() if trainer == "unsloth" else None
    if unsloth:
        assert scratch_dir is not None
        model = load_with_unsloth(
            recipe.start_from,
            dtype=stored,
            device=device,
            quantization=recipe.adaptation.quantization,
            max_seq_tokens=recipe.data.row_tokens,
            scratch_dir=scratch_dir,
        )
    else:
        model = load_causal_lm(
            recipe.start_from,
            dtype=stored,
            device=device,
            quantization=recipe.adaptation.quantization,
        )
    codec = Codec.load(recipe.start_from)
    older = None if is_lora else _older(codec, model)
    if older is not None:
        codec = _grow(model, older, recipe.seed)

    adapter = recipe.adaptation.adapter
    base_sha = weights_sha(recipe.start_from)
    if is_lora:
        model = with_adapter(model, recipe, unsloth, base_sha=base_sha)
        for weight in filter(lambda w: w.requires_grad, model.parameters()):
            weight.data = weight.data.float()  # 16-bit weights would swallow small steps
    else:
        model.requires_grad_(True)

    if recipe.adaptation.gradient_checkpointing and not unsloth:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})

    card = read_record(recipe.start_from)
    adapter_sha = weights_sha(adapter) if adapter else ""
    return Start(
        model,
        codec,
        said.style,
        said.program_style,
        said.encoder,
        card,
        autocast,
        base_sha,
        adapter_sha,
        unsloth=unsloth,
        checkpoints_gradients=recipe.adaptation.gradient_checkpointing,
    )


def style_of(dataset: Dataset, start: Start) -> PromptStyle:
    """The prompt style of the documents of a dataset."""
    if dataset.style == PROGRAM_STYLE:
        return get_style(start.program_style)
    return get_style(dataset.style or start.style)


def language_of(recipe: Recipe, start: Start) -> tuple[str, str]:
    """Style and encoder in which the trained model is asked for outputs.

    Those of the dataset with the most weight that teaches outputs, else the model's own.
    """
    best, most = (start.style, start.encoder), 0.0
    for dataset in recipe.data.datasets.values():
        style, encoder = style_of(dataset, start), dataset.encoder or start.encoder
        is_output = style.answer == "grid" and not style.name.startswith(NEW_GRID_STYLES)
        if is_output and dataset.weight > most:
            best, most = (style.name, encoder), dataset.weight
    return best


def save_result(start: Start, folder: Path, recipe: Recipe) -> None:
    """Write the finished model, or the adapter alone, with tokenizer and appliance.json beside it.

    `folder` appears whole or not at all.
    """
    style, encoder = language_of(recipe, start)
    card = start.card | {"style": style, "encoder": encoder} | recipe.card
    if start.base_sha:
        card |= {"base_sha": start.base_sha, "method": recipe.adaptation.method}
        card |= {"quantization": recipe.adaptation.quantization}

    with whole_folder(folder, mark=RECORD_FILE) as part:
        if recipe.adaptation.method == "lora":
            readme = readme_of(recipe, base_sha=start.base_sha, style=style, encoder=encoder)
            save_adapter(start.model, part, card, readme=readme)
            start.codec.save(part)
        else:
            save_model(start.model, part, card=card, codec=start.codec)


def _autocast(precision: str, device: str) -> str | None:
    """The type that matrices are multiplied in; None for float32."""
    import torch

    if precision != "auto":
        return None if precision == "float32" else precision

    if device.startswith("cuda"):
        return "bfloat16" if has_bfloat16(torch.cuda.get_device_capability(device)) else "float16"
    return "bfloat16" if find_host().can_bf16 else None


def _older(codec: Codec, model: Any) -> Vocabulary | None:
    """The vocabulary of ours that the model has an earlier, shorter state of; words are only ever
    appended to them."""
    size = int(model.config.vocab_size)
    for vocabulary in VOCABULARIES.values():
        is_shorter = size < len(vocabulary.tokens)
        if is_shorter and codec.is_vocabulary(vocabulary.tokens[:size]):
            return vocabulary
    return None


def _grow(model: Any, vocabulary: Vocabulary, seed: int) -> Codec:
    """Give the model rows for the words that are new, and return today's tokenizer."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model.resize_token_embeddings(len(vocabulary.tokens), mean_resizing=False)
    return Codec(tokenizer(vocabulary))
