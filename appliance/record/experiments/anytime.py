"""What a run would have scored, had it been stopped at any moment."""

from __future__ import annotations

from appliance.arc.metrics import submission_scores
from appliance.arc.task import Solutions
from appliance.arc.vote import DEFAULT_SELECTOR
from appliance.record.attempts import attempts_of
from appliance.record.journal import Journal
from appliance.record.legs import legs_of


def score_over_time(journal: Journal, solutions: Solutions) -> list[tuple[float, float]]:
    """Seconds of work and the score by test output from then on, beginning with (0, 0).

    At each moment when a stage of a task ended, the task is voted on again with all that had come
    by then. Guesses do not count. Empty for a journal that is older and says nothing of times.
    """
    legs = legs_of(journal)
    ended = [
        (row.at_s, row.task_id)
        for row in journal.stages()
        if row.at_s is not None and row.task_id in solutions
    ]
    if not ended or not legs.spans:
        return []

    outputs = sum(map(len, solutions.values()))
    solved = dict.fromkeys(solutions, 0.0)
    curve = [(0.0, 0.0)]
    for at_s, task_id in sorted(set(ended)):
        found = attempts_of(journal.candidates(task_id, until_s=at_s), DEFAULT_SELECTOR)
        answers = solutions[task_id]
        tried = [found.get((task_id, i), ()) for i in range(len(answers))]
        share = submission_scores({task_id: tried}, {task_id: answers})["by_task"]
        solved[task_id] = share * len(answers)
        curve.append((legs.worked_s(at_s), sum(solved.values()) / outputs))

    # The score holds until the end of the work.
    return [*curve, (max(legs.total_s, curve[-1][0]), curve[-1][1])]
