"""Which functions a search tries first, learnt from training tasks that it solves.

    python -m bench.search --tasks CHALLENGES --solutions SOLUTIONS --out ANSWERS.jsonl
    python -m bench.search_costs ANSWERS.jsonl

Writes appliance/search/costs.json: what is added to the cost of a function of the DSL, as its mark
says it, when states are put in order. The mark is the belief before; a cost falls where right
programs call the function more often than the mark would let expect, and rises where less often.
The weights of answers go by the marks alone.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from appliance.program.dsl.base import FORMS
from appliance.search.calls import COSTS_FILE
from bench.arguments import bench_parser

PRIOR_TASKS = 1.0
"""The belief before weighs as much as this many tasks."""

STRENGTH = 0.5
"""Cost for a factor of 2 between how often a function is called and how often was expected."""

LEAST, MOST = 0.5, 2.5
"""Bounds, for a few hundred tasks are few. Functions that cost less by their mark keep it."""


def main() -> None:
    parser = bench_parser("search_costs", __doc__)
    parser.add_argument("answers", type=Path)
    parser.add_argument("--to", type=Path, default=COSTS_FILE)
    args = parser.parse_args()

    rows = [json.loads(line) for line in args.answers.read_text(encoding="utf-8").splitlines()]
    marked = {f.__name__: min(form.cost for form in forms) for f, forms in FORMS.items()}
    uses, num_tasks = count_uses(rows, marked)
    changes = learn(uses, marked)

    args.to.write_text(json.dumps(changes, indent=0, sort_keys=True) + "\n", encoding="utf-8")
    for name, change in sorted(changes.items(), key=lambda item: item[1]):
        print(f"{name:24} {marked[name]:.1f} {change:+.2f}   in {uses[name]:.1f} tasks")
    print(f"{num_tasks} solved tasks; {args.to} holds {len(changes)} changes")


def count_uses(rows: Iterable[Mapping[str, Any]], names: Iterable[str]) -> tuple[Counter[str], int]:
    """In how many tasks each function is called, and how many tasks have a right program.

    The right programs of a task share it by their weights.
    """
    known = set(names)
    of_views = re.compile(r"original, grid = grid, .*")  # chosen by the view, not by the search
    uses: Counter[str] = Counter()
    num_tasks = 0

    for row in rows:
        right = [a for a in row["answers"] if a["right"] and a["program"]]
        total = sum(a["weight"] for a in right)
        num_tasks += bool(right)
        for answer in right:
            program = of_views.sub("", answer["program"]).replace("return swap(", "return (")
            for name in known & set(re.findall(r"\b[a-z_0-9]+(?=[(,)])", program)):
                uses[name] += answer["weight"] / total

    return uses, num_tasks


def learn(uses: Mapping[str, float], marked: Mapping[str, float]) -> dict[str, float]:
    """The change of each function's cost, from its uses and the cost in its mark."""
    beliefs = {name: 0.5**cost for name, cost in marked.items()}
    all_uses, all_beliefs = sum(uses.values()), sum(beliefs.values())
    changes = {}

    for name, cost in marked.items():
        expected = all_uses * beliefs[name] / all_beliefs
        ratio = (uses.get(name, 0.0) + PRIOR_TASKS) / (expected + PRIOR_TASKS)
        learnt = min(MOST, max(LEAST, cost - STRENGTH * math.log2(ratio)))
        if cost >= LEAST and abs(learnt - cost) >= 0.01:
            changes[name] = round(learnt - cost, 2)

    return changes


if __name__ == "__main__":
    main()
