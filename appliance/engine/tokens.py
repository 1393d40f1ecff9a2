"""Conversations to token ids and back, by the model's own tokenizer and chat template.

The same rendering serves training and sampling: what a lesson teaches to write after a prompt is
exactly what sampling asks for.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from appliance.arc.prompt import Conversation
from appliance.engine.training.packing import TokenSequence
from appliance.errors import InputError


class Codec:
    """A Transformers tokenizer with its chat template."""

    def __init__(self, tokenizer: Any) -> None:
        """Raises InputError when the tokenizer has no end or padding token, or one for both.

        With one for both, training would mask the end away as if it were padding.
        """
        self._tokenizer = tokenizer
        if tokenizer.eos_token_id is None or tokenizer.pad_token_id is None:
            raise InputError(
                "the tokenizer names no end or no padding token",
                expected="eos_token and pad_token in tokenizer_config.json",
                remedy="set them in the model folder",
            )
        self.eos_id: int = tokenizer.eos_token_id
        self.pad_id: int = tokenizer.pad_token_id

        if self.eos_id == self.pad_id:
            raise InputError(
                f"the tokenizer uses {tokenizer.eos_token!r} both as end and as padding",
                expected="two different tokens, else the model never learns to stop",
                remedy="set pad_token to a reserved token in tokenizer_config.json",
            )

        self.stop_ids: tuple[int, ...] = (self.eos_id,)

    @staticmethod
    def load(model_dir: Path) -> Codec:
        """The codec of a model folder. Raises InputError when its tokenizer cannot be read."""
        from transformers import AutoTokenizer

        try:
            tokenizer = AutoTokenizer.from_pretrained(str(model_dir), local_files_only=True)
        except (OSError, ValueError) as fault:
            raise InputError(
                f"model folder {model_dir}: tokenizer cannot be read ({fault})",
                expected="tokenizer.json and tokenizer_config.json",
                remedy="pass --model with a complete Transformers folder",
            ) from fault

        if getattr(tokenizer, "chat_template", None) is None:
            raise InputError(
                f"model folder {model_dir}: the tokenizer has no chat template",
                expected="chat_template in tokenizer_config.json or chat_template.jinja",
                remedy="use an instruction-tuned model, or add its template",
            )
        return Codec(tokenizer)

    def prompt_ids(self, conversation: Conversation) -> tuple[int, ...]:
        """Ids up to the place where the model writes its answer."""
        text = self._render(conversation, len(conversation.turns)) + conversation.answer_prefix
        return self.ids(text)

    def ids(self, text: str) -> tuple[int, ...]:
        """Ids of a text as it stands, with no mark added."""
        return tuple(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def lesson(self, conversation: Conversation) -> TokenSequence:
        """Ids of the whole conversation.

        Targets are the tokens of its target turns, end mark included.
        """
        num_turns = len(conversation.turns)
        text = self._render(conversation, num_turns, opens_answer=False)

        # Where the answers stand in the text, in characters.
        spans: list[tuple[int, int]] = []
        for i, turn in enumerate(conversation.turns):
            if turn.is_target:
                begin = len(self._render(conversation, i))
                if i + 1 == num_turns:  # the prompt gives this part of the answer
                    begin += len(conversation.answer_prefix)
                end_mark = self._tokenizer.eos_token
                spans.append((begin, text.index(end_mark, begin) + len(end_mark)))

        encoded = self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        starts = np.array([a for a, _ in encoded["offset_mapping"]], dtype=np.int64)
        is_target = np.zeros(starts.shape, dtype=np.bool_)
        for begin, end in spans:
            is_target |= (starts >= begin) & (starts < end)

        return TokenSequence(np.array(encoded["input_ids"], dtype=np.int32), is_target)

    def is_vocabulary(self, tokens: Sequence[str]) -> bool:
        """Whether the tokenizer knows exactly these tokens, by these ids."""
        return bool(self._tokenizer.get_vocab() == {token: i for i, token in enumerate(tokens)})

    def save(self, folder: Path) -> None:
        """Write tokenizer and chat template beside the weights that were trained with them."""
        self._tokenizer.save_pretrained(str(folder))

    def num_tokens(self, text: str) -> int:
        """Tokens of a text by itself."""
        return len(self.ids(text))

    def text(self, ids: tuple[int, ...]) -> str:
        """The text of generated ids, special tokens left out."""
        return str(self._tokenizer.decode(ids, skip_special_tokens=True))

    def _render(
        self, conversation: Conversation, num_turns: int, *, opens_answer: bool = True
    ) -> str:
        """The first turns as text; opens_answer: with what the template puts before an answer."""
        messages = [{"role": t.role, "content": t.text} for t in conversation.turns[:num_turns]]
        if not messages:
            return ""
        return str(
            self._tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=opens_answer
            )
        )
