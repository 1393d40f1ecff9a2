"""Checks of a family of generated tasks."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from appliance.arc.grid import same_grid
from appliance.learn.synth.family import Family, make_task, run_program, task_params, task_program


def check_family(family: Family, seeds: Iterable[int], *, num_train: int = 3) -> list[str]:
    """Every fault found in the tasks of these seeds; an empty list for a sound family.

    Checked: a task is the same when made again; tasks differ from seed to seed; the rule does not
    change its input; the program, where there is one, gives the output of the rule for each pair
    and test; and `make_task` finds enough legal pairs.
    """
    faults: list[str] = []
    digests = []
    for seed in seeds:
        place = f"{family.name}, seed {seed}"

        try:
            task, answers = make_task(family, seed, num_train)
        except RuntimeError as error:
            faults.append(str(error))
            continue

        again, answers_again = make_task(family, seed, num_train)
        if task != again or not all(map(same_grid, answers, answers_again)):
            faults.append(f"{place}: made twice, it is not the same")
        digests.append(task.digest())

        source = task_program(family, seed)
        inputs = [*(pair.input for pair in task.train), *task.test]
        outputs = [*(pair.output for pair in task.train), *answers]
        for index, (given, wanted) in enumerate(zip(inputs, outputs, strict=True)):
            cells = given.astype(np.int64)
            family.apply(cells, task_params(family, seed))
            if not np.array_equal(cells, given):
                faults.append(f"{place}: the rule changes its input {index}")
            if source is not None and not np.array_equal(run_program(source, given), wanted):
                faults.append(f"{place}: the program differs from the rule on input {index}")

    if len(set(digests)) < len(digests):
        faults.append(
            f"{family.name}: {len(digests)} seeds make only {len(set(digests))} different tasks"
        )
    return faults
