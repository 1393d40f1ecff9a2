"""Faults put into real processes from outside: code that runs there before anything else.

Python imports a module named `sitecustomize` from its path when it starts. The one written here
runs the test's own code in the workers of a run, or in its main process, and nothing elsewhere.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

CHOOSE = """
import sys

words = getattr(sys, "orig_argv", ())
if "appliance.solve.worker" in words:
    import fault_of_worker
elif "appliance" in words:
    import fault_of_main
"""


def faulty_environment(
    folder: Path,
    *,
    worker: str = "",
    main: str = "",
    packages: Sequence[str | Path] | None = None,
    **variables: str | Path,
) -> dict[str, str]:
    """The environment for a run whose processes first execute this code.

    folder: an empty place for the modules; it comes first on the path of every process. worker,
    main: source for each worker and for the main process. packages: where Python then looks, by
    default where this process does. variables: further environment variables, by which the code
    finds its files.
    """
    (folder / "sitecustomize.py").write_text(CHOOSE)
    (folder / "fault_of_worker.py").write_text(worker)
    (folder / "fault_of_main.py").write_text(main)

    places = [folder, *(packages or [place for place in sys.path if place])]
    named = {name: str(value) for name, value in variables.items()}
    return os.environ | {"PYTHONPATH": os.pathsep.join(map(str, places))} | named
