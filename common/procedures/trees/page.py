"""``trees.json`` as a page: opens offline, asks no one for anything, runs nothing.

Names came from files of others and are escaped. Equal input gives equal bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from wardround.common.figures.figure import BOUND_SENTENCE, KNOWN, told
from wardround.common.procedures.frame import framed
from wardround.common.procedures.statistics.plots import drawn
from wardround.common.procedures.trees.result import MODEL

Values = Mapping[str, Any]
_MOST_COLUMNS = 30
_NAMES = {
    "binary:logistic": "two classes",
    "multi:softprob": "several classes",
    "reg:squarederror": "a number",
    "survival:cox": "survival (hazards)",
}


def page(found: Values, name: str, purpose: str = "") -> str:
    """The page as HTML text.

    name : of the run
    purpose : of the study, in its researcher's words; '' where there are none
    """
    columns = [one for one in found["columns"] if one["splits"] and not found.get("privacy")]
    parts = [
        f"<p>{escape(purpose)}</p>" if purpose else "",
        f"<p>{escape(_head(found))}</p>",
        "<h2>Figures of held-out rows</h2>\n" + _figures(found) if found["figures"] else "",
        _curve(found),
        "<h2>What each column was worth</h2>\n" + _columns(columns) if columns else "",
        "<h2>How to read it</h2>\n<ul>\n"
        + "\n".join(f"<li>{escape(line)}</li>" for line in _notes(found))
        + "\n</ul>",
    ]
    return framed(f"{name}: trees", parts)


def _head(found: Values) -> str:
    hospitals = found["hospitals"]
    rows = "few" if found["rows"] is None else f"about {found['rows']:,}"
    what = _NAMES.get(found["objective"], found["objective"])
    if found.get("privacy"):
        rows = "the"
    return (
        f"{found['trees']:,} trees in {found['rounds']:,} rounds, grown on {rows} rows of "
        f"{hospitals} hospital{'s' * (hospitals != 1)}; the target “{found['target']}” is {what}."
    )


def _figures(found: Values) -> str:
    splits = list(found["figures"])
    texts = {split: told(found["figures"][split], _shown) for split in splits}
    names = list(dict.fromkeys(name for each in splits for name in texts[each]))
    top = "".join(f'<th class="num">{escape(one)}</th>' for one in splits)
    rows = []
    for name in names:
        cells = "".join(
            f'<td class="num">{escape(texts[split].get(name, _shown(None)))}</td>'
            for split in splits
        )
        mixed = " (all rows, hospitals mixed)" if KNOWN[name].within else ""
        rows.append(f"<tr><td>{escape(name)}{mixed}</td>{cells}</tr>")
    bounds = any("±" in text for each in texts.values() for text in each.values())
    return (
        f'<div class="scroll"><table>\n<tr><th></th>{top}</tr>\n'
        + "\n".join(rows)
        + ("\n</table></div>")
        + (f'\n<p class="soft">{BOUND_SENTENCE}</p>' if bounds else "")
    )


def _curve(found: Values) -> str:
    scores = found["scores"]
    if len(scores) < 2:
        return ""
    line = {"name": "validation", "x": list(range(1, len(scores) + 1)), "y": scores}
    plot = {
        "type": "curves",
        "title": "Loss after each round",
        "x": "rounds",
        "y": "mean loss",
        "lines": [line],
    }
    return f'<h2>Rounds</h2>\n<div class="scroll">{drawn(plot)}</div>'


def _columns(columns: list[Values]) -> str:
    most = max(one["gain"] or 0 for one in columns) or 1
    rows = [
        f'<tr><td>{escape(one["name"])}</td><td><span class="share" style="width:'
        f'{12 * (one["gain"] or 0) / most:.2f}rem"></span>{_shown(one["gain"])}</td>'
        f'<td class="num">{one["splits"]:,}</td></tr>'
        for one in columns[:_MOST_COLUMNS]
    ]
    more = len(columns) - _MOST_COLUMNS
    rest = f'\n<p class="soft">{more} more in trees.json</p>' if more > 0 else ""
    return (
        '<div class="scroll"><table>\n<tr><th>column</th><th>share of the gain</th>'
        '<th class="num">splits</th></tr>\n' + "\n".join(rows) + f"\n</table></div>{rest}"
    )


def _notes(found: Values) -> list[str]:
    if private := found.get("privacy"):
        return [
            f"{MODEL} is the model: plain xgboost loads it, and wardround predict takes it.",
            "Splits were drawn, whatever the rows are; what leaves add, and the figures, is of "
            f"sums with noise: epsilon {private['epsilon']:.3g} at delta {private['delta']:g} for "
            f"each {private['unit']}, all rounds and the figures together.",
            f"The noise on a counted row has a deviation of {private['noise']:.3g}: figures of few "
            "held-out rows mean little.",
        ]
    least = found["smallest_leaf"]
    lines = [
        f"{MODEL} is the model: plain xgboost loads it, and wardround predict takes it.",
        f"No leaf was made of fewer than {least} rows of all hospitals. A model of many trees may "
        "still tell of single rows, as any model may.",
        "The coordinator's server has the sums of gradients in every bin of every node that was "
        "asked, over all hospitals; bins of small nodes hold few rows.",
        "What a column was worth says what these trees used, not what causes what.",
    ]
    if any(KNOWN[name].within for figures in found["figures"].values() for name in figures):
        lines.append(
            "A figure of hospitals mixed ranks rows of one hospital against another's, too: where "
            "hospitals' prevalences differ it isn't the mean of their own."
        )
    if found["scores"]:
        lines.append(
            f"Of {found['grown']:,} rounds that were scored the {found['rounds']:,} with the "
            "smallest validation loss were kept, so that figures of validation rows flatter it."
        )
    return lines


def _shown(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"
