"""Kaggle's own command line (kaggle 2.2): its answers as values, its refusals in its own words.

It ends with code 0 after some refusals, so what happened is told by what it says: see the functions
that end in _cli in its kaggle_api_extended.py. It tells only how the *latest* run of a notebook
stands, never that of a version.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from appliance.errors import PrerequisiteError, shorten

ASK_S = 120.0
"""The server answers a question within seconds."""

UPLOAD_S = 6 * 3600.0
"""5 GB in six hours are 2 Mbit/s."""

RUN_STATUS = re.compile(r'has status "(?:KernelWorkerStatus\.)?(\w+)"')
RUN_MESSAGE = re.compile(r'^Failure message: "(.*)"', re.MULTILINE | re.DOTALL)
PUSHED = re.compile(r"Kernel version (\d+) successfully pushed")
NOT_VALID = re.compile(r"The following are not valid (?!tags).*")
ABSENT = re.compile(r"\b(403|404) Client Error")
"""Kaggle says Forbidden of a private dataset that is not there."""

FAULT = re.compile(r"\[FAULT:[^\n\"\\]*")


@dataclass(frozen=True)
class Said:
    code: int
    text: str

    def words(self) -> str:
        """The last line, which has the reason."""
        lines = [line.strip() for line in self.text.splitlines() if line.strip()]
        return shorten(lines[-1], 300) if lines else f"nothing, exit code {self.code}"


@dataclass(frozen=True)
class Dataset:
    status: str  # "ready" when it can be attached
    version: int  # the newest

    def __str__(self) -> str:
        return f"{self.status}, version {self.version}"


@dataclass(frozen=True)
class Run:
    """How the latest run of a notebook stands."""

    status: str  # queued, running, complete, error, cancel_requested, cancel_acknowledged, ...
    message: str = ""  # of a failure

    @property
    def is_on(self) -> bool:
        return self.status in ("queued", "running", "new_script")

    @property
    def is_complete(self) -> bool:
        return self.status == "complete"

    def __str__(self) -> str:
        return f"{self.status} ({self.message})" if self.message else self.status


class Kaggle:
    def __init__(self, program: Path) -> None:
        self._program = program

    def dataset(self, name: str) -> Dataset | None:
        """name: OWNER/SLUG. None where it is not there."""
        said = self._ask("datasets", "status", name, "--format", "json")
        if said.code and ABSENT.search(said.text):
            return None

        found = _json_in(self._well(said), "{")
        try:
            return Dataset(str(found["status"]).lower(), int(found["current_version_number"]))
        except (KeyError, TypeError, ValueError):
            raise _unknown(said, "the status of a dataset") from None

    def upload(self, folder: Path, note: str, *, is_new: bool) -> None:
        """Send a dataset or a new version of it; its progress is shown."""
        verb = ["create"] if is_new else ["version", "-m", note]
        words = ["datasets", *verb, "-p", str(folder), "--dir-mode", "tar", "--keep-tabular"]
        said = self._ask(*words, limit_s=UPLOAD_S, is_shown=True)
        if "is being created" not in self._well(said).text:
            raise _refused(said, "the dataset is not uploaded")

    def push(self, folder: Path, limit_s: float) -> int:
        """Send the notebook, whose commit run begins, for so long at most. Returns its version."""
        said = self._ask("kernels", "push", "-p", str(folder), "-t", f"{limit_s:.0f}")
        missing = NOT_VALID.search(said.text)
        pushed = PUSHED.search(self._well(said).text)
        if missing:
            raise PrerequisiteError(
                f"Kaggle: {missing[0]}",
                expected="a dataset and a competition that are there for you",
                remedy="accept the competition's rules on its page, and check COMPETITION",
            )
        if not pushed:
            raise _refused(said, "the notebook is not pushed")
        return int(pushed[1])

    def run(self, notebook: str) -> Run:
        said = self._well(self._ask("kernels", "status", notebook))
        status, message = RUN_STATUS.search(said.text), RUN_MESSAGE.search(said.text)
        if not status:
            raise _unknown(said, "the status of a notebook")
        return Run(status[1].lower(), message[1] if message else "")

    def fault(self, notebook: str) -> str:
        """What the log of the latest run names as its fault, or nothing."""
        named = FAULT.findall(self._ask("kernels", "logs", notebook).text)
        return named[-1].strip() if named else ""

    def submissions(self, competition: str) -> list[Mapping[str, Any]]:
        """The newest first, each with ref, date, description, status and scores."""
        said = self._well(self._ask("competitions", "submissions", competition, "--format", "json"))
        if "No submissions found" in said.text:
            return []
        found = _json_in(said, "[")
        if not isinstance(found, list) or not all(isinstance(entry, dict) for entry in found):
            raise _unknown(said, "a list of submissions")
        return found

    def submit(self, competition: str, notebook: str, version: int, note: str) -> str:
        """Ask for the scored rerun of that version. Returns what Kaggle says."""
        what = ["-f", "submission.json", "-k", notebook, "-v", str(version), "-m", note]
        return self._well(self._ask("competitions", "submit", competition, *what)).words()

    def _ask(self, *words: str, limit_s: float = ASK_S, is_shown: bool = False) -> Said:
        """is_shown: what it says is shown as it comes, for an upload takes minutes."""
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        try:
            process = subprocess.Popen(
                [str(self._program), *words], stdin=subprocess.DEVNULL, **pipes
            )
        except OSError as fault:
            raise PrerequisiteError(
                f"{self._program}: {fault.strerror}",
                expected="Kaggle's command line",
                remedy="remove build/kaggle; the next make kaggle-push installs it again",
            ) from fault

        taken: list[str] = []
        assert process.stdout is not None
        output = process.stdout.fileno()

        def take() -> None:
            while block := os.read(output, 1 << 16):
                taken.append(block.decode("utf-8", "replace"))
                if is_shown:
                    print(taken[-1], end="", flush=True)

        reader = threading.Thread(target=take)
        with process:
            reader.start()
            try:
                code = process.wait(limit_s)
            except subprocess.TimeoutExpired:
                raise PrerequisiteError(
                    f"kaggle {' '.join(words[:2])}: no answer in {limit_s:.0f} s",
                    expected="an answer of kaggle.com",
                    remedy="check the network, and start the same command again",
                ) from None
            finally:
                process.kill()
                reader.join()
        return Said(code, "".join(taken))

    def _well(self, said: Said) -> Said:
        """The answer. Raises PrerequisiteError where it is an error."""
        if "Authentication required" in said.text or "401 Client Error" in said.text:
            raise PrerequisiteError(
                "Kaggle does not know you",
                expected="a token in ~/.kaggle/access_token, or KAGGLE_API_TOKEN",
                remedy="make one at https://www.kaggle.com/settings/api",
            )
        if said.code:
            raise _refused(said, "Kaggle refuses")
        return said


def _json_in(said: Said, opening: str) -> Any:
    """The JSON in an answer, before which there may be warnings."""
    start = said.text.find(opening)
    try:
        return json.loads(said.text[max(0, start) :])
    except (ValueError, RecursionError):
        return None


def _refused(said: Said, what: str) -> PrerequisiteError:
    return PrerequisiteError(
        f"{what}: {said.words()}",
        remedy="mend what Kaggle names, and start the same command again: it goes on from here",
    )


def _unknown(said: Said, expected: str) -> PrerequisiteError:
    return PrerequisiteError(
        f"Kaggle's command line says: {said.words()}",
        expected=expected,
        remedy="look at kaggle.com; this needs the version of requirements/kaggle.txt",
    )
