"""What users do with a run's model: ``wardround predict`` on a hospital's own file, and the same by
an export, must say what the run measured."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pc
from numpy.typing import NDArray

from wardround.common.config.load import Config
from wardround.common.errors import WardroundError
from wardround.common.process.main import app
from wardround.common.tasks.base import Task
from wardround.common.tasks.data.table import Table
from wardround.common.tasks.schema import LANGUAGE

Predicted = dict[str, NDArray[np.float64]]
_BESIDE = ("row", "file", "patient")


def command(*words: str | Path) -> None:
    """``wardround WORDS`` in this process. Raises WardroundError."""
    app([str(word) for word in words], standalone_mode=False)


class Finished:
    """A run's model, used on the file of one hospital.

    run : run directory
    name : the hospital, where layers are its own; else None
    """

    def __init__(self, run: Path, config: Config, task: Task[Any], name: str | None) -> None:
        self._run, self._config, self._task = run, config, task
        self._of = () if name is None else ("--hospital", name)
        self._folder = run.parent / f"{run.name}-used"

    def faults(self, raw: Any, site: Path | None, expected: Predicted, kind: str) -> Iterator[str]:
        """What is wrong with predictions of a hospital's file.

        raw : its test rows; expected : what the model says of these, by output; site : its place
        kind : of the schema
        """
        if self._task.own_statistics() or site is None:
            return  # prepared by each hospital's own rows: both are done there
        self._folder.mkdir(exist_ok=True)
        try:
            yield from self._compared(raw, site, expected, kind)
        finally:
            shutil.rmtree(self._folder)

    def _compared(self, raw: Any, site: Path, expected: Predicted, kind: str) -> Iterator[str]:
        file = raw.files[int(raw.origin[0, 0])] if isinstance(raw, Table) else site
        try:
            found = self._predict(self._run, file, "model.csv", *self._of)
        except WardroundError as error:
            yield f"predict refuses the hospital's own file: {error}"
            return
        if isinstance(raw, Table):
            yield from _apart("predict", found, expected, raw.origin[:, 1] + 1, 1e-6)
        if kind == LANGUAGE:
            return  # its exports are Hugging Face's: tests/common/export/test_language.py
        try:
            command("export", self._run, "--out", self._folder / "export", *self._of)
            other = self._predict(self._folder / "export", file, "export.csv")
        except WardroundError as error:
            yield f"export: {error}"
            return
        rough = self._config.training.precision != "float32"
        yield from _apart(
            "export", other, _numbers(found), found["row"].to_numpy(), 0.1 if rough else 1e-4
        )

    def _predict(self, model: Path, data: Path, out: str, *more: str) -> pa.Table:
        path = self._folder / out
        command("predict", model, "--data", data, "--out", path, *more)
        return pc.read_csv(path)


def _numbers(table: pa.Table) -> Predicted:
    return {
        name: table.column(name).to_numpy().astype(np.float64)
        for name in table.column_names
        if name not in _BESIDE and not pa.types.is_string(table.column(name).type)
    }


def _apart(
    what: str, found: pa.Table, expected: Predicted, rows: NDArray[Any], within: float
) -> Iterator[str]:
    """rows : the number of each expected one in its file, from 1"""
    place = {int(row): number for number, row in enumerate(found["row"].to_pylist())}
    lacking = [int(row) for row in rows if int(row) not in place]
    if lacking:
        yield f"{what}: no prediction of {len(lacking)} rows, such as row {lacking[0]}"
        return
    ours = _numbers(found)
    for name, values in expected.items():
        if name not in ours:
            yield f"{what}: has no column {name}"
            continue
        here = ours[name][[place[int(row)] for row in rows]]
        scale = max(1.0, float(np.abs(values).max(initial=0.0)))
        off = float(np.abs(here - values).max(initial=0.0))
        if not off <= within * scale:
            yield f"{what}: {name} differs by {off:.3g} from what was measured"
