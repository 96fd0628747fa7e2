"""A network's study for people: who asks what of whom and why, and what is new since they last said
yes.

All of it is the researcher's own text, keys of tables too: shown as harmless lines, and whole, so
that nothing can stand behind an ellipsis.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from wardround.client.site.cohort_text import cohort_rows
from wardround.client.site.joint_text import learned
from wardround.common.config.load import Config
from wardround.common.manifest.manifest import Manifest
from wardround.common.run.shaping import flat
from wardround.common.settings import (
    LINKED,
    CohortTable,
    JudgementTable,
    StatisticsOptions,
    TeacherTable,
)
from wardround.common.settings.cohort import CohortIndex
from wardround.common.study.study import Study
from wardround.common.text import one_line

_WIDTH, _NAME, _FEWEST = 100, 20, 3
_PLAN = (
    "task",
    "task_sha256",
    "model_family",
    "procedure",
    "steps",
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
_OTHERS = ("training", "strategy", "evaluation", "secure_aggregation", "privacy")
"""Tables of which the settings that aren't the defaults are shown."""


class Shown(NamedTuple):
    """A plan, and in a network the study that it is of, with its settings."""

    manifest: Manifest
    study: Study | None = None
    config: Config | None = None


def study_text(study: Study, config: Config, here: str = "") -> str:
    """Lines of plain text, 100 characters wide; what the plan itself says stands below them.

    here : where this hospital's data for it are; '' where that isn't known
    """
    again = f", repeated: number {study.repeat}" if study.repeat else ""
    rows = [
        ("study", f"{study.name} ({study.id[:12]}){again}"),
        ("asked by", f"{study.researcher}, of {', '.join(study.hospitals)}"),
        ("purpose", one_line(study.purpose, 2000)),
        ("ends", f"{study.until}: nothing is computed after it, by this machine's clock"),
        *_asked(config),
        *([("computed here on", here)] if here else []),
    ]
    return "\n".join(line for name, text in rows for line in _row(name, text)) + "\n"


def _asked(config: Config) -> Iterator[tuple[str, str]]:
    """Which columns or files are computed with."""
    options = config.task.options
    columns, shown = options.get("columns"), ["columns", "files"]
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
    if config.task.name == LINKED:
        shown += ["identifiers", "parties"]
        rules = options.get("identifiers", {}).items()
        yield "persons by", "; ".join(f"{name} (rule '{rule}')" for name, rule in rules)
        for party, columns in options.get("parties", {}).items():
            yield f"columns of {one_line(party, 64)}", _value(columns) or "none: who they are only"
    others = {k: v for k, v in options.items() if k not in shown}
    if others:
        yield "task's settings", "; ".join(f"{key}: {_value(others[key])}" for key in others)
    if config.cohort is not None:
        yield from cohort_rows(config.cohort)
    if config.needs is not None:
        yield "needs", config.needs.words()
    yield from _settings(config)


def _settings(config: Config) -> Iterator[tuple[str, str]]:
    """Which rows figures are of, and what else isn't as it is by default."""
    data = config.data
    if not config.procedure.trains:
        found = config.procedure.settings
        options = found.model_dump(mode="json", exclude={"analyses"})
        asked = "; ".join(f"{key}: {_value(one)}" for key, one in options.items() if one)
        yield "procedure", f"{config.procedure.called} ({asked})"
        if isinstance(found, StatisticsOptions):
            for one in found.parsed():
                yield "asks for", f"'{one.name}' ({one.kind}): {one.reads()}"
        yield from learned(config)
    if config.judgement is not None:
        yield "figures by groups", _judged(config.judgement)
    if config.teacher is not None:
        yield "teacher", _taught(config.teacher)
    if not config.procedure.joint:
        parts = f"{data.test_fraction:g} to test, {data.validation_fraction:g} to validate"
        yield "held out", parts
    now, default = (
        flat("", {name: one.model_dump(mode="json")[name] for name in _OTHERS})
        for one in (config, Config())
    )
    own = {"device", "min_cohort", "colluding", "threads", "processes"}  # a hospital's own
    others = [key for key in now if now[key] != default.get(key) and key.split(".")[1] not in own]
    if others:
        yield "other settings", "; ".join(f"{key}: {_value(now[key])}" for key in others)


def _judged(table: JudgementTable) -> str:
    """What a judgement asks: once, of the chosen model's held-out rows."""
    given = {**table.bands, **table.categories}
    groups = (f"{name} ({_value(given[name])})" if name in given else name for name in table.groups)
    return f"{', '.join(groups)}; none that tells of fewer than {table.smallest_cell} persons"


def _taught(table: TeacherTable) -> str:
    """Which finished model teaches; it is read here, and its outputs on the rows stay here."""
    return (
        f"this hospital's copy of the finished model {table.model_digest}, on its training rows; "
        f"weight {table.weight:g}, temperature {table.temperature:g}"
    )


def asked_of_teacher(table: TeacherTable) -> str:
    """The same of a federation that is one study."""
    return "\n".join(_row("teacher", _taught(table))) + "\n"


def asked_of_joint(config: Config) -> str:
    """The same of a federation that is one study: who has which columns, and who learns what."""
    return "\n".join(line for name, text in _asked(config) for line in _row(name, text)) + "\n"


def asked_of_analyses(options: StatisticsOptions) -> str:
    """The same of a federation that is one study."""
    lines = (f"'{one.name}' ({one.kind}): {one.reads()}" for one in options.parsed())
    return "\n".join(line for text in lines for line in _row("asks for", text)) + "\n"


def asked_of_groups(table: JudgementTable) -> str:
    """The same of a federation that is one study."""
    return "\n".join(_row("figures by groups", _judged(table))) + "\n"


def _value(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_value, value))
    if isinstance(value, Mapping):
        return "; ".join(f"{key}: {_value(one)}" for key, one in value.items())
    return one_line(str(value), 200)


def asked_of_records(cohort: CohortTable) -> str:
    """The same of a federation that is one study, whose settings are in its kit: what a source of
    clinical records would be asked."""
    rows = [("of clinical records", "asked for, where the data lie so"), *cohort_rows(cohort)]
    return "\n".join(line for name, text in rows for line in _row(name, text)) + "\n"


def _row(name: str, text: str) -> list[str]:
    lines = textwrap.wrap(one_line(text, len(text)), _WIDTH - _NAME) or [""]
    if len(name) >= _NAME:
        return [name, *(f"{'':<{_NAME}}{line}" for line in lines)]
    return [f"{name if not i else '':<{_NAME}}{line}" for i, line in enumerate(lines)]


def what_is_new(now: Shown, before: Shown) -> list[str]:
    """What differs from a plan that was approved, all of it: settings with both values, and what
    leaves."""
    lines = [f"plan: {one}" for one in _differences(_plan(before.manifest), _plan(now.manifest))]
    if now.config is not None and before.config is not None:
        values = [one.config.model_dump(mode="json") for one in (before, now) if one.config]
        lines += [f"settings: {one}" for one in _differences(*values)]
    elif now.manifest.descriptor != before.manifest.descriptor:
        lines.append("settings: others than then, and the earlier ones can't be shown any more")
    if now.study is not None and before.study is not None:
        lines += [f"study: {one}" for one in _differences(_said(before.study), _said(now.study))]
    new, gone = (
        sorted({leaf.place[:2] + (leaf.protection,) for leaf in one.manifest.leaves})
        for one in (now, before)
    )
    for word, some, others in (("also leaves", new, gone), ("leaves no more", gone, new)):
        lines += [f"{word}: {a}/{b} ({how})" for a, b, how in some if (a, b, how) not in others]
    return [one_line(line, len(line)) for line in lines]


def differs_by(now: Shown, other: Shown) -> list[str]:
    """The few hospitals by which sums of two studies differ that ask about some of the same
    columns: all sums of the one less those of the other are these hospitals' own.

    Empty where there are as many as a sum must have, or the two ask about unlike things.
    """
    if now.config is None or other.config is None or other.study is None:
        return []
    asked, before = _asked_about(now.config), _asked_about(other.config)
    same = now.config.task.name == other.config.task.name
    alike = same and (asked & before or not asked | before)
    return few_between(now, other.study) if alike else []


def chosen_otherwise(now: Shown, other: Shown) -> bool:
    """Whether two studies ask about some of the same records, of patients or days that they choose
    by other events, ages, dates or conditions: sums of the one less those of the other are about
    whom only one of them has, be it one patient."""
    if now.config is None or other.config is None:
        return False
    ours, theirs = now.config.cohort, other.config.cohort
    if ours is None or theirs is None or not _asked_about(now.config) & _asked_about(other.config):
        return False
    return _choice(ours) != _choice(theirs)


def judged_otherwise(now: Shown, other: Shown) -> list[str]:
    """Columns by which two studies judge the same outcomes in other groups, or from another
    threshold on: tables of the one less those of the other are of those between, be it one patient.
    """
    if now.config is None or other.config is None:
        return []
    ours, theirs = now.config.judgement, other.config.judgement
    if ours is None or theirs is None or not _asked_about(now.config) & _asked_about(other.config):
        return []
    shared = sorted({*ours.groups} & {*theirs.groups})
    if ours.threshold != theirs.threshold:
        return shared
    return [name for name in shared if _groups(ours, name) != _groups(theirs, name)]


def _groups(table: JudgementTable, name: str) -> tuple[object, object]:
    return table.bands.get(name), table.categories.get(name)


def _choice(cohort: CohortTable) -> tuple[CohortIndex, list[str]]:
    """What decides which rows a cohort has; a column's name doesn't."""
    deciding = [one for one in cohort.variables.values() if one.rows != "all"]
    return cohort.index, sorted(one.model_dump_json() for one in deciding)


def few_between(now: Shown, other: Study) -> list[str]:
    """Hospitals that are asked in one of two studies only; empty where a sum may be of so many."""
    few = {*now.study.hospitals} ^ {*other.hospitals} if now.study is not None else set()
    fewest = max(_FEWEST, now.manifest.secure_aggregation.min_cohort)
    return sorted(few) if len(few) < fewest else []


def _asked_about(config: Config) -> set[str]:
    """Columns whose values are computed with, and the codes of those that a cohort makes, whatever
    it calls them; empty where a task has none, or computes with all."""
    columns = config.task.options.get("columns")
    found = dict(columns) if isinstance(columns, Mapping) else {}
    values = [value for key, value in found.items() if key not in ("patient_id", "split", "ignore")]
    asked = {name for one in values for name in ([one] if isinstance(one, str) else one)}
    if config.cohort is not None:
        for one in config.cohort.variables.values():
            asked.update(one.concepts or [f"of {one.of}"])
    return asked


def _differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    """Of each key that differs both values, or of lists what is in one of them only."""
    then, now = flat("", before), flat("", after)
    for key in {**then, **now}:
        old, new = then.get(key), now.get(key)
        if old == new:
            continue
        if isinstance(old, list) and isinstance(new, list):
            more, less = [x for x in new if x not in old], [x for x in old if x not in new]
            said = [f"also {_value(more)}"] * bool(more) + [f"no more {_value(less)}"] * bool(less)
            yield f"{key}: {'; '.join(said) or 'in another order'}"
        else:
            yield f"{key} was {_known(old)}, is {_known(new)}"


def _known(value: Any) -> str:
    return "left out" if value is None else json.dumps(value, ensure_ascii=False)


def _plan(manifest: Manifest) -> dict[str, Any]:
    values = manifest.model_dump(mode="json")
    return {key: values[key] for key in _PLAN}


def _said(study: Study) -> dict[str, Any]:
    keys = ("name", "purpose", "researcher", "hospitals", "ends", "task_sha256")
    return {key: getattr(study, key) for key in keys} | {"hospitals": list(study.hospitals)}
