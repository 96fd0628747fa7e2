"""An evaluation as a page, for people."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from wardround.common.figures.figure import BOUND_SENTENCE, KNOWN, told
from wardround.common.judgement.words import judged_notes, judged_tables
from wardround.common.procedures.frame import framed

_ROWS = {
    "held_out": "Of held-out rows, which no study trains on.",
    "all": "Of all rows of these hospitals: figures of a new place only where none of them trained "
    "the model.",
}


def page(found: Mapping[str, Any], name: str, purpose: str = "") -> str:
    """The page of an ``evaluation.json`` as HTML text.

    name : of the run
    purpose : of the study, in its researcher's words; '' where there are none
    """
    count = found["hospitals"]
    head = (
        f"{count} hospital{'s' * (count != 1)}. {_ROWS[found['rows']]} Of the model "
        f"{found['model'][:16]}."
    )
    parts = [
        f"<p>{escape(purpose)}</p>" if purpose else "",
        f"<p>{escape(head)}</p>",
        "<h2>Figures</h2>\n" + _figures(found),
        altered(found["altered"]) if found.get("altered") else "",
        judged(found["judgement"]) if found.get("judgement") else "",
    ]
    return framed(f"{name}: a finished model's figures", parts)


_DONE = {
    "noise": "noise, in deviations",
    "missing": "share of cells missing",
    "absent": "missing in every row",
    "contrast": "share of contrast taken",
    "brightness": "brighter by, in deviations",
    "blur": "blur, in pixels",
    "unknown": "share of tokens unknown",
}


def altered(found: Mapping[str, Any]) -> str:
    """Importance and robustness as HTML."""
    figure, least = found["figure"], found["smallest_cell"]
    mean = " (mean of hospitals)" if found["mean_of_hospitals"] else ""
    parts = []
    for name, title, said in (
        ("importance", "Importance", "An input's values were dealt to other rows of each hospital"),
        ("robustness", "Robustness", "Inputs were disturbed"),
    ):
        if not found[name]:
            continue
        line = (
            f"{said}; how much worse {figure}{mean} is than {_shown(found['clean'])}, and the "
            f"deviation over repeats. What changes inputs of fewer than {least} persons counts as "
            "no change."
        )
        rows = []
        for one in found[name]:
            what = one.get("input") or format(one["strength"], "g")
            cells = [what] if name == "importance" else [_DONE[one["kind"]], what]
            spread = "" if one["spread"] is None else _shown(one["spread"])
            cells += [_shown(one["value"]), _shown(one["drop"]), spread]
            rows.append("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>")
        head = ["input"] if name == "importance" else ["disturbance", "strength or input"]
        heads = "".join(
            f"<th>{escape(one)}</th>" for one in (*head, figure, "worse by", "deviation")
        )
        parts.append(f"<h2>{title}</h2>\n<p>{escape(line)}</p>")
        body = "\n".join(rows)
        parts.append(f'<div class="scroll"><table><tr>{heads}</tr>\n{body}\n</table></div>')
    return "\n".join(parts)


def judged(found: Mapping[str, Any]) -> str:
    """A judgement's tables as HTML."""
    parts = ["<h2>By groups</h2>", *(f"<p>{escape(line)}</p>" for line in judged_notes(found))]
    for table in judged_tables(found):
        parts.append(f"<h3>{escape(table.title)}</h3>")
        head = "".join(f"<th>{escape(one)}</th>" for one in table.head)
        body = "\n".join(
            "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>"
            for row in table.rows
        )
        parts.append(f'<div class="scroll"><table><tr>{head}</tr>\n{body}\n</table></div>')
        parts += [f'<p class="soft">{escape(note)}</p>' for note in table.notes]
    return "\n".join(parts)


def _figures(found: Mapping[str, Any]) -> str:
    within = found["within"]
    texts = told(found["figures"], _shown)
    means = {key: told(_as_figures(key, mean), _shown)[key] for key, mean in within.items()}
    rows = []
    for key, value in texts.items():
        mean = within.get(key)
        cells = (key, value, means.get(key, ""), "" if mean is None else str(mean["hospitals"]))
        first, *others = map(escape, cells)
        line = "".join(f'<td class="num">{one}</td>' for one in others)
        rows.append(f"<tr><td>{first}</td>{line}</tr>")
    head = "".join(
        f"<th>{one}</th>" for one in ("figure", "all rows together", "mean of hospitals", "of")
    )
    body = "\n".join(rows)
    bounds = any("±" in text for text in (*texts.values(), *means.values()))
    below = f'\n<p class="soft">{BOUND_SENTENCE}</p>' if bounds else ""
    return f'<div class="scroll"><table><tr>{head}</tr>\n{body}\n</table></div>{below}'


def _as_figures(name: str, mean: Mapping[str, Any]) -> dict[str, Any]:
    """A mean of hospitals as a figure is kept, with its error bound beside it."""
    return {name: mean["mean"]} | {KNOWN[name].bound or "": mean.get("bound")}


def _shown(value: float | None) -> str:
    return "not defined" if value is None else f"{value:.6g}"
