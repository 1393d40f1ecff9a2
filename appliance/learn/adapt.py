"""The adapter that a training trains: which library makes it, and what it starts from.

Imports torch and peft inside its functions.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from appliance.engine.folder.json_file import read_object
from appliance.engine.load_model import open_adapter
from appliance.engine.training.lora import draw_start, sum_weights
from appliance.engine.training.unsloth_trainer import TARGETS, UnslothLibrary
from appliance.errors import InputError, PrerequisiteError, UsageError, first_line
from appliance.learn.recipe import Recipe
from appliance.machine.software import version_of

UNSLOTH_FAMILIES = ("llama", "qwen2", "qwen3")
"""model_type of models that unsloth is chosen for; it knows more, each with code of its own."""


def choose_trainer(recipe: Recipe, *, has_gpu: bool, num_processes: int) -> str:
    """peft or unsloth. Nothing heavy is imported, as unsloth must come before all else.

    Raises UsageError where the recipe asks unsloth for what it cannot do, PrerequisiteError where
    it is not installed.
    """
    adaptation = recipe.adaptation
    targets = adaptation.target_modules
    cannot = {
        "loop: fast": recipe.loop == "fast",
        "adaptation.method full": adaptation.method == "full",
        "adaptation.dora": adaptation.dora,
        f"{num_processes} processes": num_processes > 1,
        "target_modules other than " + ", ".join(TARGETS): (
            targets != "all-linear" and not set(targets) <= set(TARGETS)
        ),
    }
    found = [name for name, is_so in cannot.items() if is_so]
    is_installed = version_of("unsloth") is not None

    if recipe.trainer == "unsloth":
        if found:
            raise UsageError(
                f"trainer: unsloth with {', '.join(found)}",
                expected="a LoRA adapter on those layers, in one process",
                remedy="set trainer: peft",
            )
        if not is_installed:
            raise PrerequisiteError(
                "trainer: unsloth, which is not installed",
                expected="the package unsloth",
                remedy="install it as pinned in requirements/gpu.txt, or set trainer: peft",
            )
        return "unsloth"

    # On a CPU it takes more time than peft does.
    is_better = recipe.trainer == "auto" and has_gpu and is_installed and not found
    return "unsloth" if is_better and _is_known(recipe.start_from) else "peft"


def _is_known(folder: Path | None) -> bool:
    """Whether the model is of a family that unsloth has kernels for."""
    config = read_object(folder / "config.json") if folder else {}
    return config.get("model_type") in UNSLOTH_FAMILIES


def with_adapter(
    model: Any, recipe: Recipe, unsloth: UnslothLibrary | None, *, base_sha: str
) -> Any:
    """The model with a trainable adapter: the recipe's, or a new one drawn from its seed."""
    import torch

    adaptation, remedy = recipe.adaptation, "correct adaptation.adapter"
    if adaptation.adapter is not None:
        if unsloth:
            return unsloth.open_adapter(model, adaptation.adapter, base_sha=base_sha)
        adapted = open_adapter(
            model, adaptation.adapter, base_sha=base_sha, remedy=remedy, is_trainable=True
        )
    elif unsloth:
        targets = adaptation.target_modules
        adapted = unsloth.slots(
            model,
            rank=adaptation.rank,
            alpha=adaptation.alpha,
            rslora=adaptation.rslora,
            targets=TARGETS if isinstance(targets, str) else list(targets),
        )
        generator = torch.Generator(device="cpu").manual_seed(recipe.seed)
        draw_start(((n, w) for n, w in adapted.named_parameters() if w.requires_grad), generator)
        return adapted
    else:
        adapted = _new_adapter(model, recipe)
    sum_weights(adapted)
    return adapted


def _new_adapter(model: Any, recipe: Recipe) -> Any:
    import torch
    from peft import LoraConfig, get_peft_model

    adaptation = recipe.adaptation
    targets = adaptation.target_modules
    config = LoraConfig(
        r=adaptation.rank,
        lora_alpha=adaptation.alpha,
        use_rslora=adaptation.rslora,
        use_dora=adaptation.dora,
        target_modules=targets if isinstance(targets, str) else list(targets),
        task_type="CAUSAL_LM",
    )

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        try:
            return get_peft_model(model, config)
        except ValueError as fault:
            raise InputError(
                f"adaptation.target_modules: {first_line(fault)}",
                expected="all-linear, or names of linear layers of this model",
                remedy="correct adaptation.target_modules",
            ) from fault
