"""`appliance watch`: what a run does at the moment, here or on another machine, read-only.

All comes from the journal in the run's folder, which is read without a lock: the run notices
nothing.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

from appliance.arc.source import load_solutions, load_tasks
from appliance.arc.task import Solutions
from appliance.clock import Clock, SystemClock
from appliance.commands.arguments import (
    add_json_argument,
    add_solutions_argument,
    add_tasks_argument,
)
from appliance.errors import EXIT_DONE, ApplianceError, InputError
from appliance.record.peek import Stamp, peek, stamp_of
from appliance.record.run_folder import RunFolder
from appliance.run.screen.draw import frame
from appliance.run.screen.follow import MANY, Follower
from appliance.run.screen.screen import REFRESH_S, Screen
from appliance.run.screen.terminal import is_capable
from appliance.run.screen.view import RunView
from appliance.run.screen.view_json import as_json

KEYS = "q or Ctrl-C ends watching, the run goes on   space more tasks   b back"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=Path, metavar="RUN", help="the --out folder of a run")
    add_tasks_argument(parser, "the tasks (default: those that the run was started with)")
    add_solutions_argument(
        parser, "the answers, to mark solved tasks (default: those beside the tasks, if any)"
    )
    parser.add_argument(
        "--once",
        action="store_true",
        help="print how things stand and end; so it is without a terminal",
    )
    add_json_argument(parser, "the same as JSON, once")


def run(args: argparse.Namespace) -> int:
    folder, clock = RunFolder(args.run), SystemClock()
    journal = folder.existing_journal()
    source = peek(journal, lambda found: found.fact("tasks", str | None), clock)
    solutions = _solutions(args.tasks, source, args.solutions)

    if args.once or args.json or not is_capable():
        _print_once(journal, str(args.run), solutions, clock, is_json=args.json)
    else:
        _watch(journal, str(args.run), solutions, clock)
    return EXIT_DONE


def _solutions(tasks: str | None, source: str | None, given: str | None) -> Solutions:
    """Answers, where they are known. What was asked for must be there.

    tasks, given: what --tasks and --solutions named. source: where the run read its tasks.
    """
    named = tasks or source
    if tasks is None and given is None:
        try:
            return load_tasks(source).solutions if source else {}
        except ApplianceError:  # on this machine they need not be
            return {}
    if named is None:
        raise InputError(
            "the run does not say where its tasks are",
            expected="tasks, to go with --solutions",
            remedy="pass --tasks",
        )
    known = load_tasks(named)
    return load_solutions(given, known) if given else known.solutions


def _print_once(
    journal: Path, name: str, solutions: Solutions, clock: Clock, *, is_json: bool
) -> None:
    view = RunView(solutions)
    follower = Follower(view, name, most=MANY)
    follower.take(peek(journal, follower.look, clock))
    while not follower.is_complete:
        follower.take(peek(journal, follower.look, clock))

    if is_json:
        print(json.dumps(as_json(view, clock.now()), indent=1))
        return
    lines = frame(view, clock.now(), shutil.get_terminal_size(), keys="")
    print("\n".join(line.plain.rstrip() for line in lines[:-1]))


def _watch(journal: Path, name: str, solutions: Solutions, clock: Clock) -> None:
    """Until the person leaves."""
    screen = Screen(name, solutions, keys=KEYS, most=MANY)
    seen: Stamp | None = None
    screen.open()
    try:
        while not screen.is_left():
            try:
                seen = _look(screen, journal, seen, clock)
            except ApplianceError as fault:
                screen.view.fault = str(fault)
            screen.paint(clock.now())
            screen.wait(REFRESH_S if screen.is_complete else 0.0)
    finally:
        screen.close(clock.now())


def _look(screen: Screen, journal: Path, seen: Stamp | None, clock: Clock) -> Stamp:
    """Bring the screen up to date, unless the journal is as it was when it was seen last."""
    stamp = stamp_of(journal)
    if seen is not None and stamp.inode != seen.inode:
        screen.begin_anew()  # the run was started anew, or its journal was mended
    if stamp != seen or not screen.is_complete or screen.view.fault:
        screen.take(peek(journal, screen.look, clock))
    return stamp
