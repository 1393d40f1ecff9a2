"""What a task gives up when it does not fit into memory, rung by rung, the least painful first.

The plan reads this ladder to foresee on which rung a task begins, and the worker to climb it.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Rung:
    """All that is given up on a rung, with what the rungs before it gave up.

    Divisors apply to the planned values.
    """

    name: str
    gradient_checkpointing: bool = True
    rows_divisor: int = 1  # of the sequences of a step
    tokens_divisor: int = 1  # of the longest sequence
    rank_divisor: int = 1  # of the adapter's rank
    trains: bool = True

    def rows(self, planned: int) -> int:
        return max(1, planned // self.rows_divisor)

    def seq_tokens(self, planned: int) -> int:
        """The longest lesson in tokens; demonstrations are dropped until one is that short."""
        return planned // self.tokens_divisor

    def rank(self, planned: int) -> int:
        return max(1, planned // self.rank_divisor)


RUNGS = (
    Rung("as planned", gradient_checkpointing=False),
    Rung("gradient checkpointing on"),
    Rung("batch halved", rows_divisor=2),
    Rung("sequences halved (demonstrations dropped)", rows_divisor=2, tokens_divisor=2),
    Rung("adapter rank quartered", rows_divisor=2, tokens_divisor=2, rank_divisor=4),
    Rung("sampled untrained", rows_divisor=2, tokens_divisor=2, rank_divisor=4, trains=False),
)
"""From all to nothing; a task's rung is an index into this."""

ROOM = 0.96
"""Share of the memory for training that a rung may fill by the memory model, which is right within
some percent; the next rung catches what it misses."""

LAST_RUNG = len(RUNGS) - 1
"""Nothing is trained there, so it always fits."""
