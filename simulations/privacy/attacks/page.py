"""The audit as one self-contained page: sentences, and pictures where rows are images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from wardround.common.run.report.page import write_figures
from wardround.common.run.report.plots import Figure
from wardround.simulations.privacy.attacks.run import BLIND, Audit, Inversions, is_image, words

_SHOWN = 4


def write_page(found: Audit, path: Path) -> None:
    """Write the page, atomically."""
    figures: dict[str, Figure] = {}
    if found.inversions is not None and is_image(found.inversions.truths):
        figures["Rows, and what was drawn from their updates"] = pictures(found.inversions)
    figures["Share of members found, by share of others taken for members"] = _membership(found)
    sections = {"Found": words(found), "What this can't tell": list(BLIND)}
    write_figures(figures, "Privacy audit", path, sections)


def pictures(inversions: Inversions) -> Figure:
    """A column per row of data: the truth, drawn from the bare update, from the protected one."""
    columns = min(_SHOWN, len(inversions.truths))
    kinds: list[tuple[str, list[Tensor]]] = [
        ("truth", inversions.truths),
        ("bare", [one.row for one in inversions.bare]),
        ("protected", [one.row for one in inversions.protected]),
    ]
    data: list[dict[str, Any]] = []
    layout: dict[str, Any] = {"grid": {"rows": 3, "columns": columns, "pattern": "independent"}}
    for line, (kind, images) in enumerate(kinds):
        for column, image in enumerate(images[:columns]):
            number = line * columns + column + 1
            suffix = "" if number == 1 else str(number)
            data.append(
                {
                    "type": "heatmap",
                    "z": image[0].mean(0).flip(0).tolist(),
                    "colorscale": "Greys",
                    "showscale": False,
                    "xaxis": f"x{suffix}",
                    "yaxis": f"y{suffix}",
                }
            )
            title = {"text": kind} if column == 0 else {}
            layout[f"xaxis{suffix}"] = {"visible": False}
            layout[f"yaxis{suffix}"] = {"showticklabels": False, "title": title}
    return {"data": data, "layout": layout | {"height": 620}}


def _membership(found: Audit) -> Figure:
    data = [
        {
            "type": "bar",
            "name": name,
            "x": [f"{rate:.1%}" for rate in one.found],
            "y": list(one.found.values()),
        }
        for name, one in (("private", found.private), ("without privacy", found.bare))
    ]
    return {"data": data, "layout": {"yaxis": {"title": {"text": "members found"}}}}
