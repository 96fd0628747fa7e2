"""Predictions corrected by a hospital's calibration of the very model that made them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from wardround.common.calibration.calibration import Calibration, read_calibration
from wardround.common.tasks.schema import Schema
from wardround.common.trust.calibrations import check_calibration


def own_calibration(path: Path, model: str) -> Calibration:
    """The calibration in a file, of the model with this digest, as whoever signed it left it.

    Raises CalibrationRefused for another model's, or one that was altered.
    """
    found = read_calibration(path)
    check_calibration(
        found, model, [bytes.fromhex(found.signer)] if found.signer else None, str(path)
    )
    return found


def with_calibration(
    tables: Iterator[pa.Table], schema: Schema, calibration: Calibration
) -> Iterator[pa.Table]:
    """The tables, corrected. Raises CalibrationRefused for a model of another kind."""
    names = [one.name for one in schema.outputs]
    for table in tables:
        shown = [name for name in table.column_names if name in names]
        values = {name: np.asarray(table.column(name)) for name in shown}
        for name, own in calibration.apply(values).items():
            at = table.column_names.index(name)
            table = table.set_column(at, name, pa.array(own))
        yield table
