"""Root file systems of Debian packages: a Python base image, and a machine with HTCondor.

Both are made once, in build/hpc/, with mmdebstrap and the mirror that this machine's own apt uses.
HTCondor comes from trixie (stable), Apptainer from sid, because no stable release carries it.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

BUILD = Path(__file__).parents[3] / "build" / "hpc"
ENTER = Path(__file__).parent / "enter.sh"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
USER = "sub"
"""An ordinary user of the machine with HTCondor, who submits jobs and as whom they run."""
_APT = (
    "--quiet",
    "--variant=minbase",
    "--dpkgopt=force-unsafe-io",
    *(f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("doc", "man", "locale")),
    *(
        f"--aptopt={line}"
        for line in (
            'APT::Install-Recommends "false"',
            'Acquire::Languages "none"',
            'Acquire::Check-Valid-Until "false"',
            'Acquire::Check-Date "false"',
        )
    ),
)
_PIN = (
    "Package: *\\nPin: release n=sid\\nPin-Priority: 1\\n\\n"
    "Package: apptainer\\nPin: release n=sid\\nPin-Priority: 990\\n"
)
"""For apt: of sid, Apptainer and what it needs alone. printf makes the line ends."""


def missing_tools(*names: str) -> str:
    """What is not installed of these, as a reason to skip; empty when all are there."""
    absent = [name for name in names if shutil.which(name) is None]
    return f"not installed: {', '.join(absent)} (docs/htcondor.md says how)" if absent else ""


def base_image() -> Path:
    """A tar of bookworm with Python 3.11 and pip, in place of python:3.11-slim-bookworm."""
    target = BUILD / "python.tar"
    if not target.exists():
        packages = ["python3", "python3-venv", "python3-pip", "ca-certificates"]
        links = 'for n in python python3; do ln -sf /usr/bin/python3 "$1/usr/local/bin/$n"; done'
        free_pip = 'rm -f "$1"/usr/lib/python3*/EXTERNALLY-MANAGED'
        _mmdebstrap(target, "bookworm", packages, [f"--customize-hook={links}; {free_pip}"])
    return target


def pool_machine() -> Path:
    """The root folder of a machine: trixie with minicondor and Apptainer.

    One file that Debian's package of HTCondor leaves out is added.
    """
    target = BUILD / "pool"
    if not target.exists():
        preferences = '"$1/etc/apt/preferences.d'
        pin = f'mkdir -p {preferences}"; printf "{_PIN}" > {preferences}/sid"'
        hooks = [
            f"--setup-hook={pin}",
            f'--customize-hook=chroot "$1" useradd -m -s /bin/bash {USER}',
            '--customize-hook=echo root:1000000:65536 | tee -a "$1/etc/subuid" >> "$1/etc/subgid"',
        ]
        packages = ["minicondor", "apptainer", "squashfuse", "fuse-overlayfs"]
        packages += ["ca-certificates", "procps", "iproute2"]
        _mmdebstrap(target, "trixie sid", packages, hooks)
    probe = target / "usr/libexec/condor/exit_37.sif"
    if not probe.exists():
        # Without it HasSIF stays undefined, and no job with a .sif image is ever matched.
        inner = "/usr/libexec/condor/"
        build = ["apptainer", "--silent", "build", "--fakeroot"]
        run_in(target, [*build, f"{inner}exit_37.sif", f"{inner}singularity_test_sandbox"])

    return target


def run_in(
    root: Path,
    command: Sequence[str],
    *,
    binds: Mapping[Path, str] | None = None,
    check: bool = True,
) -> subprocess.CompletedProcess[str]:
    """Run a command as root of that root file system, on this machine's network."""
    return subprocess.run(
        entering(root, command, binds=binds or {}),
        check=check,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )


def entering(
    root: Path, command: Sequence[str], *, binds: Mapping[Path, str], namespaces: Sequence[str] = ()
) -> list[str]:
    """The command line that runs a command as root of that root file system.

    binds: folders of this machine, and where they are there. namespaces: further ones (--net).
    """
    own = ["unshare", "--mount", "--pid", "--fork", "--kill-child", *namespaces]
    own += ["--propagation", "private"]
    pairs = "\n".join(f"{source}={target}" for source, target in binds.items())
    return [*own, str(ENTER), str(root), pairs, *command]


def _mmdebstrap(target: Path, suites: str, packages: Sequence[str], hooks: Sequence[str]) -> None:
    BUILD.mkdir(parents=True, exist_ok=True)
    sources = BUILD / f"{target.name}.list"
    sources.write_text(
        "".join(f"deb [signed-by={KEYRING}] {_mirror()} {suite} main\n" for suite in suites.split())
    )
    options = [*_APT, f"--include={','.join(packages)}", *hooks]
    command = ["mmdebstrap", *options, suites.split()[0], str(target), str(sources)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        if target.is_dir():
            shutil.rmtree(target, ignore_errors=True)
        else:
            target.unlink(missing_ok=True)
        raise RuntimeError(f"mmdebstrap: {done.stderr[-2000:]}")


def _mirror() -> str:
    """The address that this machine's apt has for Debian itself."""
    places = [Path("/etc/apt/sources.list"), *Path("/etc/apt/sources.list.d").glob("*")]
    lines = [line for path in places if path.is_file() for line in path.read_text().splitlines()]
    active = "\n".join(line for line in lines if not line.lstrip().startswith("#"))

    found = re.findall(r"https?://\S+/debian\b(?!-security)", active)
    if not found:
        raise RuntimeError(
            "apt names no Debian mirror; expected one in /etc/apt/sources.list or sources.list.d"
        )
    return str(found[0])
