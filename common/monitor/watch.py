"""Windows of rows against a reference, and two models on the same rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wardround.common.drift.compare import ALPHA, Finding, compare
from wardround.common.drift.counts import Columns, Counts
from wardround.common.drift.field import Field, fields_of
from wardround.common.drift.outcomes import Figured, figures_of
from wardround.common.drift.reference import Reference
from wardround.common.drift.scoring import Scored, scored
from wardround.common.errors import DataError
from wardround.common.model_folder.folder import ModelFolder
from wardround.common.monitor.shares import Rule, Told
from wardround.common.monitor.windows import Window
from wardround.common.predict.predictor import Predictor
from wardround.common.tasks.schema import Schema


@dataclass(frozen=True)
class Compared:
    """One output of two models on the same rows.

    rows : that both have a score for
    difference : the mean of the second's minus the first's
    distance : the mean of its size; ``largest`` the largest
    correlation : of both; None where one is constant
    agreement : share of rows on the same side of one half; None of what is no probability
    """

    output: str
    rows: int
    difference: float
    distance: float
    largest: float
    correlation: float | None
    agreement: float | None


@dataclass(frozen=True)
class Shadow:
    """A second model on a window's rows."""

    outputs: Sequence[Compared]
    figures: Sequence[Figured]


@dataclass(frozen=True)
class Seen:
    """What was seen in a window.

    findings : by field; of none the model's inputs, scores and outcomes that one side lacks
    figures : of rows with outcomes
    """

    window: Window
    findings: Sequence[Finding]
    figures: Sequence[Figured]
    shadow: Shadow | None = None

    @property
    def drifted(self) -> bool:
        """Whether any field is an alarm."""
        return any(one.drifted for one in self.findings)


@dataclass(frozen=True)
class Watched:
    """All windows.

    folder : the model's; ``model``: its digest; ``run``: which run it is of
    absent : inputs that the rows lack altogether
    notes : what else there is to know, a line each
    shares : by the rule on shares, where there is one; ``rule`` says which
    """

    folder: Path
    model: str
    run: str
    reference: Reference
    schema: Schema
    seen: Sequence[Seen]
    absent: Sequence[str] = ()
    notes: Sequence[str] = ()
    shadow: str = ""
    rule: Rule | None = None
    shares: Sequence[Told] = ()

    @property
    def drifted(self) -> bool:
        """Whether any window has an alarm, of a field or of a share."""
        return any(one.drifted for one in self.seen) or any(x.surge.alarm for x in self.shares)

    def with_shares(self, rule: Rule | None, shares: Sequence[Told]) -> Watched:
        """The same with what a rule on shares found (``watch_shares``)."""
        return replace(self, rule=rule, shares=shares)


def score(predictor: Predictor, raw: Any) -> Scored:
    """Rows with what the model says of them. Raises DataError, TaskError."""
    task, folder = predictor.task, predictor.folder
    if task.size(raw) == 0:
        raise DataError("there are no rows")

    def say(part: Any) -> Mapping[str, NDArray[Any]]:
        said: Mapping[str, NDArray[Any]] = task.predictions(predictor.outputs(part), folder.totals)
        return said

    return scored(task, folder.schema, raw, say)


def reference_of(folder: ModelFolder, found: Scored, whose: str = "") -> Reference:
    """A reference of rows at hand."""
    schema = folder.schema
    counts = found.counts(fields_of(schema), schema)
    return Reference(counts, folder.digest, whose, tuple(figures_of(found.columns, schema)))


def watch(
    folder: ModelFolder,
    found: Scored,
    reference: Reference,
    windows: Sequence[Window],
    shadow: tuple[ModelFolder, Scored] | None = None,
    notes: Sequence[str] = (),
) -> Watched:
    """Each window of the rows against the reference.

    shadow : a second model, and the same rows as it reads and scores them
    """
    schema, fields, seen = folder.schema, fields_of(folder.schema), []
    if shadow is not None and shadow[1].rows != found.rows:
        raise DataError(
            f"the two models read {found.rows} and {shadow[1].rows} rows of the same data, so they "
            "can't be compared row by row"
        )
    for window in windows:
        columns, second = found.select(window.rows), None
        if shadow is not None:
            theirs = shadow[1].select(window.rows)
            same = compared(schema, columns, shadow[0].schema, theirs)
            second = Shadow(same, figures_of(theirs, shadow[0].schema))
        counts = found.counts(fields, schema, window.rows)
        # all windows of a page share what one has, so that a year of months raises no more alarms
        findings = compare(reference.counts, counts, ALPHA / len(windows))
        seen.append(Seen(window, findings, figures_of(columns, schema), second))
    return Watched(
        folder.path,
        folder.digest,
        folder.listed.run,
        reference,
        schema,
        seen,
        found.absent,
        list(notes),
        shadow[0].listed.run or str(shadow[0].digest[:12]) if shadow else "",
    )


def watch_counts(
    folder: ModelFolder, counts: Counts, reference: Reference, notes: Sequence[str] = ()
) -> Watched:
    """Counts that a server of the model kept, as one window: no row is at hand."""
    rows = counts.rows()
    window = Window("rows counted", np.arange(rows, dtype=np.int64))
    seen = Seen(window, compare(reference.counts, counts), [])
    return Watched(
        folder.path,
        folder.digest,
        folder.listed.run,
        reference,
        folder.schema,
        [seen],
        (),
        list(notes),
    )


def compared(one: Schema, first: Columns, other: Schema, second: Columns) -> list[Compared]:
    """The outputs that both models have, row by row. Raises DataError where there is none."""
    found, kinds = [], {output.name: output.kind for output in one.outputs}
    for output in other.outputs:
        key = Field("score", output.name).key
        if kinds.get(output.name) != output.kind or key not in first or key not in second:
            continue
        a, b = (np.asarray(x[key].values, dtype=np.float64) for x in (first, second))
        known = ~np.isnan(a) & ~np.isnan(b)
        if known.any():
            found.append(_compared(output.name, output.kind, a[known], b[known]))
    if not any(kinds.get(output.name) == output.kind for output in other.outputs):
        raise DataError(
            "the two models have no output in common", mend="name a model of the same question"
        )
    return found


def _compared(name: str, kind: str, a: NDArray[np.float64], b: NDArray[np.float64]) -> Compared:
    off = b - a
    varies = len(a) > 1 and a.std() > 0 and b.std() > 0
    return Compared(
        name,
        len(a),
        float(off.mean()),
        float(np.abs(off).mean()),
        float(np.abs(off).max()),
        float(np.corrcoef(a, b)[0, 1]) if varies else None,
        float(((a >= 0.5) == (b >= 0.5)).mean()) if kind == "probability" else None,
    )
