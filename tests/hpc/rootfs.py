"""Root file systems made of Debian packages: a Python base image, and a machine with HTCondor and Apptainer.

Both are made once, in build/hpc/, with mmdebstrap and the mirror that this machine's own apt uses. HTCondor comes from trixie
(stable), Apptainer from sid, for no stable release carries it.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

BUILD = Path(__file__).parents[2] / "build" / "hpc"
ENTER = Path(__file__).parent / "enter.sh"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
USER = "sub"
"""Jobs are submitted by, and run as, this ordinary user of the machine with HTCondor."""
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
_PIN = "Package: *\\nPin: release n=sid\\nPin-Priority: 1\\n\\nPackage: apptainer\\nPin: release n=sid\\nPin-Priority: 990\\n"


def missing_tools(*names: str) -> str:
    """What is not installed of these, as a reason to skip; empty when all are there."""
    absent = [name for name in names if shutil.which(name) is None]
    return f"not installed: {', '.join(absent)} (docs/htcondor.md says how)" if absent else ""


def base_image() -> Path:
    """A tar of bookworm with Python 3.11 and pip: what python:3.11-slim-bookworm is to these tests."""
    target = BUILD / "python.tar"
    if not target.exists():
        links = 'for n in python python3; do ln -sf /usr/bin/python3 "$1/usr/local/bin/$n"; done'
        _mmdebstrap(
            target,
            "bookworm",
            ["python3", "python3-venv", "python3-pip", "ca-certificates"],
            [f'--customize-hook={links}; rm -f "$1"/usr/lib/python3*/EXTERNALLY-MANAGED'],
        )
    return target


def pool_machine() -> Path:
    """A folder: trixie with minicondor and Apptainer, and the one file that Debian's package leaves out."""
    target = BUILD / "pool"
    if not target.exists():
        hooks = [
            f'--setup-hook=mkdir -p "$1/etc/apt/preferences.d"; printf "{_PIN}" > "$1/etc/apt/preferences.d/sid"',
            f'--customize-hook=chroot "$1" useradd -m -s /bin/bash {USER}',
            '--customize-hook=echo root:1000000:65536 | tee -a "$1/etc/subuid" >> "$1/etc/subgid"',
        ]
        packages = [
            "minicondor",
            "apptainer",
            "squashfuse",
            "fuse-overlayfs",
            "ca-certificates",
            "procps",
            "iproute2",
        ]
        _mmdebstrap(target, "trixie sid", packages, hooks)
    probe = target / "usr/libexec/condor/exit_37.sif"
    if (
        not probe.exists()
    ):  # without it no job with a .sif image is ever matched (HasSIF stays undefined)
        inner = "/usr/libexec/condor/"
        run_in(
            target,
            [
                "apptainer",
                "--silent",
                "build",
                "--fakeroot",
                f"{inner}exit_37.sif",
                f"{inner}singularity_test_sandbox",
            ],
        )
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
    """The command line that does so. namespaces: further ones, such as --net."""
    own = [
        "unshare",
        "--mount",
        "--pid",
        "--fork",
        "--kill-child",
        "--propagation",
        "private",
        *namespaces,
    ]
    pairs = "\n".join(f"{source}={target}" for source, target in binds.items())
    return [*own, str(ENTER), str(root), pairs, *command]


def _mmdebstrap(target: Path, suites: str, packages: Sequence[str], hooks: Sequence[str]) -> None:
    BUILD.mkdir(parents=True, exist_ok=True)
    sources = BUILD / f"{target.name}.list"
    sources.write_text(
        "".join(f"deb [signed-by={KEYRING}] {_mirror()} {suite} main\n" for suite in suites.split())
    )
    command = [
        "mmdebstrap",
        *_APT,
        f"--include={','.join(packages)}",
        *hooks,
        suites.split()[0],
        str(target),
        str(sources),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        shutil.rmtree(target, ignore_errors=True) if target.is_dir() else target.unlink(
            missing_ok=True
        )
        raise RuntimeError(f"mmdebstrap: {done.stderr[-2000:]}")


def _mirror() -> str:
    """The address that this machine's apt has for Debian itself."""
    places = [Path("/etc/apt/sources.list"), *Path("/etc/apt/sources.list.d").glob("*")]
    lines = [
        x
        for p in places
        if p.is_file()
        for x in p.read_text().splitlines()
        if not x.lstrip().startswith("#")
    ]
    found = [
        m.group(0) for x in lines for m in re.finditer(r"https?://\S+/debian\b(?!-security)", x)
    ]
    if not found:
        raise RuntimeError(
            "apt names no Debian mirror; expected one in /etc/apt/sources.list or sources.list.d"
        )
    return found[0]
