"""What a training says of itself: recipe.yaml, made_with.json, and the README.md of an adapter.

The two files lie in --out beside the result. recipe.yaml is the recipe with every key that was left
out, and with what --set and flags changed; `--recipe` takes it. made_with.json has what a recipe
cannot say: versions, digests of the data, the machine, and each session of a run that was resumed.
"""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from appliance.atomic import put_aside, write_atomic
from appliance.clock import Clock, format_instant
from appliance.engine.folder.card import EMBEDDED, model_dir
from appliance.engine.folder.json_file import read_object
from appliance.errors import InputError
from appliance.learn.recipe import Recipe
from appliance.machine.software import checkout, version_of
from appliance.yaml_text import to_yaml

RECIPE_FILE = "recipe.yaml"
MADE_WITH_FILE = "made_with.json"

PACKAGES = (
    *("torch", "transformers", "peft", "accelerate", "bitsandbytes", "unsloth"),
    *("tokenizers", "safetensors", "numpy"),
)
"""Those that may change the result, by the name of the module."""


class Provenance:
    """Keeps the two files up to date while a training goes on."""

    def __init__(
        self,
        out: Path,
        recipe: Recipe,
        *,
        given: Mapping[str, Any],
        session: Mapping[str, Any],
        clock: Clock,
    ) -> None:
        """given: what the result depends on beside the recipe, such as digests of the data.

        session: what may change when the run is resumed, such as the device.
        """
        self._out, self._recipe, self._clock = out, recipe, clock
        self._given = dict(given)
        self._began_s = clock.now()
        self._session = {
            "began": format_instant(self._began_s),
            "command": ["appliance", *sys.argv[1:]],
            "folder": str(Path.cwd()),
            **session,
            "python": platform.python_version(),
            "packages": {name: version_of(name) for name in PACKAGES},
            "arc-appliance": {"version": version_of("appliance"), "checkout": checkout()},
        }
        self._earlier: list[Any] = []
        self._first_step: int | None = None

    def reached(self, step: int) -> None:
        """The training stands at that step: first the one it goes on from, then each one saved."""
        if self._first_step is None:
            self._first_step = step
            self._earlier = self._sessions() if step else []
            text = to_yaml(recipe_values(self._recipe))
            write_atomic(self._out / RECIPE_FILE, text.encode())

        seconds = round(self._clock.now() - self._began_s, 1)
        session = {"first_step": self._first_step, "last_step": step, "seconds": seconds}
        sessions = [*self._earlier, session | self._session]
        made_with = {
            "recipe": RECIPE_FILE,
            **self._given,
            "steps": step,
            "of_steps": self._recipe.optimization.max_steps,
            "seconds": round(sum(s["seconds"] for s in sessions), 1),
            "sessions": sessions,
        }
        text = json.dumps(made_with, indent=1, ensure_ascii=False) + "\n"
        write_atomic(self._out / MADE_WITH_FILE, text.encode())

    def _sessions(self) -> list[Any]:
        """Those of a run that goes on. A damaged file is put aside: nothing is trained by it."""
        path = self._out / MADE_WITH_FILE
        if not path.is_file():
            return []
        try:
            sessions = read_object(path).get("sessions")
            if isinstance(sessions, list) and all(_is_session(s) for s in sessions):
                return sessions
        except InputError:
            pass
        put_aside(path)
        return []


def _is_session(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("seconds"), int | float)


def recipe_values(recipe: Recipe) -> dict[str, Any]:
    """Every key of the recipe, such that it is the same recipe on another machine."""
    values = recipe.model_dump(mode="json")
    if recipe.evaluation is None:
        del values["evaluation"]  # so that --set can still add one
    if recipe.start_from is not None:
        is_embedded = recipe.start_from == model_dir(EMBEDDED)
        values["start_from"] = EMBEDDED if is_embedded else str(recipe.start_from)
        del values["architecture"]  # says nothing where there is a model to start from
    return values


def readme_of(recipe: Recipe, *, base_sha: str, style: str, encoder: str) -> str:
    """The README.md of an adapter: what it is, what it learned from, how it is used."""
    values = recipe_values(recipe)
    base, plan = values["start_from"], recipe.optimization
    datasets = "\n".join(
        f"- `{d.source or name}` in `{d.style or style}`, weight {d.weight:g}"
        for name, d in recipe.data.datasets.items()
    )
    return f"""# LoRA adapter for {Path(base).name}

Trained by `appliance train` on ARC tasks. Prompts are `{style}` with grids as `{encoder}`; the file
`appliance.json` names them too, so that `appliance submit` asks in the same way.

- base: `{base}`, SHA-256 of its weights {base_sha}
- rank {recipe.adaptation.rank}, alpha {recipe.adaptation.alpha:g}, \
{plan.max_steps} steps of {recipe.data.rows_per_step} x {recipe.data.row_tokens} tokens, \
{plan.optimizer} at {plan.learning_rate:g}

## Data

{datasets}

## Use

```sh
appliance submit --model {base} --adapter THIS_FOLDER --tasks TASKS --budget 1h --out OUT
appliance merge-adapter {base} THIS_FOLDER MERGED
```

The whole recipe is `{RECIPE_FILE}`, and versions, digests and times are in `{MADE_WITH_FILE}`, both
in the folder of the training.
"""
