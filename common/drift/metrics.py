"""Counts as Prometheus metrics (text format 0.0.4), and counts of such a text.

``wardround_model_cells_total{role, field, place}`` counts the rows of a place by its number, the
last two as 'odd' and 'missing', which are there at 0 too: no category's text and no cell stands in
a label. Of the last full window ``wardround_model_drift`` is 1 where a field is an alarm,
``wardround_model_psi`` its index. What reads a text takes nothing but the counts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import numpy as np

from wardround.common.drift.counts import Counts
from wardround.common.drift.field import MISSING, ODD, Field
from wardround.common.drift.recent import Recently
from wardround.common.errors import DataError

CELLS = "wardround_model_cells_total"
_LINE = re.compile(rf'^{CELLS}\{{((?:\w+="(?:[^"\\]|\\.)*",?)*)\}} ([0-9.e+]+)$')
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_ENDS = {MISSING: "missing", ODD: "odd"}


def metrics_text(state: Recently) -> str:
    """All lines, ending with one's end; places without rows are left out."""
    return "\n".join(_lines(state)) + "\n"


def _lines(state: Recently) -> Iterator[str]:
    yield f"# HELP {CELLS} Rows by field and place: bins of numbers, categories, odd, missing"
    yield f"# TYPE {CELLS} counter"
    for field in state.counts.fields:
        for place, count in enumerate(state.counts.cells.get(field.key, ())):
            name = _ENDS.get(place - field.size, str(place))
            if count or place >= field.known:
                yield f'{CELLS}{{{_of(field)},place="{name}"}} {int(count)}'
    yield "# HELP wardround_model_windows_total Windows that were compared with the reference"
    yield "# TYPE wardround_model_windows_total counter"
    yield f"wardround_model_windows_total {state.windows}"
    yield "# HELP wardround_model_drift 1 where the last full window has drifted, else 0"
    yield "# TYPE wardround_model_drift gauge"
    for one in state.findings:
        yield f"wardround_model_drift{{{_of(one.field)}}} {int(one.drifted)}"
    yield "# HELP wardround_model_psi Population stability index of the last full window"
    yield "# TYPE wardround_model_psi gauge"
    for one in state.findings:
        yield f"wardround_model_psi{{{_of(one.field)}}} {one.psi:.6g}"


def _of(field: Field) -> str:
    return f'role="{field.role}",field="{_escaped(field.name)}"'


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def _plain(text: str) -> str:
    return re.sub(r"\\(.)", lambda found: "\n" if found[1] == "n" else found[1], text)


def counts_of_metrics(text: str, fields: Sequence[Field], who: str) -> Counts:
    """The counts in a text.

    who : where the text is from, for messages

    Raises DataError for a text without any, or with those of another model.
    """
    by_name = {(one.role, one.name): one for one in fields}
    cells = {one.key: np.zeros(one.size) for one in fields}
    found = 0
    for line in text.splitlines():
        if not line.startswith(CELLS + "{"):
            continue
        parsed = _LINE.match(line)
        labels = dict(_LABEL.findall(parsed[1])) if parsed else {}
        name = labels.get("role", ""), _plain(labels.get("field", ""))
        field = by_name.get(name)
        place = _place(labels.get("place", ""), field) if field is not None else None
        if parsed is None or field is None or place is None:
            raise DataError(
                "its counts aren't of this model's inputs and outputs",
                who=who,
                mend="name the model that is served there",
            )
        try:
            cells[field.key][place] += float(parsed[2])
        except ValueError:
            raise DataError("holds a count that is none", who=who) from None
        found += 1
    if not found:
        raise DataError(
            f"holds no counts ({CELLS})",
            who=who,
            mend="is it the /metrics of a server of the model, and did rows come to it?",
        )
    try:
        return Counts.of_sums(fields, cells)
    except ValueError:
        raise DataError("holds a count that is none", who=who) from None


def _place(text: str, field: Field) -> int | None:
    for end, name in _ENDS.items():
        if text == name:
            return field.size + end
    return int(text) if text.isascii() and text.isdigit() and int(text) < field.known else None
