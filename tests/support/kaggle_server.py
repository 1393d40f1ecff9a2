"""A stand-in for Kaggle's command line (2.2.4) and the server behind it.

It answers in the words of the real one, with its exit codes; what the server holds lies in a file
that a test reads and writes.
"""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Any

PROGRAM = '''
import json, sys
from pathlib import Path

file = Path(__file__).with_name("server.json")
server = json.loads(file.read_text())
words = sys.argv[1:]
server["asked"].append(words)


def next_of(name):
    """The first answer of a list; the last one stays."""
    answers = server[name]
    return answers.pop(0) if len(answers) > 1 else answers[0]


def after(flag):
    return words[words.index(flag) + 1]


def answer():
    match words[:2]:
        case ["datasets", "status"]:
            found = next_of("dataset")
            if isinstance(found, list):
                return json.dumps(dict(status=found[0], current_version_number=found[1])), 0
            return found, 1
        case ["datasets", "create" | "version"]:
            return server["upload"], 0
        case ["kernels", "push"]:
            return server["push"], 0
        case ["kernels", "status"]:
            found = next_of("runs")
            if "Error for url" in found or "Server Error" in found:
                return found, 1
            status, _, message = found.partition(":")
            text = f'{words[2]} has status "KernelWorkerStatus.{status}"'
            return text + (f'\\nFailure message: "{message}"' if message else ""), 0
        case ["kernels", "logs"]:
            return server["log"], 0
        case ["competitions", "submissions"]:
            found = server["submissions"]
            if isinstance(found, str):
                return found, 1
            return json.dumps(found, indent=2) if found else "No submissions found", 0
        case ["competitions", "submit"]:
            entry = dict(ref="1", fileName=after("-f"), date="2026-11-28 20:00:00.0000000",
                         description=after("-m"), status="SubmissionStatus.PENDING",
                         publicScore="", privateScore="")
            if server["takes"]:
                server["submissions"].insert(0, entry)
            return server["submit"], 0


text, code = answer()
file.write_text(json.dumps(server))
print(text, file=sys.stderr if code else sys.stdout)
sys.exit(code)
'''

ABSENT = "404 Client Error: Not Found for url: https://api.kaggle.com/v1/datasets.DatasetApiService"
DOWN = "503 Server Error: Service Unavailable for url: https://api.kaggle.com/v1/kernels"

SERVER: dict[str, Any] = {
    "asked": [],  # every command, word by word
    "dataset": [ABSENT, ["blobs_received", 1], ["ready", 1]],
    "upload": "Starting upload for file wheels.tar\n"
    "Your private Dataset is being created. Please check progress at https://kaggle.com/d",
    "push": "Kernel version 4 successfully pushed.  Please check progress at https://kaggle.com/c",
    "runs": ["QUEUED", "RUNNING", "COMPLETE"],
    "log": "",
    "submissions": [],
    "takes": True,  # whether what is submitted reaches the list
    "submit": "Successfully submitted to ARC Prize 2026",
}


class Server:
    """The program, and what the server behind it holds."""

    def __init__(self, folder: Path) -> None:
        self.program = folder / "kaggle"
        self._file = folder / "server.json"
        folder.mkdir()
        # By the shell, for the first line of a program holds no path with a space in it.
        script = self.program.with_suffix(".py")
        script.write_text(PROGRAM)
        command = shlex.join([sys.executable, str(script)])
        self.program.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
        self.program.chmod(0o755)
        self.holds()

    def holds(self, **values: Any) -> None:
        """From now on it has these, and otherwise what it begins with."""
        self._file.write_text(json.dumps(SERVER | values))

    def changes(self, **values: Any) -> None:
        self._file.write_text(json.dumps(json.loads(self._file.read_text()) | values))

    def asked(self, *words: str) -> list[list[str]]:
        """Commands that begin with these words."""
        asked: list[list[str]] = json.loads(self._file.read_text())["asked"]
        return [command for command in asked if command[: len(words)] == list(words)]
