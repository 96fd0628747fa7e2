"""What a finished model takes and gives, in words that need neither the model nor this program.

``schema.json`` of a model folder is a ``Schema``. Names of inputs are those of the study's columns;
names of outputs are the columns of every prediction, whoever makes it: Python, ``wardround
predict``, an exported graph, a server.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from pydantic import Field

from wardround.common.settings.base import Table

PROBABILITY, PREDICTION, RISK, TAGS = "probability", "prediction", "risk", "tags"
RESPONSE = "response"
"""Names of lone outputs; of several classes each is ``probability_of(CLASS)``."""
LABELS, PAIRS, LANGUAGE = "labels", "pairs", "causal"
"""Kinds of text models: classes of several columns; embeddings, whose numbers say nothing alone;
language models."""
_Words = tuple[Annotated[str, Field(max_length=4096)], ...]


class Input(Table):
    """One input of a row.

    unit : as the study names it; '' where it names none
    categories : texts that have an effect, in the order of the indicators
    positive, negative : of a binary input, the texts of 1 and of 0, where they are declared
    spellings : what else is read as which of these texts
    gap : what an empty cell means, in words; '' where none may be empty
    mean, std, median : of the training rows of all hospitals, where these were summed
    """

    name: str
    kind: Literal["number", "binary", "category", "text", "image"]
    unit: str = ""
    categories: _Words = ()
    positive: _Words = ()
    negative: _Words = ()
    spellings: Mapping[str, str] = {}
    gap: str = ""
    mean: float | None = None
    std: float | None = None
    median: float | None = None


class Output(Table):
    """One column of a prediction.

    kind : 'probability' of ``of``; 'number' in the target's own ``unit``; 'risk', a logarithm of
        hazards of which only differences and their order mean something; 'tags' of words; 'text',
        written by a language model
    """

    name: str
    kind: Literal["probability", "number", "risk", "tags", "text"]
    of: str = ""
    unit: str = ""


class Schema(Table):
    """What a model takes and gives.

    task, kind : as ``[task]`` names them; the kind '' of a task of one's own
    target : the column that was learnt; '' where it is none
    classes : of the target, in the order of the model's outputs; of two the second is predicted
    size, channels : of images, rows first
    max_length : of texts, in tokens
    """

    task: str
    kind: str = ""
    target: str = ""
    inputs: tuple[Input, ...] = ()
    outputs: tuple[Output, ...] = ()
    classes: _Words = ()
    size: tuple[int, ...] = ()
    channels: int = 0
    max_length: int = 0

    def input(self, name: str) -> Input | None:
        """The input of this name; None where there is none."""
        return next((one for one in self.inputs if one.name == name), None)


def probability_of(name: str) -> str:
    """The name of the output that is a class's probability.

    >>> probability_of("benign")
    'probability_benign'
    """
    return f"{PROBABILITY}_{name}"


def head_outputs(head: str, classes: Sequence[str]) -> list[tuple[str, str]]:
    """Outputs of one of several heads, and the class of each: of two classes the second's.

    >>> head_outputs("urgent", ["no", "yes"]), head_outputs("mood", ["bad", "so so", "good"])[0]
    ([('probability_urgent', 'yes')], ('probability_mood_bad', 'bad'))
    """
    if len(classes) == 2:
        return [(probability_of(head), classes[1])]
    return [(probability_of(f"{head}_{one}"), one) for one in classes]


def class_outputs(kind: str, classes: tuple[str, ...]) -> tuple[Output, ...]:
    """Outputs of a classifier: of two classes the second's probability, else every one's."""
    if kind == "binary":
        return (Output(name=PROBABILITY, kind="probability", of=classes[-1] if classes else "1"),)
    return tuple(Output(name=probability_of(x), kind="probability", of=x) for x in classes)
