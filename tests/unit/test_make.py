"""The commands of the Makefile: what is given is used or refused, and nothing is left half done.

`make` itself runs, in a folder with the Makefile alone; the programs that it calls only note how
they were called.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from itertools import pairwise
from pathlib import Path

import pytest

from tests.support.cases import REPOSITORY

NOTE = """#!/usr/bin/env python3
import json, os, sys
with open(os.environ["NOTES"], "a") as notes:
    notes.write(json.dumps([os.path.basename(sys.argv[0]), *sys.argv[1:]]) + "\\n")
"""
"""A program that notes its arguments."""

LOCKED = ("torch-cpu", "torch-gpu", "cpu", "gpu", "dev", "engines", "kaggle", "hpc")
"""What `make lock` compiles."""


class Workshop:
    """A folder in which make runs."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.notes = root / "notes.jsonl"
        (root / "make").mkdir()
        for name in ("Makefile", "make/targets.mk", "pyproject.toml"):
            shutil.copy(REPOSITORY / name, root / name)
        shutil.copytree(REPOSITORY / "requirements", root / "requirements")

        # The environment is there, and newer than what it is made from.
        for name in ("appliance", "python"):
            self.program(f"venv/bin/{name}", NOTE)
        (root / "venv/.installed-cpu").touch()
        os.utime(root / "venv/.installed-cpu", (2**31, 2**31))

    def program(self, name: str, text: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)

    def make(self, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        path = f"{self.root / 'bin'}:/usr/local/bin:/usr/bin:/bin"
        return subprocess.run(
            ["make", *words, "VENV=venv"],
            cwd=self.root,
            env={"PATH": path, "NOTES": str(self.notes), "HOME": str(self.root), **environment},
            capture_output=True,
            text=True,
        )

    def called(self) -> list[list[str]]:
        if not self.notes.exists():
            return []
        return [json.loads(line) for line in self.notes.read_text().splitlines()]


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    return Workshop(tmp_path)


def flags(words: list[str]) -> dict[str, str]:
    """The arguments with a value, by name."""
    return {a: b for a, b in pairwise(words) if a.startswith("--")}


def test_condor_pack_uses_all_that_is_given(workshop: Workshop) -> None:
    given = ("LIMIT=12", "ONLY=a,b", "STRATEGY=search", "PROFILE=condor-cpu", "BUDGET=20m")
    done = workshop.make("condor-pack", *given, "SHARDS=3", "MODEL_FROM=osdf:///m.tar", "MODEL=m")
    assert done.returncode == 0, done.stderr
    (words,) = workshop.called()
    assert words[:3] == ["appliance", "pack", "condor"]
    assert (
        flags(words).items()
        >= {
            "--limit": "12",
            "--only": "a,b",
            "--strategy": "search",
            "--profile": "condor-cpu",
            "--budget": "20m",
            "--shards": "3",
            "--model": "m",
            "--model-from": "osdf:///m.tar",
        }.items()
    )
    assert done.stdout.startswith("+ appliance pack condor"), "a recipe is not shown, its call is"


def test_condor_pack_cuts_no_tasks_unless_it_is_asked_to(workshop: Workshop) -> None:
    """`make submit` takes the first twenty tasks and five minutes; a pool is for all of them."""
    workshop.make("condor-pack", "ONLY=", LIMIT="7")
    assert not {"--only", "--budget"} & set(workshop.called()[0])
    assert flags(workshop.called()[0])["--limit"] == "7"


@pytest.mark.parametrize(
    ("image", "profile"), [("build/arc-appliance-gpu.sif", "chtc-short"), ("", "ospool-medium")]
)
def test_image_and_profile_agree_without_being_asked(
    workshop: Workshop, image: str, profile: str
) -> None:
    workshop.make("condor-pack", *([f"CONDOR_IMAGE={image}"] if image else []))
    assert flags(workshop.called()[0])["--profile"] == profile


@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("condor-pack", "OUT"),
        ("condor-pack", "LIMITS"),
        ("condor-fetch", "LIMIT"),
        ("kaggle-pack", "LIMIT"),
        ("kaggle-pack", "PROFILE"),
        ("kaggle-check", "KAGGLE_USER"),
    ],
)
def test_what_a_command_does_not_use_is_refused(
    workshop: Workshop, command: str, name: str
) -> None:
    done = workshop.make(command, f"{name}=12")
    assert done.returncode == 2 and workshop.called() == []
    assert f"appliance: {command} does not use {name}; expected: " in done.stderr


@pytest.fixture
def with_kaggle(workshop: Workshop) -> Workshop:
    """Kaggle's command line is there, newer than its list."""
    workshop.program("build/kaggle/bin/kaggle", NOTE)
    os.utime(workshop.root / "build/kaggle/bin/kaggle", (2**31, 2**31))
    return workshop


PACKED = ("KAGGLE_USER=you", "MODEL=m", "STRATEGY=search", "BUDGET=9h", "TARGET=gpu")
FLAGS = {"--owner": "you", "--model": "m", "--strategy": "search", "--budget": "9h"}


def test_kaggle_pack_uses_all_that_is_given(workshop: Workshop) -> None:
    """TARGET is that of the package, and makes no environment for GPUs here."""
    more = ("KAGGLE_PROFILE=laptop", "COMPETITION=c", "PACKAGE=p", "PACK_ARGS=--python 3.13")
    done = workshop.make("kaggle-pack", *PACKED, *more)
    assert done.returncode == 0, done.stderr
    (words,) = workshop.called()
    assert words[:3] == ["appliance", "pack", "kaggle"]
    assert flags(words) == FLAGS | {
        "--target": "gpu",
        "--profile": "laptop",
        "--competition": "c",
        "--out": "p",
        "--python": "3.13",
    }


def test_kaggle_pack_takes_the_packages_own_target_and_budget(workshop: Workshop) -> None:
    """TARGET=cpu and BUDGET=5m are what this machine and `make submit` begin with."""
    workshop.make("kaggle-pack")
    assert not {"--target", "--budget", "--model"} & set(workshop.called()[0])


@pytest.mark.parametrize(("given", "asked"), [((), "0"), (("SUBMIT=1",), "1")])
def test_kaggle_walks_and_submits_only_when_it_is_asked_to(
    with_kaggle: Workshop, given: tuple[str, ...], asked: str
) -> None:
    done = with_kaggle.make("kaggle", *PACKED, *given)
    assert done.returncode == 0, done.stderr
    (words,) = with_kaggle.called()
    own, packing = words[: words.index("--")], words[words.index("--") :]
    assert own[:3] == ["python", "-m", "make.kaggle"] and "all" in own
    assert flags(own)["--submit"] == asked
    assert flags(packing).items() >= FLAGS.items()


def test_kaggle_submit_needs_a_version(with_kaggle: Workshop) -> None:
    done = with_kaggle.make("kaggle-submit")
    assert done.returncode == 2 and with_kaggle.called() == []
    with_kaggle.make("kaggle-submit", "VERSION=7")
    assert flags(with_kaggle.called()[0])["--version"] == "7"


def test_fetch_writes_beside_the_dag_or_where_it_is_told(workshop: Workshop) -> None:
    workshop.make("condor-fetch", "DAG=d")
    workshop.make("condor-fetch", "DAG=d", "OUT=o")
    outs = [flags(words)["--out"] for words in workshop.called()]
    assert outs == ["d/fetched", "o"]


def test_status_tells_how_far_the_shards_came(workshop: Workshop) -> None:
    workshop.program("bin/condor_q", NOTE)
    done = workshop.make("condor-status", "DAG=d")
    assert done.returncode == 0, done.stderr
    assert workshop.called()[-1] == ["python", "-m", "appliance.pack.merge", "d"]


def test_no_recipe_is_shown_before_it_runs() -> None:
    """With .ONESHELL a recipe of many lines is shown as a whole: a wall of shell."""
    text = (REPOSITORY / "Makefile").read_text() + (REPOSITORY / "make/targets.mk").read_text()
    text = text.replace("\\\n", "")
    recipes = re.findall(r"^([\w$()/.-]+):(?!=).*\n((?:\t.*\n|\n(?=\t))+)", text, re.MULTILINE)
    assert len(recipes) > 20
    loud = [name for name, recipe in recipes if recipe[1] != "@" and recipe.count("\n") > 1]
    assert loud == []


def test_lock_changes_all_files_or_none(workshop: Workshop) -> None:
    before = {name: (workshop.root / f"requirements/{name}.txt").read_text() for name in LOCKED}
    uv = NOTE + (
        "count = sum(1 for _ in open(os.environ['NOTES']))\n"
        "if count == int(os.environ.get('FAILS_AT', 0)):\n"
        "    sys.exit('no such package')\n"
        "out = sys.argv[sys.argv.index('-o') + 1] if '-o' in sys.argv else None\n"
        "if out:\n"
        "    assert open(out).read(), 'the old versions are not there to be kept'\n"
        "    open(out, 'w').write('new\\n')\n"
        "print('torch==9')\n"
    )
    workshop.program("bin/uv", uv)

    def after() -> dict[str, str]:
        return {name: (workshop.root / f"requirements/{name}.txt").read_text() for name in LOCKED}

    for number in range(1, len(LOCKED) + 1):
        done = workshop.make("lock", FAILS_AT=str(number))
        assert done.returncode != 0 and after() == before, f"call {number} failed"
        workshop.notes.unlink()
        assert not list((workshop.root / "build").glob("lock.*"))

    assert workshop.make("lock").returncode == 0
    new = {name: "torch==9\n" if name.startswith("torch") else "new\n" for name in LOCKED}
    assert after() == new


def test_lock_without_uv_makes_one_or_fails_before_it_writes(workshop: Workshop) -> None:
    before = (workshop.root / "requirements/torch-cpu.txt").read_text()
    workshop.program("bin/no-python", "#!/bin/sh\necho no venv here >&2\nexit 1\n")
    done = workshop.make("lock", "PYTHON=no-python")
    assert done.returncode != 0 and "no venv here" in done.stderr
    assert (workshop.root / "requirements/torch-cpu.txt").read_text() == before


@pytest.mark.parametrize("command", ["image", "sif"])
def test_an_image_that_is_not_built_says_what_to_do(workshop: Workshop, command: str) -> None:
    refuses = "#!/bin/sh\n[ $1 = info ] && exit 0\necho no answer from docker.io >&2\nexit 7\n"
    workshop.program("bin/docker", refuses)
    workshop.program("bin/apptainer", refuses)
    done = workshop.make(command)
    assert done.returncode != 0
    assert f"do: make {command} BASE=" in done.stderr and "docs/" in done.stderr
