"""``reference.json``: the counts that others are held against.

A hospital's own lies with its results: inputs of its training rows, scores of its held-out rows
(scores of rows that trained a model are too good), outcomes of all. A model folder may hold the
federation's: sums over hospitals. Counts alone stand in it; of categories only their places.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from wardround.common.drift.counts import Counts
from wardround.common.drift.field import Field
from wardround.common.drift.outcomes import Figured, as_values, of_values
from wardround.common.durable.versioned import Format
from wardround.common.errors import DataError
from wardround.common.text import to_json

REFERENCE = "reference.json"
FORMAT = Format("reference of a model's rows", "remove it, and make it again from the rows")
_MOST_BYTES = 64 * 2**20


@dataclass(frozen=True)
class Reference:
    """Counts, and whose they are.

    model : digest of the model folder that scored the rows; '' where the file lies in that folder,
        whose list of files has it
    whose : a hospital's name; 'all hospitals'; '' of a researcher's own rows
    figures : of its rows whose outcomes are known
    """

    counts: Counts
    model: str = ""
    whose: str = ""
    figures: tuple[Figured, ...] = ()

    def to_text(self) -> str:
        """As it is stored."""
        cells = {key: found.tolist() for key, found in self.counts.cells.items()}
        values = {
            "model": self.model,
            "whose": self.whose,
            "figures": as_values(self.figures),
            "cells": cells,
        }
        return to_json(FORMAT.seal(values)) + "\n"

    @classmethod
    def read(cls, path: Path, fields: Sequence[Field], model: str = "") -> Reference:
        """A file's. Raises DataError for one that is damaged, or of another model: other fields, or
        another digest where both are known."""
        try:
            with open(path, "rb") as file:
                data = file.read(_MOST_BYTES + 1)
            stored = json.loads(data) if len(data) <= _MOST_BYTES else None
        except OSError as error:
            raise DataError(
                f"the reference can't be read ({error.strerror})", who=str(path), mend=FORMAT.mend
            ) from None
        except ValueError:
            stored = None
        return cls.of_values(FORMAT.read(stored, DataError, str(path)), fields, model, str(path))

    @classmethod
    def of_values(
        cls, values: dict[str, Any], fields: Sequence[Field], model: str, who: str
    ) -> Reference:
        """Of what stands in a file. Raises DataError as ``read`` does."""
        whose, of, cells = (values.get(key) for key in ("whose", "model", "cells"))
        if not (isinstance(whose, str) and isinstance(of, str) and isinstance(cells, dict)):
            raise DataError("isn't a reference", who=who, mend=FORMAT.mend)
        if of and model and of != model:
            raise DataError(
                "the reference is of another model", who=who, mend="make it with this one"
            )
        try:
            arrays = {key: np.array(found, dtype=np.float64) for key, found in cells.items()}
            counts = Counts.of_sums(fields, arrays)
            figures = of_values(values.get("figures") or {})
        except (ValueError, TypeError, AttributeError):
            raise DataError(
                "the reference's counts are of other inputs or outputs than the model has",
                who=who,
                mend="make it with this model",
            ) from None
        if not counts.cells or {*arrays} - {field.key for field in fields}:
            raise DataError(
                "the reference holds no counts of this model", who=who, mend=FORMAT.mend
            )
        return cls(counts, of, whose, tuple(figures))
