"""What a worker is told at its start: a model of a folder, on a CPU, in float32."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from appliance.config import Settings
from appliance.solve.messages import Setup


def cpu_setup(model_dir: Path, folder: Path, settings: Settings, **more: Any) -> Setup:
    """folder: where adapters and scratch files go."""
    return Setup(
        settings=settings,
        model_dir=str(model_dir),
        adapters_dir=str(folder / "adapters"),
        scratch_dir=str(folder / "scratch"),
        device="cpu",
        dtype="float32",
        autocast_dtype=None,
        num_threads=1,
        window_tokens=2048,
        **more,
    )
