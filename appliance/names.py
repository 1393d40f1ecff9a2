"""Look-up of named things (encoders, prompt styles, selectors), with the nearest valid name where there is none."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import TypeVar

from appliance.errors import UsageError

T = TypeVar("T")


def pick(kind: str, name: str, table: Mapping[str, T]) -> T:
    """table[name]. Raises UsageError with the nearest valid name when it is not there.

    kind: what the table holds, in the words of the message ("prompt style").
    """
    if name not in table:
        raise unknown(kind, name, table)
    return table[name]


def unknown(kind: str, name: str, valid: Iterable[str]) -> UsageError:
    """The error for a name that is not among the valid ones."""
    names = sorted(valid)
    close = nearest(name, names)
    return UsageError(
        f"no {kind} {name!r}",
        expected=f"one of {', '.join(names)}",
        remedy=f"did you mean {close}?" if close else f"choose a {kind} of this list",
    )


def nearest(name: str, valid: Iterable[str]) -> str | None:
    """The valid name most like the given one, or None when none is like it."""
    by_lower = {v.lower(): v for v in valid}
    close = difflib.get_close_matches(name.lower()[:200], by_lower, n=1, cutoff=0.5)
    return by_lower[close[0]] if close else None
