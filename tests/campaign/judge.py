"""Whether a saved model gives the figures that were reported: in a new process, by others' code.

    python -m tests.campaign.judge RUN...       prints a JSON object: run directory to faults

The model is loaded from the run directory, the hospitals' test rows are prepared by the product;
figures are scikit-learn's, and for c-indices and entities counted out here, pair by pair and span
by span. A class or an event that a hospital lacks leaves a figure undefined, for both.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn import metrics as sk

from tests.campaign.finished import Finished
from wardround.client.data.hospital import Hospital
from wardround.common.config.load import Config, load_config
from wardround.common.config.task import make_task
from wardround.common.durable.tensors import read_tensors
from wardround.common.figures.records import MEAN, OVERALL
from wardround.common.figures.sums import Sums
from wardround.common.flower.arrays import digest_arrays
from wardround.common.model.saved import PREPARATION, SavedModel
from wardround.common.names import names_of
from wardround.common.run.directory import RunDirectory
from wardround.common.tasks.base import Examples, Task
from wardround.common.tasks.data.table import Table
from wardround.common.tasks.schema import LANGUAGE
from wardround.simulations.population.hospitals import Population

Figures = dict[str, float]
Outputs = NDArray[np.float64]
_CLOSE = 1e-5
_IGNORED = -100
_OWN_FIGURES = ("labels", "causal")
"""Kinds whose figures others' code doesn't have; what is predicted is looked at."""


def judge(path: Path) -> list[str]:
    """Faults of one run: figures that the saved model doesn't give."""
    run = RunDirectory.open(path)
    config = load_config(run.config_path)
    task = make_task(config)
    population = Population(config, task)
    saved = SavedModel(run.model, task, config.federation.seed)
    totals, _ = read_tensors(run.model / PREPARATION)
    faults = list[str]()
    used = False
    for row in run.summary()["comparison"]:
        name = row["hospital"]
        if name in (MEAN, OVERALL) or not row.get("federated"):
            continue
        model = next(saved.each([name if saved.personal else None]))[1]
        hospital = population.hospital(name)
        examples = hospital.examples(totals, digest_arrays(totals))["test"]
        whose = name if saved.personal else None
        if not used:
            used = True
            finished = Finished(path, config, task, whose)
            faults += finished.faults(*_measured(hospital, task, model, examples, totals))
        if config.task.options.get("kind") in _OWN_FIGURES:
            continue
        inputs, labels = examples.batch(np.arange(len(examples)))
        outputs, targets = _outputs(model, inputs), labels.numpy()
        found = figures_of(config, outputs, targets)
        near: list[Figures] = []
        if config.training.precision != "float32":
            rounded = _outputs(model, inputs, in_16_bits=True)
            off = 2 * float(np.abs(rounded - outputs).max())
            near = list(nearest(config, outputs, targets, off))
        faults += list(_apart(name, found, row["federated"], near))
    return faults


def _measured(
    hospital: Hospital, task: Task[Any], model: torch.nn.Module, examples: Examples, totals: Sums
) -> tuple[Any, Path | None, dict[str, NDArray[np.float64]], str]:
    """A hospital's test rows, its place, what the model says of them, and the kind of schema."""
    raw, schema = hospital.parts()["test"], task.schema(totals)
    path = hospital.config.data_path()
    sites = task.sites(path) if path is not None and path.is_dir() else {}
    sites = {name: sites[title] for name, title in names_of(list(sites)).items()}
    if schema.kind == LANGUAGE or not isinstance(raw, Table):
        return raw, sites.get(hospital.name, path), {}, schema.kind
    outputs = torch.from_numpy(_outputs(model, examples.batch(np.arange(len(examples)))[0]))
    return raw, raw.files[0], task.predictions(outputs.float(), totals), schema.kind


def _outputs(model: torch.nn.Module, inputs: torch.Tensor, in_16_bits: bool = False) -> Outputs:
    """float64, whatever they are computed in."""
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=in_16_bits):
        parts = [model(inputs[i : i + 256]) for i in range(0, len(inputs), 256)]
    return torch.cat(parts).double().numpy()


def nearest(
    config: Config, outputs: Outputs, targets: NDArray[Any], off: float
) -> Iterator[Figures]:
    """The worst and the best figures of outputs that may each be off by so much.

    A hospital in 16 bits differs from here by its rounding. What that is shows in the same model's
    outputs in 16 bits here; its sums may be taken in another order, and be off as much again.
    Figures get worse as outputs move away from what is true, so theirs lie between these two.
    """
    for toward in (-off, off):
        if config.task.options.get("kind") == "survival":
            risk, times, events = outputs.reshape(-1), targets[:, 0], targets[:, 1]
            yield {"c_index": c_index(risk, times, events, ahead=-2 * toward)}
            continue
        if config.task.options.get("kind") == "regression":
            gap = targets[:, 0].reshape(outputs.shape) - outputs
            ends = outputs + np.sign(gap) * np.minimum(toward, np.abs(gap))
        elif outputs.shape[-1] == 1:
            ends = outputs + toward * (2 * targets.reshape(outputs.shape) - 1)
        else:
            right = targets[..., None] == np.arange(outputs.shape[-1])
            ends = outputs + toward * (2 * right - 1)
        yield figures_of(config, ends, targets)


def _apart(
    name: str, found: Figures, reported: dict[str, Any], near: list[Figures]
) -> Iterator[str]:
    for figure, value in found.items():
        other = reported.get(figure)
        bound = reported.get(f"{figure}_error_bound") or 0.0
        if other is None or math.isnan(other) or math.isnan(value):
            if not math.isnan(value) and other is not None and figure != "average_precision":
                yield f"{name}: {figure} is {value:.6g}, reported as undefined"
            continue
        ends = [value, *(one.get(figure, value) for one in near)]
        outside = max(min(ends) - other, other - max(ends))
        if outside > bound + _CLOSE * max(1.0, abs(value)):
            yield f"{name}: {figure} is {value:.6g}, reported as {other:.6g} (bound {bound:.2g})"


def figures_of(config: Config, outputs: NDArray[Any], targets: NDArray[Any]) -> Figures:
    """Figures by name, as the reports call them; NaN where undefined."""
    options = config.task.options
    kind = options.get("kind", "binary" if config.task.name == "tabular" else "")
    if config.task.name == "text" and kind == "tokens":
        return _entities(outputs, targets)
    if kind == "survival":
        return {"c_index": c_index(outputs.reshape(-1), targets[:, 0], targets[:, 1])}
    if kind == "regression":
        unit = targets[:, 1]  # of the column, in each target
        truth, guess = targets[:, 0] * unit, outputs.reshape(-1) * unit
        return {
            "rmse": math.sqrt(sk.mean_squared_error(truth, guess)),
            "mae": sk.mean_absolute_error(truth, guess),
        }
    return _classes(outputs, targets.reshape(-1).astype(np.int64))


def _classes(outputs: NDArray[Any], truth: NDArray[np.int64]) -> Figures:
    logits, rows = outputs, np.arange(len(truth))
    if outputs.ndim == 1 or outputs.shape[1] == 1:
        logits = np.stack([np.zeros(len(truth)), outputs.reshape(-1)], axis=1)
    probabilities = np.exp(logits - np.logaddexp.reduce(logits, axis=1)[:, None])
    classes = probabilities.shape[1]
    guess = probabilities.argmax(axis=1)
    if classes == 2:
        guess = (probabilities[:, 1] >= 0.5).astype(np.int64)
    found = {
        "accuracy": sk.accuracy_score(truth, guess),
        "loss": float(np.mean(np.logaddexp.reduce(logits, axis=1) - logits[rows, truth])),
    }
    squares = (probabilities - (truth[:, None] == np.arange(classes))) ** 2
    one = outputs.ndim == 1 or outputs.shape[1] == 1
    found["brier"] = float(np.mean(squares[:, 1] if one else squares.sum(axis=1)))
    if classes == 2:
        both = 0 < truth.sum() < len(truth)
        found["auc"] = sk.roc_auc_score(truth, probabilities[:, 1]) if both else math.nan
        if truth.sum():
            found["average_precision"] = sk.average_precision_score(truth, probabilities[:, 1])
    return found


def c_index(
    risk: NDArray[Any], times: NDArray[Any], events: NDArray[Any], ahead: float = 0.0
) -> float:
    """Harrell's: of the pairs whose order is known, the share that risks order so; ties a half.

    ahead : by how much the earlier event's risk must be above the other
    """
    known, right = 0, 0.0
    for i in np.flatnonzero(events > 0):
        later = (times > times[i]) | ((times == times[i]) & (events == 0))
        later[i] = False
        known += int(later.sum())
        least = risk[later] + ahead
        right += float((risk[i] > least).sum() + 0.5 * (risk[i] == least).sum())
    return right / known if known else math.nan


def _entities(outputs: NDArray[Any], targets: NDArray[Any]) -> Figures:
    """Micro-averaged scores of whole entities, read as conlleval does."""
    hits = extra = missed = 0
    for row, tags in zip(outputs.argmax(axis=2), targets, strict=True):
        words = tags != _IGNORED
        true, guess = set(_spans(tags[words])), set(_spans(row[words]))
        hits, extra = hits + len(true & guess), extra + len(guess - true)
        missed += len(true - guess)
    found = {}
    if hits + missed:
        found["recall"] = hits / (hits + missed)
    if hits + extra:
        found["precision"] = hits / (hits + extra)
    if hits + extra + missed:
        found["f1"] = 2 * hits / (2 * hits + extra + missed)
    return found


def _spans(tags: NDArray[Any]) -> Iterator[tuple[int, int, int]]:
    """(first word, last word, type) of each entity; tags are O, then B- and I- of each type."""
    start, kind = -1, -1
    for place, tag in enumerate([*tags.tolist(), 0]):
        goes_on = tag > 0 and tag % 2 == 0 and start >= 0 and (tag - 1) // 2 == kind
        if start >= 0 and not goes_on:
            yield start, place - 1, kind
            start = -1
        if tag > 0 and start < 0:
            start, kind = place, (tag - 1) // 2


def _judged(path: str, how: Callable[[Path], list[str]]) -> list[str]:
    try:
        return how(Path(path))
    except Exception as error:
        return [f"the saved model can't be judged: {type(error).__name__}: {error}"]


def main() -> None:
    """Runs by their directories, from the command line."""
    logging.disable(logging.CRITICAL)
    torch.set_num_threads(1)
    with contextlib.redirect_stdout(sys.stderr):
        found = {path: _judged(path, judge) for path in sys.argv[1:]}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
