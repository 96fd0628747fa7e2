"""A conversation as token ids: by the tokenizer's chat template, or plainly.

Prompt and answers are made ids each by itself, as they are when a model is asked: then what it
learns to continue is what it is given. An answer ends where the model is to stop, so that it learns
to stop.

A template is Jinja, run in the sandbox that transformers has for them. One that writes the date
gets the same one everywhere and always (``DATE``): rows may not depend on the day.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from wardround.common.errors import DataError, TaskError
from wardround.common.tasks.text.causal.reading import ASSISTANT, Conversation, Message
from wardround.common.tasks.text.options import TextOptions

DATE = datetime.date(2024, 7, 26)
_MEND = (
    "give one as task.chat_template, or set task.template = 'plain' (a prompt, and what follows it)"
)
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
        self._text = options.chat_template or tokenizer.chat_template
        if self._chat and not isinstance(self._text, str):
            raise TaskError(f"the base model's tokenizer has no chat template; {_MEND}")
        if tokenizer.eos_token_id is None:
            raise TaskError("the base model's tokenizer has no token that ends a text")
        added = tokenizer.added_tokens_decoder
        self._special = {number: str(one) for number, one in added.items() if one.special}
        around = tokenizer.encode("a")
        inside = tokenizer.encode("a", add_special_tokens=False)
        self._begin = around[: around.index(inside[0])] if inside else []

    @property
    def stops(self) -> set[int]:
        """Ids at which a text ends, however its answers end."""
        return {self._tokenizer.eos_token_id, *self._ends(self._answer([_QUESTION], "a"))}

    def _ends(self, answer: list[int]) -> list[int]:
        return answer[-1:] if answer and answer[-1] in self._special else []

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
                    f"{place}: prompt and answers have more tokens than task.max_length = {most}; "
                    "raise it, or set task.cut to 'start' or 'end' to shorten the longest message"
                )
            said, shortened = self._shorter(said, len(found) - most, place), True
            found = self._encode(said, place)
        raise self._too_long(place)

    def _too_long(self, place: str) -> DataError:
        return DataError(
            f"{place}: without its longest message it still has more tokens than task.max_length = "
            f"{self._options.max_length}; raise it, or take the line out"
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
            raise self._too_long(place)
        if self._options.cut == "start":
            text = text[offsets[over][0] :].lstrip()
        else:
            text = text[: offsets[len(offsets) - over][0]].rstrip()
        if not text:
            raise self._too_long(place)
        messages[at] = {**messages[at], "content": text}
        return replace(said, messages=tuple(messages))

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
        except _Refused as error:
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
        whole = self._render(messages, True)
        ids: list[int] = []
        scored: list[bool] = []
        done = 0
        for number, one in enumerate(messages):
            if one["role"] != ASSISTANT:
                continue
            before = self._render(messages[:number], True)
            if not whole.startswith(self._render(messages[: number + 1], False)):
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
        before = self._render(messages, True)
        whole = self._render([*messages, {"role": ASSISTANT, "content": text}], False)
        if not whole.startswith(before):
            raise TaskError(
                "the chat template writes a prompt otherwise once its answer follows, so no answer "
                f"can be scored; {_MEND}"
            )
        ids = self._ids(whole[len(before) :])
        marks = [number for number, one in enumerate(ids) if one in self._special]
        return ids[: marks[-1] + 1] if marks else [*ids, self._tokenizer.eos_token_id]

    def _render(self, messages: Sequence[Message], ask: bool) -> str:
        from jinja2 import TemplateError

        try:
            found = self._tokenizer.apply_chat_template(
                [dict(one) for one in messages],
                chat_template=self._text,
                tokenize=False,
                add_generation_prompt=ask,
                strftime_now=DATE.strftime,
            )
        except TemplateError as error:
            if self._fails():
                raise TaskError(
                    f"task.chat_template is no template that can be run ({type(error).__name__})"
                    if self._options.chat_template
                    else f"the tokenizer's chat template can't be run ({type(error).__name__})"
                ) from None
            raise _Refused("the chat template doesn't take these messages") from None
        return str(found)

    def _fails(self) -> bool:
        """Whether the template can't even write one question."""
        from jinja2 import TemplateError

        try:
            self._tokenizer.apply_chat_template(
                [_QUESTION], chat_template=self._text, tokenize=False, strftime_now=DATE.strftime
            )
        except TemplateError:
            return True
        return False


_QUESTION: Message = {"role": "user", "content": "a"}


class _Refused(Exception):
    """The template's own refusal of some messages."""
