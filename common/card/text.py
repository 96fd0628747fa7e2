"""The text of ``card.md``: the form of Hugging Face's model cards, with the lists of other frames.

Front matter first, then headings; at the end three tables say where each item of TRIPOD+AI, CHAI
and Annex IV is answered. What nobody has written says so by the key that would.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

from wardround.common.card.facts import Facts, Lines
from wardround.common.card.items import (
    DATA,
    DETAILS,
    FIGURES,
    FRAMES,
    GROUPS,
    INPUTS,
    LIMITS,
    OUTPUTS,
    PRIVACY,
    TRAINING,
    USES,
    WATCH,
    Item,
)
from wardround.common.figures.figure import MEAN, OVERALL, is_number
from wardround.common.protocol.names import HELD_OUT
from wardround.common.settings.card import CardTable

MISSING = "*To be written by a person*"
_PIPELINES = {
    ("tabular", "binary"): "tabular-classification",
    ("tabular", "multiclass"): "tabular-classification",
    ("tabular", "regression"): "tabular-regression",
    ("imaging", "binary"): "image-classification",
    ("imaging", "multiclass"): "image-classification",
    ("text", "tokens"): "token-classification",
    ("text", "binary"): "text-classification",
    ("text", "multiclass"): "text-classification",
    ("text", "causal"): "text-generation",
}
_BESIDE: dict[str, tuple[str, ...]] = {
    DETAILS: ("developers", "contact", "version", "licence", "regulatory"),
    USES: (
        *("background", "objectives", "intended_use", "users", "population", "workflow"),
        *("oversight", "out_of_scope"),
    ),
    DATA: ("setting", "eligibility", "treatments", "sample_size", "ethics", "sharing"),
    INPUTS: ("predictors",),
    OUTPUTS: ("outcome",),
    FIGURES: ("interpretation", "evidence", "usability"),
    GROUPS: ("inequalities",),
    LIMITS: ("limitations", "risks", "clinical_risk"),
    WATCH: ("maintenance",),
}
"""What a person says under each heading."""
_LAST = "Study"
_REST = (
    *("registration", "funding", "conflicts", "involvement", "risk_management", "standards"),
    "conformity",
)
_HEADINGS = (
    *(DETAILS, USES, DATA, INPUTS, OUTPUTS, TRAINING, PRIVACY, FIGURES, GROUPS, LIMITS, WATCH),
)


def card_text(facts: Facts, said: CardTable) -> str:
    """The card, Markdown with YAML in front.

    said : what persons have written
    """
    title = said.title or f"Model of {facts.config.federation.name}"
    lines = [*_front(facts, said), f"# {_inline(title)}", ""]
    for heading in _HEADINGS:
        lines += [f"## {heading}", *_section(facts, said, heading), ""]
    lines += [f"## {_LAST}", *_paragraphs(said, _REST), ""]
    lines += ["## Where the items of reporting guidelines are answered"]
    for frame, items in FRAMES.items():
        lines += [f"### {frame}", "| item | asks | answered |", "|---|---|---|"]
        lines += [_row(item, facts, said) for item in items]
        lines.append("")
    return "\n".join(lines).rstrip("\n") + "\n"


def unwritten(said: CardTable) -> list[str]:
    """Keys of what no person has written yet."""
    return [key for key, value in said if key not in ("title", "valid_days") and not value]


def _section(facts: Facts, said: CardTable, heading: str) -> Lines:
    found = facts.lines(heading)
    return [*found, *([""] if found else []), *_paragraphs(said, _BESIDE.get(heading, ()))]


def _paragraphs(said: CardTable, keys: Iterable[str]) -> Lines:
    lines = Lines()
    for key in keys:
        text = getattr(said, key)
        what = str(CardTable.model_fields[key].description)
        name = key.replace("_", " ").capitalize()
        lines += [f"**{name}**: {_plain(text)}" if text else _missing(name, key, what), ""]
    return lines[:-1]


def _missing(name: str, key: str, what: str) -> str:
    return f"**{name}**: {MISSING}: {what} (`card.{key}`)"


def _row(item: Item, facts: Facts, said: CardTable) -> str:
    where = [f"«{one}»" for one in item.sections if facts.lines(one)]
    where += [f"**{key.replace('_', ' ')}**" for key in item.keys if getattr(said, key)]
    lacking = [f"`card.{key}`" for key in item.keys if not getattr(said, key)]
    if lacking:
        where.append(f"{MISSING.lower()}: {', '.join(lacking)}")
    return f"| {item.number} | {item.asks} | {'; '.join(where) or MISSING.lower()} |"


def _front(facts: Facts, said: CardTable) -> Lines:
    """YAML; texts are written as JSON strings, which YAML reads."""
    schema = facts.schema
    lines = ["---", "library_name: wardround"]
    if said.licence:
        lines.append(f"license: {json.dumps(said.licence)}")
    if kind := _PIPELINES.get((schema.task, schema.kind)):
        lines.append(f"pipeline_tag: {kind}")
    lines += ["tags:", "- federated-learning", "- medical"]
    name = json.dumps(said.title or facts.config.federation.name)
    results = [one for split in HELD_OUT for one in _results(facts, split, kind)] if kind else []
    if results:
        lines += ["model-index:", f"- name: {name}", "  results:", *results]
    return [*lines, "---", ""]


def _results(facts: Facts, split: str, kind: str) -> Lines:
    shown = facts.figures(split)
    figures = {**shown.get(OVERALL, {}), **shown.get(MEAN, {})}
    values = {
        name: value
        for name, value in figures.items()
        if is_number(value) and not name.endswith("_error_bound")
    }
    if not values:
        return []
    lines = [
        f"  - task: {{type: {kind}}}",
        f'    dataset: {{name: "held-out rows of the hospitals", type: private, split: {split}}}',
        "    metrics:",
    ]
    return [*lines, *(f"    - {{type: {json.dumps(k)}, value: {v!r}}}" for k, v in values.items())]


def _inline(text: str) -> str:
    return " ".join(text.split())


def _plain(text: str) -> str:
    """A person's words as a paragraph: no headings, no tables, no markup of pages."""
    rows = (" ".join(row.split()) for row in text.splitlines())
    return "\n".join(row.replace("<", "&lt;").lstrip("#|>-= ") for row in rows if row)
