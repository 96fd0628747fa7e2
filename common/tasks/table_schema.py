"""What a finished model of tables takes and gives: ``Schema`` from options and agreed totals."""

from __future__ import annotations

from urllib.parse import quote

from wardround.common.figures.sums import Sums
from wardround.common.tasks.categories import classes, vocabulary
from wardround.common.tasks.columns import numeric_names
from wardround.common.tasks.data.profile.units import header_unit
from wardround.common.tasks.options import TabularOptions
from wardround.common.tasks.schema import (
    PREDICTION,
    RISK,
    Input,
    Output,
    Schema,
    class_outputs,
)

_MISSING = {
    "drop": "the row gets no prediction (task.missing = 'drop')",
    "refuse": "",
}


def table_schema(options: TabularOptions, totals: Sums) -> Schema:
    """The schema; inputs in the order of the model's, numbers before binary columns before
    categories. Raises TaskError for totals that hold no classes where these are agreed on."""
    columns = options.columns
    names: tuple[str, ...] = ()
    if options.kind == "multiclass":
        names = tuple(classes(totals, options))
    elif options.kind == "binary":
        names = _two_classes(options)
    target = str((columns.time if options.kind == "survival" else columns.target) or "")
    return Schema(
        task="tabular",
        kind=options.kind,
        target=target,
        classes=names,
        inputs=(
            *(_number(name, options, totals) for name in numeric_names(totals)),
            *(_binary(name, options, totals) for name in sorted(columns.binary)),
            *(_category(name, options, totals) for name in sorted(columns.categorical)),
        ),
        outputs=_outputs(options, target, names),
    )


def _outputs(options: TabularOptions, target: str, names: tuple[str, ...]) -> tuple[Output, ...]:
    if options.kind == "survival":
        return (Output(name=RISK, kind="risk"),)
    if options.kind == "regression":
        return (Output(name=PREDICTION, kind="number", unit=_unit(target, options)),)
    return class_outputs(options.kind, names)


def _two_classes(options: TabularOptions) -> tuple[str, ...]:
    """What 0 and 1 are called: one text of each, where the settings name it."""
    one, zero = options.positive or ["1"], options.negative or ["0"]
    return zero[0] if len(zero) == 1 else f"not {one[0]}", one[0]


def _number(name: str, options: TabularOptions, totals: Sums) -> Input:
    key = f"numeric/{quote(name, safe='')}"

    def known(what: str) -> float | None:
        found = totals.get(f"{key}/{what}")
        return None if found is None else float(found[0])

    unit = _unit(name, options)
    median = known("median")
    if options.missing == "median" and median is not None:
        gap = f"the median, {median:.6g}{f' {unit}' if unit else ''}"
    elif options.missing == "median":
        gap = "the median of the hospital's own training rows"
    else:
        gap = _MISSING[options.missing]
    return Input(
        name=name,
        kind="number",
        unit=unit,
        gap=gap,
        mean=known("mean"),
        std=known("std"),
        median=median,
    )


def _binary(name: str, options: TabularOptions, totals: Sums) -> Input:
    columns, key = options.columns, f"binary/{quote(name, safe='')}"
    gap, mean = _MISSING.get(options.missing, ""), None
    if f"{key}/count" in totals:
        count, ones = float(totals[f"{key}/count"][0]), float(totals[f"{key}/ones"][0])
        mean = ones / count if count else None
        if options.missing == "median":
            gap = f"the more frequent value, {int(ones > count / 2)}"
    if options.missing == "median" and options.normalise == "local":
        gap = "the more frequent value of the hospital's own training rows"
    return Input(
        name=name,
        kind="binary",
        positive=tuple(columns.positive.get(name, ())),
        negative=tuple(columns.negative.get(name, ())),
        spellings=columns.spellings(name),
        gap=gap,
        mean=mean,
    )


def _category(name: str, options: TabularOptions, totals: Sums) -> Input:
    gap = "no category" if options.missing == "median" else _MISSING[options.missing]
    return Input(
        name=name,
        kind="category",
        categories=tuple(vocabulary(totals, name, options)),
        spellings=options.columns.spellings(name),
        gap=gap,
    )


def _unit(name: str, options: TabularOptions) -> str:
    """As the study expects it, else as the column's name carries it."""
    expected = options.columns.expected.get(name)
    if expected is not None and expected.unit:
        return expected.unit
    return header_unit(name)[1] or ""
