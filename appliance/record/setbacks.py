"""What a run meant to use and could not: cards, engines. Kept in its journal, counted at its end.

Of the process that is running or ran last: a run that goes on elsewhere begins a new account.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterable

from appliance.errors import DeviceLost
from appliance.process.guard import name_of
from appliance.record.journal import Journal

_SETBACKS = "setbacks"
_NO_GPU = "without_gpu"


def open_account(journal: Journal, setbacks: Iterable[str] = ()) -> None:
    """Forget those of an earlier process. setbacks: what is known before the work begins."""
    journal.put_fact(_SETBACKS, list(setbacks))
    journal.put_fact(_NO_GPU, False)


def note_setback(journal: Journal, text: str) -> None:
    """text: what was not used and why, worded so that equal ones can be counted."""
    journal.put_fact(_SETBACKS, [*(journal.fact(_SETBACKS, list[str] | None) or ()), text])


def note_without_gpu(journal: Journal) -> None:
    """There were cards, none of them can be used any more, and the CPU does the work."""
    journal.put_fact(_NO_GPU, True)


def go_on_with_cpu(journal: Journal, fault: DeviceLost, *, now_s: float) -> str:
    """All cards are lost: count it, and keep the line that says so, which is returned."""
    note_setback(journal, fault.found)
    note_without_gpu(journal)
    text = f"no GPU is left ({fault.found}); the run goes on with the CPU, resuming what is done"
    journal.put_event(now_s, text)
    return text


def note_defect(journal: Journal, fault: Exception, *, now_s: float) -> None:
    """What nobody foresaw ends the run: it is counted, if the journal itself is not what failed."""
    text = f"a defect ended the run: {name_of(fault)}"
    with contextlib.suppress(Exception):
        note_setback(journal, text)
        journal.put_event(now_s, text)


def setbacks_of(journal: Journal) -> dict[str, int]:
    """How often each came."""
    return dict(Counter(journal.fact(_SETBACKS, list[str] | None) or ()))


def is_without_gpu(journal: Journal) -> bool:
    return bool(journal.fact(_NO_GPU))
