"""How much worse a model's primary figure is on altered inputs: a hospital's sums, and what is
shown of the totals.

Each variant and repeat has three numbers: a numerator and a denominator of the primary figure, and
how many persons' inputs the alteration changed. Where a figure ranks rows (``Figure.within``) the
numerator is the hospital's own figure, rounded as in ``within.py``, and the denominator 1: so the
total's ratio is the hospitals' mean.

What is drawn at a hospital follows from the plan and from its own rows' keys: the server can't know
it, and whoever asks the same again is told the same, so there is nothing to average away.
"""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from wardround.common.config.load import Config
from wardround.common.figures.figure import is_number
from wardround.common.figures.sums import Sums
from wardround.common.figures.within import STEPS
from wardround.common.procedures.evaluate.alter import (
    IMPORTANCE,
    TableChange,
    Variant,
    check_alterations,
    persons,
    variants,
)
from wardround.common.procedures.evaluate.alter_rows import (
    AlteredRows,
    altered_images,
    altered_tokens,
)
from wardround.common.procedures.finished import outputs_of, prepared
from wardround.common.procedures.procedure import FinishedModel, Parts
from wardround.common.rng import numpy_generator
from wardround.common.settings import EvaluateOptions
from wardround.common.tasks.base import Examples, Task
from wardround.common.tasks.tabular import TabularTask
from wardround.common.tasks.text.task import TextTask

log = logging.getLogger("wardround.client")
_CLEAN = "altered/clean"
_DIGITS = 3
_POOLED = ("accuracy", "f1", "rmse")


def check_altered(config: Config, task: Task[Any]) -> None:
    """Raise ConfigError, by key, where inputs can't be altered, or no small sums make the task's
    primary figure."""
    check_alterations(config, task)
    if task.primary_metric not in _POOLED and not _ranks(task):
        raise config.error(
            "procedure.importance",
            f"no sums of two numbers make this task's figure '{task.primary_metric}'",
            "leave importance and robustness out",
        )


def _ranks(task: Task[Any]) -> bool:
    return any(one.name == task.primary_metric for one in task.figure_table().within())


class Altered:
    """The worker and the driver in one.

    Parameters
    ----------
    model : this side's copy
    """

    def __init__(self, config: Config, task: Task[Any], model: FinishedModel) -> None:
        options = config.procedure.settings
        assert isinstance(options, EvaluateOptions)
        self._config, self._task, self._model, self._options = config, task, model, options
        self._variants = variants(config, task, model.totals)

    # --- at a hospital ----------------------------------------------------------------------------
    def sums(self, parts: Parts, chosen: Sequence[str], outputs: Tensor, targets: Tensor) -> Sums:
        """A hospital's: of each variant repeats x 3, and 3 of the inputs as they are. Zeros
        where it has no rows.

        outputs, targets : of all rows of the chosen splits, unaltered
        """
        found: Sums = {one.key: np.zeros((one.repeats, 3)) for one in self._variants}
        found[_CLEAN] = np.zeros(3)
        own = [parts[split] for split in chosen if self._task.size(parts[split])]
        if not own:
            return found
        found[_CLEAN][:2] = self._ratio(outputs, targets)
        given = [prepared(self._task, self._model, part, parts) for part in own]
        module, seed = self._model.trained(), self._own_seed(own)
        whose, change = persons(self._task, own), None
        if isinstance(self._task, TabularTask):
            train = parts.get("train", own[0])
            change = TableChange(self._task, self._model.totals, own[0], train)
        for one in self._variants:
            for repeat in range(one.repeats):
                draw = numpy_generator(self._config.federation.seed, one.key, seed, repeat)
                scores, changed = self._scored(module, given, one, draw, change)
                numbers = found[one.key][repeat]
                numbers[:2] = self._ratio(scores, targets)
                numbers[2] = len(np.unique(whose[changed]))
        return found

    def _scored(
        self,
        module: nn.Module,
        given: Sequence[Examples],
        variant: Variant,
        draw: np.random.Generator,
        change: TableChange | None,
    ) -> tuple[Tensor, Any]:
        """Outputs of altered rows, and N, whose inputs changed."""
        device = self._config.training.device
        if change is not None:
            before = torch.cat([one.inputs for one in given if isinstance(one.inputs, Tensor)])
            after = change(variant, before, draw)
            return outputs_of(module, after, device), (after != before).any(dim=1).numpy()
        strength = variant.strength
        if isinstance(self._task, TextTask):
            alter = partial(altered_tokens, task=self._task, strength=strength, draw=draw)
        else:
            alter = partial(altered_images, kind=variant.kind, strength=strength, draw=draw)
        rows = [AlteredRows(one.inputs, alter) for one in given]
        outputs = torch.cat([outputs_of(module, one, device) for one in rows])
        return outputs, np.concatenate([one.altered for one in rows])

    def _own_seed(self, parts: Sequence[Any]) -> str:
        """A digest of the hospital's own rows and the model: known to nobody else."""
        found = hashlib.sha256(self._model.digest.encode())
        for part in parts:
            for key in self._task.row_keys(part).tolist():
                found.update(str(key).encode() + b"\n")
        return found.hexdigest()

    def _ratio(self, outputs: Tensor, targets: Tensor) -> tuple[float, float]:
        """Numerator and denominator of the primary figure, of these rows alone."""
        task, sums = self._task, self._task.metrics(outputs, targets)
        if _ranks(task):
            try:
                value = task.summarise(sums).get(task.primary_metric)
            except Exception as error:  # as ``Evaluate._own``
                log.warning("its rows allow no figures (%s)", type(error).__name__)
                return 0.0, 0.0
            return (round(value * STEPS) / STEPS, 1.0) if is_number(value) else (0.0, 0.0)
        if task.primary_metric == "rmse":
            return float(sums["squared_error"][0]), float(sums["examples"][0])
        if task.primary_metric == "accuracy":
            return float(np.trace(sums["confusion"])), float(sums["confusion"].sum())
        hits = 2 * float(sums["true_positives"].sum())
        missed = float(sums["false_positives"].sum() + sums["false_negatives"].sum())
        return hits, hits + missed

    # --- what is shown ----------------------------------------------------------------------------
    def shown(self, totals: Sums) -> dict[str, Any]:
        """What is shown of the totals, as values of JSON."""
        figure = self._task.figure_table().primary
        clean = self._figure(totals[_CLEAN], exact=True)
        found: dict[str, Any] = {
            "figure": figure.name,
            "clean": clean,
            "mean_of_hospitals": _ranks(self._task),
            "smallest_cell": self._options.smallest_cell,
            "importance": [],
            "robustness": [],
        }
        sign = 1.0 if figure.better == "higher" else -1.0
        for one in self._variants:
            line: dict[str, Any] = {"kind": one.kind}
            line |= {"input": one.column} if one.column else {"strength": one.strength}
            least = self._options.smallest_cell * (2 if one.kind == IMPORTANCE else 1)
            line |= self._worse(totals[one.key], clean, sign, least)
            if one.kind == IMPORTANCE:
                del line["kind"]
                found["importance"].append(line)
            else:
                found["robustness"].append(line)
        found["importance"].sort(key=lambda line: -(line["drop"] or 0.0))
        return found

    def _worse(
        self, numbers: Any, clean: float | None, sign: float, least: int
    ) -> Mapping[str, Any]:
        """Of a variant: the mean over repeats of the figure and of how much worse it is, and the
        repeats' deviation; no change where the inputs of fewer than ``least`` persons were
        changed. Dealt values change two persons for each that has a rare one."""
        few = bool((numbers[:, 2] < least).any())
        values = [clean if few else self._figure(one) for one in numbers]
        known = [one for one in values if one is not None]
        if clean is None or len(known) < len(values):
            return {"value": None, "drop": None, "spread": None}
        mean = math.fsum(known) / len(known)
        spread = float(np.std(known, ddof=1)) if len(known) > 1 else None
        return {"value": mean, "drop": sign * (clean - mean), "spread": spread}

    def _figure(self, numbers: Any, exact: bool = False) -> float | None:
        """A total's figure; counts in it to multiples of ``smallest_cell``."""
        top, bottom = float(numbers[0]), float(numbers[1])
        if bottom <= 0:
            return None
        if self._task.primary_metric == "rmse":
            return math.sqrt(max(0.0, top) / bottom)
        if _ranks(self._task):
            return round(top / bottom, _DIGITS)
        if not exact:
            least = self._options.smallest_cell
            top = min(bottom, least * round(top / least))
        return top / bottom
