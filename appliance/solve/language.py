"""How a model is spoken to, and how a task is shortened until it fits the longest sequence."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from appliance.arc.encode import GridEncoder, get_encoder
from appliance.arc.grid import Grid
from appliance.arc.prompt import PromptStyle, fit_demonstrations, get_style
from appliance.arc.task import Task
from appliance.engine.folder.card import read_card
from appliance.engine.tokens import Codec
from appliance.engine.training.packing import TokenSequence


@dataclass(frozen=True)
class Language:
    """The prompt style, grid encoder and tokenizer of a model.

    What does not fit is shortened by dropping demonstrations from the end of the task.
    """

    style: PromptStyle
    encoder: GridEncoder
    codec: Codec
    max_seq_tokens: int  # longest sequence that the model takes, prompt and answer together

    @staticmethod
    def of(folder: Path) -> Language:
        """In which the model of this folder is asked for grids. Raises as `read_card` does."""
        card = read_card(folder)
        codec = Codec.load(folder)
        return Language(get_style(card.style), get_encoder(card.encoder), codec, card.max_positions)

    def prompt_ids(self, task: Task, test_index: int) -> tuple[int, ...]:
        """Ids of the prompt that asks for the answer to this test input."""
        return self.codec.prompt_ids(self.style.prompt(task, test_index, self.encoder))

    def lesson(self, task: Task, test_index: int, answer: Grid | str) -> TokenSequence:
        """The same prompt followed by the answer (a grid, or the text of a program)."""
        return self.codec.lesson(self.style.lesson(task, test_index, answer, self.encoder))

    def num_answer_tokens(self, grid: Grid) -> int:
        """Tokens that this grid takes as an answer, end mark included."""
        return self.codec.num_tokens(self.encoder.encode(grid)) + self.codec.num_end_tokens

    def fit_prompt(self, task: Task, test_index: int, *, max_tokens: int) -> Task | None:
        """The task with as many demonstrations as its prompt has room for.

        None when not even one demonstration fits.
        """
        return fit_demonstrations(
            task, lambda shorter: len(self.prompt_ids(shorter, test_index)) <= max_tokens
        )

    def fit_lesson(
        self, task: Task, test_index: int, answer: Grid | str, *, max_tokens: int
    ) -> TokenSequence | None:
        """The lesson with as many demonstrations as fit, None when not even one does."""
        for num_shown in range(len(task.train), 0, -1):
            shorter = task.with_train(task.train[:num_shown])
            lesson = self.lesson(shorter, test_index, answer)
            if len(lesson) <= max_tokens:
                return lesson

        return None
