"""A decision as the text of a ``federation.toml``, with the reasons beside it."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from wardround.common.names import names_of
from wardround.common.tasks.data.mapping.units import is_unit
from wardround.common.text import one_line
from wardround.simulations.beginning.decide import Decision, Hospitals, Partition
from wardround.simulations.beginning.found import Found
from wardround.simulations.beginning.roles import Role, share
from wardround.simulations.search.values import toml_text

_BARE = re.compile(r"^[A-Za-z0-9_-]+$")
_WIDTH = 100
_MANY = 20
"""Fewest rows of a hospital whose median is told, to two digits."""
_NO_WORD = re.compile(r"[^A-Za-z0-9]+")


def federation_text(
    decision: Decision, found: Found, path: str | None, dialect: Mapping[str, Any]
) -> str:
    """The file's text.

    path : what ``data.path`` says; None of data that a program holds
    dialect : keys of ``[task.dialect]`` that the researcher gave
    """
    parts = [
        head_lines([*found.notes, *decision.told, *decision.problems]),
        federation_lines(decision.target.names[0], decision.hospitals.count),
        data_lines(decision.hospitals.partition, path, told_of(found)) if path is not None else (),
        _task(decision, dialect),
        _columns(decision),
        _rest(decision, found),
    ]
    return "\n\n".join("\n".join(part) for part in map(list, parts) if part) + "\n"


def toml_key(name: str) -> str:
    """A name as a key of TOML."""
    return name if _BARE.match(name) else toml_text(name)


def _comment(text: str, begin: str = "# ", again: str = "#   ") -> Iterator[str]:
    """A comment over as many lines as it needs."""
    line = begin
    for word in one_line(text, limit=2000).split(" "):
        if len(line) + len(word) > _WIDTH and line.strip("# "):
            yield line.rstrip()
            line = again
        line += word + " "
    yield line.rstrip()


def head_lines(lines: Sequence[str]) -> Iterator[str]:
    """Who wrote it, and what to know of the data."""
    yield "# Written by wardround init from a look at the data; every key may be changed."
    yield "# All keys: docs/configuration.md"
    if lines:
        yield "#"
        yield "# What to know of these data:"
        for line in lines:
            yield from _comment(line, "# - ", "#   ")


def federation_lines(name: str, count: int, rounds: bool = True) -> Iterator[str]:
    """``[federation]``, and what two hospitals need.

    name : what is predicted; count : hospitals; rounds : whether a model is trained
    """
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore")
    words = [word for word in _NO_WORD.split(plain.decode()) if word]
    yield "[federation]"
    yield f'name = "{"-".join(words).lower()[:40] or "study"}"'
    if rounds:
        yield "rounds = 30"
    yield f"min_clients = {least_clients(count)}  # of {count} hospitals"
    if count == 2:
        yield ""
        yield "[secure_aggregation]"
        yield "min_cohort = 2  # each knows the other's part of a sum of two: by default 3"


def least_clients(count: int) -> int:
    """The fewest hospitals that a round needs, of so many: two in three, but three if there are."""
    return max(min(count, 3), 2 * count // 3)


def told_of(found: Found) -> list[str]:
    """How files are written, where that isn't the usual."""
    return [line for shard in found.shards for line in shard.told]


def data_lines(partition: Partition, path: str, told: Sequence[str] = ()) -> Iterator[str]:
    """``[data]``."""
    what = {
        "sites": "each file or folder in it is a hospital",
        "column": "one data set; each value of simulation.column is a hospital",
        "patient": "one data set; its patients are dealt to hospitals",
        "iid": "one data set; its rows are dealt to hospitals",
    }[partition]
    yield "[data]"
    yield f"path = {toml_text(path)}  # {what}"
    for line in told:
        yield from _comment(line)


def _task(decision: Decision, dialect: Mapping[str, Any]) -> Iterator[str]:
    target = decision.target
    yield "[task]"
    yield 'name = "tabular"'
    yield f'kind = "{target.kind}"'
    role = target.roles[0]
    if role.positive is not None:
        yield f"positive = {toml_text(list(role.positive))}  # in any case of letters"
        if role.negative is not None and len(role.negative) > 0:
            yield f"negative = {toml_text(list(role.negative))}"
    if decision.missing:
        yield f"missing_values = {toml_text(list(decision.missing_values))}"
    lines = dialect_lines(dialect)
    yield from ["", *lines] if lines else []


def dialect_lines(dialect: Mapping[str, Any]) -> list[str]:
    """``[task.dialect]``; none where nothing was given."""
    found = [f"{key} = {toml_text(value)}" for key, value in dialect.items()]
    return ["[task.dialect]", *found] if found else []


def _columns(decision: Decision) -> Iterator[str]:
    yield "[task.columns]"
    for role in decision.target.roles:
        yield f"{role.role} = {toml_text(role.name)}  # {_about(decision, role)}"
    for key in ("patient_id", "split"):
        for role in decision.of(key):
            yield f"{key} = {toml_text(role.name)}  # {role.why}"
    for key in ("numeric", "categorical", "binary", "ignore"):
        yield from column_list(decision, key, decision.of(key))
    yield from text_tables(decision.of("binary"))
    yield from _expected(decision)
    yield from code_tables([*decision.roles.values()])


def text_tables(roles: Sequence[Role]) -> Iterator[str]:
    """Which texts of columns of a yes or no mean which."""
    for key, tables in (
        ("positive", {role.name: role.positive for role in roles if role.positive}),
        ("negative", {role.name: role.negative for role in roles if role.negative}),
    ):
        if tables:
            yield ""
            yield f"[task.columns.{key}]"
            for name, texts in tables.items():
                yield f"{toml_key(name)} = {toml_text(list(texts or []))}"


def code_tables(roles: Sequence[Role]) -> Iterator[str]:
    """How hospitals write categories."""
    for role in (role for role in roles if role.codes):
        yield ""
        yield f"[task.columns.codes.{toml_key(role.name)}]  # how hospitals write it"
        for name, texts in role.codes.items():
            yield f"{toml_key(name)} = {toml_text(list(texts))}"


def _expected(decision: Decision) -> Iterator[str]:
    """Unit and usual value of inputs whose name says a unit, for hospitals to find another one by.
    Two digits of a median of many rows are no patient's value."""
    found = {}
    for role in decision.of("numeric"):
        seen = decision.found[role.name]
        units = {one.unit for one in seen.at.values()}
        medians = [
            one.median
            for one in seen.at.values()
            if one.median is not None and one.rows - one.gaps >= _MANY
        ]
        if len(units) == 1 and seen.unit is not None and is_unit(seen.unit):
            usual = float(f"{np.median(medians):.2g}") if medians else 0.0
            found[role.name] = (seen.unit, usual)
    if found:
        yield ""
        yield "[task.columns.expected]  # for a hospital's `wardround data check KIT`"
    for name, (unit, usual) in found.items():
        median = f", median = {usual!r}" if usual else ""
        yield f"{toml_key(name)} = {{ unit = {toml_text(unit)}{median} }}"


def column_list(decision: Decision, key: str, roles: Sequence[Role]) -> Iterator[str]:
    """A list of columns, with why each is in it; nothing where there is none."""
    if not roles and key != "numeric":
        return
    if not roles:
        yield f"{key} = []"
        return
    width = max(len(toml_text(role.name)) for role in roles)
    yield f"{key} = ["
    for role in roles:
        yield f"    {toml_text(role.name) + ',':<{min(width, 40) + 1}}  # {_about(decision, role)}"
    yield "]"


def _about(decision: Decision, role: Role) -> str:
    """Why a column is what it is, its unit and its gaps."""
    seen = decision.found[role.name]
    gaps = f"{share(seen.gaps)} missing" if seen.gaps and role.role != "ignore" else ""
    unit = f"in {seen.unit}" if seen.unit and role.role in ("numeric", "target", "time") else ""
    return one_line("; ".join(part for part in (role.why, unit, gaps) if part))


def _rest(decision: Decision, found: Found) -> Iterator[str]:
    yield "[training]"
    yield "lr = 0.1"
    yield "batch_size = 16"
    yield ""
    yield from simulation_lines(decision.hospitals, [shard.title for shard in found.shards])


def simulation_lines(hospitals: Hospitals, titles: Iterable[str]) -> Iterator[str]:
    """``[simulation]``, and who the hospitals would be between machines: ``titles``."""
    yield "[simulation]"
    yield f'partition = "{hospitals.partition}"'
    if hospitals.column is not None:
        yield f"column = {toml_text(hospitals.column)}"
    elif hospitals.partition != "sites":
        yield f"clients = {hospitals.count}"
    if hospitals.partition != "sites":
        yield f"min_examples = {hospitals.min_examples}"
    else:
        names = toml_text(list(names_of(titles)))
        yield ""
        yield "# [server]                      # between machines: wardround provision"
        yield '# address = "localhost:8443"    # that hospitals dial'
        yield f"# hospitals = {names}"
