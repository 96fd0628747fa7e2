"""What a run knows of its model, in sentences and tables: the facts of a card, by heading.

Made of what may be shown to all that took part (``server/results/shared.py``), of the preparation's
totals and of the plan. Counts of fewer than ``SMALLEST`` rows are not told, nor what would give
them by a subtraction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from wardround.common.card import items
from wardround.common.config.load import Config
from wardround.common.figures.areas import Interval
from wardround.common.figures.figure import (
    BOUND_SENTENCE,
    MEAN,
    OVERALL,
    Figure,
    FigureTable,
    is_number,
    with_bound,
)
from wardround.common.figures.records import evaluation_of, model_rows
from wardround.common.figures.sums import Sums
from wardround.common.protocol.names import HELD_OUT, SPLITS
from wardround.common.tasks.schema import Input, Schema

SMALLEST = 5
_MOST_INPUTS = 200
_OPTIMIZERS = ("optimizer", "lr", "batch_size", "local_epochs", "local_steps", "precision")
SPANS = (
    "95 % intervals, of what chance does with these hospitals' rows; how far off another hospital "
    "would be they don't say"
)
Lines = list[str]


@dataclass(frozen=True)
class Facts:
    """A run, as far as its card may tell.

    config, schema, totals : of the model folder
    summary, rounds : ``run.json`` and the lines of ``metrics.jsonl``, as they may be shown
    run, round : whose model it is; ``created``, ``expires``: days
    simulated : whether its hospitals were simulated ones
    parameters : numbers that were trained
    spans : 95 % intervals by split, then 'mean' or 'overall', then figure
    notes : by heading, lines of what else is known (groups, thresholds, calibration)
    """

    config: Config
    schema: Schema
    totals: Sums
    summary: Mapping[str, Any]
    rounds: Sequence[Mapping[str, Any]]
    run: str
    round: int
    created: str
    expires: str
    simulated: bool
    parameters: int
    spans: Mapping[str, Mapping[str, Mapping[str, Interval]]] = field(default_factory=dict)
    notes: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def lines(self, heading: str) -> Lines:
        """Markdown lines under a heading; empty where the run knows nothing of it."""
        makers = {
            items.DETAILS: self._details,
            items.DATA: self._data,
            items.INPUTS: self._inputs,
            items.OUTPUTS: self._outputs,
            items.TRAINING: self._training,
            items.PRIVACY: self._privacy,
            items.FIGURES: self._figures,
            items.LIMITS: self._limits,
            items.WATCH: self._watch,
        }
        made = makers[heading]() if heading in makers else []
        return [*made, *self.notes.get(heading, ())]

    @property
    def evaluation(self) -> Mapping[str, Any]:
        """The line that has the model's figures; {} where it was not evaluated."""
        return evaluation_of(list(self.rounds), self.round)

    def figures(self, split: str) -> dict[str, Mapping[str, Any]]:
        """The model's figures on a split: 'mean' of the hospitals, 'overall' of all rows."""
        rows = {row["hospital"]: row["federated"] for row in model_rows(self.evaluation, split)}
        return {who: rows[who] for who in (MEAN, OVERALL) if who in rows}

    # --- the headings ----------------------------------------------------------------------------
    def _details(self) -> Lines:
        schema = self.schema
        what = f"{schema.kind} model of the task `{schema.task}`" if schema.kind else schema.task
        lines = [
            f"- What: a {what}, trained by Wardround's federated learning"
            + (f"; it predicts `{schema.target}`" if schema.target else ""),
            f"- Run `{self.run}`, the model of round {self.round}; {self.parameters:,} numbers "
            "were trained",
            f"- Made on {self.created}; good until {self.expires}",
        ]
        if self.simulated:
            lines.append(
                "- **Simulated**: all hospitals were simulated on one machine; nobody has signed it"
            )
        return lines

    def _data(self) -> Lines:
        members = self.summary.get("members") or len(self.summary.get("hospitals", ()))
        lines = [f"- {members} hospitals took part; no row has left one"] if members else []
        told = self.summary.get("rows") or {}
        rows = [f"{told[split]:,} {split}" for split in SPLITS if told.get(split)]
        if rows:
            lines.append(f"- Rows of all hospitals together: {', '.join(rows)}")
        if self.config.cohort is not None:
            lines.append(
                "- Rows were made from clinical records by the `[cohort]` of `config.toml`"
            )
        for split, figures in self._splits():
            prevalence = figures.get("prevalence")
            if is_number(prevalence):
                lines.append(f"- Share of cases among {split} rows: {prevalence:.1%}")
        if lines:
            lines.append(
                "- Each hospital's held-out rows were chosen by a key of its own, whole patients "
                "where these are named; the model was evaluated at the hospitals that trained it"
            )
        return lines

    def _splits(self) -> list[tuple[str, Mapping[str, Any]]]:
        found = [(split, self.figures(split).get(OVERALL, {})) for split in HELD_OUT]
        return [(split, figures) for split, figures in found if figures]

    def _inputs(self) -> Lines:
        inputs = self.schema.inputs
        if not inputs:
            return []
        if self.schema.task != "tabular":
            one = inputs[0]
            size = " x ".join(map(str, self.schema.size))
            form = f" of {size} pixels, {self.schema.channels} channel(s)" if size else ""
            form = form or f" of at most {self.schema.max_length} tokens"
            return [f"- `{one.name}`: {one.kind}{form}"]
        lines = [
            "| input | kind | unit | of training rows | missing there | a gap means |",
            "|---|---|---|---|---|---|",
            *(self._input_row(one) for one in inputs[:_MOST_INPUTS]),
        ]
        if len(inputs) > _MOST_INPUTS:
            lines += ["", f"and {len(inputs) - _MOST_INPUTS} more: see `schema.json`."]
        return lines

    def _input_row(self, one: Input) -> str:
        found = ""
        if one.kind == "number" and one.mean is not None and one.std is not None:
            found = f"mean {one.mean:.4g}, standard deviation {one.std:.4g}"
        elif one.kind == "binary":
            found = self._share_of_ones(one.name)
        elif one.kind == "category":
            found = f"{len(one.categories)} categories"
        cells = (f"`{_cell(one.name)}`", one.kind, one.unit, found, self._missing(one), one.gap)
        return f"| {' | '.join(_cell(cell) for cell in cells)} |"

    def _share_of_ones(self, name: str) -> str:
        key = f"binary/{quote(name, safe='')}"
        count, ones = self._total(f"{key}/count"), self._total(f"{key}/ones")
        if count is None or ones is None or min(ones, count - ones) < SMALLEST:
            return f"fewer than {SMALLEST} of one value" if count is not None else ""
        return f"{ones / count:.1%} are 1"

    def _missing(self, one: Input) -> str:
        kind = {"number": "numeric", "binary": "binary"}.get(one.kind)
        count = self._total(f"{kind}/{quote(one.name, safe='')}/count")
        rows = self._total("rows")
        if count is None or not rows:
            return ""
        gaps = rows - count
        if 0 < gaps < SMALLEST or 0 < count < SMALLEST:
            return f"fewer than {SMALLEST}"
        return f"{gaps / rows:.1%}"

    def _total(self, key: str) -> float | None:
        found = self.totals.get(key)
        return None if found is None else float(found[0])

    def _outputs(self) -> Lines:
        names = {
            "probability": "the probability of `{of}`",
            "number": "`{target}` in its own unit",
            "risk": "the logarithm of a hazard: only differences and their order mean something",
            "tags": "a tag for each word",
            "text": "what the model writes",
        }
        target = self.schema.target
        return [
            f"- `{one.name}`: {names[one.kind].format(of=one.of, target=target)}"
            + (f" ({one.unit})" if one.unit else "")
            for one in self.schema.outputs
        ]

    def _training(self) -> Lines:
        config, made = self.config, len(self.rounds)
        settings = ", ".join(
            f"{key} {value:g}" if isinstance(value, float) else f"{key} {value}"
            for key in _OPTIMIZERS
            if (value := getattr(config.training, key)) is not None
        )
        why = "chosen by validation rows" if config.evaluation.select == "best" else "the last one"
        lines = [
            f"- Strategy `{config.strategy.name}`, {made} rounds; the model is that of round "
            f"{self.round}, {why}",
            f"- At each hospital: {settings}; seed {config.federation.seed}",
            "- Preparation (means, medians, categories) was agreed by sums over all hospitals"
            if config.task.name == "tabular"
            else "- Preparation as `config.toml` says it",
        ]
        if config.federation.initial:
            lines.append(f"- It began from `{config.federation.initial}`")
        return lines

    def _privacy(self) -> Lines:
        secure, privacy = self.config.secure_aggregation, self.config.privacy
        emulated = " (emulated: no keys or masks)" * (self.summary.get("masks") == "emulated")
        lines = [
            f"- Secure aggregation{emulated}: only sums over at least {secure.min_cohort} "
            "hospitals were opened"
            if secure.enabled
            else "- **No secure aggregation**: the coordinator saw each hospital's updates"
        ]
        lines.append(
            f"- Differential privacy: {privacy.sentence}"
            if privacy.enabled
            else "- **No differential privacy**: what the model tells of a patient is not bounded"
        )
        signed = "unsigned" if self.simulated else "signed by the server"
        return [*lines, f"- `files.json` lists every file of the model with its digest, {signed}"]

    def _figures(self) -> Lines:
        table, lines, bounds = FigureTable.read(self.summary), Lines(), False
        for split in HELD_OUT:
            shown = self.figures(split)
            if not shown:
                continue
            names = [x for x in shown.get(OVERALL, {}) if x not in table.bounds()]
            head = " | ".join(table.primary.name_of(who) for who in shown)
            lines += ["", f"On {split} rows:", "", f"| figure | {head} |"]
            lines.append("|---|" + "---|" * len(shown))
            for name in names:
                spans = self.spans.get(split, {})
                cells = [_number(shown[who], table[name], spans.get(who, {})) for who in shown]
                bounds |= any("±" in cell for cell in cells)
                lines.append(f"| {name} | {' | '.join(cells)} |")
        if lines and self.spans:
            lines += ["", f"In brackets: {SPANS}."]
        if bounds:
            lines += ["", f"{BOUND_SENTENCE}."]
        return lines

    def _limits(self) -> Lines:
        lines = ["- It was evaluated at hospitals that trained it: of others nothing is known"]
        if not any(self.figures(split) for split in HELD_OUT):
            lines.append("- No figures over all hospitals can be shown: too few had held-out rows")
        if not self.notes.get(items.GROUPS):
            lines.append(
                "- No figures by group of patients were asked for (`[judgement]`): whether it is "
                "as good for all is not known"
            )
        if self.simulated:
            lines.append("- A simulation's figures say nothing of hospitals that weren't in it")
        members = self.summary.get("members") or len(self.summary.get("hospitals", ()))
        if 0 < members < 10:
            lines.append(f"- {members} hospitals are few to say how it does at another one")
        return lines

    def _watch(self) -> Lines:
        return [
            "- `wardround predict` and `wardround serve` use it; both refuse an altered folder",
            "- Before use, recalibrate on the hospital's own rows (`wardround client calibrate`), "
            "then watch drift there (`wardround client monitor`)",
        ]


def _number(figures: Mapping[str, Any], figure: Figure, spans: Mapping[str, Interval]) -> str:
    """A figure's text, with its interval; nothing where there is no such figure."""
    value = figures.get(figure.name)
    if not is_number(value):
        return "undefined" if figure.name in figures else ""
    span = spans.get(figure.name)
    text = f"{value:.4g}" + (f" ({span[0]:.3g} to {span[1]:.3g})" if span else "")
    return with_bound(text, figure.bound_in(figures))


def _cell(text: str) -> str:
    """Text that stays within its cell of a Markdown table."""
    return text.replace("\n", " ").replace("|", "\\|")
