"""A finished model of a table, as a run would leave it, without the run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tests.common.tasks.made import table
from wardround.common.config.load import parse_config
from wardround.common.config.task import make_task
from wardround.common.export.rows import Columns, columns_of
from wardround.common.export.source import Source
from wardround.common.export.tabular import task_of
from wardround.common.figures.sums import Sums, add_sums
from wardround.common.model.entries import Entries
from wardround.common.model.named import build_model, model_arrays
from wardround.common.model.saved import MODEL, ModelForm, write_preparation
from wardround.common.model_folder.folder import ModelFolder
from wardround.common.model_folder.write import describe_model, seal_folder
from wardround.common.tasks.data.reading.texts import missing_codes
from wardround.common.tasks.data.table import Table
from wardround.common.tasks.features import features
from wardround.common.tasks.options import TabularOptions
from wardround.common.tasks.tabular import TabularTask
from wardround.common.trust.identity import Identity

WARDS = ["2", "intensive", "surgery", "Ångström"]
CODES = {"ward": {"intensive": ["ICU", "ITS"]}}
_TARGETS = {
    "binary": 'target = "y"',
    "multiclass": 'target = "y"',
    "regression": 'target = "y"',
    "survival": 'time = "y"\nevent = "seen"',
}


def rows(kind: str, count: int, seed: int) -> dict[str, list[object]]:
    """Columns of an unlike hospital: another scale, a constant, few of a category, gaps."""
    draw = np.random.default_rng(seed)
    found: dict[str, list[object]] = {
        "age": draw.normal(60, 15, count).tolist(),
        "tiny": (draw.normal(3, 2, count) * 1e-9).tolist(),
        "constant": [7.25] * count,
        "smoker": np.where(draw.random(count) < 0.7, "yes", "no").tolist(),
        "ward": draw.choice(WARDS, count).tolist(),
        "empty": [None] * count,
    }
    for name in ("age", "tiny", "smoker", "ward"):
        for at in np.flatnonzero(draw.random(count) < 0.15):
            found[name][at] = None
    if kind == "multiclass":
        found["y"] = [str(x) for x in draw.choice(["low", "mid", "high"], count)]
    elif kind == "binary":
        found["y"] = [str(int(x)) for x in draw.random(count) < 0.4]
    else:
        found["y"] = [float(x) for x in draw.gamma(2.0, 300.0, count)]
        found["seen"] = [str(int(x)) for x in draw.random(count) < 0.6]
    return found


def settings(kind: str, task: Mapping[str, Any], columns: Sequence[str] = ()) -> str:
    """The text of a ``federation.toml``; values of ``task`` as TOML has them."""
    more = "\n".join(f"{key} = {value}" for key, value in task.items())
    ignored = ["empty"] if kind in ("regression", "survival") else ["empty", "seen"]
    ignored += ["seen"] if kind == "regression" else []
    return (
        f'[task]\nname = "tabular"\nkind = "{kind}"\n{more}\n'
        f"[task.columns]\n{_TARGETS[kind]}\nignore = {sorted(set(ignored))}\n"
        'binary = ["smoker"]\ncategorical = ["ward"]\n'
        'codes = { ward = { intensive = ["ICU", "ITS"] } }\n' + "\n".join(columns)
    ).replace("'", '"')


def agreed(task: TabularTask, shards: Sequence[Table]) -> Sums:
    """What the hospitals' sums come to."""
    totals: Sums = {}
    for phase in range(task.phases):
        totals |= add_sums([task.statistics(shard, phase, totals) for shard in shards])
    return task.condense(totals)


def model_folder(
    folder: Path, text: str, seed: int = 0, identity: Identity | None = None
) -> ModelFolder:
    """A model folder with weights drawn from ``seed``, of two hospitals' rows."""
    kind = parse_config(text).task.options["kind"]
    shards = [table(**rows(kind, n, seed + n)) for n in (33, 70)]
    return folder_of(folder, text, shards, seed, identity)


def folder_of(
    folder: Path,
    text: str,
    shards: Sequence[Table],
    seed: int = 0,
    identity: Identity | None = None,
) -> ModelFolder:
    """The same of any shards."""
    config = parse_config(text)
    task = make_task(config)
    assert isinstance(task, TabularTask)
    totals = agreed(task, shards)
    model = build_model(task, totals, config.federation.seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if value.is_floating_point():
                drawn = torch.randn(value.shape, generator=generator)
                value.copy_(drawn.abs() + 0.5 if name.endswith("running_var") else drawn)
    folder.mkdir(parents=True)
    form = ModelForm.of(task, model, Entries.of(model))
    form.write(folder / MODEL, model_arrays(model), 3, config.federation.seed)
    write_preparation(folder, totals)
    describe_model(folder, config, task, totals)
    seal_folder(folder, run="made-1", round=3, identity=identity)
    return ModelFolder.open(folder)


def options_of(source: Source) -> TabularOptions:
    """The settings of a source's task."""
    return task_of(source).options


def at_home(folder: ModelFolder) -> Source:
    """The model, with a hospital's own training rows where its preparation takes them."""
    task = folder.task
    assert isinstance(task, TabularTask)
    own = as_read(table(**rows(task.kind, 40, seed=11)), task.options)
    return Source.of(folder, train=own if task.own_statistics() else None)


def as_read(rows: Table, options: TabularOptions) -> Table:
    """The rows as if a file had held them: with the study's own texts for a gap."""
    return replace(rows, missing_values=missing_codes(options.missing_values))


def predicted(source: Source, rows: Table) -> dict[str, NDArray[np.float64]]:
    """What the model predicts for rows, by the arithmetic of training."""
    task = task_of(source)
    own = rows if source.train is None else source.train
    matrix = features(rows, source.totals, own, task.options)
    with torch.no_grad():
        outputs = source.module(torch.from_numpy(matrix.astype(np.float32)))
    return task.predictions(outputs, source.totals)


def some_rows(kind: str) -> Table:
    """Rows as a study would have read them."""
    return table(**rows(kind, 25, seed=21))


def some_columns(kind: str, source: Source) -> Columns:
    """The same, as a graph is fed."""
    return columns_of(some_rows(kind), options_of(source), source.schema.inputs)


def csv(path: Path, columns: Mapping[str, Sequence[object]]) -> Path:
    """The columns in a file."""
    records = zip(*columns.values(), strict=True)
    lines = [",".join("" if x is None else str(x) for x in record) for record in records]
    path.write_text("\n".join([",".join(columns), *lines]) + "\n")
    return path
