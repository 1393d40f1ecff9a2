"""Templates of condor/ and submission/: `@{name}` is replaced, everything else stays as it is."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path

from appliance.errors import PrerequisiteError

_FIELD = re.compile(r"@\{(\w+)\}")
SHARED = "share/arc-appliance"
"""Where an installed appliance keeps condor/ and submission/, below the environment's prefix."""


def template_path(folder: str, name: str) -> Path:
    """The file FOLDER/NAME of a checkout or of an installed appliance.

    Raises PrerequisiteError where it is absent.
    """
    roots = (Path(__file__).parents[2], Path(sys.prefix) / SHARED)
    for root in roots:
        if (root / folder / name).is_file():
            return root / folder / name

    raise PrerequisiteError(
        f"no {folder}/{name}",
        expected=f"a checkout, or an installation with {SHARED}/",
        remedy="run pack from the checkout or from the image",
    )


def read_template(folder: str, name: str) -> str:
    return template_path(folder, name).read_text(encoding="utf-8")


def render(template: str, values: Mapping[str, object]) -> str:
    """The template with every field filled.

    Raises KeyError for a field without a value, ValueError for a value without a field.

    >>> render("a @{b} $(c)", {"b": 1})
    'a 1 $(c)'
    """
    unused = set(values) - set(_FIELD.findall(template))
    if unused:
        raise ValueError(f"no field for {', '.join(sorted(unused))}")
    return _FIELD.sub(lambda match: str(values[match.group(1)]), template)
