"""`make kaggle`: package, upload, commit run and submission in one go, each step once.

    pack      build the upload folder
    check     every byte of it, and its metadata
    upload    the dataset, until Kaggle has unpacked it
    push      the notebook; Kaggle starts its commit run
    run       wait for the end of that run
    submit    the scored rerun, with SUBMIT=1 alone: few are allowed a day

What is done stands in PACKAGE/steps.json and is not done again: after an error or Ctrl-C the same
command goes on. A step is done anew where what it was done with has changed: code, arguments or
model for pack, the manifest for upload, the notebook for push.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from appliance import cli
from appliance.arc.read import read_json
from appliance.clock import Clock, SystemClock
from appliance.errors import (
    EXIT_DONE,
    EXIT_INTERRUPTED,
    ApplianceError,
    InputError,
    PrerequisiteError,
    UsageError,
)
from appliance.pack.kaggle import MANIFEST, file_sha256, package_of
from appliance.pack.kaggle_notebook import NOTEBOOK, told_config
from appliance.pack.wheelhouse import CHANGED, revision_of
from make.kaggle_cli import Dataset, Kaggle, Run
from make.steps import UNTOUCHED, Row, Steps, wait

ROOT = Path(__file__).parents[1]

UNPACK_S = 3600.0
"""Kaggle unpacks a dataset of 5 GB in minutes."""

QUEUE_S = 3600.0
"""What a run may wait for a machine."""

SPARE_S = 1800.0
"""What a session may take beside the budget: before it lies the start, after it the saving."""

LONGEST_SESSION_S = 12 * 3600.0 - 60
"""A session's limit must be lower than Kaggle's own for notebooks with GPUs."""

BROKEN = ("failed", "error", "deleted")
"""Words in the status of a dataset that will not become ready."""


class Walk:
    """The steps, on one package."""

    def __init__(self, package: Path, kaggle: Kaggle, clock: Clock) -> None:
        names = ("pack", "check", "upload", "push", "run", "submit")
        self.package = package
        self.kaggle = kaggle
        self.steps = Steps(names, package / "steps.json", clock)

    def pack(self, arguments: Sequence[str]) -> None:
        revision = revision_of(ROOT)
        check_committed(revision)
        of = fingerprint(arguments, revision)
        if self.steps.is_done("pack", of=of) and (self.package / "dataset" / MANIFEST).is_file():
            self.steps.skip("pack", f"{self.package}, revision {self.revision}")
            return

        with self.steps.step("pack") as row:
            self._appliance("pack", "kaggle", "--out", str(self.package), *arguments)
            row.where = f"{self.package}, revision {self.revision}"
        self.steps.note("pack", of=of)
        self.steps.rows["check"] = Row("done", None, "by pack")

    def check(self) -> None:
        """Before anything is sent, unless packing has just done it."""
        check_committed(self.revision)
        if self.steps.rows["check"].state == "done":
            return
        if self.steps.is_done("upload", of=self.manifest) and self._is_pushed():
            self.steps.rows["check"] = Row("done before", None, "nothing is left to send")
            return

        with self.steps.step("check") as row:
            self._appliance("pack", "kaggle", "--out", str(self.package), "--check")
            row.where = "every byte as it was packed"

    def upload(self) -> None:
        where = f"https://www.kaggle.com/datasets/{self.dataset}"
        if self.steps.is_done("upload", of=self.manifest):
            version = self.steps.value("upload", "version")
            self.steps.skip("upload", f"{where} version {version}")
            return

        with self.steps.step("upload") as row:
            row.where = where
            # A stop while Kaggle unpacks must not cost a second upload.
            if not self.steps.is_done("sent", of=self.manifest):
                before = self.kaggle.dataset(self.dataset)
                note, folder = f"revision {self.revision}", self.package / "dataset"
                self.kaggle.upload(folder, note, is_new=before is None)
                self.steps.note("sent", of=self.manifest, after=before.version if before else 0)

            version = self._version_ready(after=self.steps.value("sent", "after"))
            row.where = f"{where} version {version}"
        self.steps.note("upload", of=self.manifest, version=version)

    def push(self) -> None:
        where = f"https://www.kaggle.com/code/{self.notebook}"
        if self._is_pushed():
            self.steps.skip("push", f"{where} version {self.pushed}")
            return

        with self.steps.step("push") as row:
            row.where = where
            version = self.kaggle.push(self.package / "notebook", self.session_s)
            row.where = f"{where} version {version}"
        self.steps.note("push", of=self.book, version=version)

    def run(self) -> None:
        where = f"version {self.pushed}"
        if self.steps.is_done("run", of=self.book):
            self.steps.skip("run", f"{where}: complete")
            return

        with self.steps.step("run") as row:
            row.where = where
            run = wait(
                partial(self.kaggle.run, self.notebook),
                lambda found: not found.is_on,
                self.steps.clock,
                limit_s=self.session_s + QUEUE_S,
                what=f"commit run of {self.notebook}",
            )
            row.where = f"{where}: {run}"
            self._check_complete(run)
        self.steps.note("run", of=self.book)

    def submit(self, version: int | None = None) -> None:
        """version: None for the one that was pushed last."""
        if version not in (None, self.pushed):
            raise UsageError(
                f"VERSION={version}, but {self.pushed} was pushed last from {self.package}",
                expected=f"VERSION={self.pushed}: Kaggle tells of no other how its run ended",
                remedy="make kaggle-push for a new version, or submit on the notebook's page",
            )

        competition = self.config["competition"]
        note = f"revision {self.revision}, version {self.pushed}, package {self.manifest[:12]}"
        where = f"https://www.kaggle.com/competitions/{competition}: {note}"
        if self.steps.is_done("submit", of=note):
            self.steps.skip("submit", where)
            return

        with self.steps.step("submit") as row:
            row.where = where
            if not self.steps.is_done("run", of=self.book):
                self._check_complete(self.kaggle.run(self.notebook))
            # An answer may have been lost on its way, and a second submission costs a day.
            if not self._stands(competition, note):
                said = self.kaggle.submit(competition, self.notebook, self.pushed, note)
                print(f"kaggle: {said}", flush=True)
                if not self._stands(competition, note):
                    raise PrerequisiteError(
                        f"Kaggle says: {said}; its list of your submissions lacks {note!r}",
                        expected="a submission in that list",
                        remedy="look at the competition's page before you try again",
                    )
        self.steps.note("submit", of=note)

    def status(self) -> None:
        """What is where, as Kaggle tells it now."""
        dataset = self.kaggle.dataset(self.dataset)
        print(f"dataset   {self.dataset}: {dataset or 'not there'}")
        if self._is_pushed():
            run = self.kaggle.run(self.notebook)
            print(f"notebook  {self.notebook}: version {self.pushed} was pushed; latest run: {run}")
        else:
            print(f"notebook  {self.notebook}: not pushed from {self.package}")
        for entry in self.kaggle.submissions(self.config["competition"])[:5]:
            status = str(entry.get("status", "")).rpartition(".")[2].lower()
            score = entry.get("publicScore") or "no score"
            print(f"submitted {entry.get('date')}: {status}, {score}, {entry.get('description')}")

    # What the package says.

    @property
    def notebook(self) -> str:
        """OWNER/SLUG."""
        return name_in(self.package / "notebook" / "kernel-metadata.json")

    @property
    def dataset(self) -> str:
        return name_in(self.package / "dataset" / "dataset-metadata.json")

    @property
    def config(self) -> dict[str, Any]:
        return told_config(self.package / "notebook")

    @property
    def revision(self) -> str:
        return package_of(self.package / "dataset")["revision"]

    @property
    def manifest(self) -> str:
        """What an upload is of."""
        return file_sha256(self.package / "dataset" / MANIFEST)

    @property
    def book(self) -> str:
        """What a push is of."""
        names = (NOTEBOOK, "kernel-metadata.json")
        parts = [file_sha256(self.package / "notebook" / name) for name in names]
        return hashlib.sha256("".join(parts).encode()).hexdigest()

    @property
    def session_s(self) -> float:
        """Kaggle ends the notebook then, should it hang; the scored rerun has room in it."""
        return min(LONGEST_SESSION_S, float(self.config["budget_s"]) + SPARE_S)

    @property
    def pushed(self) -> int:
        """The version of this notebook on Kaggle."""
        if not self._is_pushed():
            raise PrerequisiteError(
                f"the notebook in {self.package} is not pushed",
                expected="its version on Kaggle",
                remedy="make kaggle-push",
            )
        return int(self.steps.value("push", "version"))

    def _is_pushed(self) -> bool:
        return self.steps.is_done("push", of=self.book)

    # What the steps ask.

    def _appliance(self, *words: str) -> None:
        """A verb of the appliance, which says itself what is wrong."""
        if code := cli.main(list(words)):
            raise SystemExit(code)

    def _version_ready(self, *, after: int) -> int:
        """The first version after that one that can be attached."""

        def is_over(found: Dataset | None) -> bool:
            if found and any(word in found.status for word in BROKEN):
                raise PrerequisiteError(
                    f"Kaggle reports for dataset {self.dataset}: {found.status}",
                    expected="ready",
                    remedy=f"look at its page; to upload anew remove {self.package}/steps.json",
                )
            return found is not None and found.status == "ready" and found.version > after

        ask = partial(self.kaggle.dataset, self.dataset)
        what = f"dataset {self.dataset}"
        found = wait(ask, is_over, self.steps.clock, limit_s=UNPACK_S, what=what)
        assert found is not None
        return found.version

    def _check_complete(self, run: Run) -> None:
        if run.is_complete:
            return
        fault = "" if run.is_on else self.kaggle.fault(self.notebook)
        raise PrerequisiteError(
            f"the commit run of {self.notebook} is {run}" + (f": {fault}" if fault else ""),
            expected="complete",
            remedy="make kaggle-status, until it is complete"
            if run.is_on
            else "mend what its log names, and start make kaggle again",
        )

    def _stands(self, competition: str, note: str) -> bool:
        return any(e.get("description") == note for e in self.kaggle.submissions(competition))


def name_in(path: Path) -> str:
    """OWNER/SLUG of a metadata file."""
    try:
        return str(read_json(path)["id"])
    except (InputError, KeyError, TypeError):
        raise InputError(
            f"{path}: not the metadata of a package",
            expected="a package",
            remedy="make kaggle-pack",
        ) from None


def check_committed(revision: str) -> None:
    if revision.endswith(CHANGED):
        raise PrerequisiteError(
            f"revision {revision}: packed files differ from their commit",
            expected="a commit that names what is uploaded",
            remedy="commit the changes, and make kaggle-pack again",
        )


def fingerprint(arguments: Sequence[str], revision: str) -> str:
    """Of all that a package is made of: code, arguments, and the folders that these name."""
    sha = hashlib.sha256(json.dumps([*arguments, revision]).encode())
    for folder in (Path(text) for text in arguments if Path(text).is_dir()):
        for path in sorted(folder.rglob("*")):
            stat = path.stat()
            sha.update(f"{path} {stat.st_size} {stat.st_mtime_ns}".encode())
    return sha.hexdigest()


def main(argv: Sequence[str], *, clock: Clock | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m make.kaggle", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("what", choices=["all", "push", "status", "submit"])
    parser.add_argument("--package", type=Path, required=True, help="the upload folder")
    parser.add_argument("--kaggle", type=Path, required=True, help="Kaggle's command line")
    parser.add_argument("--version", type=int, help="of the notebook, to submit")
    parser.add_argument("--submit", choices=["0", "1"], default="0", help="1: the scored rerun")
    parser.add_argument("--competition", help="asked for first: it must be there for you")
    # What stands after -- goes to `appliance pack kaggle`.
    own = list(argv).index("--") if "--" in argv else len(argv)
    args = parser.parse_args(argv[:own])

    try:
        walk = Walk(args.package, Kaggle(args.kaggle), clock or SystemClock())
        _go(walk, args, argv[own + 1 :])
    except ApplianceError as fault:
        print(f"appliance: {fault}", file=sys.stderr)
        return fault.exit_code
    except KeyboardInterrupt:
        print("appliance: stopped; the same command goes on from here", file=sys.stderr)
        return EXIT_INTERRUPTED
    except SystemExit as ended:
        return int(ended.code or 0)
    return EXIT_DONE


def _go(walk: Walk, args: argparse.Namespace, packing: Sequence[str]) -> None:
    if args.what == "status":
        walk.status()
        return

    try:
        if args.what == "all":
            check_committed(revision_of(ROOT))
            walk.kaggle.submissions(args.competition)
            walk.pack(packing)
        if args.what in ("all", "push"):
            walk.check()
            walk.upload()
            walk.push()
        if args.what == "all":
            walk.run()
            walk.steps.rows["submit"] = Row("not asked", None, "make kaggle SUBMIT=1")
        if args.what == "submit" or args.submit == "1":
            walk.submit(args.version)
    finally:
        if any(row.state != UNTOUCHED for row in walk.steps.rows.values()):
            print(walk.steps.table(), flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
