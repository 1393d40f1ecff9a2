"""`doctor --deep`: every engine package is really imported, in a child of its own, so that a broken one harms nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator

from appliance.machine.finding import Check, failed, passed
from appliance.machine.machine import Machine
from appliance.machine.software import ENGINE_PACKAGES, version_of

_TIMEOUT_S = 180
_TORCH = """
import json, torch
count = torch.cuda.device_count() if torch.cuda.is_available() else 0
print(json.dumps({"cuda": torch.version.cuda, "devices": count, "archs": torch.cuda.get_arch_list() if count else []}))
"""
_UNSLOTH = """
import pathlib
from appliance.engine.training.unsloth_trainer import import_unsloth
import_unsloth(pathlib.Path.cwd(), device="{}")
"""
"""As a worker imports it: by itself it looks for a library of vLLM that kills the process on a CPU without AVX-512."""


def deep_checks(machine: Machine) -> Iterator[Check]:
    """One check per installed package; torch is also asked whether it sees the GPUs and has kernels for them."""
    with (
        tempfile.TemporaryDirectory() as folder
    ):  # unsloth writes compiled code to where it is imported
        for name in ENGINE_PACKAGES:
            if version_of(name) is not None:
                yield _import_check(machine, name, folder)


def _import_check(machine: Machine, name: str, folder: str) -> Check:
    script = {"torch": _TORCH, "unsloth": _UNSLOTH.format("cuda" if machine.gpus else "cpu")}.get(
        name, f"import {name}"
    )
    words = [sys.executable, "-c", script]
    env = os.environ | {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    try:
        done = subprocess.run(
            words,
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
            "look for a slow disk, or a hub that is waited for",
        )
    if done.returncode != 0:
        code = done.returncode
        ended = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        last = (done.stderr.strip().splitlines() or [""])[-1]
        return failed(
            f"import {name}",
            f"{ended}: {last[:200]}",
            "install the versions that requirements/ pins",
        )
    return (
        _torch_check(machine, done.stdout)
        if name == "torch"
        else passed(f"import {name}", "imports")
    )


def _torch_check(machine: Machine, answer: str) -> Check:
    found = json.loads(answer.strip().splitlines()[-1])
    if found["devices"] < len(machine.gpus):
        text = f"torch (CUDA {found['cuda']}) sees {found['devices']} of {len(machine.gpus)} GPUs"
        return failed("import torch", text, "install the gpu requirements; check the driver")
    lacking = [g for g in machine.gpus if not _has_kernels(g.spec.capability, found["archs"])]
    if lacking:
        text = f"torch has no kernels for {lacking[0].name} (built for {', '.join(found['archs'])})"
        return failed(
            "import torch", text, "choose another accelerator, or a torch built for this one"
        )
    return passed("import torch", f"sees {found['devices']} GPUs")


def _has_kernels(capability: tuple[int, int], archs: list[str]) -> bool:
    """A binary runs on its own major version with the same or a higher minor one."""
    built = [(int(a[3:-1]), int(a[-1])) for a in archs if a.startswith("sm_") and a[3:].isdigit()]
    return not built or any(
        major == capability[0] and minor <= capability[1] for major, minor in built
    )
