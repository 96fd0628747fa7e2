"""``POST /v1/chat/completions``: conversations, in the form that language models are asked in.

The names of fields are those of OpenAI's interface, so that its clients work here. Fields that have
no effect here are refused, lest they pass for one that has; a ``model`` and a ``user`` may be given
and say nothing. An answer comes whole, or with ``"stream": true`` piece by piece, as server-sent
events that end with ``[DONE]``. Nothing of a conversation is kept or logged.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Generator, Iterator
from threading import Event
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import to_json

from wardround.client.serving.asked import MOST_TEXT, read_json
from wardround.client.serving.refused import Unanswered, unfit
from wardround.common.predict.language import Language, Said
from wardround.common.tasks.text.causal.generate import LONGEST_ANSWER, Generation

PATH = "/v1/chat/completions"
EVENTS = "text/event-stream"
_MOST_MESSAGES = 1000


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    role: Literal["system", "user", "assistant"]
    content: str = Field(min_length=1, max_length=MOST_TEXT)


class Chat(BaseModel):
    """The body of a request."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    messages: list[_Message] = Field(min_length=1, max_length=_MOST_MESSAGES)
    max_tokens: int = Field(256, ge=1, le=LONGEST_ANSWER)
    max_completion_tokens: int | None = Field(None, ge=1, le=LONGEST_ANSWER)
    temperature: float = Field(0.0, ge=0, le=2)
    top_p: float = Field(1.0, gt=0, le=1)
    seed: int = Field(0, ge=0, lt=2**63)
    n: Literal[1] = 1
    stream: bool = False
    model: str = Field("", max_length=1000)
    user: str = Field("", max_length=1000)

    @property
    def how(self) -> Generation:
        """How it is to be answered."""
        return Generation(
            max_new_tokens=self.max_completion_tokens or self.max_tokens,
            temperature=self.temperature,
            top_p=self.top_p,
            seed=self.seed,
        )

    @property
    def said(self) -> list[dict[str, str]]:
        """The conversation."""
        return [{"role": one.role, "content": one.content} for one in self.messages]


def read_chat(body: bytes) -> Chat:
    """What a request asks. Raises Unanswered, which names a field of ours and no value."""
    found = read_json(body)
    if not isinstance(found, dict):
        raise Unanswered(422, 'give {"messages": [{"role": "user", "content": "..."}]}')
    if not found.keys() <= Chat.model_fields.keys():
        known = ", ".join(Chat.model_fields)
        raise Unanswered(422, f"a field that has no effect here; known are {known}")
    try:
        return Chat.model_validate(found)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        place = "".join(
            f"[{one}]" if isinstance(one, int) else f".{one}"
            for one in first["loc"]
            if isinstance(one, int) or one in _NAMES
        )
        what = "a field that a message hasn't" if first["type"] == "extra_forbidden" else None
        raise unfit(place.lstrip("."), what or first["msg"]) from None


_NAMES = {*Chat.model_fields, *_Message.model_fields}


class Chats:
    """Answers conversations by one model.

    name : what answers call it
    """

    def __init__(self, language: Language, name: str) -> None:
        self._language, self._name = language, name

    def answer(self, body: bytes) -> bytes:
        """The whole answer. Raises Unanswered, DataError."""
        chat = read_chat(body)
        told = _Told(self._language.say(chat.said, chat.how))
        text = "".join(told)
        return to_json(
            {
                **self._head("chat.completion"),
                "choices": [
                    {
                        "index": 0,
                        "message": {"role": "assistant", "content": text},
                        "finish_reason": told.reason,
                    }
                ],
                "usage": told.usage,
            }
        )

    def events(self, body: bytes, stop: Event) -> Generator[bytes, None, None] | None:
        """The answer piece by piece; nothing more is computed once ``stop`` is set. None where it
        is asked for as a whole. Raises Unanswered; with the first piece DataError."""
        chat = read_chat(body)
        return self._events(chat, stop) if chat.stream else None

    def _events(self, chat: Chat, stop: Event) -> Generator[bytes, None, None]:
        head = self._head("chat.completion.chunk")
        told = _Told(self._language.say(chat.said, chat.how))
        role = {"role": "assistant"}
        for piece in told:
            if stop.is_set():
                return
            if piece or role:
                yield _event(head, {**role, "content": piece}, None)
            role = {}
        yield _event(head, {}, told.reason)
        yield b"data: [DONE]\n\n"

    def _head(self, kind: str) -> dict[str, Any]:
        return {
            "id": f"chatcmpl-{uuid.uuid4().hex}",
            "object": kind,
            "created": int(time.time()),
            "model": self._name,
        }


class _Told:
    """Pieces of an answer, and what is known of it when they are over."""

    def __init__(self, pieces: Iterator[Said]) -> None:
        self._pieces = pieces
        self._prompt = self._answer = 0
        self.reason = "length"

    def __iter__(self) -> Iterator[str]:
        for piece in self._pieces:
            self._prompt, self._answer = piece.prompt_tokens, piece.answer_tokens
            self.reason = "stop" if piece.ended else "length"
            yield piece.text

    @property
    def usage(self) -> dict[str, int]:
        """Tokens, as the interface counts them."""
        return {
            "prompt_tokens": self._prompt,
            "completion_tokens": self._answer,
            "total_tokens": self._prompt + self._answer,
        }


def _event(head: dict[str, Any], delta: dict[str, str], reason: str | None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": reason}
    return b"data: " + to_json({**head, "choices": [choice]}) + b"\n\n"
