"""How far a run in a folder came, told from what it left there: one run, or the shards of many."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from appliance.arc.read import read_json
from appliance.config import Settings
from appliance.errors import InputError
from appliance.record.coverage import Coverage, coverage_of
from appliance.record.journal import Journal
from appliance.record.run_folder import RunFolder


@dataclass(frozen=True)
class Reached:
    """What a run came to."""

    coverage: Coverage
    task_ids: tuple[str, ...]
    settings: Settings  # that it worked with; the defaults where it left none
    is_ended: bool  # it came to its end by itself: not stopped, killed or given up

    def shortfalls(self) -> list[str]:
        """Stages below their floor, each as a sentence."""
        settings = self.settings
        return self.coverage.shortfalls(settings.run, train_enabled=settings.trains)


def reached_by(run: Path) -> Reached:
    """Of the run in that --out folder. Raises InputError where there is none."""
    folder = RunFolder(run)
    journal = Journal(folder.existing_journal())
    try:
        coverage, task_ids = coverage_of(journal), tuple(r.task_id for r in journal.tasks())
    finally:
        journal.close()
    return Reached(coverage, task_ids, _settings(folder), folder.is_ended())


def _settings(folder: RunFolder) -> Settings:
    try:
        return Settings.model_validate(read_json(folder.config))
    except (InputError, ValidationError):  # none yet, or damaged
        return Settings()
