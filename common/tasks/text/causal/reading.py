"""Instruction files: a line of JSON is a conversation, or a prompt and its response.

    {"messages": [{"role": "user", "content": "..."}, {"role": "assistant", "content": "..."}]}
    {"prompt": "...", "response": "..."}

A line may have ``choices``, of which ``answer`` is right; then it needs no response. Names of keys
are the study's (``[task.columns]``). No message quotes a text: only files and lines are named.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wardround.common.errors import DataError
from wardround.common.tasks.data.reading.content import read_text
from wardround.common.tasks.data.shards import SPLIT_NAMES
from wardround.common.tasks.text.options import MOST_CHOICES, TextOptions
from wardround.common.text import code

READABLE = (".jsonl", ".ndjson")
SYSTEM, USER, ASSISTANT = "system", "user", "assistant"
Message = dict[str, str]


@dataclass(frozen=True)
class Conversation:
    """One line.

    messages : an optional system message, then user and assistant in turn, ending with the user
    answers : what may follow: the choices, or the one response
    right : which answer is right; -1 where nobody says it, of what is to be predicted
    choosing : whether the answers are choices
    line : from 1
    """

    messages: tuple[Message, ...]
    answers: tuple[str, ...]
    right: int
    choosing: bool
    line: int
    patient: str | None = None
    split: str | None = None


def read_conversations(path: Path, options: TextOptions, known: bool = True) -> list[Conversation]:
    """The conversations of one file; ``known``: as ``conversation`` has it. Raises DataError naming
    file and line."""
    lines = read_lines(read_text(path), path)
    found = [conversation(said, f"{path}:{line}", line, options, known) for line, said in lines]
    if not found:
        raise DataError(f"{path}: there are no lines; check that this is the right file")
    return found


def read_lines(whole: str, path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """The objects of a text of JSON lines, with their lines' numbers. Raises DataError."""
    for line, text in enumerate(whole.split("\n"), start=1):
        if not text.strip():
            continue
        try:
            said = json.loads(text)
        except (ValueError, RecursionError):
            said = None
        if not isinstance(said, dict):
            raise DataError(f"{path}:{line}: not an object of JSON in one line")
        yield line, said


def conversation(
    said: Mapping[str, Any], place: str, line: int, options: TextOptions, known: bool = True
) -> Conversation:
    """One line's conversation.

    place : as messages call it
    known : whether it must say what is answered, whose it is and which split it is of; else it is
        to be predicted, and an answer that is there isn't looked at

    Raises DataError for what isn't one.
    """
    columns = options.columns
    if columns.messages in said and columns.prompt in said:
        raise DataError(
            f"{place}: both '{columns.messages}' and '{columns.prompt}'; a line has one of them"
        )
    if columns.messages in said:
        messages = _messages(said[columns.messages], place)
    elif columns.prompt in said:
        messages = _pair(said, place, options, known)
    else:
        raise DataError(f"{place}: neither '{columns.messages}' nor '{columns.prompt}' is there")
    response = messages.pop()["content"] if messages[-1]["role"] == ASSISTANT else None
    response = response if known else None
    if not messages or messages[-1]["role"] != USER:
        raise DataError(f"{place}: nothing is asked before the response")
    choices = _choices(said, place, options)
    if choices is None:
        if response is None and known:
            raise DataError(f"{place}: there is no response; give one, or take the line out")
        answers: tuple[str, ...] = () if response is None else (response,)
        right = -1 if response is None else 0
    else:
        answers = choices
        right = _right(said, choices, response, place, options) if known else -1
    return Conversation(
        tuple(messages),
        answers,
        right,
        choices is not None,
        line,
        _named(said, columns.patient_id, place) if known or columns.patient_id in said else None,
        _split(said, columns.split, place) if known else None,
    )


def _pair(said: Mapping[str, Any], place: str, options: TextOptions, known: bool) -> list[Message]:
    prompt = _text(said[options.columns.prompt], place, options.columns.prompt)
    found = [{"role": USER, "content": prompt}]
    response = said.get(options.columns.response) if known else None
    if response is not None:
        text = _text(response, place, options.columns.response)
        found.append({"role": ASSISTANT, "content": text})
    return found


def _text(value: Any, place: str, key: str) -> str:
    if not isinstance(value, str):
        raise DataError(f"{place}: '{key}' is not a text")
    if not value.strip():
        raise DataError(f"{place}: '{key}' is empty; fill it in, or take the line out")
    return value


def _messages(value: Any, place: str) -> list[Message]:
    """Messages whose roles are in turn. Raises DataError."""
    if not isinstance(value, list) or not value:
        raise DataError(f"{place}: its messages are not a list of role and content")
    found: list[Message] = []
    for number, one in enumerate(value, start=1):
        if not isinstance(one, dict) or not isinstance(one.get("role"), str):
            raise DataError(f"{place}: message {number} is not an object with role and content")
        role = one["role"]
        if role not in (SYSTEM, USER, ASSISTANT):
            raise DataError(
                f"{place}: the role of message {number} is not system, user or assistant"
            )
        content = one.get("content")
        if not isinstance(content, str) or not content.strip():
            what = "response" if role == ASSISTANT else f"{role} message"
            raise DataError(
                f"{place}: message {number} is an empty {what}; fill it in, or take the line out"
            )
        before = found[-1]["role"] if found else ""
        wanted = {"": (SYSTEM, USER), SYSTEM: (USER,), USER: (ASSISTANT,), ASSISTANT: (USER,)}
        if role not in wanted[before]:
            raise DataError(
                f"{place}: message {number} is of the {role}, which can't follow "
                f"{'nothing' if not before else f'the {before}'}; a system message comes first, "
                "then user and assistant take turns"
            )
        found.append({"role": role, "content": content})
    return found


def _choices(said: Mapping[str, Any], place: str, options: TextOptions) -> tuple[str, ...] | None:
    """The line's own choices, else the study's, else None."""
    value = said.get(options.columns.choices)
    if value is None:
        return tuple(options.choices) or None
    key = options.columns.choices
    if not isinstance(value, list) or not 2 <= len(value) <= MOST_CHOICES:
        raise DataError(f"{place}: '{key}' is not a list of 2 to {MOST_CHOICES} texts")
    if any(not isinstance(one, str) or not one.strip() for one in value):
        raise DataError(f"{place}: one of '{key}' is empty, or not a text")
    if len(set(value)) < len(value):
        raise DataError(f"{place}: one of '{key}' stands there twice")
    if options.choices and value != options.choices:
        raise DataError(
            f"{place}: '{key}' are others than those of task.choices; leave them out here or there"
        )
    return tuple(value)


def _right(
    said: Mapping[str, Any],
    choices: Sequence[str],
    response: str | None,
    place: str,
    options: TextOptions,
) -> int:
    key, answer = options.columns.answer, said.get(options.columns.answer)
    if answer is None and response is None:
        raise DataError(f"{place}: neither '{key}' nor a response says which choice is right")
    if type(answer) is int:
        if not 0 <= answer < len(choices):
            raise DataError(f"{place}: '{key}' is no number from 0 to {len(choices) - 1}")
        found = answer
    else:
        text = response if answer is None else answer
        if not isinstance(text, str) or text.strip() not in [one.strip() for one in choices]:
            what = f"'{key}'" if answer is not None else "the response"
            raise DataError(f"{place}: {what} is none of the choices (letters' case counts)")
        found = [one.strip() for one in choices].index(text.strip())
    if response is not None and answer is not None and response.strip() != choices[found].strip():
        raise DataError(f"{place}: the response is another choice than '{key}'")
    return found


def _named(said: Mapping[str, Any], key: str | None, place: str) -> str | None:
    """A patient, as a code."""
    if key is None:
        return None
    value = said.get(key)
    if not isinstance(value, str | int) or isinstance(value, bool) or not code(str(value)):
        raise DataError(f"{place}: '{key}' names no patient; fill it in, or take the line out")
    return code(str(value))


def _split(said: Mapping[str, Any], key: str | None, place: str) -> str | None:
    if key is None:
        return None
    found = SPLIT_NAMES.get(str(said.get(key)).strip().casefold())
    if found is None:
        raise DataError(f"{place}: '{key}' must be train, validation or test")
    return found
