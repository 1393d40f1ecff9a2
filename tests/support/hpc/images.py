"""The appliance's own images, built by the real tools from Dockerfile and apptainer.def.

They are built anew when a source has changed.
"""

from __future__ import annotations

import functools
import hashlib
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from appliance.engine.folder.card import EMBEDDED, model_dir
from tests.support.hpc.registry import image_of_tar, serving
from tests.support.hpc.rootfs import BUILD, base_image, pool_machine, run_in

REPOSITORY = Path(__file__).parents[3]
BASE = "library/python:3.11-slim-bookworm"
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
IMAGE = "localhost/arc-appliance:cpu"
SOURCES = (
    "Dockerfile",
    "apptainer.def",
    "pyproject.toml",
    "requirements/torch-cpu.txt",
    "requirements/cpu.txt",
)
MODEL = os.environ.get("ARC_TEST_MODEL", EMBEDDED)
"""The model of these tests: the one in the image, or a folder."""


def model_arguments() -> list[str]:
    """For `appliance submit`. Skips where the repository holds no model and none is named."""
    if MODEL != EMBEDDED:
        return ["--model", MODEL]
    if not (model_dir(EMBEDDED) / "config.json").is_file():
        pytest.skip("no appliance/models/arc-mini, and ARC_TEST_MODEL names no folder")
    return []


@functools.cache
def appliance_sif() -> Path:
    """The image for Apptainer.

    It is built inside the machine with Apptainer, from a base image that a local registry serves.
    """
    sif, stamp = BUILD / "arc-appliance.sif", BUILD / "arc-appliance.sif.sources"
    digest = sources_digest()
    if sif.exists() and stamp.exists() and stamp.read_text() == digest:
        return sif
    machine = pool_machine()
    links = os.environ.get("PIP_FIND_LINKS", "")
    binds = {
        REPOSITORY: "/source-tree",
        Path(CERTIFICATES): CERTIFICATES,
        Path("/etc/resolv.conf"): "/etc/resolv.conf",
    }
    mounts, arguments = ["--bind", f"{CERTIFICATES}:{CERTIFICATES}"], []
    if links:
        binds[Path(links)] = "/srv"
        mounts += ["--bind", "/srv:/mnt"]
        arguments += ["--build-arg", "FIND_LINKS=/mnt"]

    with serving(image_of_tar(base_image())) as registry:
        arguments += ["--build-arg", f"BASE={registry}/{BASE}"]
        # Little compression, because the image is used once.
        squashfs = ["--mksquashfs-args", "-comp zstd -Xcompression-level 1"]
        build = ["apptainer", "--quiet", "build", "--force", "--fakeroot", "--no-https"]
        built = f"/source-tree/{sif.relative_to(REPOSITORY)}"
        command = [*build, *mounts, *arguments, *squashfs, built, "apptainer.def"]
        in_source_tree = ["sh", "-c", 'cd /source-tree && exec "$@"', "sh", *command]
        done = run_in(machine, in_source_tree, binds=binds, check=False)

    assert done.returncode == 0, done.stderr[-3000:]
    stamp.write_text(digest)
    return sif


@functools.cache
def appliance_image() -> str:
    """The name of the Docker image, built with buildah into a store of its own.

    Its base is imported under the name that the Dockerfile asks for.
    """
    environment = container_environment()
    links = os.environ.get("PIP_FIND_LINKS", "")
    mounts = ["-v", f"{CERTIFICATES}:{CERTIFICATES}:ro"]
    arguments = []
    if links:
        mounts += ["-v", f"{links}:/mnt:ro"]
        arguments = ["--build-arg", "FIND_LINKS=/mnt"]

    base = f"docker.io/{BASE}"
    known = subprocess.run(["podman", "image", "exists", base], env=environment)
    if known.returncode != 0:
        take = ["podman", "import", "--quiet", str(base_image()), base]
        subprocess.run(take, check=True, env=environment, capture_output=True)

    build = ["buildah", "bud", "--quiet", "--layers", "--format", "docker"]
    build += ["--network", "host", "--isolation", "chroot", "--pull-never"]
    command = [*build, *mounts, *arguments, "-t", IMAGE, str(REPOSITORY)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return IMAGE


def container_environment() -> Mapping[str, str]:
    """For podman and buildah: a store below build/, and limits that an ordinary root may set.

    There may be no systemd here, and cgroups of both versions.
    """
    folder = BUILD / "containers"
    folder.mkdir(parents=True, exist_ok=True)
    storage, engine = folder / "storage.conf", folder / "containers.conf"
    storage.write_text(
        f'[storage]\ndriver="overlay"\ngraphroot="{folder}/store"\nrunroot="{folder}/run"\n'
    )
    engine.write_text(
        '[engine]\ncgroup_manager="cgroupfs"\nevents_logger="file"\nruntime="runc"\n'
        '[containers]\nnetns="host"\ndefault_ulimits=["nofile=4096:4096","nproc=4096:4096"]\n'
    )

    return {**os.environ, "CONTAINERS_STORAGE_CONF": str(storage), "CONTAINERS_CONF": str(engine)}


def sources_digest() -> str:
    """Over all that the images are made of."""
    sha = hashlib.sha256()
    paths = [REPOSITORY / name for name in SOURCES]
    for folder in ("appliance", "condor", "submission"):
        paths += sorted((REPOSITORY / folder).rglob("*"))

    for path in paths:
        if path.is_file() and "__pycache__" not in path.parts:
            sha.update(str(path.relative_to(REPOSITORY)).encode())
            sha.update(hashlib.sha256(path.read_bytes()).digest())
    return sha.hexdigest()
