"""What worker processes see around them: no package that compiles with nvcc, and compilers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from appliance.engine.environment import vllm_variables

ROOT = Path(__file__).parents[2]
LOOK_FOR_FLASHINFER = """
import importlib.util, sys
from appliance.engine.environment import hide_flashinfer
assert importlib.util.find_spec("flashinfer") is not None
hide_flashinfer()
assert importlib.util.find_spec("flashinfer") is None
try:
    import flashinfer.comm
except ImportError:
    print("hidden")
"""


def test_flashinfer_is_not_there_although_it_is_installed(tmp_path: Path) -> None:
    package = tmp_path / "flashinfer"
    package.mkdir()
    (package / "__init__.py").write_text("raise SystemExit('it was imported')")
    found = subprocess.run(
        [sys.executable, "-c", LOOK_FOR_FLASHINFER],
        env={"PYTHONPATH": f"{tmp_path}:{ROOT}"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.strip() == "hidden"


def test_vllm_loads_its_plug_in_for_nf4_alone() -> None:
    plain = vllm_variables(device="cuda", quantization="none")
    assert plain["VLLM_PLUGINS"] == ""
    packed = vllm_variables(device="cuda", quantization="nf4")
    assert packed == plain | {"VLLM_PLUGINS": "bitsandbytes"}


@pytest.mark.parametrize("name", ["Dockerfile", "apptainer.def"])
def test_the_gpu_images_have_what_triton_and_torch_compile_with(name: str) -> None:
    """Triton: a C compiler and Python.h; torch.compile: a C++ compiler, which brings both."""
    text = (ROOT / name).read_text()
    command = text[text.index("apt-get update") :]
    command = command[: command.index("rm -rf /var/lib/apt/lists")]
    assert "g++ libc6-dev" in command
    assert 'test -e "$headers/Python.h" || echo python3-dev' in command
