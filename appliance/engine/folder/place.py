"""Which folder a name means: the model itself, inside what lies around it on disk. No torch."""

from __future__ import annotations

from pathlib import Path

from appliance.errors import InputError

_HUB_MODEL = "models--"
"""How the hub's cache names the folder of a model: models--OWNER--NAME."""

_MOST_LOOKED_AT = 200
"""Folders that are looked into for a config.json, to say where it is."""


def real_folder(folder: Path) -> tuple[Path, tuple[str, ...]]:
    """The folder that holds config.json, and what to tell about how it was found.

    Of a folder of the hub's cache that is the snapshot which its `main` names. Raises InputError
    for a folder that is missing, or that is no model, with the place of a model inside it if any.
    """
    if not folder.exists():
        raise InputError(
            f"model folder {folder}: not there",
            expected="a Transformers model folder, or arc-mini",
            remedy="pass --model DIR",
        )
    if not folder.is_dir():
        raise InputError(
            f"model {folder}: a file",
            expected="the folder that holds config.json and *.safetensors",
            remedy=f"pass --model {folder.parent}",
        )
    if _has_config(folder):
        return folder, ()

    snapshot = _snapshot(folder)
    if snapshot is not None:
        return snapshot, (f"{folder} is a cache of the hub: its model is in {snapshot}",)
    raise _no_model(folder)


def _has_config(folder: Path) -> bool:
    path = folder / "config.json"
    return path.exists() or path.is_symlink()


def _snapshot(folder: Path) -> Path | None:
    """The one snapshot below a folder of the hub's cache; None when it is no such folder."""
    models = sorted(p for p in folder.glob(f"{_HUB_MODEL}*") if (p / "snapshots").is_dir())
    if len(models) > 1:
        raise InputError(
            f"model folder {folder}: a cache of {len(models)} models",
            expected="one model",
            remedy="pass one of " + ", ".join(str(p) for p in models[:5]),
        )
    if models:
        return _snapshot(models[0])
    if not (folder / "snapshots").is_dir():
        return None

    # refs/main holds the name of the snapshot that was downloaded last.
    main = folder / "refs" / "main"
    if main.is_file():
        named = folder / "snapshots" / main.read_text(errors="replace").strip()[:100]
        if named.parent == folder / "snapshots" and _has_config(named):
            return named

    snapshots = sorted(p for p in (folder / "snapshots").iterdir() if _has_config(p))
    if len(snapshots) == 1:
        return snapshots[0]
    found = f"{len(snapshots)} snapshots with a config.json"
    choices = ", ".join(str(p) for p in snapshots[:5])
    raise InputError(
        f"model folder {folder}: a cache of the hub with {found}",
        expected="one",
        remedy=f"pass one of {choices}" if snapshots else "download the model again",
    )


def _no_model(folder: Path) -> InputError:
    """The error for a folder without config.json, with the likely reason."""
    if (folder / "adapter_config.json").is_file():
        return InputError(
            f"model folder {folder}: an adapter (adapter_config.json), not a model",
            expected="the model that it was trained on",
            remedy="pass the model with --model and this folder with --adapter",
        )
    if list(folder.glob("*.gguf")):
        return InputError(
            f"model folder {folder}: weights in GGUF",
            expected="config.json and *.safetensors",
            remedy="take the model's original release, in safetensors",
        )

    below = _models_below(folder)
    return InputError(
        f"model folder {folder}: no config.json",
        expected="config.json, *.safetensors and a tokenizer",
        remedy="pass --model " + " or ".join(below) if below else "complete the folder",
    )


def _models_below(folder: Path) -> list[str]:
    """Folders one or two levels below that hold a config.json, at most three."""
    below = [p for p in _children(folder) if p.is_dir()]
    below += [q for p in below for q in _children(p) if q.is_dir()]
    return [str(p) for p in below[:_MOST_LOOKED_AT] if _has_config(p)][:3]


def _children(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())[:_MOST_LOOKED_AT]
    except OSError:
        return []
