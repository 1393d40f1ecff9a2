"""`appliance exec`: run a file of untrusted programs in the sandbox."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from appliance.commands.arguments import whole
from appliance.errors import EXIT_DONE
from appliance.program.program_file import FORM, read_programs, write_results
from appliance.program.sandbox import SEVERITY, Limits, Sandbox


def add_arguments(parser: argparse.ArgumentParser) -> None:
    defaults = Limits()
    parser.add_argument(
        "--programs",
        type=Path,
        required=True,
        metavar="IN.jsonl",
        help=f"one program a line: {FORM}",
    )
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="OUT.jsonl",
        help="one result a line, in the same order",
    )
    parser.add_argument(
        "--cpu-s",
        type=float,
        default=defaults.cpu_s,
        metavar="S",
        help=f"CPU seconds per program (default {defaults.cpu_s:g})",
    )
    parser.add_argument(
        "--memory-mb",
        type=int,
        default=defaults.memory_mb,
        metavar="MIB",
        help=f"memory per program (default {defaults.memory_mb})",
    )
    parser.add_argument(
        "--workers",
        type=whole(1, 1024),
        metavar="N",
        help="programs that run at the same time (default: one per core)",
    )
    parser.add_argument(
        "--cache", type=Path, metavar="DIR", help="folder that keeps results for later calls"
    )
    parser.add_argument(
        "--preload", default="", metavar="A,B", help="further modules that programs may import"
    )
    parser.add_argument(
        "--accept-level",
        choices=["no-seccomp"],
        help="run even where this layer of the sandbox is missing",
    )


def run(args: argparse.Namespace) -> int:
    """Runs the programs; exit code 0 however badly they behave.

    Raises InputError for a bad record or grid before anything runs, PrerequisiteError where the
    sandbox cannot stand.
    """
    ids, programs = read_programs(args.programs)

    with Sandbox(
        Limits(args.cpu_s, args.memory_mb),
        workers=args.workers,
        preload=tuple(name for name in args.preload.split(",") if name),
        cache=args.cache,
        accept_level=args.accept_level,
    ) as sandbox:
        outcomes = write_results(args.out, ids, programs, sandbox)

    counts = ", ".join(f"{name} {outcomes[name]}" for name in SEVERITY if outcomes[name])
    print(f"{len(ids)} programs at level {sandbox.level}: {counts or 'none'}", file=sys.stderr)
    return EXIT_DONE
