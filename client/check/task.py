"""The rows as the task reads them: usable ones, labels, and parts by the hospital's own key."""

from __future__ import annotations

import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from wardround.client.check.finding import LEAST, Finding, count_of
from wardround.client.check.look import unreadable
from wardround.client.data.splitting import split_notes, split_rows
from wardround.client.site.held_out import held_out_key, held_out_path
from wardround.client.site.terms import Terms
from wardround.common.config.task import make_task
from wardround.common.errors import WardroundError
from wardround.common.protocol.names import SPLITS
from wardround.common.settings import STATISTICS
from wardround.common.tasks.base import Task
from wardround.common.tasks.data.allowance import allowing
from wardround.common.tasks.text.options import TextOptions

_FEW = 20
_RARE = 0.01


@dataclass
class Loaded:
    """What the task makes of the data. ``rows``: None where it can't."""

    rows: int | None = None
    parts: list[tuple[str, str]] = field(default_factory=list)
    labels: list[tuple[str, str]] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)


def load(terms: Terms, called: str, path: Path | None) -> Loaded:
    """Load and split it as training would; what it can't be is among the findings."""
    task, found = make_task(terms.config), Loaded()
    try:
        with tempfile.TemporaryDirectory() as folder:  # for what doesn't fit into memory
            with allowing(terms.data.left_out_share):
                raw = task.at(task.load_large(path, Path(folder)), terms.kit.name)
            found.rows = task.size(raw)
            found.findings += [Finding("warning", called, str(one)) for one in task.left_out(raw)]
            if terms.config.procedure.name == STATISTICS or terms.config.procedure.joint:
                _whole(task, raw, found)  # rows of every split count, and nothing is learnt
            else:
                _labels(task, raw, found)
                _parts(terms, task, raw, found)
    except WardroundError as error:
        found.findings += unreadable(terms, error)
    return found


def _whole(task: Task[Any], raw: Any, found: Loaded) -> None:
    found.parts = [("all, held out or not", count_of(task.size(raw)))]
    found.findings += [Finding("warning", "rows", line) for line in task.warnings(raw)]
    if task.size(raw):
        found.findings.append(Finding("ok", "rows", f"{count_of(task.size(raw))} count"))
    else:
        found.findings.append(Finding("error", "rows", "there are none", "bring more"))


def _labels(task: Task[Any], raw: Any, found: Loaded) -> None:
    counts = Counter(np.asarray(task.labels(raw)).reshape(-1).tolist())
    options = getattr(task, "options", None)
    if isinstance(options, TextOptions) and not options.label_names:
        return  # numbers that stand for nothing
    classes = getattr(options, "label_names", None) or getattr(options, "classes", None) or []
    if not 1 <= len(counts) <= 50:
        return
    for label, count in sorted(counts.items()):
        known = isinstance(label, int) and 0 <= label < len(classes)
        found.labels.append((str(classes[label] if known else label), count_of(count)))
    least, rows = min(counts.values()), sum(counts.values())
    if len(counts) > 1 and (least < LEAST or least < _RARE * rows):
        text = f"one of {len(counts)} labels has {count_of(least)} of {rows:,}"
        found.findings.append(Finding("warning", "labels", text, "little can be learnt of it here"))


def _parts(terms: Terms, task: Task[Any], raw: Any, found: Loaded) -> None:
    site, kit = terms.site, terms.kit.folder
    rows = task.size(raw)
    if held_out_path(site, kit).exists() or task.given_split(raw) is not None:
        key = held_out_key(site, kit) if task.given_split(raw) is None else b""
        split = split_rows(task, raw, terms.config, key)
        sizes = {name: len(split[name]) for name in SPLITS}
        found.parts = [(name, count_of(size)) for name, size in sizes.items()]
        notes = split_notes(task, raw, terms.config, split)
        warned = task.warnings(task.select(raw, split["train"])) if sizes["train"] else []
    else:
        data = terms.config.data
        shares = {"validation": data.validation_fraction, "test": data.test_fraction}
        shares["train"] = 1 - sum(shares.values())
        sizes = {name: round(shares[name] * rows) for name in SPLITS}
        found.parts = [(name, f"about {size:,} rows") for name, size in sizes.items()]
        notes, warned = [], task.warnings(raw)
    found.findings += [Finding("warning", "rows", line) for line in [*warned, *notes]]
    found.findings += _enough(terms, sizes)


def _enough(terms: Terms, sizes: dict[str, int]) -> list[Finding]:
    """Whether there are rows enough to take part."""
    site, train = terms.site, sizes["train"]
    if train == 0:
        return [Finding("error", "rows", "none is left for training", "bring more")]
    if train < site.min_training_rows:
        text = f"{count_of(train)} would train, and min_training_rows is {site.min_training_rows}"
        return [Finding("error", "rows", text, "it would take part in evaluations only")]
    if train < _FEW:
        text = f"{count_of(train)} would train: its own figures will say little"
        return [Finding("warning", "rows", text)]
    parts = ", ".join(
        f"{size:,} {name}" if size >= LEAST else f"few {name}" for name, size in sizes.items()
    )
    return [Finding("ok", "rows", parts)]
