"""Columns against the question: which there are, of what kind, in which unit, how well filled."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from wardround.client.check.finding import LEAST, Finding, Shown, count_of
from wardround.client.check.look import Looked
from wardround.client.check.units import likely_unit, mend_unit, other_unit
from wardround.client.site.hold_back import is_allowed
from wardround.client.site.terms import Terms
from wardround.common.config.task import make_task
from wardround.common.procedures.known import make_procedure
from wardround.common.procedures.statistics.procedure import Statistics
from wardround.common.tasks.columns import needed_columns
from wardround.common.tasks.data.mapping.texts import numbers
from wardround.common.tasks.data.profile import ColumnProfile, Profile, profile
from wardround.common.tasks.expected import Expected
from wardround.common.tasks.options import TabularOptions
from wardround.common.text import code, near

TIMES = 9.0
"""A median so many times the expected one, or a part so small, is in another unit."""
_MOSTLY = 0.5


class Columns:
    """The columns of a table, as a study with these options has them."""

    def __init__(
        self, terms: Terms, looked: Looked, table: pa.Table, options: TabularOptions
    ) -> None:
        self._terms, self._looked, self._table, self._options = terms, looked, table, options
        self.profile: Profile = profile(table)
        columns, procedure = options.columns, None
        if options.kind == "none" and not terms.config.procedure.joint:
            procedure = make_procedure(terms.config, make_task(terms.config))
        self._asked: Mapping[str, str] = {}
        named = set(columns.named())
        self.roles = dict.fromkeys(columns.ignore, "left out")
        if isinstance(procedure, Statistics):
            self._asked = procedure.reads
            self.roles |= self._asked
        elif columns.numeric == ["*"]:
            self.roles |= {name: "number" for name in self.profile.columns if name not in named}
        else:
            self.roles |= dict.fromkeys(columns.numeric, "number")
        self.roles |= dict.fromkeys(columns.categorical, "category")
        self.roles |= dict.fromkeys(columns.binary, "yes or no")
        kind = "number" if options.kind == "regression" else "label"
        roles = [(columns.target, kind), (columns.time, "number"), (columns.event, "yes or no")]
        roles += [(columns.patient_id, "patient"), (columns.split, "split")]
        self.roles |= {name: role for name, role in roles if name is not None}

    def findings(self) -> Iterator[Finding]:
        """Everything that is to be said of single columns."""
        yield from self.lacking([*needed_columns(self._options), *self._asked])
        for name, role in self.roles.items():
            if name in self.profile and role != "left out":
                yield from self._of_column(self.profile[name], role)

    def shown(self) -> list[Shown]:
        """Each column for a page. A median is shown where enough rows are behind it, a category
        where enough rows share it."""
        return [self._shown(one) for one in self.profile.columns.values()]

    # --- one column -----------------------------------------------------------------------------
    def lacking(self, names: Iterable[str]) -> Iterator[Finding]:
        """Those of the names that no column has, and may have."""
        spare = [name for name in self.profile.columns if name not in self.roles]
        table = f"[data.{self._terms.data.name or 'NAME'}.map]"
        source = self._looked.source
        begun = source is not None and bool(source.map.rename)
        for name in dict.fromkeys(names):
            if name not in self.profile and is_allowed(self._terms.site.columns, name):
                hint = near(name, spare or self.profile.columns)
                own = hint or "YOUR COLUMN"
                there = f"; there is '{hint}'" if hint else ""
                pair = f'"{name}" = "{own}"'
                mend = f"in {table} " + (
                    f"add {pair} to rename" if begun else f"write rename.{pair}"
                )
                yield Finding("error", f"column '{name}'", f"isn't there{there}", mend)

    def _of_column(self, one: ColumnProfile, role: str) -> Iterator[Finding]:
        what = f"column '{one.name}'"
        if one.kind == "empty":
            yield Finding("error", what, "is wholly empty", "fill it in, or ask to leave it out")
            return
        if role == "number":
            yield from self._number(one, what)
        elif role in ("category", "label"):
            yield from self._category(one, what)
        if role == "patient":
            return
        if one.kind == "constant" and role != "label":
            alone = " here" if self._asked else ", so it says nothing"
            yield Finding("warning", what, f"is the same in every row{alone}")
        if one.gaps > _MOSTLY * one.rows:
            yield Finding("warning", what, f"is {one.gaps / one.rows:.0%} missing")
        if one.gap_texts and (unsaid := self._unsaid(one)):
            yield Finding(
                "warning",
                what,
                f"{count_of(unsaid)} have a text or number that often means missing",
                f"if it does, list it in map.missing.{one.name}",
            )

    def _unsaid(self, one: ColumnProfile) -> int:
        known = {code(text) for text in self._options.missing_values}
        return sum(count for text, count in one.gap_texts.items() if code(text) not in known)

    def _number(self, one: ColumnProfile, what: str) -> Iterator[Finding]:
        if not one.numeric:
            hint = f"holds {_words(one)}, and would be an input of numbers"
            mend = f"say what it is in map (codes, derive), or ask to list it as {_list(one)}"
            yield Finding("error", what, hint, mend)
            return
        if one.first_odd is not None:
            mend = "mend the cells, list their text in map.missing, or allow a left_out_share"
            text = f"{count_of(one.odd)} hold no number"
            place = self._looked.place(one.first_odd, one.name)
            yield Finding(
                "error" if self._share * one.rows < one.odd else "warning", place, text, mend
            )
        if one.kind == "identifier":
            text = "numbers rows or patients, and would be an input"
            yield Finding("warning", what, text, "ask to list it under task.columns.ignore")
        expected = self._options.columns.expected.get(one.name)
        if expected is not None:
            yield from self._expected(one, what, expected)

    @property
    def _share(self) -> float:
        source = self._looked.source
        return source.left_out_share or 0.0 if source is not None else 0.0

    def _expected(self, one: ColumnProfile, what: str, expected: Expected) -> Iterator[Finding]:
        source = self._looked.source
        change = source.map.units.get(one.name) if source is not None else None
        header = self._looked.own.get(one.name, one.name)
        yield from other_unit(one.name, what, header, expected, change)
        filled = one.rows - one.gaps
        if filled < LEAST or one.median is None:
            return
        if expected.median and one.median:
            times = one.median / expected.median
            if not 1 / TIMES <= times <= TIMES:
                likely = likely_unit(one.name, times, expected)
                yield Finding(
                    "error",
                    what,
                    f"its median is {times:.3g} times that which the study expects"
                    + (f", as if it were in {likely}" if likely else ": another unit?"),
                    mend_unit(one.name, likely, expected.unit)
                    if likely and expected.unit
                    else "if so, say it in [data.NAME.map.units]",
                )
        if expected.range is not None:
            yield from self._outside(one, what, expected.range)

    def _outside(self, one: ColumnProfile, what: str, span: list[float]) -> Iterator[Finding]:
        cells, _ = numbers(self._table.column(one.name).combine_chunks())
        values: Any = cells.to_numpy(zero_copy_only=False)
        with np.errstate(invalid="ignore"):
            outside = np.flatnonzero((values < span[0]) | (values > span[1]))
        if not len(outside):
            return
        most = len(outside) > _MOSTLY * (one.rows - one.gaps)
        text = f"{count_of(len(outside))} lie outside of {span[0]:g} to {span[1]:g}"
        place = self._looked.place(int(outside[0]), one.name)
        mend = "the unit may be another: map.units" if most else "look at them, from there on"
        yield Finding("error" if most else "warning", place, text, mend)

    def _category(self, one: ColumnProfile, what: str) -> Iterator[Finding]:
        if one.kind in ("text", "identifier", "date") and not one.numeric:
            text = f"holds {_words(one)}, where categories are asked for"
            yield Finding("error", what, text, f"say them in map.codes.{one.name}")
            return
        options = self._options
        declared = options.columns.categories.get(one.name)
        if one.name == options.columns.target and options.kind == "multiclass":
            declared = options.classes
        if declared is None or not one.counts:
            return
        called = options.columns.spellings(one.name)
        ordered = sorted(one.counts.items(), key=lambda pair: (-pair[1], pair[0]))
        unseen = {text: n for text, n in ordered if called.get(text, text) not in declared}
        if not unseen:
            return
        shown = [f"'{text}' ({n:,})" for text, n in unseen.items() if n >= LEAST]
        small = [n for n in unseen.values() if n < LEAST]
        if small:
            shown.append(f"{len(small)} that {count_of(1)} each have")
        refuses = options.unknown == "refuse" or one.name == options.columns.target
        yield Finding(
            "error" if refuses else "warning",
            what,
            f"has categories that the study doesn't name: {', '.join(shown)}",
            f"say in map.codes.{one.name} which of {', '.join(declared[:10])} they are",
        )

    def _shown(self, one: ColumnProfile) -> Shown:
        filled = one.rows - one.gaps
        share = f"{filled / one.rows:.0%}" if one.rows else "–"
        values = ""
        if one.kind in ("number", "integer") and one.median is not None and filled >= LEAST:
            values = f"median {one.median:.6g}"
        elif one.kind in ("category", "binary", "constant"):
            known = [f"{text} ({n:,})" for text, n in list(one.shared.items())[:10]]
            rest = filled - sum(list(one.shared.values())[:10])
            values = ", ".join([*known, *([f"others ({count_of(rest)})"] if rest else [])])
        return Shown(one.name, self.roles.get(one.name, "not used"), one.kind, share, values)


def _words(one: ColumnProfile) -> str:
    return {
        "date": "dates",
        "identifier": "identifiers",
        "category": "categories",
        "binary": "two different texts",
        "constant": "one text",
    }.get(one.kind, "free text")


def _list(one: ColumnProfile) -> str:
    if one.kind in ("category", "binary"):
        return "task.columns.categorical"
    return "task.columns.ignore"
