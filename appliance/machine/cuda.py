"""Whether the installed torch can use a card: told from versions, before anything is loaded.

Covered: a torch without CUDA, a driver that is too old for it (forward compatibility counts), a
card that is too old for its kernels. Slices and lost cards: see `gpu.py`. Not covered: a card that
fails only when it is used; a worker finds that out at its start (`engine/load_model.py`).
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from appliance.machine.gpu import Gpu, Unusable

PINNED_CUDA = (13, 0)
"""CUDA that the wheels of requirements/torch-gpu.txt are built for (torch 2.13 and vLLM 0.32)."""

OLDEST_DRIVERS = {13: 580, 12: 525, 11: 450}
"""Oldest driver for a major version of CUDA. Source: NVIDIA, CUDA Compatibility, table 1."""

OLDEST_CARDS = {13: (7, 5), 12: (5, 0), 11: (3, 5)}
"""Oldest compute capability for a major version of CUDA: 13 left out Maxwell, Pascal and Volta."""

CONSUMER = "geforce"
"""Part of the names of cards on which NVIDIA allows no newer library over an older driver."""


@dataclass(frozen=True)
class TorchBuild:
    """A torch, and what it is built for."""

    version: str  # such as 2.13.0+cu130
    cuda: tuple[int, int] | None  # None: for the CPU alone

    def __str__(self) -> str:
        cuda = "the CPU" if self.cuda is None else f"CUDA {_dotted(self.cuda)}"
        return f"torch {self.version} (built for {cuda})"


def torch_build() -> TorchBuild | None:
    """The installed one, read from its files without importing it; None where there is none."""
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return None

    try:
        text = (Path(spec.origin).parent / "version.py").read_text(encoding="utf-8")
    except OSError:
        return None
    version = re.search(r"^__version__.*?[\"']([^\"']+)[\"']", text, re.MULTILINE)
    cuda = re.search(r"^cuda\b.*?=\s*[\"'](\d+)\.(\d+)", text, re.MULTILINE)
    if version is None:
        return None
    return TorchBuild(version[1], (int(cuda[1]), int(cuda[2])) if cuda else None)


def build_of(version: str) -> TorchBuild:
    """By the name of a version alone: 2.13.0+cu130, 2.13.0+cpu; one that says nothing is pinned."""
    local = version.partition("+")[2]
    if local == "cpu":
        return TorchBuild(version, None)
    told = re.match(r"cu(\d{2})(\d)", local)
    return TorchBuild(version, (int(told[1]), int(told[2])) if told else PINNED_CUDA)


def sort_out(
    gpus: Iterable[Gpu], build: TorchBuild | None
) -> tuple[tuple[Gpu, ...], tuple[Unusable, ...]]:
    """The cards that this torch can use, and the others. Without a torch nothing is ruled out."""
    usable: list[Gpu] = []
    unusable: list[Unusable] = []
    for gpu in gpus:
        fault = fault_of(gpu, build) if build else None
        if fault is None:
            usable.append(gpu)
        else:
            unusable.append(fault)
    return tuple(usable), tuple(unusable)


def fault_of(gpu: Gpu, build: TorchBuild) -> Unusable | None:
    """Why this torch cannot use that card, None where nothing speaks against it."""
    if build.cuda is None:
        return Unusable(gpu.name, f"torch {build.version} is built for the CPU", TO_GPU)

    major = build.cuda[0]
    oldest = OLDEST_CARDS.get(major, (0, 0))
    capability = gpu.capability or (gpu.spec.capability if gpu.spec.is_known else oldest)
    if capability < oldest:
        why = (
            f"compute capability {_dotted(capability)}, and {build} has kernels for "
            f"{_dotted(oldest)} and newer"
        )
        return Unusable(gpu.name, why, "choose a newer card, such as a T4 or L4")

    return _driver_fault(gpu, build, OLDEST_DRIVERS.get(major, 0))


ON_PURPOSE = "or CUDA_VISIBLE_DEVICES= to run on the CPU on purpose"
TO_GPU = f"make setup TARGET=gpu; {ON_PURPOSE}"
"""What to do about a card beside a torch without CUDA."""


def _driver_fault(gpu: Gpu, build: TorchBuild, needed: int) -> Unusable | None:
    """needed: the oldest driver, by the first number of its version."""
    assert build.cuda is not None
    number = re.match(r"\d+", gpu.driver)
    if number is None or int(number[0]) >= needed:
        return None

    is_consumer = CONSUMER in gpu.name.lower()
    if gpu.cuda is None or gpu.cuda[0] < build.cuda[0]:
        offers = f" (CUDA {_dotted(gpu.cuda)})" if gpu.cuda else ""
        why = f"driver {gpu.driver}{offers} is too old for {build}, which needs {needed} or newer"
        compat = f"cuda-compat-{build.cuda[0]}-{build.cuda[1]}"
        remedy = f"install driver {needed} or newer"
        if not is_consumer:
            remedy += f", or put NVIDIA's {compat} on LD_LIBRARY_PATH"
        return Unusable(gpu.name, why, remedy)

    # The library is newer than the driver under it: NVIDIA supports that on professional cards.
    if is_consumer:
        why = (
            f"a library for CUDA {_dotted(gpu.cuda)} over driver {gpu.driver} works on data centre "
            "cards only"
        )
        return Unusable(gpu.name, why, f"install driver {needed} or newer")
    return None


def _dotted(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"
