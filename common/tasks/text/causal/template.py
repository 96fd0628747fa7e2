"""A conversation as token ids: by the tokenizer's chat template, or plainly.

Prompt and answers are made ids each by itself, as they are when a model is asked: then what it
learns to continue is what it is given. An answer ends where the model is to stop, so that it learns
to stop.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from wardround.common.errors import DataError, TaskError
from wardround.common.tasks.text.causal.reading import ASSISTANT, Conversation, Message
from wardround.common.tasks.text.causal.render import Refused, renderer
from wardround.common.tasks.text.options import TextOptions

_MEND = (
    "give one as task.chat_template, or set task.template = 'plain' (a prompt, and what follows it)"
)
_RAISE = "raise it, or set task.cut to 'start' or 'end' to shorten the longest message"
_SHORTEN = "shorten it: a finished model has the settings that it was trained with"
_TRIES = 8


@dataclass(frozen=True)
class Encoded:
    """prompt : token ids, and of each whether it is scored: an earlier answer's is
    answers : token ids of each
    shortened : whether a message lost its start or end
    """

    prompt: list[int]
    scored: list[bool]
    answers: list[list[int]]
    shortened: bool = False

    def __len__(self) -> int:
        return len(self.prompt) + sum(map(len, self.answers))


class Template:
    """What makes conversations token ids.

    Raises TaskError for a tokenizer without a chat template where one is needed.
    """

    def __init__(self, tokenizer: Any, options: TextOptions) -> None:
        self._tokenizer, self._options = tokenizer, options
        self._chat = options.template == "chat"
        text = options.chat_template or tokenizer.chat_template
        self._written_by = text if self._chat else None
        if self._chat and not isinstance(text, str):
            raise TaskError(f"the base model's tokenizer has no chat template; {_MEND}")
        if tokenizer.eos_token_id is None:
            raise TaskError("the base model's tokenizer has no token that ends a text")
        added = tokenizer.added_tokens_decoder
        self._special = {number: str(one) for number, one in added.items() if one.special}
        if self._chat:
            self._write = renderer(text, tokenizer.special_tokens_map)
        around = tokenizer.encode("a")
        inside = tokenizer.encode("a", add_special_tokens=False)
        self._begin = around[: around.index(inside[0])] if inside else []

    @property
    def stops(self) -> set[int]:
        """Ids at which a text ends, however its answers end."""
        ends = {self._tokenizer.eos_token_id}
        return ends | ({self._answer([_QUESTION], "a")[-1]} if self._chat else set())

    def encode(self, said: Conversation, place: str) -> Encoded:
        """One conversation, cut where ``task.cut`` says so. Raises DataError by place."""
        self._check(said, place)
        found = self._encode(said, place)
        most, shortened = self._options.max_length, False
        for _ in range(_TRIES):
            if len(found) <= most:
                return replace(found, shortened=shortened)
            if self._options.cut == "refuse":
                raise DataError(
                    f"{place}: prompt and answers have more tokens than task.max_length = {most}",
                    mend=_SHORTEN if said.right < 0 else _RAISE,
                )
            said, shortened = self._shorter(said, len(found) - most, place), True
            found = self._encode(said, place)
        raise self._too_long(said, place)

    def _too_long(self, said: Conversation, place: str) -> DataError:
        return DataError(
            f"{place}: without its longest message it still has more tokens than task.max_length = "
            f"{self._options.max_length}",
            mend=_SHORTEN if said.right < 0 else "raise it, or take the line out",
        )

    def _check(self, said: Conversation, place: str) -> None:
        texts = [one["content"] for one in said.messages] + list(said.answers)
        for token in self._special.values():
            if any(token in text for text in texts):
                raise DataError(
                    f"{place}: a text has one of the tokenizer's own marks ({token}), which would "
                    "end or begin a message; take it out"
                )
        if not self._chat and any(one["role"] == ASSISTANT for one in said.messages):
            raise DataError(
                f"{place}: a conversation of several answers needs a chat template; {_MEND}"
            )

    def _shorter(self, said: Conversation, over: int, place: str) -> Conversation:
        """Without the start or end of the longest message that isn't an answer."""
        messages = list(said.messages)
        at = max(
            (n for n, one in enumerate(messages) if one["role"] != ASSISTANT),
            key=lambda n: len(messages[n]["content"]),
        )
        text = messages[at]["content"]
        spans = self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        offsets = spans["offset_mapping"]
        if over >= len(offsets):
            raise self._too_long(said, place)
        if self._options.cut == "start":
            text = text[offsets[over][0] :].lstrip()
        else:
            text = text[: offsets[len(offsets) - over][0]].rstrip()
        if not text:
            raise self._too_long(said, place)
        messages[at] = {**messages[at], "content": text}
        return replace(said, messages=tuple(messages))

    def text(self, tokens: list[int]) -> str:
        """What token ids say, without the tokenizer's own marks."""
        return str(self._tokenizer.decode(tokens, skip_special_tokens=True))

    def save(self, folder: Path) -> None:
        """Write the tokenizer's files, with the template that is used."""
        known = copy.copy(self._tokenizer)
        known.chat_template = self._written_by
        known.save_pretrained(folder)

    # --- ids ---------------------------------------------------------------------------------
    def _ids(self, text: str) -> list[int]:
        found: list[int] = self._tokenizer.encode(text, add_special_tokens=False)
        return found

    def _encode(self, said: Conversation, place: str) -> Encoded:
        if not self._chat:
            return self._plain(said)
        try:
            prompt, scored = self._trunk(said.messages)
            answers = [self._answer(said.messages, text) for text in said.answers]
        except Refused as error:
            raise DataError(f"{place}: {error}") from None
        return Encoded(prompt, scored, answers)

    def _plain(self, said: Conversation) -> Encoded:
        text = "".join(f"{one['content']}\n" for one in said.messages)
        prompt = [*self._begin, *self._ids(text)]
        end = self._tokenizer.eos_token_id
        answers = [[*self._ids(answer), end] for answer in said.answers]
        return Encoded(prompt, [False] * len(prompt), answers)

    def _trunk(self, messages: Sequence[Message]) -> tuple[list[int], list[bool]]:
        """Ids up to where the answer begins. An earlier answer is scored as the last one is; where
        the template writes it otherwise once more follows (without its reasoning), it isn't."""
        whole = self._write(messages, True)
        ids: list[int] = []
        scored: list[bool] = []
        done = 0
        for number, one in enumerate(messages):
            if one["role"] != ASSISTANT:
                continue
            before = self._write(messages[:number], True)
            if not whole.startswith(self._write(messages[: number + 1], False)):
                continue
            answer = self._answer(messages[:number], one["content"])
            text = self._tokenizer.decode(answer)
            prompt = self._ids(whole[done : len(before)])
            # what the template writes behind an answer's end belongs to the next prompt
            if not whole[len(before) :].startswith(text):
                continue
            ids += [*prompt, *answer]
            scored += [*[False] * len(prompt), *[True] * len(answer)]
            done = len(before) + len(text)
        rest = self._ids(whole[done:])
        return [*ids, *rest], [*scored, *[False] * len(rest)]

    def _answer(self, messages: Sequence[Message], text: str) -> list[int]:
        """Ids of an answer up to its last mark; with the token that ends a text if it has none."""
        before = self._write(messages, True)
        whole = self._write([*messages, {"role": ASSISTANT, "content": text}], False)
        if not whole.startswith(before):
            raise TaskError(
                "the chat template writes a prompt otherwise once its answer follows, so no answer "
                f"can be scored; {_MEND}"
            )
        ids = self._ids(whole[len(before) :])
        marks = [number for number, one in enumerate(ids) if one in self._special]
        return ids[: marks[-1] + 1] if marks else [*ids, self._tokenizer.eos_token_id]


_QUESTION: Message = {"role": "user", "content": "a"}
