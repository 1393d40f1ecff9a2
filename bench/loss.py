"""Memory and time of the loss: by chunks, as training takes it, against all logits at once.

    python -m bench.loss                              a head of 151,936 x 896 and 4,096 targets
    python -m bench.loss --vocabulary 9288 --hidden 256 --targets 512     arc-mini's
    python -m bench.loss --chunks 32,128,512          chunks of so many MiB of logits

Forward and backward of the head and the cross-entropy alone; hidden states are drawn. Peak memory
is what the process holds beyond head and hidden states, each way in a child process of its own.
Times are CPU seconds, both ways in turns in one process, the median of --rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from appliance.sizing.costs.setups import LOSS_CHUNK_BYTES
from bench.arguments import bench_parser

MIB = 2**20


def all_at_once(head: Any, hidden: Any, labels: Any) -> Any:
    """What training did before: all logits, then torch's own cross-entropy."""
    import torch

    return torch.nn.functional.cross_entropy(head(hidden).float(), labels)


def way_of(name: str, vocabulary: int) -> Callable[..., Any]:
    """A loss by its name: "whole", or the MiB of a chunk."""
    from appliance.engine.training.cross_entropy import cross_entropy

    if name == "whole":
        return all_at_once
    return partial(cross_entropy, chunk_rows=max(1, int(name) * MIB // (4 * vocabulary)))


def measure(args: argparse.Namespace, names: list[str]) -> dict[str, Any]:
    """CPU seconds of each way, and the peak of all, in MiB."""
    import torch

    torch.manual_seed(0)
    head = torch.nn.Linear(args.hidden, args.vocabulary, bias=False)
    head.requires_grad_(args.trained)
    hidden = torch.randn(args.targets, args.hidden, requires_grad=True)
    labels = torch.randint(0, args.vocabulary, (args.targets,))
    dtype = getattr(torch, args.dtype)

    def learn(way: Callable[..., Any], head: Any, hidden: Any, labels: Any) -> float:
        head.weight.grad = hidden.grad = None
        began = time.process_time()
        with torch.autocast("cpu", dtype, enabled=args.dtype != "float32"):
            loss = way(head, hidden, labels)
        loss.backward()
        return time.process_time() - began

    ways = {name: way_of(name, args.vocabulary) for name in names}
    for way in ways.values():  # so that code which is loaded at its first call does not count
        small = torch.nn.Linear(8, 8, bias=False).requires_grad_(args.trained)
        learn(way, small, torch.randn(8, 8, requires_grad=True), torch.arange(8))
    before = _held_mib()
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(args.rounds):
        for name, way in ways.items():
            seconds[name].append(learn(way, head, hidden, labels))

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    return {"seconds": medians, "peak_mib": peak - before}


def _held_mib() -> float:
    """Resident memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / MIB


def in_child(words: list[str], names: list[str]) -> dict[str, Any]:
    """The figures of `measure`, in a child process."""
    command = [sys.executable, "-m", "bench.loss", *words, "--child", ",".join(names)]
    env = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=env, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def main() -> int:
    parser = bench_parser("loss", __doc__)
    parser.add_argument("--vocabulary", type=int, default=151_936)
    parser.add_argument("--hidden", type=int, default=896, help="width of hidden states")
    parser.add_argument("--targets", type=int, default=4096, help="tokens that carry loss")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16", "float16"))
    parser.add_argument("--trained", action="store_true", help="the head's weights learn as well")
    parser.add_argument("--chunks", default=str(LOSS_CHUNK_BYTES // MIB), help="MiB, comma between")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    args = parser.parse_args()

    if args.child:
        print(json.dumps(measure(args, args.child.split(","))))
        return 0

    names = ["whole", *args.chunks.split(",")]
    words = sys.argv[1:]
    seconds = in_child(words, names)["seconds"]
    print(
        f"{args.targets} targets, head {args.vocabulary} x {args.hidden}, {args.dtype}, "
        f"head {'trained' if args.trained else 'frozen'}\n"
    )
    print(f"{'logits at a time':20} {'peak MiB':>9} {'CPU s':>9} {'of whole':>9}")
    for name in names:
        peak = in_child([*words, "--rounds", "1"], [name])["peak_mib"]
        label = name if name == "whole" else f"chunks of {name} MiB"
        share = seconds[name] / seconds["whole"]
        print(f"{label:20} {peak:9.0f} {seconds[name]:9.4g} {share:9.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
