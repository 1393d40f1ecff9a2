"""What a run reached: how many tasks each stage covered, counted from the journal, and whether that is enough."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from appliance.config import RunSettings
from appliance.record.attempts import attempts_of
from appliance.record.journal import Journal


@dataclass(frozen=True)
class Coverage:
    """Numbers of tasks. trained: an adapter was trained and verified. quick, deep: sampled in that pass, in whole or in part.
    programs_written, programs_valid: how many there were, and how many of them gave a legal grid for every input. programs_fit:
    tasks with a program that fits all demonstrations. settled: tasks that two such programs agreed on, so that no grids were
    trained for.
    again: gone through once more because their vote was uncertain. sampled: in any of them. untrained_reasons: why training
    gave nothing, with counts. outputs_fallback: test outputs that no candidate answered, so a fallback stands in the
    submission. served: how deep rounds were sampled, with counts; refusals: why another way was not taken."""

    num_tasks: int
    quick: int
    trained: int
    deep: int
    again: int
    sampled: int
    num_outputs: int
    outputs_fallback: int
    programs_written: int
    programs_valid: int
    programs_fit: int
    settled: int
    untrained_reasons: dict[str, int]
    served: dict[str, int] = field(default_factory=dict)
    refusals: dict[str, int] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    def lines(self) -> list[str]:
        """For people, one stage a line."""
        n = self.num_tasks
        lines = [
            f"sampled {self.sampled}/{n} (quick pass {self.quick}, deep pass {self.deep}, third pass {self.again})",
            f"trained {self.trained}/{n}"
            + "".join(
                f", {count} not: {reason}"
                for reason, count in sorted(self.untrained_reasons.items())
            ),
            f"answered {self.num_outputs - self.outputs_fallback}/{self.num_outputs} test outputs, "
            f"{self.outputs_fallback} fell back to a guess from the demonstrations",
        ]
        if self.served:
            lines.append(
                "grids sampled by "
                + ", ".join(f"{how} {count}" for how, count in sorted(self.served.items()))
                + "".join(
                    f"; {count} times not {reason}"
                    for reason, count in sorted(self.refusals.items())
                )
            )
        if self.programs_written:
            lines.append(
                f"programs: {self.programs_fit} tasks fit all demonstrations "
                f"({self.programs_valid} of {self.programs_written} programs gave grids)"
            )
        return lines

    def shortfalls(self, floors: RunSettings, *, train_enabled: bool) -> list[str]:
        """Stages below their floor, each as a sentence; empty when all is well."""
        faults = []
        if self.sampled < floors.min_sampled_share * self.num_tasks:
            faults.append(
                f"sampled {self.sampled}/{self.num_tasks}, floor {floors.min_sampled_share:.0%}"
            )
        if (
            train_enabled
            and self.trained + self.settled < floors.min_trained_share * self.num_tasks
        ):
            faults.append(
                f"trained {self.trained}/{self.num_tasks}, floor {floors.min_trained_share:.0%}"
            )
        return faults


def covered_by_all(parts: Sequence[Coverage]) -> Coverage:
    """Of a vote over runs that have no task in common: every number added up."""

    def total(name: str) -> Any:
        values = [getattr(part, name) for part in parts]
        return (
            dict(sum((Counter(v) for v in values), Counter()))
            if isinstance(values[0], dict)
            else sum(values)
        )

    return Coverage(**{entry.name: total(entry.name) for entry in fields(Coverage)})


def coverage_of(journal: Journal) -> Coverage:
    num_tests = journal.num_tests()
    rows = [r for r in journal.stages() if r.task_id in num_tests]

    def reached(stage: str, number: int) -> set[str]:
        """Tasks that the stage gave something for in that round."""
        passed = [r for r in rows if (r.stage, r.round) == (stage, number)]
        return {r.task_id for r in passed if r.status != "failed"}

    quick, deep_once, again = reached("quick", 1), reached("deep", 1), reached("deep", 2)
    trained = {r.task_id for r in rows if r.stage == "train" and r.status == "done"}
    searched = [r for r in rows if r.stage == "search"]
    settled = {r.task_id for r in searched if r.detail["is_agreed"]} - trained
    deep = [r for r in rows if r.stage == "deep"]
    programs = [p for found in journal.programs().values() for p in found]
    answered = attempts_of(journal.candidates(), "votes-only")
    reasons: dict[str, int] = {}
    for row in rows:
        if (row.stage, row.round) == ("train", 1) and row.task_id not in trained:
            reason = str(row.detail.get("reason", "unknown"))
            reasons[reason] = reasons.get(reason, 0) + 1
    num_outputs = sum(num_tests.values())
    return Coverage(
        num_tasks=len(num_tests),
        quick=len(quick),
        trained=len(trained),
        deep=len(deep_once),
        again=len(again),
        sampled=len(quick | deep_once),
        num_outputs=num_outputs,
        outputs_fallback=num_outputs
        - sum(bool(grids) and t in num_tests for (t, _), grids in answered.items()),
        programs_written=len(programs),
        programs_valid=sum(p.outcome == "ok" for p in programs),
        programs_fit=len({p.task_id for p in programs if p.fits}),
        settled=len(settled),
        untrained_reasons=reasons,
        served=dict(Counter(r.detail["how"] for r in deep if r.detail.get("how"))),
        refusals=dict(Counter(refusal for r in deep for refusal in r.detail.get("refused", ()))),
    )
