"""Single rows explained: which method for which task, and what is explained of each row.

| task | parts of | method |
|---|---|---|
| tables | each input column | Shapley values against rows of a background |
| images | each place | GradCAM, a picture |
| texts | each token | integrated gradients from padding |

What is explained: of two classes the log-odds of the second; of several those of the predicted
class; a number in its own unit; a log hazard; of tags the log-odds of all that name an entity.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from wardround.common.errors import DataError, TaskError
from wardround.common.explain.cam import heat_maps
from wardround.common.explain.pictures import overlay
from wardround.common.explain.shapley import Groups, shapley_values
from wardround.common.explain.words import token_parts
from wardround.common.figures.sums import Sums
from wardround.common.model.torch_state import with_ordinary_torch
from wardround.common.model_folder.folder import ModelFolder
from wardround.common.tasks.base import Task
from wardround.common.tasks.categories import vocabulary
from wardround.common.tasks.columns import numeric_names
from wardround.common.tasks.inputs import taken
from wardround.common.tasks.options import TabularOptions
from wardround.common.tasks.schema import LABELS, LANGUAGE, PAIRS

MOST_ROWS = 100
MOST_BACKGROUND = 100
_MOST_COLUMNS = 2_000


@dataclass(frozen=True)
class Part:
    """Of what, how much (in the unit of the output), and its standard error where it was drawn."""

    of: str
    value: float
    error: float = 0.0


@dataclass(frozen=True)
class Explained:
    """One row.

    row : its place among those given, from 1
    of : what is explained
    value, base : the output, and what the parts are counted from
    missed : what the parts miss of value - base
    picture : PNG; b'' where there is none
    """

    row: int
    of: str
    value: float
    base: float = 0.0
    parts: tuple[Part, ...] = ()
    missed: float = 0.0
    picture: bytes = b""


@with_ordinary_torch
def explain_rows(
    folder: ModelFolder,
    module: nn.Module,
    raw: Any,
    rows: Sequence[int],
    *,
    train: Any = None,
    background: Any = None,
    seed: int = 0,
) -> list[Explained]:
    """The given rows (from 0) of ``raw``, in their order.

    module : the folder's, in evaluation mode
    train : the hospital's own training rows, where the preparation is by them; default ``raw``
    background : rows that a table's are held against; default ``raw``

    Raises DataError for a row that isn't there, TaskError where a task allows no explanation.
    """
    task, totals = folder.task, folder.totals
    size = task.size(raw)
    if odd := [row for row in rows if not 0 <= row < size]:
        raise DataError(f"there is no row {odd[0] + 1}: {size} rows were read")
    if not 0 < len(rows) <= MOST_ROWS:
        raise DataError(f"{len(rows)} rows: 1 to {MOST_ROWS} are explained at once")
    own = raw if train is None else train
    chosen = task.select(raw, np.array(rows, dtype=np.int64))
    inputs = _prepared(task, chosen, totals, own)
    kind = folder.schema.task
    if kind == "imaging":
        found = _images(module, inputs, folder)
    elif kind == "text":
        if folder.schema.kind in (LABELS, LANGUAGE, PAIRS):
            raise TaskError(
                f"a text model with kind = '{folder.schema.kind}' has no single score to explain",
                mend="explain one that was trained with kind = 'sequence'",
            )
        found = _texts(module, inputs, task, folder)
    else:
        others = own if background is None else background
        few = _spread(task.size(others), MOST_BACKGROUND)
        beside = _prepared(task, task.select(others, few), totals, own)
        found = _columns(module, inputs, beside, folder, seed)
    return [_numbered(one, row) for one, row in zip(found, rows, strict=True)]


def _prepared(task: Task[Any], raw: Any, totals: Sums, train: Any) -> Tensor:
    inputs = task.prepare(raw, totals, train).inputs
    return taken(inputs, np.arange(len(inputs), dtype=np.int64))


def _numbered(one: Explained, row: int) -> Explained:
    return Explained(row + 1, one.of, one.value, one.base, one.parts, one.missed, one.picture)


def _spread(size: int, most: int) -> NDArray[np.int64]:
    """At most so many places, evenly over all: the same whenever the same is asked."""
    if not size:
        raise DataError("there are no rows to hold the others against")
    return np.unique(np.linspace(0, size - 1, min(size, most)).round().astype(np.int64))


# --- what is explained --------------------------------------------------------------------------
def _log_odds(outputs: Tensor, number: int) -> Tensor:
    """Of one class against all others, of logits N x C."""
    others = torch.cat([outputs[:, :number], outputs[:, number + 1 :]], dim=1)
    return outputs[:, number] - torch.logsumexp(others, dim=1)


def _output(folder: ModelFolder, outputs: Tensor) -> tuple[str, Callable[[Tensor], Tensor], int]:
    """Of one row's outputs, 1 x O: what it is called, how it is taken, and the class's number."""
    outs, schema = folder.schema.outputs, folder.schema
    if outputs.shape[1] == 1 or not outs:
        name = f"log-odds of {outs[0].of}" if outs and outs[0].kind == "probability" else ""
        called = name or (outs[0].name if outs else "output")
        return called, lambda y: y[:, 0], 0
    number = int(outputs[0].argmax())
    return f"log-odds of {schema.classes[number]}", lambda y: _log_odds(y, number), number


# --- tables ---------------------------------------------------------------------------------------
def input_groups(options: TabularOptions, totals: Sums) -> tuple[list[str], Groups]:
    """Which prepared columns are of which input: names, and columns of each."""
    names, groups, at = list[str](), list[NDArray[np.int64]](), 0
    first = 1 if options.encoding == "dummy" else 0
    widths = [(name, 1) for name in (*numeric_names(totals), *sorted(options.columns.binary))]
    for name in sorted(options.columns.categorical):
        widths.append((name, max(0, len(vocabulary(totals, name, options)) - first)))
    for name, width in widths:
        if width:
            names.append(name)
            groups.append(np.arange(at, at + width, dtype=np.int64))
        at += width
    return names, groups


def _columns(
    module: nn.Module, inputs: Tensor, background: Tensor, folder: ModelFolder, seed: int
) -> list[Explained]:
    if inputs.ndim != 2 or inputs.shape[1] > _MOST_COLUMNS:
        raise TaskError(
            "rows of this task aren't explained: only tables of up to "
            f"{_MOST_COLUMNS:,} columns, images and texts are"
        )
    options = getattr(folder.task, "options", None)
    if isinstance(options, TabularOptions):
        names, groups = input_groups(options, folder.totals)
    else:
        names = [f"column {number + 1}" for number in range(inputs.shape[1])]
        groups = [np.array([number]) for number in range(inputs.shape[1])]
    found = []
    for number in range(len(inputs)):
        row = inputs[number : number + 1]
        with torch.no_grad():
            outputs = module(row)
            called, take, _ = _output(folder, outputs)
            value = float(take(outputs)[0])

        def model(rows: NDArray[np.float64], take: Callable[[Tensor], Tensor] = take) -> Any:
            with torch.no_grad():
                return take(module(torch.from_numpy(rows.astype(np.float32)))).double().numpy()

        parts, errors, base = shapley_values(
            model, row.double().numpy(), background.double().numpy(), groups, seed=seed + number
        )
        listed = [Part(*one) for one in zip(names, parts[0], errors[0], strict=True)]
        missed = value - base - float(parts[0].sum())
        found.append(Explained(0, called, value, base, _largest(listed), missed))
    return found


def _largest(parts: list[Part]) -> tuple[Part, ...]:
    return tuple(sorted(parts, key=lambda one: (-abs(one.value), one.of)))


# --- images ---------------------------------------------------------------------------------------
def _images(module: nn.Module, inputs: Tensor, folder: ModelFolder) -> list[Explained]:
    found = []
    for number in range(len(inputs)):
        image = inputs[number : number + 1]
        with torch.no_grad():
            outputs = module(image)
        called, take, which = _output(folder, outputs)
        value = float(take(outputs)[0])
        if outputs.shape[1] == 1 and value < 0:  # what speaks for the class that is predicted
            which = -1
        heat = heat_maps(module, image, torch.tensor([which]))[0]
        seen = f"{called}{'; the picture shows what speaks against it' if which < 0 else ''}"
        found.append(Explained(0, seen, value, picture=overlay(image[0].numpy(), heat)))
    return found


# --- texts ----------------------------------------------------------------------------------------
def _texts(module: nn.Module, inputs: Tensor, task: Any, folder: ModelFolder) -> list[Explained]:
    from wardround.common.tasks.text import encoder as files

    tokenizer = files.make_tokenizer(files.encoder_folder(task.options.encoder))
    special = torch.tensor([*tokenizer.prefix, *tokenizer.suffix, tokenizer.pad])
    found = []
    for number in range(len(inputs)):
        tokens = inputs[number : number + 1]
        length = int((tokens[0] != tokenizer.pad).sum())
        tokens = tokens[:, :length]
        with torch.no_grad():
            outputs = module(tokens)
        if task.tagging:
            tags = outputs[0].argmax(1)
            places = [at for at in range(length) if int(tags[at]) > 0]
            called = f"log-odds of {len(places)} tags that name an entity"
            take = _of_tags(tags, places)
        else:
            called, take, _ = _output(folder, outputs)
        keep = torch.isin(tokens[0], special)
        encoder = module.get_submodule("encoder")
        parts, base, missed = token_parts(encoder, module, tokens, take, tokenizer.pad, keep)
        names = [tokenizer.token(int(one)) for one in tokens[0]]
        listed = tuple(
            Part(name, float(part))
            for name, part, out in zip(names, parts, keep.tolist(), strict=True)
            if not out
        )
        value = base + float(parts.sum()) + missed
        found.append(Explained(0, called, value, base, listed, missed))
    return found


def _of_tags(tags: Tensor, places: list[int]) -> Callable[[Tensor], Tensor]:
    """The log-odds of these tags at these places, added; 0 where nothing is tagged."""

    def take(outputs: Tensor) -> Tensor:
        odds = [_log_odds(outputs[:, at], int(tags[at])) for at in places]
        return torch.stack(odds).sum(0) if odds else outputs.sum((1, 2)) * 0.0

    return take
