"""``wardround init --statistics``: a study of statistics that runs, made of what was seen.

It begins with what a paper does: a table of characteristics (by a column of a few levels, where
there is one), survival curves and hazards where there are times to an event, else a regression of
the outcome. Every analysis may be changed; docs/statistics.md has the others.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import tomli_w

from wardround.common.config.load import Config
from wardround.common.config.task import make_task
from wardround.common.errors import WardroundError
from wardround.common.figures.sums import Sums, add_sums
from wardround.common.procedures.known import make_procedure
from wardround.simulations.beginning.decide import Decision
from wardround.simulations.beginning.found import Found
from wardround.simulations.beginning.roles import Role
from wardround.simulations.beginning.text import (
    code_tables,
    column_list,
    data_lines,
    dialect_lines,
    federation_lines,
    head_lines,
    simulation_lines,
    text_tables,
    told_of,
)
from wardround.simulations.population.hospitals import Population
from wardround.simulations.search.values import toml_text

_MOST_GROUPS, _MOST_TERMS, _MOST_COLUMNS = 6, 6, 20
_TREATED = re.compile(r"\b(arm|group|exposed|exposure)\b|treat|therap")
_WORD = re.compile(r"^[A-Za-z_][A-Za-z0-9_.]*$")


def study_text(decision: Decision, found: Found, path: str, dialect: Mapping[str, Any]) -> str:
    """The file's text; parameters as of ``text.federation_text``."""
    parts = [
        head_lines([*found.notes, *decision.told, *decision.problems]),
        federation_lines(decision.target.names[0], decision.hospitals.count, rounds=False),
        data_lines(decision.hospitals.partition, path, told_of(found)),
        [*_missing(decision), *dialect_lines(dialect)],
        _columns(decision),
        ["[procedure]", 'name = "statistics"'],
        *(_analysis(one) for one in analyses(decision)),
        simulation_lines(decision.hospitals, [shard.title for shard in found.shards]),
    ]
    return "\n\n".join("\n".join(part) for part in map(list, parts) if part) + "\n"


def _missing(decision: Decision) -> Iterator[str]:
    if decision.missing:
        yield "[task]"
        yield f"missing_values = {toml_text(list(decision.missing_values))}"


def _columns(decision: Decision) -> Iterator[str]:
    """What columns are, beyond what an analysis uses them as."""
    yield "[task.columns]"
    for role in decision.of("patient_id"):
        yield f"patient_id = {toml_text(role.name)}  # {role.why}"
    two, categories = _twos(decision), _categories(decision)
    yield from column_list(decision, "categorical", categories)
    yield from column_list(decision, "binary", two)
    yield from text_tables(two)
    yield from code_tables([*two, *categories])


def _twos(decision: Decision) -> list[Role]:
    """Columns of a yes or no, the outcome among them."""
    target = decision.target
    outcome = [_outcome(decision)] if target.kind in ("binary", "survival") else []
    return [*outcome, *decision.of("binary")]


def _outcome(decision: Decision) -> Role:
    """The target, or the event."""
    return next(role for role in decision.target.roles if role.role != "time")


def _categories(decision: Decision) -> list[Role]:
    target = decision.target
    outcome = [target.roles[0]] if target.kind == "multiclass" else []
    return [*outcome, *decision.of("categorical")]


def _analysis(values: Mapping[str, Any]) -> list[str]:
    return ["[[procedure.analyses]]", *tomli_w.dumps(values).strip().splitlines()]


def analyses(decision: Decision) -> Iterator[dict[str, Any]]:
    """What is asked at first, as tables of the file."""
    target = decision.target
    outcome, by = _outcome(decision).name, _by(decision)
    numbers = [role.name for role in decision.of("numeric")][:_MOST_COLUMNS]
    if target.kind == "regression":
        numbers = [outcome, *numbers]
    texts = [role.name for role in (*_twos(decision), *_categories(decision)) if role.name != by]
    asked = {"columns": numbers, "categories": texts[:_MOST_COLUMNS]}
    asked = {key: names for key, names in asked.items() if names}
    if by is not None:
        yield {"name": "table one", "kind": "table_one"} | asked | {"by": by}
    else:
        yield {"name": "summary", "kind": "summary"} | asked
    formula = _formula(decision)
    if target.kind == "survival":
        time = next(role.name for role in target.roles if role.role == "time")
        when = {"time": time, "event": outcome}
        groups = {"by": by} if by is not None else {}
        yield {"name": "survival", "kind": "kaplan_meier"} | when | groups
        if formula:
            yield {"name": "hazards", "kind": "cox"} | when | {"formula": formula}
    elif formula and target.kind in ("binary", "regression"):
        family = "logistic" if target.kind == "binary" else "linear"
        asked_of = {"name": outcome_name(outcome), "kind": "regression", "family": family}
        yield asked_of | {"formula": f"{_term(outcome)} ~ {formula}"}


def outcome_name(column: str) -> str:
    """What an analysis of a column is called: letters and digits of its name.

    >>> outcome_name("Größe [cm]")
    'Gr e cm'
    """
    words = re.findall(r"[A-Za-z0-9]+", column)
    return " ".join(words)[:40].strip() or "outcome"


def _by(decision: Decision) -> str | None:
    """A column of a few levels, which groups may be of: one of treatments, where a name says it."""
    found = [
        role.name
        for role in (*decision.of("categorical"), *decision.of("binary"))
        if 2 <= len(role.codes or decision.found[role.name].texts) <= _MOST_GROUPS
    ]
    treated = [name for name in found if _TREATED.search(name.casefold())]
    return next(iter([*treated, *found]), None)


def _formula(decision: Decision) -> str:
    """Terms that may tell of the outcome."""
    few = [
        role
        for role in decision.of("categorical")
        if len(decision.found[role.name].texts) <= _MOST_GROUPS
    ]
    terms = [_term(role.name) for role in decision.of("numeric")]
    terms += [f"C({_term(role.name)})" for role in (*few, *decision.of("binary"))]
    return " + ".join(terms[:_MOST_TERMS])


def _term(column: str) -> str:
    return column if _WORD.match(column) else f"`{column}`"


def answers(config: Config) -> list[str]:
    """What a study would stop at, a line each: its steps over the hospitals of a simulation."""
    try:
        task = make_task(config)
        procedure = make_procedure(config, task)
        population = Population(config, task)
    except WardroundError as error:
        return [str(error)]
    earlier: list[Sums] = []
    while procedure.more(earlier):
        sums, wrong = [], []
        for name in population.names:
            try:
                sums.append(procedure.sums(_parts(population, name), earlier))
            except WardroundError as error:
                wrong.append(f"{population.titles.get(name, name)}: {error}")
        if wrong:
            return wrong
        earlier.append(add_sums(sums))
    return []


def _parts(population: Population, name: str) -> dict[str, Any]:
    hospital = population.hospital(name)
    parts = hospital.parts()
    return {split: part for split, part in parts.items() if hospital.task.size(part)}
