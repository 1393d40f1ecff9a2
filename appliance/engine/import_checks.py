"""`doctor --deep`: every engine package is really imported.

Each in a process of its own, so that a broken one harms nothing else.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from appliance.errors import how_it_ended
from appliance.machine.finding import Check, failed, passed
from appliance.machine.machine import Machine
from appliance.machine.software import ENGINE_PACKAGES, version_of

_TIMEOUT_S = 180
"""Seconds that one import may take."""

_TORCH = """
import json, torch
count = torch.cuda.device_count() if torch.cuda.is_available() else 0
archs = torch.cuda.get_arch_list() if count else []
print(json.dumps({"cuda": torch.version.cuda, "devices": count, "archs": archs}))
"""
"""Prints what torch sees: its CUDA version, the number of GPUs, and what its kernels are for."""

_UNSLOTH = """
import pathlib
from appliance.engine.training.unsloth_trainer import import_unsloth
import_unsloth(pathlib.Path.cwd(), device="{}")
"""
"""Imports unsloth as a worker does.

A plain import looks for a library of vLLM that kills the process on a CPU without AVX-512.
"""


def deep_checks(machine: Machine) -> Iterator[Check]:
    """One check for each installed package.

    torch is also asked whether it sees the GPUs and has kernels for them.
    """
    installed = [name for name in ENGINE_PACKAGES if version_of(name) is not None]
    # In a folder of its own, because unsloth writes compiled code to where it is imported. Two at
    # a time, because an import takes one core and several seconds.
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(max_workers=2) as pool:
        yield from pool.map(lambda name: _import_check(machine, name, folder), installed)


def _import_check(machine: Machine, name: str, folder: str) -> Check:
    unsloth = _UNSLOTH.format("cuda" if machine.gpus else "cpu")
    script = {"torch": _TORCH, "unsloth": unsloth}.get(name, f"import {name}")
    command = [sys.executable, "-c", script]
    env = os.environ | {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
            cwd=folder,
            env=env,
        )
    except subprocess.TimeoutExpired:
        return failed(
            f"import {name}",
            f"no answer in {_TIMEOUT_S} s",
            "look for a slow disk, or a download that it waits for",
        )

    if done.returncode != 0:
        ended = how_it_ended(done.returncode)
        last = (done.stderr.strip().splitlines() or [""])[-1]
        return failed(
            f"import {name}",
            f"{ended}: {last[:200]}",
            "install the versions that requirements/ pins",
        )

    if name == "torch":
        return _torch_check(machine, done.stdout)
    return passed(f"import {name}", "imports")


def _torch_check(machine: Machine, answer: str) -> Check:
    found = json.loads(answer.strip().splitlines()[-1])
    if found["devices"] < len(machine.gpus):
        text = f"torch (CUDA {found['cuda']}) sees {found['devices']} of {len(machine.gpus)} GPUs"
        return failed("import torch", text, "install the gpu requirements; check the driver")

    lacking = [g for g in machine.gpus if not has_kernels(g.spec.capability, found["archs"])]
    if lacking:
        built = ", ".join(found["archs"])
        return failed(
            "import torch",
            f"torch has no kernels for {lacking[0].name} (built for {built})",
            "choose another accelerator, or a torch built for this one",
        )
    return passed("import torch", f"sees {found['devices']} GPUs")


def has_kernels(capability: tuple[int, int], archs: list[str]) -> bool:
    """Whether one of the binaries (such as "sm_80") runs on a GPU of this compute capability.

    A binary runs on its own major version, with the same or a higher minor one. Without a list of
    binaries there is nothing to hold against the card.
    """
    built = [(int(a[3:-1]), int(a[-1])) for a in archs if a.startswith("sm_") and a[3:].isdigit()]
    return not built or any(
        major == capability[0] and minor <= capability[1] for major, minor in built
    )
