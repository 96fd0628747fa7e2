"""What a model has said of rows: named columns, in the order of the input."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
from numpy.typing import NDArray

from wardround.common.errors import ConfigError
from wardround.common.predict.writing import written_whole
from wardround.common.tasks.data.left_out import LeftOut
from wardround.common.tasks.schema import Schema


@dataclass(frozen=True)
class Predictions:
    """One row for each row that was predicted; for each entity, where a model tags words.

    table : ``row`` (its number in the input, from 1; ``file`` before it where there are several),
        the patient where the input names one, columns that were kept, then the schema's outputs
    schema : of the model
    left_out : rows that have no prediction, by reason and count
    notes : what else to know of the input, one line each, without a cell

    >>> from wardround.common.predict import load_model
    >>> from wardround.simulations import simulate
    >>> run = simulate(overrides=["federation.rounds=1", "simulation.baselines=false"])
    >>> model = load_model(run.run_directory)
    >>> found = model.predict({one.name: [one.mean, None] for one in model.schema.inputs})
    >>> list(found.columns), len(found)
    (['row', 'probability'], 2)
    """

    table: pa.Table
    schema: Schema
    left_out: tuple[LeftOut, ...] = ()
    notes: tuple[str, ...] = field(default=())

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def __getitem__(self, name: str) -> NDArray[Any]:
        """A column as an array. Raises KeyError."""
        if name not in self.table.column_names:
            raise KeyError(name)
        found: NDArray[Any] = self.table.column(name).to_numpy()
        return found

    @property
    def columns(self) -> dict[str, NDArray[Any]]:
        """All columns by name, in order."""
        return {name: self[name] for name in self.table.column_names}

    def to_records(self) -> list[dict[str, Any]]:
        """A dict for each row."""
        found: list[dict[str, Any]] = self.table.to_pylist()
        return found

    def to_pandas(self) -> Any:
        """A pandas data frame. Raises ConfigError where pandas isn't installed."""
        try:
            return self.table.to_pandas()
        except ImportError:
            raise ConfigError(
                "predictions as a data frame need pandas: pip install pandas; or take .columns, "
                ".to_records() or .table, a pyarrow table"
            ) from None

    def write(self, path: Path | str) -> None:
        """Write them as CSV, Parquet or JSON lines, by the name's ending (``.csv``, ``.parquet``,
        ``.jsonl``); a file that is there is replaced whole. Raises ConfigError for another ending.
        """
        outputs = [one.name for one in self.schema.outputs]
        written_whole(Path(path), iter([self.table]), outputs)
