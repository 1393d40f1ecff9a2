"""Look-up of named things (encoders, verbs, ...), with the nearest valid name in the error."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import TypeVar

from appliance.errors import UsageError

T = TypeVar("T")

_MAX_NAME_CHARS = 200
"""Characters that the search looks at, because its time grows with their square."""


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
    return UsageError(
        f"no {kind} {name!r}{did_you_mean(name, names)}",
        expected=f"one of {', '.join(names)}",
        remedy=f"choose a {kind} of this list",
    )


def a_few(values: Iterable[object], most: int) -> str:
    """The first of them, and how many more there are.

    >>> a_few(["a", "b", "c"], 2)
    'a, b and 1 more'
    """
    texts = [str(value) for value in values]
    more = f" and {len(texts) - most} more" if len(texts) > most else ""
    return ", ".join(texts[:most]) + more


def did_you_mean(name: str, valid: Iterable[str]) -> str:
    """The end of a message about an unknown name; empty when no valid name is like it.

    >>> "no verb 'sumbit'" + did_you_mean("sumbit", ["plan", "submit"])
    "no verb 'sumbit' (did you mean submit?)"
    """
    close = nearest(name, valid)
    return f" (did you mean {close}?)" if close else ""


def nearest(name: str, valid: Iterable[str]) -> str | None:
    """The valid name most like the given one, whatever the case; None when none is like it."""
    by_lower = {v.lower(): v for v in valid}
    close = difflib.get_close_matches(name.lower()[:_MAX_NAME_CHARS], by_lower, n=1, cutoff=0.5)
    return by_lower[close[0]] if close else None
