"""A simulation's result as a few lines of text, and as a table and a curve for a notebook."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any, Protocol

from wardround.common.figures.compared import compared, mean_over, same_hospitals
from wardround.common.figures.figure import BOUND_SENTENCE, MEAN, Figure, FigureTable, is_number
from wardround.common.figures.noised import NOT_MEASURABLE
from wardround.common.figures.records import model_figure
from wardround.common.procedures.statistics.plots import alone

_KINDS = ("local", "federated", "pooled")
_MOST_ROWS = 30
_CELL = "padding:2px 10px;text-align:right"


class Shown(Protocol):
    """What is shown of a ``Result``; its fields are explained there."""

    @property
    def run_directory(self) -> Path: ...

    @property
    def rounds(self) -> list[dict[str, Any]]: ...

    @property
    def comparison(self) -> list[dict[str, Any]]: ...

    @property
    def figures(self) -> FigureTable: ...

    @property
    def notes(self) -> tuple[str, ...]: ...

    def figure(self, metric: str, hospital: str | None = None, split: str = "test") -> float: ...


def result_text(result: Shown) -> str:
    """A few lines: the figure, how many rounds and hospitals, where it lies."""
    primary, split = result.figures.primary, _split(result)
    hospitals = len({name for row in result.rounds for name in row["accepted"]})
    found = [f"{len(result.rounds)} rounds, {hospitals} hospitals"]
    if split:
        found.insert(0, f"{split} {primary.name} {_value(result, split)}")
    compared_with = [
        f"{kind} {_number(_of_mean(result, kind))}"
        for kind in ("local", "pooled")
        if _of_mean(result, kind) is not None
    ]
    if compared_with:
        found.append(f"mean of hospitals {', '.join(compared_with)}")
    if result.notes:
        found.append(f"{len(result.notes)} notes (result.notes)")
    return f"<Result: {'; '.join(found)}; {result.run_directory}>"


def result_html(result: Shown) -> str:
    """The comparison, and the figure round by round; nothing in it runs or is loaded."""
    parts = [f"<p><code>{escape(result_text(result).strip('<>'))}</code></p>"]
    if result.comparison:
        parts += _table(result, result.figures.primary)
    if split := _split(result):
        parts.append(_curve(result, split))
    if result.notes:
        notes = "".join(f"<li>{escape(note)}</li>" for note in result.notes)
        parts.append(f"<details><summary>notes</summary><ul>{notes}</ul></details>")
    return f"<div>{''.join(parts)}</div>"


def _table(result: Shown, figure: Figure) -> Iterator[str]:
    comparison = result.comparison
    kinds = [kind for kind in _KINDS if kind in comparison[0]]
    heads = "".join(f'<th style="{_CELL}">{kind}</th>' for kind in kinds)
    yield f"<table><caption>{escape(figure.name)} on test rows</caption>"
    yield f'<thead><tr><th style="text-align:left">hospital</th>{heads}</tr></thead><tbody>'
    left_out = max(0, len(comparison) - _MOST_ROWS)
    for place, row in enumerate(comparison):
        if left_out and _MOST_ROWS - 2 <= place < len(comparison) - 2:
            continue
        found = compared(row, kinds, figure, _number, comparison)
        if row["hospital"] == MEAN and not same_hospitals(comparison, kinds, figure):
            found = [(text, False) for text, _ in found]
        name = escape(figure.name_of(str(row.get("title", row["hospital"]))))
        cells = "".join(
            f'<td style="{_CELL}">{f"<b>{escape(text)}*</b>" if star else escape(text)}</td>'
            for text, star in found
        )
        yield f'<tr><td style="text-align:left">{name}</td>{cells}</tr>'
    yield "</tbody></table>"
    below = [f"{left_out} hospitals aren't shown"] if left_out else []
    if over := mean_over(comparison, kinds, figure):
        below.append(over)
    if any("±" in t for row in comparison for t, _ in compared(row, kinds, figure, _number)):
        below.append(BOUND_SENTENCE)
    if below:
        yield f"<p>{escape('; '.join(below))}</p>"


def _curve(result: Shown, split: str) -> str:
    primary = result.figures.primary
    points = [
        (row["round"], value)
        for row in result.rounds
        if row["overall"].get(split) and (value := model_figure(row, split, primary)) is not None
    ]
    line = {"name": f"{split} rows", "x": [x for x, _ in points], "y": [y for _, y in points]}
    title = f"{primary.name}, round by round"
    plot = {"type": "curves", "title": title, "x": "round", "y": primary.name, "lines": [line]}
    return alone(plot) if len(points) > 1 else ""


def _split(result: Shown) -> str:
    """Whose rows the shown figures are of; '' where none were evaluated."""
    rows = [row["overall"] for row in result.rounds]
    return next((one for one in ("test", "validation") if any(map(lambda r: r.get(one), rows))), "")


def _value(result: Shown, split: str) -> str:
    """The model's figure in words."""
    try:
        value = result.figure(result.figures.primary.name, split=split)
    except KeyError:
        return "isn't known"
    return f"{value:.4g}" if is_number(value) else NOT_MEASURABLE


def _of_mean(result: Shown, kind: str) -> Any:
    name = result.figures.primary.name
    for row in result.comparison:
        if row["hospital"] == MEAN and is_number(value := row.get(kind, {}).get(name)):
            return value
    return None


def _number(value: Any) -> str:
    return f"{value:.3f}" if is_number(value) else "-"
