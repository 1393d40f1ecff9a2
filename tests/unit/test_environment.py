"""What worker processes see around them: no package that compiles with nvcc, and compilers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from appliance.engine import environment
from appliance.engine.environment import CACHES, compile_caches, vllm_variables

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


def test_what_is_compiled_outlives_the_run_where_it_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in CACHES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    caches = compile_caches(tmp_path / "run" / "scratch")
    assert list(caches) == list(CACHES)
    assert all(Path(path).is_relative_to(tmp_path / "cache") for path in caches.values())
    assert caches == compile_caches(tmp_path / "another")

    monkeypatch.setenv("TRITON_CACHE_DIR", "/mine")
    assert compile_caches(tmp_path) == caches | {"TRITON_CACHE_DIR": "/mine"}


def test_each_version_of_an_engine_keeps_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("VLLM_CACHE_ROOT", raising=False)
    now = compile_caches(tmp_path)["VLLM_CACHE_ROOT"]
    monkeypatch.setattr(environment, "version_of", lambda module: "99.0")
    assert compile_caches(tmp_path)["VLLM_CACHE_ROOT"] != now


@pytest.mark.parametrize("places", [{"XDG_CACHE_HOME": "{file}/x"}, {"HOME": "{file}"}, {}])
def test_where_no_lasting_folder_can_be_written_the_scratch_of_the_run_is_taken(
    places: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "file"
    file.write_text("")
    for name in ("HOME", "XDG_CACHE_HOME", *CACHES):
        monkeypatch.delenv(name, raising=False)
    for name, value in places.items():
        monkeypatch.setenv(name, value.format(file=file))
    found = compile_caches(tmp_path / "scratch")
    assert found == {name: str(tmp_path / "scratch" / cache) for name, cache in CACHES.items()}


@pytest.mark.parametrize("name", ["Dockerfile", "apptainer.def"])
def test_the_gpu_images_have_what_triton_and_torch_compile_with(name: str) -> None:
    """Triton: a C compiler and Python.h; torch.compile: a C++ compiler, which brings both."""
    text = (ROOT / name).read_text()
    command = text[text.index("apt-get update") :]
    command = command[: command.index("rm -rf /var/lib/apt/lists")]
    assert "g++ libc6-dev" in command
    assert 'test -e "$headers/Python.h" || echo python3-dev' in command
