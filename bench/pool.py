"""A pool of HTCondor, imagined: makespan and lost work of a DAG under evictions and bad machines.

    python -m bench.pool                         every policy, twenty pools each
    python -m bench.pool --shards 1000 --hours 0.5 --slots 200

What is played, event by event, on a virtual clock:

- Idle jobs are matched to free slots in cycles; a slot whose job ended takes the next idle job at
  once, as the queue reuses its claims. So a machine that fails its jobs takes one after another.
- One start in five is evicted, at any moment of it. Half of them have time to save themselves; the
  others fall back to what they saved last, and so does the budget that they used.
- A shard saves itself every so often and starts again in the same place. Some machines are slow:
  there the budget ends before the work does. On some nothing runs: a shard ends with code 3.
- DAGMan submits a failed node again, as a new job at the end of the queue, as often as the DAG that
  `pack` renders says. A held job (too little memory) is released and counts as a start.
- Images come from caches near the machines, or all through the access point, which shares its
  bandwidth among the jobs that fetch at that moment.

Not played: other users, priorities, networks that break. Figures of the machines are assumptions,
named in `Pool`; those of the jobs are read from what is packed.
"""

from __future__ import annotations

import heapq
import re
import statistics
import sys
from collections import deque
from dataclasses import dataclass, field, replace
from itertools import count

import numpy as np

from appliance.clock import format_duration
from appliance.pack.leg import BAD_MACHINE_S
from appliance.pack.render_condor import MERGE_S, CondorJob
from appliance.pack.templates import read_template
from appliance.seeds import generator
from bench.arguments import bench_parser


def packed_number(name: str) -> int:
    """A number of the submit files, by its name there."""
    text = "".join(read_template("condor", f"{part}.sub") for part in ("held", "shard"))
    found = re.search(rf"^{name} *= (\d+)", text, re.MULTILINE)
    assert found is not None, name
    return int(found[1])


RETRIES = int(CondorJob.retries)
VACATE_S = packed_number("job_max_vacate_time")
MAX_STARTS = packed_number("max_starts")


@dataclass(frozen=True)
class Pool:
    """The machines: assumptions."""

    slots: int = 200
    evicted: float = 0.2  # share of starts
    unsaved: float = 0.5  # of these, without time to save
    away_s: float = 1800  # a slot is away after an eviction
    slow: float = 0.1  # share of machines
    slow_speed: float = 0.4
    wrong: float = 0.05  # share of machines on which a shard ends with code 3
    wrong_s: float = 20  # until it does
    held: float = 0.02  # share of shards that need more memory than they asked for
    held_after_s: float = 300
    cycle_s: float = 60  # between two negotiations
    resubmit_s: float = 15  # until DAGMan has seen a failed node and submitted it again
    fetch_s: float = 60  # of image and files from near caches
    load_s: float = 45  # until a shard works: container, model, engine


@dataclass(frozen=True)
class Policy:
    """What is packed, or could be."""

    name: str
    every_s: float = 3600  # between two saves
    save_s: float = 15  # to send the run folder back and to start again
    retries: int = RETRIES
    wait_s: float = BAD_MACHINE_S  # before a shard gives a wrong machine back
    image_gb: float = 0  # through the access point; 0: not
    access_gb_s: float = 1.25  # of it, 10 Gbit/s


@dataclass
class Shard:
    """A node of the DAG."""

    work_s: float  # on a usual machine
    budget_s: float
    needs_more: bool
    saved_s: float = 0  # of the work, where the next start goes on
    used_s: float = 0  # of the budget, likewise
    failures: int = 0
    starts: int = 0
    is_over: bool = False


@dataclass
class Tally:
    """What a whole DAG cost."""

    makespan_s: float = 0
    busy_s: float = 0  # slots held
    redone_s: float = 0  # work that was lost and had to be done again
    undone: float = 0  # share of the work that was never done
    failed: int = 0  # nodes that failed for good


@dataclass
class _Run:
    """One DAG in one pool."""

    pool: Pool
    policy: Policy
    shards: list[Shard]
    rng: np.random.Generator
    now_s: float = 0
    tally: Tally = field(default_factory=Tally)

    def play(self) -> Tally:
        pool = self.pool
        kinds = self.rng.permutation(pool.slots) / pool.slots
        self._wrong = kinds < pool.wrong
        self._speed = np.where(kinds >= 1 - pool.slow, pool.slow_speed, 1.0)
        self._free = set(range(pool.slots))
        self._idle = deque(self.shards)
        self._fetching = 0
        self._events: list[tuple[float, int, str, int, Shard | None]] = []
        self._number = count()
        self._at(0, "cycle")

        while not all(shard.is_over for shard in self.shards):
            self.now_s, _, kind, slot, shard = heapq.heappop(self._events)
            if kind == "cycle":
                self._match()
                self._at(pool.cycle_s, "cycle")
            elif kind == "fetched":
                self._fetching -= 1
            elif kind == "back":
                self._free.add(slot)
            elif shard is not None and kind == "queued":
                self._idle.append(shard)
            elif kind in ("left", "over"):
                if shard is not None and kind == "over":
                    shard.is_over = True
                self._next(slot)

        fetch_s, tally = pool.fetch_s, self.tally
        tally.makespan_s = self.now_s + pool.cycle_s + fetch_s + MERGE_S
        tally.undone = 1 - sum(s.saved_s for s in self.shards) / sum(s.work_s for s in self.shards)
        return tally

    def _at(self, after_s: float, kind: str, slot: int = -1, shard: Shard | None = None) -> None:
        event = (self.now_s + after_s, next(self._number), kind, slot, shard)
        heapq.heappush(self._events, event)

    def _match(self) -> None:
        for slot in self.rng.permutation(sorted(self._free)):
            if not self._idle:
                return
            self._free.discard(int(slot))
            self._start(int(slot), self._idle.popleft())

    def _next(self, slot: int) -> None:
        """A claim that is left takes the next job; without one it is given back."""
        if self._idle:
            self._start(slot, self._idle.popleft())
        else:
            self._free.add(slot)

    def _start(self, slot: int, shard: Shard) -> None:
        pool, policy, rng = self.pool, self.policy, self.rng
        shard.starts += 1
        self._fetching += 1
        through = policy.image_gb / policy.access_gb_s * self._fetching
        fetch_s = pool.fetch_s + through
        self._at(fetch_s, "fetched")
        begin_s = fetch_s + pool.load_s

        if self._wrong[slot]:
            self._fail(slot, shard, fetch_s + pool.wrong_s + policy.wait_s)
            return
        if shard.needs_more:
            shard.needs_more = False
            self._leave(slot, shard, begin_s, held_s=pool.held_after_s)
            return

        speed = float(self._speed[slot])
        run_s = max(1.0, min((shard.work_s - shard.saved_s) / speed, shard.budget_s - shard.used_s))
        saves = int(run_s // policy.every_s)
        whole_s = begin_s + run_s + saves * policy.save_s
        if rng.random() >= pool.evicted:
            self._credit(shard, run_s, speed)
            self.tally.busy_s += whole_s
            self._at(whole_s, "over", slot, shard)
            return

        # Taken away in the middle.
        at_s = float(rng.uniform(0, whole_s))
        worked_s = min(run_s, max(0.0, at_s - begin_s))
        kept_s = worked_s
        if rng.random() < pool.unsaved:
            kept_s = worked_s // policy.every_s * policy.every_s
        self._credit(shard, kept_s, speed)
        self.tally.redone_s += (worked_s - kept_s) * speed
        self._leave(slot, shard, at_s, away_s=pool.away_s)

    def _credit(self, shard: Shard, run_s: float, speed: float) -> None:
        shard.saved_s = min(shard.work_s, shard.saved_s + run_s * speed)
        shard.used_s += run_s

    def _leave(
        self, slot: int, shard: Shard, after_s: float, *, held_s: float = 0, away_s: float = 0
    ) -> None:
        """The job goes back into the queue, the slot to others or to its owner."""
        self.tally.busy_s += after_s
        if held_s and shard.starts >= MAX_STARTS:
            self._fail(slot, shard, after_s)
            return
        self._at(after_s + held_s, "queued", shard=shard)
        if away_s:
            self._at(after_s + VACATE_S + away_s, "back", slot)
        else:
            self._at(after_s, "left", slot)

    def _fail(self, slot: int, shard: Shard, after_s: float) -> None:
        """The node failed; DAGMan submits it again as long as it may."""
        self.tally.busy_s += after_s
        shard.failures += 1
        if shard.failures > self.policy.retries:
            self.tally.failed += 1
            self._at(after_s, "over", slot, shard)
            return
        self._at(after_s + self.pool.resubmit_s, "queued", shard=shard)
        self._at(after_s, "left", slot)


def play(pool: Pool, policy: Policy, *, num: int, work_s: float, seed: int) -> Tally:
    """One DAG of that many shards. Their work differs a little, as what `pack` balances does."""
    rng = generator(seed, "pool", policy.name)
    shards = [
        Shard(work_s * float(rng.uniform(0.9, 1.0)), work_s, bool(rng.random() < pool.held))
        for _ in range(num)
    ]
    return _Run(pool, policy, shards, rng).play()


def policies() -> list[Policy]:
    """As it is packed first, then with one thing changed each."""
    packed = Policy("as packed")
    return [
        packed,
        replace(packed, name="saved every 15 min", every_s=900),
        replace(packed, name="never saved", every_s=1e9),
        replace(packed, name="two minutes to start again", save_s=120),
        replace(packed, name="the same, saved every 15 min", save_s=120, every_s=900),
        replace(packed, name="wrong machines given back at once", wait_s=0),
        replace(packed, name="given back, two retries (version 0.2)", wait_s=0, retries=2),
        replace(packed, name="image of 4 GB through the access point", image_gb=4),
    ]


def main(argv: list[str]) -> int:
    parser = bench_parser("pool", __doc__)
    parser.add_argument("--shards", type=int, default=1000)
    parser.add_argument("--slots", type=int, default=200)
    parser.add_argument("--hours", type=float, default=2.0, help="work and budget of a shard")
    parser.add_argument("--seeds", type=int, default=20, help="pools that are played")
    args = parser.parse_args(argv)

    pool = Pool(slots=args.slots)
    work_s = args.hours * 3600
    least_s = args.shards * work_s * 0.95 / args.slots
    print(
        f"{args.shards} shards of {args.hours:g} h on {args.slots} slots, {args.seeds} pools; "
        f"with nothing else than work: {format_duration(least_s)}"
    )
    print(f"{'':40} {'makespan':>24} {'redone':>7} {'undone':>7} {'failed':>7} {'slot h':>8}")
    for policy in policies():
        tallies = [
            play(pool, policy, num=args.shards, work_s=work_s, seed=seed)
            for seed in range(args.seeds)
        ]
        print(row(policy, tallies, args.shards * work_s * 0.95))
    return 0


def row(policy: Policy, tallies: list[Tally], work_s: float) -> str:
    spans = sorted(t.makespan_s for t in tallies)
    span = f"{format_duration(statistics.median(spans))} (to {format_duration(spans[-1])})"
    redone = statistics.fmean(t.redone_s for t in tallies) / work_s
    undone = statistics.fmean(t.undone for t in tallies)
    failed = statistics.fmean(t.failed for t in tallies)
    busy_h = statistics.fmean(t.busy_s for t in tallies) / 3600
    return f"{policy.name:40} {span:>24} {redone:7.1%} {undone:7.1%} {failed:7.1f} {busy_h:8.0f}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
