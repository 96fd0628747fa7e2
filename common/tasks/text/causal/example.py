"""Invented questions, so that the task runs without data. No patient ever was in them."""

from __future__ import annotations

from wardround.common.errors import DataError
from wardround.common.tasks.text.causal.reading import USER, Conversation
from wardround.common.tasks.text.example import example_texts
from wardround.common.tasks.text.options import TextOptions

_ANSWERS = ("no", "yes")


def example_conversations(options: TextOptions) -> list[Conversation]:
    """192 sentences with the question whether one names a disease: half of them do.

    Raises DataError where ``task.choices`` are others than yes and no.
    """
    choices = tuple(options.choices)
    if choices and set(choices) != set(_ANSWERS):
        raise DataError(
            "the built-in example asks for 'yes' or 'no'; set data.path for other task.choices"
        )
    found = []
    for line, (text, label) in enumerate(zip(*example_texts(), strict=True), start=1):
        asked = {"role": USER, "content": f"Does this sentence name a disease? {text}"}
        answer = _ANSWERS[label]
        found.append(
            Conversation(
                (asked,),
                choices or (answer,),
                choices.index(answer) if choices else 0,
                bool(choices),
                line,
            )
        )
    return found
