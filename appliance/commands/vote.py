"""`appliance vote`: merge the journals of runs or shards and vote again, without a model."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from appliance.arc.source import load_tasks
from appliance.arc.submission import write_submission
from appliance.arc.vote import DEFAULT_SELECTOR, SELECTORS
from appliance.commands.arguments import add_tasks_argument
from appliance.errors import EXIT_DONE
from appliance.foreign_text import as_shown
from appliance.record.reached import reached_by
from appliance.record.revote import vote_again


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "runs",
        nargs="+",
        type=Path,
        metavar="RUN",
        help="--out folders of runs, of the same tasks or of others",
    )
    parser.add_argument(
        "--out", required=True, type=Path, metavar="FILE", help="the submission to write"
    )
    parser.add_argument(
        "--selector",
        choices=sorted(SELECTORS),
        default=DEFAULT_SELECTOR,
        help=f"how candidates are ranked (default {DEFAULT_SELECTOR})",
    )
    add_tasks_argument(
        parser, "tasks that the submission must cover; those without a run get fallback answers"
    )


def run(args: argparse.Namespace) -> int:
    tasks = load_tasks(args.tasks) if args.tasks else None
    voted = vote_again(args.runs, selector=args.selector, tasks=tasks)
    # An empty run votes as smoothly as a full one, so how far each came is said.
    low = [f"{run}: {text}" for run in dict.fromkeys(args.runs) for text in _shortfalls(run)]
    for note in (*voted.notes, *low):
        print(f"appliance: note: {as_shown(note)}", file=sys.stderr)
    write_submission(args.out, voted.submission)

    num_outputs = sum(len(entries) for entries in voted.submission.values())
    print(
        f"{args.out}: {len(voted.submission)} tasks, {num_outputs} test outputs, "
        f"of which {voted.num_voted} were voted on"
    )
    return EXIT_DONE


def _shortfalls(run: Path) -> list[str]:
    """Stages of that run that are below their floor."""
    return [f"below its floor: {text}" for text in reached_by(run).shortfalls()]
