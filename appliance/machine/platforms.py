"""Where we run: a Kaggle notebook, an HTCondor slot, a container, or a plain machine.

Read from environment variables and files only; nothing is started, no network is used.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

_SITE_NAMES = {"kaggle": "Kaggle", "htcondor": "HTCondor slot", "plain": "plain machine"}
"""How people call the sites."""


@dataclass(frozen=True)
class Platform:
    """The place of this process, as the place itself describes it."""

    site: str = "plain"  # or kaggle, htcondor
    phase: str = ""  # on Kaggle: interactive, commit or rerun (the scored one)
    container: str = "none"  # or apptainer, docker, podman
    layout: str = ""  # of Kaggle's inputs, see `kaggle_layout`
    scratch: Path | None = None  # the folder made for this job
    # What a batch slot announced of itself; None where nothing was announced.
    cores: int | None = None
    memory_bytes: int | None = None
    disk_bytes: int | None = None
    job_ad: Mapping[str, str] = field(default_factory=dict)  # of HTCondor, see `parse_ad`

    def __str__(self) -> str:
        parts = [_SITE_NAMES[self.site] + (f" ({self.phase})" if self.phase else "")]
        if self.container != "none" and self.site != "kaggle":
            parts.append(f"in {self.container}")
        if self.layout:
            parts.append(f"{self.layout} mounts")
        return ", ".join(parts)

    def to_install(self, target: str) -> str:
        """What to do where packages are missing, which no image and no notebook can add by itself.

        target: cpu, gpu, or engines, which are vLLM, unsloth and bitsandbytes on any machine.
        """
        if self.site == "kaggle":
            return f"pack for Kaggle anew, with TARGET={'cpu' if target == 'cpu' else 'gpu'}"
        if self.container != "none":
            image = "cpu" if target == "cpu" else "gpu"
            return f"use an image that was built with TARGET={image} (make image, make sif)"
        if target == "engines":
            return "make engines (a GPU: make setup TARGET=gpu)"
        return f"make setup TARGET={target}"


def find_platform(env: Mapping[str, str], root: Path = Path("/")) -> Platform:
    """env: the environment of the process. root: tests give a folder in place of /."""
    container = _container(env, root)
    if (
        "KAGGLE_KERNEL_RUN_TYPE" in env
        or "KAGGLE_IS_COMPETITION_RERUN" in env
        or (root / "kaggle/input").is_dir()
    ):
        return _kaggle(env, root, container)

    if "_CONDOR_SCRATCH_DIR" in env or "_CONDOR_JOB_AD" in env:
        return _condor_slot(env, container)

    return Platform(container=container)


def _kaggle(env: Mapping[str, str], root: Path, container: str) -> Platform:
    if env.get("KAGGLE_IS_COMPETITION_RERUN"):
        phase = "rerun"
    elif env.get("KAGGLE_KERNEL_RUN_TYPE", "").lower() == "batch":
        phase = "commit"
    else:
        phase = "interactive"

    working = root / "kaggle/working"
    return Platform(
        "kaggle", phase, container, kaggle_layout(root), working if working.is_dir() else None
    )


def _condor_slot(env: Mapping[str, str], container: str) -> Platform:
    job = parse_ad(_read(env.get("_CONDOR_JOB_AD")))
    slot = parse_ad(_read(env.get("_CONDOR_MACHINE_AD")))

    # The slot has what was given; where it says nothing, what the job asked for stands in.
    memory_mib = _number(slot.get("Memory")) or _number(job.get("RequestMemory"))
    disk_kib = _number(slot.get("Disk"))
    return Platform(
        "htcondor",
        container=container,
        scratch=Path(env["_CONDOR_SCRATCH_DIR"]) if "_CONDOR_SCRATCH_DIR" in env else None,
        cores=_number(slot.get("Cpus")) or _number(job.get("RequestCpus")),
        memory_bytes=memory_mib * 2**20 if memory_mib else None,
        disk_bytes=disk_kib * 1024 if disk_kib else None,
        job_ad=job,
    )


def kaggle_layout(root: Path = Path("/")) -> str:
    """How Kaggle mounts inputs; empty where nothing is mounted.

    nested: input/competitions/<slug>, since 2026. flat: input/<slug>, before. both: some of each.
    """
    inputs = root / "kaggle/input"
    names = {p.name for p in inputs.iterdir()} if inputs.is_dir() else set()
    nested = names & {"competitions", "datasets", "models", "notebooks"}
    flat = names - nested

    if nested and flat:
        return "both"
    if nested:
        return "nested"
    return "flat" if flat else ""


def kaggle_inputs(slug: str, *, root: Path = Path("/")) -> tuple[Path, ...]:
    """Folders that may hold an input, existing ones only, best first.

    slug: such as "arc-prize-2026" or "owner/dataset".
    """
    inputs = root / "kaggle/input"
    name = slug.rsplit("/", 1)[-1]
    patterns = [
        f"competitions/{name}",
        f"datasets/*/{name}",
        f"models/*/{name}/*/*/*",
        f"notebooks/*/{name}",
        name,
    ]
    if "/" in slug:
        owner = slug.split("/", 1)[0]
        patterns = [
            f"datasets/{owner}/{name}",
            f"models/{owner}/{name}/*/*/*",
            f"notebooks/{owner}/{name}",
            *patterns,
        ]

    found = [
        path
        for pattern in patterns
        for path in sorted(inputs.glob(pattern), reverse=True)
        if path.is_dir()
    ]
    return tuple(dict.fromkeys(found))


def parse_ad(text: str) -> dict[str, str]:
    """A ClassAd in its long form, one `Name = expression` a line; strings lose their quotes."""
    pairs = re.findall(r"^\s*(\w+)\s*=\s*(.*?)\s*$", text, re.MULTILINE)
    return {
        name: value[1:-1] if value.startswith('"') and value.endswith('"') else value
        for name, value in pairs
    }


def _container(env: Mapping[str, str], root: Path) -> str:
    if (
        "APPTAINER_CONTAINER" in env
        or "SINGULARITY_CONTAINER" in env
        or (root / ".singularity.d").is_dir()
    ):
        return "apptainer"

    if (root / "run/.containerenv").exists():
        return "podman"
    if (root / ".dockerenv").exists() or re.search(
        r"docker|kubepods|containerd", _read(root / "proc/1/cgroup")
    ):
        return "docker"
    return "none"


def _number(text: str | None) -> int | None:
    return int(float(text)) if text and re.fullmatch(r"\d+(\.\d+)?", text) else None


def _read(path: str | Path | None) -> str:
    try:
        return Path(path).read_text(errors="replace") if path else ""
    except OSError:  # the file is announced but not readable from inside this container
        return ""
