"""A finished language model answers: it chooses among a study's choices, or writes.

Choices are scored as the run's evaluation scored them. What is written follows from the model, the
prompt and ``Generation`` alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from wardround.common.errors import ConfigError
from wardround.common.predict.base import Values
from wardround.common.predict.given import Piece
from wardround.common.predict.predictor import Predictor
from wardround.common.tasks.schema import RESPONSE, Output, Schema
from wardround.common.tasks.text.causal.figures import choice_probabilities
from wardround.common.tasks.text.causal.generate import Decoder, Generation, Pieces
from wardround.common.tasks.text.causal.network import CausalModel
from wardround.common.tasks.text.causal.reading import conversation
from wardround.common.tasks.text.causal.rows import InstructionRows, planes
from wardround.common.tasks.text.causal.task import CausalTask

_AT_ONCE = 8
"""Prompts that are answered together."""


@dataclass(frozen=True)
class Said:
    """A piece of an answer, and what is known of it so far.

    text : what is new; '' while a character isn't whole
    ended : the answer is over, by its end and not by ``max_new_tokens``
    """

    text: str
    prompt_tokens: int
    answer_tokens: int
    ended: bool = False


class Language:
    """A language model of a finished study.

    Parameters
    ----------
    task : of the study
    module : its model
    """

    def __init__(self, task: CausalTask, module: CausalModel) -> None:
        self._options = task.options
        self._template = task.template()
        self._decoder = Decoder(module, self._template.stops, task.longest_input(module))

    def say(self, messages: Sequence[dict[str, str]], how: Generation) -> Iterator[Said]:
        """The answer to a conversation, as it is written.

        messages : ``role`` (system, user, assistant) and ``content`` of each; the last is a user's

        Raises DataError, when the first piece is asked for, for what is no conversation or is too
        long; TaskError for scores that aren't finite.
        """
        names = self._options.columns
        said = conversation({names.messages: list(messages)}, "messages", 1, self._options, False)
        asked = replace(said, answers=(), right=-1, choosing=False)
        prompt = self._template.encode(asked, "messages").prompt
        pieces = Pieces(self._template.text)
        count = 0
        for step in self._decoder.steps([prompt], how):
            token = step[0][1]
            if token is None:
                yield Said(pieces.end(), len(prompt), count, ended=True)
                return
            count += 1
            yield Said(pieces.add(token), len(prompt), count)
        yield Said(pieces.end(), len(prompt), count)

    def responses(self, rows: InstructionRows, how: Generation) -> list[str]:
        """N: what the model writes after each row's prompt. Each row draws by itself, so that an
        answer doesn't depend on the rows beside it."""
        prompts = [rows.prompt(number) for number in range(len(rows))]
        found = []
        for start in range(0, len(prompts), _AT_ONCE):
            some = prompts[start : start + _AT_ONCE]
            here = how.model_copy(update={"seed": how.seed + start})
            answers = self._decoder.answers(some, here)
            found += [self._template.text(one.tokens) for one in answers]
        return found


class LanguagePredictor(Predictor):
    """See ``load_model``.

    Attributes
    ----------
    how : answers are written so
    writes : whether they are written even where the study has choices
    """

    how = Generation()
    writes = False

    @property
    def language(self) -> Language:
        """The model, to talk to."""
        task, module = self.task, self.module
        assert isinstance(task, CausalTask) and isinstance(module, CausalModel)
        return Language(task, module)

    def write(self, how: Generation, always: bool) -> None:
        """Answer so. ``always``: also where the study has choices. Raises ConfigError where nothing
        would be written."""
        if is_choosing(self.schema) and not always:
            raise ConfigError(
                "the model chooses among the study's choices and writes nothing; add --write"
            )
        self.how, self.writes = how, always
        if always:
            self.schema = self.schema.model_copy(update={"outputs": (_WRITTEN,)})

    def _values(self, parts: Iterator[Piece]) -> Iterator[tuple[Piece, Values]]:
        if self._chooses:
            yield from ((part, self._choices(part.raw)) for part in parts)
            return
        language = self.language
        for part in parts:
            written = np.array(language.responses(part.raw, self.how), dtype=object)
            yield part, {RESPONSE: written}

    def _choices(self, rows: InstructionRows) -> Values:
        """Probabilities of the study's choices, by name of the output; N each."""
        assert isinstance(self.task, CausalTask)
        options = self.task.options
        inputs, targets = planes(rows, options.max_length, pack=False)
        parts = [self._forward(part) for part in torch.split(torch.from_numpy(inputs), _AT_ONCE)]
        outputs = torch.cat(parts).numpy() if parts else np.zeros((0, 0, 2), np.float32)
        mean = options.choice_score == "mean"
        found = choice_probabilities(outputs, targets, len(options.choices), mean)
        return {one.name: found[:, place] for place, one in enumerate(self.schema.outputs)}

    @property
    def _chooses(self) -> bool:
        return not self.writes and is_choosing(self.schema)


_WRITTEN = Output(name=RESPONSE, kind="text")


def is_choosing(schema: Schema) -> bool:
    """Whether what the model gives are probabilities of choices."""
    return any(one.kind == "probability" for one in schema.outputs)
