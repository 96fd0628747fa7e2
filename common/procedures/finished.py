"""A finished model and a study that asks something of it: whether they go together, and what the
model says of rows.

Rows are prepared as they were in training, by the totals that lie in the model's folder; the task
is the study's, which must be the model's own, key by key. Whoever asks of other columns than the
model knows gets another model's figures, so that isn't tried.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from wardround.common.config.load import Config
from wardround.common.procedures.procedure import FinishedModel, Parts
from wardround.common.settings import RowsOptions, is_built_in, without_folders
from wardround.common.tasks import built_in
from wardround.common.tasks.base import Examples, Task
from wardround.common.tasks.inputs import Inputs, in_spans, piece

_ROWS = 1024
_MISSING = "is missing: of which model?"
_FRACTIONS = ("test_fraction", "validation_fraction")


def check_finished(config: Config, task: Task[Any], model: FinishedModel | None) -> None:
    """Raise ConfigError, by key, unless the settings can be asked of this model.

    model : None where only the settings are tried
    """
    options = config.procedure.finished
    assert options is not None
    check_named(config)
    if model is None:
        return
    check_one_model(config, model)
    theirs, own = _tasks(model.config), _tasks(config)
    for key in sorted({*theirs, *own}):
        if theirs.get(key) != own.get(key):
            raise config.error(
                f"task.{key}",
                "isn't what the model was trained with",
                "copy [task] out of config.toml in the model's folder",
            )
    if isinstance(options, RowsOptions) and options.rows == "held_out":
        for key in _FRACTIONS:
            _same_fraction(config, model, key)


def check_named(config: Config) -> None:
    """Raise ConfigError, by key, where the settings should name a finished model and name none;
    nothing where they needn't."""
    if (options := config.finished) is not None and not options.model_digest:
        there = f"{config.folder / options.model}: no finished model is there"
        table = config.finished_table
        mend = f"name a run or its model's folder: {table}.model = 'runs/NAME'"
        raise config.error(f"{table}.model", there if options.model else _MISSING, mend)


def check_one_model(config: Config, model: FinishedModel) -> None:
    """Raise ConfigError, by key, unless the model is the one that the settings name, and the same
    one at all hospitals."""
    options, table = config.finished, config.finished_table
    assert options is not None
    if model.digest != options.model_digest:
        raise config.error(
            f"{table}.model_digest",
            f"is {options.model_digest[:16]}..., the model at hand has {model.digest[:16]}...",
            "bring the model that the settings name",
        )
    if model.personal:
        raise config.error(
            f"{table}.model",
            f"of this model {len(model.personal)} arrays stay with each hospital, so there is no "
            "one model to be asked of",
            "each hospital has figures of its own whole model with its results",
        )


def check_held_out(config: Config, model: FinishedModel, *, simulated: bool) -> None:
    """Raise ConfigError, by key, where rows that a teacher was trained on would count as held out
    of its student's training: what it knows of them, the student would be shown.

    simulated : held-out rows follow from the run's seed; else from each hospital's own key
    """
    for key in _FRACTIONS:
        _same_fraction(config, model, key, "take a teacher that held out as much")
    own, theirs = config.federation.seed, model.config.federation.seed
    if simulated and own != theirs:
        raise config.error(
            "federation.seed",
            f"is {own}, and the teacher was trained with {theirs}: simulated hospitals would hold "
            "out other rows than then",
            f"set {theirs}",
        )


def _tasks(config: Config) -> Mapping[str, Any]:
    """The task's settings as all parties share them; what was left out is as the default."""
    name, options = config.task.name, config.task.options
    if is_built_in(name) and (model := built_in(name).options_model) is not None:
        options = model.model_validate(options).model_dump(mode="json")
    found = without_folders(name, options)
    return {**found, "name": name.replace("\\", "/").rpartition("/")[2]}


def _same_fraction(
    config: Config,
    model: FinishedModel,
    key: str,
    other: str = "procedure.rows = 'all' where no hospital took part in training",
) -> None:
    own, theirs = getattr(config.data, key), getattr(model.config.data, key)
    if own != theirs:
        raise config.error(
            f"data.{key}",
            f"is {own:g}, and the model was trained with {theirs:g}: rows that it was trained on "
            "would count as held out",
            f"set {theirs:g}, or {other}",
        )


def splits_of(options: RowsOptions, known: Iterable[str]) -> list[str]:
    """Of the splits that are known, those whose rows are asked about."""
    return [split for split in known if options.rows == "all" or split == "test"]


def prepared(task: Task[Any], model: FinishedModel, part: Any, parts: Parts) -> Examples:
    """A part as the model takes it.

    parts : the hospital's, of whose training rows what is local to it is worked out; of the part
        itself where it has none
    """
    return task.prepare(part, model.totals, parts.get("train", part))


def outputs_of(module: nn.Module, inputs: Inputs, device: str) -> Tensor:
    """What a module in evaluation mode says of each input, N x O, float32, on the CPU. Of no
    inputs (0, O): O is worked out on a blank one."""
    if none := len(inputs) == 0:  # few models take a batch of no rows
        inputs = torch.zeros(1, *inputs.shape[1:], dtype=inputs.dtype)
    module = module.to(device)
    with torch.inference_mode():
        spans = in_spans(inputs, most=_ROWS)
        found = [module(piece(inputs, span).to(device)).float().cpu() for span in spans]
    return torch.cat(found)[:0] if none else torch.cat(found)


def scored(
    task: Task[Any], model: FinishedModel, parts: Parts, chosen: Iterable[str], device: str
) -> tuple[Tensor, Tensor]:
    """Outputs as in training, and targets, of all rows of some parts, one after the other.

    parts : the hospital's
    chosen : splits that are among them

    Raises DataError, TaskError.
    """
    score, outputs, targets = model.scorer(task, device), [], []
    for split in chosen:
        examples = prepared(task, model, parts[split], parts)
        outputs.append(score(parts[split], examples.inputs))
        targets.append(examples.targets)
    return torch.cat(outputs), torch.cat(targets)
