"""What the chosen model's scores are worth: its curves, its thresholds, who is taken for what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from wardround.common.figures import curves as drawn
from wardround.common.figures.curves import Groups
from wardround.common.run.curves import Curves
from wardround.common.run.report.plots import PALETTE, Figure, layout

_TITLES = {
    "roc": ("ROC curve", "Of all those who have it, the share that is found; of all others, the "
            "share that is taken for one. The diagonal is chance."),
    "precision": ("Precision and recall", "Of all who are called positive, the share that is; by "
                  "the share that is found. A model that knows nothing stays at the prevalence."),
    "calibration": ("Calibration", "Predicted probability, and the share of positives among rows "
                    "with about that; the bar is its 95 % interval. On the diagonal both agree."),
    "benefit": ("Net benefit", "Of acting on the model at a threshold, of acting on everybody, and "
                "on nobody (0): true positives less false ones at the threshold's odds, by row."),
}  # fmt: skip
_RANGE = [-0.02, 1.02]


@dataclass(frozen=True)
class Quality:
    """The section of the page.

    split : whose rows; '' where there is nothing to show
    figures : plots by name
    titles : (name, heading, what it shows), in order
    confusion : rows of [true, predicted] counts
    thresholds : rows of texts below ``HEAD``
    """

    split: str = ""
    figures: dict[str, Figure] = field(default_factory=dict)
    titles: list[tuple[str, str, str]] = field(default_factory=list)
    confusion: list[list[float]] = field(default_factory=list)
    thresholds: list[list[str]] = field(default_factory=list)
    several: bool = False

    @classmethod
    def of(
        cls, curves: Mapping[str, Curves], thresholds: Sequence[Mapping[str, Any]], split: str
    ) -> Quality:
        """Of one split's curves; empty where it has none."""
        one = curves.get(split)
        if one is None or not (one.groups or one.confusion):
            return cls()
        figures = _figures(one.groups)
        titles = [(name, *_TITLES[name]) for name in figures]
        rows = [_threshold(row) for row in thresholds]
        return cls(split, figures, titles, one.confusion, rows, "" not in one.groups)


HEAD = ("rule", "threshold", "sensitivity", "specificity", "PPV", "NPV")
_KEYS = ("sensitivity", "specificity", "ppv", "npv")


def _threshold(row: Mapping[str, Any]) -> list[str]:
    cells = [str(row["rule"]), f"{row['threshold']:.3g}"]
    for key in _KEYS:
        value, low, high = (*row["figures"].get(key, ()), None, None, None)[:3]
        text = "–" if value is None else f"{value:.3f}"
        cells.append(text if low is None or high is None else f"{text} ({low:.3f}–{high:.3f})")
    return cells


def _figures(groups: Mapping[str, Groups]) -> dict[str, Figure]:
    if not groups:
        return {}
    found = {
        "roc": _curves(groups, drawn.roc, "false positive rate", "sensitivity", True),
        "precision": _curves(groups, drawn.precision_recall, "recall", "precision", False),
    }
    if (one := groups.get("")) is not None:
        found |= {"calibration": _calibration(one), "benefit": _benefit(one)}
    return found


def _curves(groups: Mapping[str, Groups], points: Any, x: str, y: str, chance: bool) -> Figure:
    data = [
        {
            "type": "scatter",
            "mode": "lines",
            "name": f"class {name}" if name else "the model",
            "x": points(one)[0],
            "y": points(one)[1],
            "line": {"width": 2.5, "color": PALETTE[number % len(PALETTE)]},
        }
        for number, (name, one) in enumerate(groups.items())
    ]
    return {"data": [*([_diagonal("chance")] if chance else []), *data], "layout": _square(x, y)}


def _calibration(groups: Groups) -> Figure:
    scores, shares, low, high = (list(x) for x in zip(*drawn.calibration(groups), strict=True))
    error = {
        "type": "data",
        "symmetric": False,
        "array": [b - a for a, b in zip(shares, high, strict=True)],
        "arrayminus": [a - b for a, b in zip(shares, low, strict=True)],
    }
    points = {
        "type": "scatter",
        "mode": "markers+lines",
        "name": "the model",
        "x": scores,
        "y": shares,
        "error_y": error,
        "line": {"width": 1.5, "color": PALETTE[0]},
    }
    ideal = _diagonal("predicted = observed")
    return {"data": [ideal, points], "layout": _square("predicted", "observed")}


def _benefit(groups: Groups) -> Figure:
    cuts, model, everyone = drawn.net_benefit(groups)
    lines = (("the model", model, PALETTE[0], "solid"), ("everybody", everyone, PALETTE[1], "dash"))
    data: list[dict[str, Any]] = [
        {
            "type": "scatter",
            "mode": "lines",
            "name": name,
            "x": cuts,
            "y": values,
            "line": {"width": 2.5, "color": color, "dash": dash},
        }
        for name, values, color, dash in lines
    ]
    best = max([*model, 0.0])
    found = layout("threshold", "net benefit") | {"hovermode": "closest"}
    # treating everybody falls without end: what matters lies above nobody's 0
    found["yaxis"] |= {"range": [-0.25 * best - 0.01, 1.1 * best + 0.01]}
    return {"data": data, "layout": found}


def _diagonal(name: str) -> dict[str, Any]:
    line = {"width": 1, "color": "gray", "dash": "dot"}
    ends = [0.0, 1.0]
    return {"type": "scatter", "mode": "lines", "name": name, "x": ends, "y": ends, "line": line}


def _square(x: str, y: str) -> dict[str, Any]:
    found = layout(x, y) | {"hovermode": "closest"}
    found["xaxis"] |= {"range": _RANGE}
    found["yaxis"] |= {"range": _RANGE}
    return found
