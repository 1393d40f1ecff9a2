"""The sandbox with fewer rights: an ordinary user; no namespaces, Landlock or seccomp."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.cases import REPOSITORY

AS_USER = ("setpriv", "--reuid=1234", "--regid=1234", "--clear-groups")
# The interpreter may lie in a closed folder such as /root. To pass through it is the only right
# that the user keeps.
PASSING = (
    "--inh-caps=-all,+dac_read_search",
    "--ambient-caps=-all,+dac_read_search",
    "--bounding-set=-all,+dac_read_search",
)


def lowered(user: str, refused: str, folder: Path, *, accept: str = "") -> dict[str, Any]:
    """What `tests/support/lowered_rights.py` reports as that user under those refusals."""
    prefix: tuple[str, ...] = ()
    if user == "user" and os.getuid() == 0:
        if not shutil.which("setpriv"):
            pytest.skip("needs setpriv to become another user")
        prefix = (*AS_USER, *PASSING)
    if user == "root" and os.getuid() != 0:
        pytest.skip("needs root")
    folder.chmod(0o755)
    marker = folder / "marker"
    marker.write_text("solutions")

    path = os.pathsep.join([str(REPOSITORY), *filter(None, sys.path)])
    program = [sys.executable, "-B", "-m", "tests.support.lowered_rights"]
    done = subprocess.run(
        [*prefix, *program, refused, accept, str(marker)],
        env={"PYTHONPATH": path, "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def assert_contained(report: dict[str, Any]) -> None:
    assert not {name: end for name, end in report["ends"].items() if end[2]}, (
        "an attack got through"
    )
    assert not {name: end for name, end in report["ends"].items() if not end[1]}, (
        "a program ended in the wrong way"
    )
    assert len(report["controls"]) == 1 and '"ok"' in report["controls"][0], (
        "a program changed the next one"
    )


@pytest.mark.parametrize(
    ("user", "refused", "level"),
    [
        ("root", "", "full"),
        ("root", "namespaces", "full"),  # as in a default Docker container
        ("root", "namespaces,landlock,chroot,setuid", "seccomp-only"),
        ("user", "", "full"),
        ("user", "namespaces", "seccomp-only"),
        # Nothing is left but the filter and the limits.
        ("user", "namespaces,landlock", "seccomp-only"),
    ],
)
def test_every_attack_fails_behind_the_filter_alone(
    user: str, refused: str, level: str, tmp_path: Path
) -> None:
    report = lowered(user, refused, tmp_path)
    assert report["level"] == level, report["rows"]
    assert not report["read"]
    assert_contained(report)


@pytest.mark.parametrize("user", ["root", "user"])
def test_no_filter_means_no_sandbox_unless_accepted_by_name(user: str, tmp_path: Path) -> None:
    report = lowered(user, "seccomp", tmp_path)
    assert "--accept-level no-seccomp" in report["refused"]


@pytest.mark.parametrize("user", ["root", "user"])
@pytest.mark.parametrize("refused", ["seccomp", "seccomp,namespaces"])
def test_without_a_filter_limits_hold_and_files_stay_closed(
    user: str, refused: str, tmp_path: Path
) -> None:
    report = lowered(user, refused, tmp_path, accept="no-seccomp")
    assert report["level"] == "no-seccomp"
    assert not report["rows"]["forbidden calls"], "the report must not claim what is not in force"
    assert not report["read"]
    ends = report["ends"]
    assert ends["endless product"][0] == "timeout" and ends["leaves at once"][0] == "exit"
    assert len(report["controls"]) == 1 and '"ok"' in report["controls"][0]


@pytest.mark.parametrize("user", ["root", "user"])
def test_the_report_names_what_is_refused(user: str, tmp_path: Path) -> None:
    rows = lowered(user, "namespaces,landlock", tmp_path)["rows"]
    assert not rows["namespaces"] and not rows["landlock"]
    assert rows["seccomp"] and rows["forbidden calls"] and rows["no new privileges"]
