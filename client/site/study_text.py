"""A network's study for people: who asks what of whom and why, and what is new since they last said
yes."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from wardround.common.config.load import Config
from wardround.common.manifest.manifest import Manifest
from wardround.common.run.shaping import differences
from wardround.common.study.study import Study
from wardround.common.text import one_line

_WIDTH, _NAME = 100, 20
_PLAN = (
    "task",
    "task_sha256",
    "model_family",
    "rounds",
    "cohort",
    "uploads",
    "strategy",
    "algorithms",
    "privacy",
    "secure_aggregation",
    "roster",
)
"""What of a plan is compared; all else follows, or is told beside it."""


class Shown(NamedTuple):
    """A plan, and in a network the study that it is of, with its settings."""

    manifest: Manifest
    study: Study | None = None
    config: Config | None = None


def study_text(study: Study, config: Config) -> str:
    """Lines of plain text, 100 characters wide; what the plan itself says stands below them."""
    again = f", repeated: number {study.repeat}" if study.repeat else ""
    rows = [
        ("study", f"{study.name} ({study.id[:12]}){again}"),
        ("asked by", f"{study.researcher}, of {', '.join(study.hospitals)}"),
        ("purpose", one_line(study.purpose, 2000)),
        ("ends", f"{study.ends}: nothing is computed after it, by this machine's clock"),
        *_asked(config),
    ]
    return "\n".join(line for name, text in rows for line in _row(name, text)) + "\n"


def _asked(config: Config) -> Iterator[tuple[str, str]]:
    """Which columns or files are computed with."""
    options = config.task.options
    columns = options.get("columns")
    if isinstance(columns, Mapping):
        target = columns.get("target")
        yield "target", _value(target) if target is not None else "the task's own"
        asked = {key: value for key, value in columns.items() if key != "target" and value}
        yield "columns asked for", "; ".join(f"{key}: {_value(asked[key])}" for key in asked) or "*"
    elif config.task.name == "tabular":
        yield "columns asked for", "every column; the target is the task's own"
    files = options.get("files")
    if isinstance(files, Mapping) and files:
        yield "files", "; ".join(f"{key}: {_value(value)}" for key, value in files.items())
    others = {k: v for k, v in options.items() if k not in ("columns", "files", "model")}
    if others:
        yield "task's settings", "; ".join(f"{key}: {_value(others[key])}" for key in others)


def _value(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_value, value))
    if isinstance(value, Mapping):
        return "; ".join(f"{key}: {_value(one)}" for key, one in value.items())
    return one_line(str(value), 200)


def _row(name: str, text: str) -> list[str]:
    lines = textwrap.wrap(text, _WIDTH - _NAME) or [""]
    return [f"{name if not i else '':<{_NAME}}{line}" for i, line in enumerate(lines)]


def what_is_new(now: Shown, before: Shown) -> list[str]:
    """What differs from a plan that was approved: settings with both values, and what leaves."""
    lines = []
    if said := differences(_plan(before.manifest), _plan(now.manifest)):
        lines.append(f"plan: {said}")
    if now.config is not None and before.config is not None:
        values = [one.config.model_dump(mode="json") for one in (before, now) if one.config]
        if said := differences(*values):
            lines.append(f"settings: {said}")
    if now.study is not None and before.study is not None:
        if said := differences(_said(before.study), _said(now.study)):
            lines.append(f"study: {said}")
    new, gone = (
        sorted({leaf.place[:2] + (leaf.protection,) for leaf in one.manifest.leaves})
        for one in (now, before)
    )
    for word, some, others in (("also leaves", new, gone), ("leaves no more", gone, new)):
        lines += [f"{word}: {a}/{b} ({how})" for a, b, how in some if (a, b, how) not in others]
    return lines


def _plan(manifest: Manifest) -> dict[str, Any]:
    values = manifest.model_dump(mode="json")
    return {key: values[key] for key in _PLAN}


def _said(study: Study) -> dict[str, Any]:
    keys = ("name", "purpose", "researcher", "hospitals", "ends", "task_sha256")
    return {key: getattr(study, key) for key in keys} | {"hospitals": list(study.hospitals)}
