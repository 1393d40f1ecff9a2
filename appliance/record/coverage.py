"""What a run reached: how many tasks each stage covered, and whether that is enough.

Counted from the journal alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from appliance.arc.vote import FIRST, Candidate, least_weight
from appliance.config import RunSettings
from appliance.errors import without_details
from appliance.names import a_few
from appliance.record.journal import Journal, StageRow
from appliance.record.setbacks import is_without_gpu, setbacks_of
from appliance.solve.messages import ProgramMessage

NAMES_TOLD = 4
"""Tasks that a message names."""


PREDICTIONS = "predictions"
"""Fact of the journal: how many each test output, and each task of programs, is to get."""


SOLVED = "solved"
"""Fact of the journal: the tasks that the run solved. Written at its end, where all answers are
known; None or absent elsewhere."""


@dataclass(frozen=True)
class Coverage:
    """How far a run came; without another unit, numbers of tasks."""

    num_tasks: int
    quick: int  # sampled in the quick pass, in whole or in part
    trained: int  # an adapter was trained and verified; for grids, where the run writes any
    deep: int  # sampled in the deep pass, in whole or in part
    again: int  # had a second deep round, because their vote was uncertain
    sampled: int  # in any pass

    num_outputs: int  # test outputs
    outputs_fallback: int  # that no candidate answered: the submission holds a guess

    programs_written: int  # programs
    programs_valid: int  # programs that gave a legal grid for every input
    programs_fit: int  # tasks with a program that fits all demonstrations
    learnt: int  # tasks whose programs an adapter learnt from
    settled: int  # not trained: two such programs agreed, or a search was sure of its answer

    untrained_reasons: dict[str, int]  # why training gave no adapter: tasks by reason
    untrained_causes: dict[str, int] = field(default_factory=dict)  # the same by `base.Cause`
    given_up: dict[str, list[str]] = field(default_factory=dict)  # tasks by "stage: fault"
    served: dict[str, int] = field(default_factory=dict)  # deep jobs by the way they were sampled
    refusals: dict[str, int] = field(default_factory=dict)  # why another way was not taken: jobs

    predictions: dict[str, int] = field(default_factory=dict)  # that are there, by kind
    predictions_asked: dict[str, int] = field(default_factory=dict)  # empty where none are counted

    setbacks: dict[str, int] = field(default_factory=dict)  # cards and engines not used: how often
    without_gpu: int = 0  # runs (1, or 0) that had to go on with the CPU, though there were cards

    asked: int = 0  # that a model was asked for: all, or none where a search works alone
    searched: int = 0  # whose search without a model is over
    search_lost: int = 0  # whose search cost two workers, or failed twice
    search_found: int = 0  # that it found an answer for
    search_sure: int = 0  # whose answer it is sure of
    search_alone: int = 0  # of these, those that the model was not asked for any more

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    def lines(self) -> list[str]:
        """For people, one stage a line."""
        n = self.num_tasks
        answered = self.num_outputs - self.outputs_fallback
        untrained = sorted(_alike(self.untrained_reasons).items())
        lines = []

        if self.searched or self.search_lost:
            lost = f", given up {self.search_lost}" if self.search_lost else ""
            lines.append(
                f"searched {self.searched}/{n}{lost}, found an answer for {self.search_found}, "
                f"sure of {self.search_sure}"
            )
        if self.asked:
            lines.append(
                f"sampled {self.sampled}/{n} (quick pass {self.quick}, deep pass {self.deep}, "
                f"third pass {self.again})"
            )
            lines.append(
                f"trained {self.trained}/{n}"
                + "".join(f"; {count} not trained: {reason}" for reason, count in untrained)
            )
        for kind, asked in sorted(self.predictions_asked.items()):
            lines.append(f"predictions: {self.predictions.get(kind, 0)} of {asked} {kind}")
        lines.append(
            f"answered {answered}/{self.num_outputs} test outputs, "
            f"{self.outputs_fallback} fell back to a guess from the demonstrations"
        )

        if self.served:
            ways = ", ".join(f"{how} {count}" for how, count in sorted(self.served.items()))
            refused = (
                f"; refused {count} x: {why}" for why, count in sorted(self.refusals.items())
            )
            lines.append(f"grids sampled by {ways}" + "".join(refused))

        if self.programs_written:
            lines.append(
                f"tasks with a program that fits all demonstrations: {self.programs_fit} "
                f"({self.programs_valid} of {self.programs_written} programs gave grids; "
                f"learnt from those of {self.learnt} tasks)"
            )
        for fault, task_ids in sorted(self.given_up.items()):
            stage, _, why = fault.partition(": ")
            lines.append(f"given up at {stage}: {names_of(task_ids)}: {why}")
        lines += [
            f"set back: {f'{count} x ' if count > 1 else ''}{text}"
            for text, count in self.setbacks.items()
        ]
        return lines

    def shortfalls(self, floors: RunSettings, *, train_enabled: bool) -> list[str]:
        """Stages below their floor, each as a sentence; empty when all is well."""
        faults = []
        n = self.num_tasks
        if not self.asked:
            is_low = self.searched < floors.min_sampled_share * n
            share = f"{floors.min_sampled_share:.0%}"
            return [f"searched {self.searched}/{n}, floor {share}"] if is_low else []

        # What a search is sure of comes last, and needs no sample.
        if self.sampled + self.search_alone < floors.min_sampled_share * n:
            faults.append(f"sampled {self.sampled}/{n}, floor {floors.min_sampled_share:.0%}")
        elif self.given_up and not self.sampled:
            faults.append(f"sampled 0/{n}, because of faults")

        # A settled task needs no training, so it counts as if it had been trained.
        least_trained = floors.min_trained_share * n
        if train_enabled and self.trained + self.settled < least_trained:
            faults.append(f"trained {self.trained}/{n}, floor {floors.min_trained_share:.0%}")
        elif train_enabled and not self.trained and set(self.untrained_causes) - {"time"}:
            reason = max(self.untrained_reasons, key=lambda text: self.untrained_reasons[text])
            faults.append(f"trained 0/{n}, and time is not the reason: {reason}")

        if self.without_gpu:
            faults.append("no GPU could be used, floor one; the CPU did the work")
        return faults


def _alike(reasons: Mapping[str, int]) -> dict[str, int]:
    """Those that differ in numbers only are one, without the numbers."""
    by_kind: dict[str, dict[str, int]] = {}
    for reason, count in reasons.items():
        by_kind.setdefault(without_details(reason), {})[reason] = count
    return {
        next(iter(same)) if len(same) == 1 else kind: sum(same.values())
        for kind, same in by_kind.items()
    }


def names_of(task_ids: Sequence[str]) -> str:
    """A few of them, and how many more there are."""
    return a_few(task_ids, NAMES_TOLD)


def uncovered(num_tasks: int, num_outputs: int, *, asked: int) -> Coverage:
    """The coverage of tasks that no run has. asked: how many of them a model was to be asked for.

    >>> uncovered(2, 3, asked=2).lines()[-1]
    'answered 0/3 test outputs, 3 fell back to a guess from the demonstrations'
    """
    counts: dict[str, Any] = {entry.name: 0 for entry in fields(Coverage) if entry.type == "int"}
    counts |= {"num_tasks": num_tasks, "asked": asked}
    counts |= {"num_outputs": num_outputs, "outputs_fallback": num_outputs}
    return Coverage(**counts, untrained_reasons={})


def covered_by_all(parts: Sequence[Coverage]) -> Coverage:
    """The sum of the coverages of runs that have no task in common."""

    def total(name: str) -> Any:
        values = [getattr(part, name) for part in parts]
        if name == "given_up":
            faults = sorted({fault for value in values for fault in value})
            return {f: [t for value in values for t in value.get(f, ())] for f in faults}
        if isinstance(values[0], dict):
            return dict(sum((Counter(v) for v in values), Counter()))
        return sum(values)

    return Coverage(**{entry.name: total(entry.name) for entry in fields(Coverage)})


def coverage_of(journal: Journal) -> Coverage:
    """Of the run, or what there is of it, that the journal holds."""
    num_tests = journal.num_tests()
    rows = [r for r in journal.stages() if r.task_id in num_tests]

    def reached(stage: str, number: int) -> set[str]:
        """Tasks that the stage gave something for in that round."""
        passed = [r for r in rows if (r.stage, r.round) == (stage, number)]
        return {r.task_id for r in passed if r.status != "failed"}

    quick, again = reached("quick", 1), reached("deep", 2)
    deep = [r for r in rows if r.stage == "deep"]
    deep_once = {r.task_id for r in deep if r.status != "failed"}

    by_stage = journal.programs()
    programs = [p for written in by_stage.values() for p in written]
    learning = _learning(rows, programs)
    learnt = {task_id for task_id, why in learning.items() if why is None}

    # Where no grids are written, to learn from programs is all the training there is.
    outcomes = learning
    if "transduction" in (journal.fact("strategy") or ["transduction"]):
        outcomes = _training(rows)
    trained = {task_id for task_id, why in outcomes.items() if why is None}
    untrained = [why for why in outcomes.values() if why is not None]
    reasons = Counter(reason for reason, _ in untrained)
    causes = Counter(cause for _, cause in untrained)

    given_up: dict[str, list[str]] = {}
    faults: dict[tuple[str, str], str] = {}
    for row in rows:
        is_made_good = row.stage == "quick" and row.task_id in deep_once
        is_fault = row.status != "done" and row.detail.get("cause") == "fault"
        if is_fault and row.round == 1 and not is_made_good:
            reason = row.detail["reason"]
            kind = row.stage, without_details(reason, [row.task_id])
            fault = faults.setdefault(kind, f"{row.stage}: {reason}")  # as the first task had it
            given_up.setdefault(fault, []).append(row.task_id)

    searches = [r for r in rows if r.stage == "search"]
    found: dict[str, list[Candidate]] = {}
    for candidate in journal.candidates(stage="search").get("search", ()):
        if candidate.task_id in num_tests:
            found.setdefault(candidate.task_id, []).append(candidate)
    sure = {t for t, answers in found.items() if least_weight(num_tests[t], answers) > FIRST}

    wrote = [r for r in rows if r.stage == "programs"]
    agreed = {r.task_id for r in wrote if r.detail["is_agreed"]}
    settled = (agreed | sure) - trained

    num_answered = sum(task_id in num_tests for task_id, _ in journal.answered())
    num_outputs = sum(num_tests.values())

    return Coverage(
        num_tasks=len(num_tests),
        quick=len(quick),
        trained=len(trained),
        deep=len(deep_once),
        again=len(again),
        sampled=len(quick | deep_once),
        num_outputs=num_outputs,
        outputs_fallback=num_outputs - num_answered,
        programs_written=len(programs),
        programs_valid=sum(p.outcome == "ok" for p in programs),
        programs_fit=len({p.task_id for p in programs if p.fits}),
        learnt=len(learnt),
        settled=len(settled),
        untrained_reasons=dict(reasons),
        untrained_causes=dict(causes),
        given_up=given_up,
        served=dict(Counter(r.detail["how"] for r in deep if r.detail.get("how"))),
        refusals=dict(Counter(refusal for r in deep for refusal in r.detail.get("refused", ()))),
        predictions={
            "grids": journal.num_deep_grids(),
            "programs": len(by_stage.get("deep", ())),
        },
        predictions_asked=_asked(journal, num_tests),
        setbacks=setbacks_of(journal),
        without_gpu=int(is_without_gpu(journal)),
        asked=0 if journal.fact("strategy") == ["search"] else len(num_tests),
        searched=sum(r.status == "done" for r in searches),
        search_lost=sum(r.status == "failed" for r in searches),
        search_found=len(found),
        search_sure=len(sure),
        search_alone=len(sure - quick - deep_once),
    )


WhyNot = tuple[str, str] | None
"""Why a task was not trained, and the `base.Cause`; None where it was."""


def _training(rows: Sequence[StageRow]) -> dict[str, WhyNot]:
    """How training for grids ended, by task, of the tasks that came to it."""
    found: dict[str, WhyNot] = {}
    for row in rows:
        if row.stage != "train":
            continue
        if row.status == "done":
            found[row.task_id] = None
        elif row.round == 1:
            # Journals of version 0.2 name no cause.
            cause = str(row.detail.get("cause") or "fault")
            found.setdefault(row.task_id, (str(row.detail.get("reason", "unknown")), cause))

    return found


def _learning(rows: Sequence[StageRow], programs: Sequence[ProgramMessage]) -> dict[str, WhyNot]:
    """The same for learning from programs. A task that is settled before is not among them."""
    found: dict[str, WhyNot] = {}
    for row in rows:
        if row.stage != "programs":
            continue

        epochs = row.detail.get("epochs") or []
        if any(epoch.get("num_steps", 0) > 0 and not epoch.get("reason") for epoch in epochs):
            found[row.task_id] = None
        elif epochs:
            reason, cause = epochs[-1].get("reason"), epochs[-1].get("cause")
            found.setdefault(row.task_id, (str(reason or "unknown"), str(cause or "result")))
        elif not row.detail["is_agreed"]:
            found.setdefault(row.task_id, ("no time was left to learn", "time"))

    # In the quick pass one adapter may learn from all tasks, and no row tells of it.
    return found | {p.task_id: None for p in programs if p.adapter}


def _asked(journal: Journal, num_tests: Mapping[str, int]) -> dict[str, int]:
    """How many predictions the run is to give, by kind; empty where they are not counted."""
    num = journal.fact(PREDICTIONS, int | None)
    if num is None:
        return {}
    strategy = journal.fact("strategy") or ()
    of_kind = {
        "grids": num * sum(num_tests.values()) if "transduction" in strategy else 0,
        "programs": num * len(num_tests) if "induction" in strategy else 0,
    }
    return {kind: count for kind, count in of_kind.items() if count}
