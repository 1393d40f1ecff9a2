"""The pulse of a run: what its workers do at the moment, kept in the journal for those who watch.

A run that was killed leaves its last pulse: who reads it looks at its time.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from appliance.machine.load import CardLoad, HostLoad
from appliance.record.journal import Journal

_FACT = "pulse"


@dataclass(frozen=True)
class WorkerPulse:
    """One worker."""

    name: str  # for people, such as "GPU 0"
    kind: str  # device or search
    state: str  # down, starting, idle, busy or gone
    work: str  # the pass that it works for: search, quick, deep, third; "" for none
    doing: str  # for people, such as "training"
    task_ids: tuple[str, ...]  # to which it does that
    since_s: float  # instant at which that began
    num_done: int  # jobs behind it
    card: CardLoad | None = None  # of its GPU, where it has one


@dataclass(frozen=True)
class Pulse:
    """Of the whole run. Instants are Unix seconds."""

    at_s: float
    start_s: float  # when this start of the run began
    deadline_s: float
    workers: tuple[WorkerPulse, ...] = ()
    host: HostLoad | None = None
    is_over: bool = False  # the run has come to its end, whatever kind of end


def put_pulse(journal: Journal, pulse: Pulse) -> None:
    journal.put_fact(_FACT, asdict(pulse))


def pulse_of(journal: Journal) -> Pulse | None:
    """The last one; None in older journals."""
    found: Pulse | None = journal.fact(_FACT, Pulse | None)
    return found
