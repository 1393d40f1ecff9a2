"""Checkpoints of a training: written whole or not at all, and refused by a different run. Imports
torch.

A checkpoint holds the weights that are trained (with LoRA the adapter alone), the optimizers, the
loss scale and the step. The place in the data needs no saving: the batch of a step is a function of
(seed, step).
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from appliance.atomic import whole_folder
from appliance.engine.folder.json_file import read_object
from appliance.errors import InputError, UsageError, first_line

IDENTITY = "identity.json"
"""File of a checkpoint that says which run it belongs to."""

RESULTS = {"lora": "adapter", "full": "model"}
"""Folder of the result in --out, by what was trained."""

KEPT_CHECKPOINTS = 2
"""The newest ones; one more than needed, in case the newest cannot be read."""


@dataclass
class State:
    """What a step changes."""

    weights: list[tuple[str, Any]]  # name and tensor of each trained parameter
    optimizers: list[Any]
    scaler: Any  # torch's GradScaler, the loss scale of float16
    step: int = 0  # steps taken
    tokens: int = 0  # trained on so far
    watch: tuple[float, float] = (0.0, 0.0)  # `Watch.state` in optimize.py
    seconds: float = 0.0  # trained so far, over all sessions of the run


def checkpoint_folder(out: Path, step: int) -> Path:
    return out / "checkpoints" / f"step_{step:08d}"


def _checkpoints(out: Path) -> list[Path]:
    """Those that this program wrote, in order; what else lies there is not ours to remove."""
    found = (out / "checkpoints").glob("step_" + 8 * "[0-9]")
    return sorted(p for p in found if not p.is_symlink() and (p / IDENTITY).is_file())


def _check_no_result(out: Path) -> None:
    """The result takes the place of what bears its name, so that may only come from this run."""
    for name in RESULTS.values():
        if (out / name).exists():
            raise UsageError(
                f"{out} holds {name}/ but no checkpoint of this training",
                expected="a new folder, or that of a training to go on with",
                remedy="pass another --out",
            )


def save_checkpoint(out: Path, identity: dict[str, str], state: State) -> Path:
    """Write the checkpoint of this step and remove those that are no longer kept; its folder.

    It is written beside its place and then renamed, so a folder of that name is always whole.
    """
    import torch

    final = checkpoint_folder(out, state.step)
    if final.exists():
        return final

    with whole_folder(final, mark=IDENTITY) as part:
        with (part / "state.pt").open("wb") as file:
            torch.save(
                {
                    "model": {name: weight.detach() for name, weight in state.weights},
                    "optimizers": [o.state_dict() for o in state.optimizers],
                    "scaler": state.scaler.state_dict(),
                    "step": state.step,
                    "tokens": state.tokens,
                    "watch": state.watch,
                    "seconds": state.seconds,
                },
                file,
            )
            file.flush()
            os.fsync(file.fileno())
        (part / IDENTITY).write_text(json.dumps(identity, indent=1) + "\n")

    for old in _checkpoints(out)[:-KEPT_CHECKPOINTS]:
        shutil.rmtree(old)
    return final


def restore_checkpoint(out: Path, identity: dict[str, str], state: State) -> None:
    """Load the newest checkpoint into the state, where there is one.

    Raises UsageError when it belongs to another run, InputError when it cannot be read.
    """
    import torch

    newest = max(_checkpoints(out), default=None)
    if newest is None:
        _check_no_result(out)
        return

    # Older checkpoints do not name what there was only one of.
    was = {"loop": "stock", "trainer": "peft"} | read_object(newest / IDENTITY)
    changed = [key for key in identity if was.get(key) != identity[key]]
    if changed:
        raise UsageError(
            f"{out} holds a run with another {', '.join(changed)}",
            expected="the recipe, data and model it was started with (steps, saving, logging, "
            "evaluation, passes, precision and the number of processes may change)",
            remedy="pass another --out, or the old recipe",
        )

    try:
        saved = torch.load(newest / "state.pt", map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError) as fault:
        raise InputError(
            f"{newest}: cannot be read ({first_line(fault)})",
            expected="a checkpoint that this program wrote",
            remedy="remove that folder; the one before it is used then",
        ) from fault

    with torch.no_grad():
        for name, weight in state.weights:
            weight.copy_(saved["model"][name])
    for optimizer, values in zip(state.optimizers, saved["optimizers"], strict=True):
        optimizer.load_state_dict(values)
    if saved["scaler"]:
        state.scaler.load_state_dict(saved["scaler"])

    state.step, state.tokens = int(saved["step"]), int(saved["tokens"])
    state.watch = saved["watch"]
    state.seconds = float(saved.get("seconds", 0.0))  # checkpoints of 0.2 have none
