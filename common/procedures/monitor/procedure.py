"""The one step of ``monitor``: histograms (``common/drift``) of what a finished model meets.

Which places there are follows from the model's schema alone, so each hospital knows by itself what
is asked. Where patients are named each counts once, by the first row: cells are of persons then, so
that none of k is of one person with k rows. Outcomes by groups of the score, which ``client
monitor`` counts at home, aren't asked: their totals are those of the scores, and what is kept back
of one could be worked out from the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self, cast

import numpy as np
from numpy.typing import NDArray

from wardround.common.config.load import Config
from wardround.common.drift.compare import Finding, compare
from wardround.common.drift.counts import Counts, none_of
from wardround.common.drift.field import GROUPS, Field, fields_of, of_group
from wardround.common.drift.reference import REFERENCE as FILE
from wardround.common.drift.reference import Reference
from wardround.common.drift.scoring import scored
from wardround.common.durable.versioned import Format
from wardround.common.errors import DataError, TaskError
from wardround.common.figures.sums import Sums
from wardround.common.judgement.judge import check_judgement
from wardround.common.procedures.finished import outputs_of, prepared
from wardround.common.procedures.monitor.shown import shown_counts
from wardround.common.procedures.on_model import OnModel
from wardround.common.procedures.procedure import (
    Asked,
    Earlier,
    FinishedModel,
    Parts,
    Shapes,
)
from wardround.common.settings import MONITOR, MonitorOptions
from wardround.common.tasks.base import Task
from wardround.common.tasks.data.table import Table
from wardround.common.text import to_json

MONITORING = "monitoring.json"
FORMAT = Format("watch over hospitals", "ask for it again: wardround analyse")
ALL = "all hospitals"


class Monitor(OnModel):
    """What a finished model meets."""

    name = MONITOR

    def __init__(self, config: Config, task: Task[Any], model: FinishedModel | None) -> None:
        super().__init__(config, task, model)
        self._options = cast(MonitorOptions, config.procedure.settings)

    @classmethod
    def of(cls, config: Config, task: Task[Any], model: FinishedModel | None = None) -> Self:
        cls.refuse_privacy(config, "or let each hospital watch at home: client monitor")
        check_judgement(config, task)
        made = cls(config, task, model)
        if model is not None:
            made._earlier()  # what can't be read is told before anybody is asked
        return made

    def shapes(self, earlier: Earlier) -> Shapes | None:
        return {} if earlier else {one.key: (one.size,) for one in self._asked()}

    def sums(self, parts: Parts, earlier: Earlier) -> Sums:
        schema, module, totals = self._model.schema, self._model.module(), self._model.totals
        device, asked = self._config.training.device, self._asked()
        found = none_of(asked)

        def say(part: Any) -> Mapping[str, NDArray[Any]]:
            examples = prepared(self._task, self._model, part, parts)
            said: Mapping[str, NDArray[Any]] = self._task.predictions(
                outputs_of(module, examples.inputs, device), totals
            )
            return said

        for split in self._splits(parts):
            raw = parts[split]
            if self._task.size(raw):
                columns = scored(self._task, schema, raw, say)
                found += Counts.of(asked, columns.select(first_rows(self._task, raw)))
        return found.sums()

    def result(self, earlier: Earlier, asked: Asked) -> Mapping[str, str]:
        counts, least = self._shown(earlier[0]), self._options.smallest_cell
        if not counts.cells:
            raise TaskError(
                f"fewer than {2 * least} rows in all: of so few nothing is shown",
                mend="ask more hospitals",
            )
        reference = self._earlier()
        values = {
            "model": self._options.model_digest,
            "rows": self._options.rows,
            "hospitals": asked.hospitals,
            "smallest_cell": least,
            "fields": [
                _field(one, counts.cells[one.key])
                for one in counts.fields
                if one.key in counts.cells
            ],
            "compared": None
            if reference is None
            else [_found(one) for one in compare(reference.counts, counts)],
        }
        published = Reference(counts, self._options.model_digest, ALL)
        return {
            MONITORING: to_json(FORMAT.seal(values), indent=1) + "\n",
            FILE: published.to_text(),
        }

    # --- parts ------------------------------------------------------------------------------------
    def _asked(self) -> tuple[Field, ...]:
        schema = self._model.schema
        groups = {of_group(schema, number).key for number in range(len(GROUPS) - 1)}
        return tuple(one for one in fields_of(schema) if one.key not in groups)

    def _shown(self, total: Sums) -> Counts:
        """What may be told of the totals. Raises TaskError for what no hospitals could have
        given."""
        whole = {key: np.rint(values) for key, values in total.items()}
        fields = fields_of(self._model.schema)
        try:
            exact = Counts.of_sums(fields, whole)
        except ValueError as error:
            raise TaskError("the totals of 'monitor' are none that rows could give") from error
        least = self._options.smallest_cell
        shown = {key: shown_counts(cells, least) for key, cells in exact.cells.items()}
        return Counts(fields, {key: cells for key, cells in shown.items() if cells.any()})

    def _earlier(self) -> Reference | None:
        """What the counts are held against, at the server; None where nothing was named."""
        if not self._options.reference:
            return None
        path = self._config.folder / self._options.reference
        path = path / FILE if path.is_dir() else path
        try:
            return Reference.read(path, fields_of(self._model.schema), self._options.model_digest)
        except DataError as error:
            raise self._config.error(
                "procedure.reference",
                f"{path}: {error.what}",
                "name the reference.json of an earlier run of 'monitor' on this model",
            ) from None


def first_rows(task: Task[Any], raw: Any) -> NDArray[np.int64]:
    """Positions of each person's first row; of all rows where nobody is named."""
    named = isinstance(raw, Table) and raw.people is not None
    if not named and task.together(raw) is None:
        return np.arange(task.size(raw), dtype=np.int64)
    _, first = np.unique(task.row_keys(raw), return_index=True)
    return np.sort(first).astype(np.int64)


def _field(field: Field, cells: NDArray[np.int64]) -> dict[str, Any]:
    return {
        "role": field.role,
        "name": field.name,
        "places": [[field.place(int(at)), int(cells[at])] for at in np.flatnonzero(cells)],
    }


def _found(one: Finding) -> dict[str, Any]:
    return {
        "role": one.field.role,
        "name": one.field.name,
        "drifted": one.drifted,
        "what": one.what,
        "now": one.window / one.n,
        "before": one.reference / one.total,
        "psi": one.psi,
    }
