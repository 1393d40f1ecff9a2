"""Which pictures there are of which experiments."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from appliance.errors import PrerequisiteError
from appliance.record.experiments.anytime import score_over_time
from appliance.record.experiments.read_run import RunRecord, score_columns
from appliance.record.journal import Journal
from appliance.report.pictures.chances import chance_picture
from appliance.report.pictures.over_time import time_picture
from appliance.report.pictures.pass_at_n import NamedRun, pass_picture
from appliance.report.pictures.scores import score_picture
from appliance.report.pictures.style import Picture, inline_svg
from appliance.report.pictures.trainings import NamedLog, training_picture


def named_run(name: str, run: RunRecord) -> NamedRun:
    by_task = score_columns(run.submission, run.solutions)["score_by_task"].by_task
    return NamedRun(name, run, {task_id for task_id, share in by_task.items() if share == 1.0})


def run_pictures(runs: Sequence[NamedRun]) -> list[Picture]:
    """Those that the runs have anything for; none for no runs."""
    curves = {}
    for run in runs:
        journal = Journal(run.run.folder.existing_journal())
        try:
            curves[run.name] = score_over_time(journal, run.run.solutions)
        finally:
            journal.close()

    found = [pass_picture(runs), score_picture(runs), chance_picture(runs), time_picture(curves)]
    return [picture for picture in found if picture is not None]


def pictures_html(run: NamedRun) -> str:
    """The pictures of a run as a part of its page; without matplotlib a sentence instead."""
    drawn = run_pictures([run])
    try:
        figures = [
            f'<h3>{escape(picture.title)}</h3><div class="picture">{inline_svg(picture)}</div>'
            for picture in drawn
        ]
    except PrerequisiteError as fault:
        figures = [f'<p class="quiet">{escape(str(fault))}</p>']
    return f"<h2>Pictures</h2>{''.join(figures)}" if figures else ""


def training_pictures(trainings: Sequence[NamedLog]) -> list[Picture]:
    """Against steps, and against tokens where these are known: steps may be of unlike size."""
    if not any(training.log.figures() for training in trainings):
        return []
    pictures = [training_picture(trainings, "steps")]
    if any(line.get("tokens") for training in trainings for line in training.log.steps):
        pictures.append(training_picture(trainings, "tokens"))
    return pictures
