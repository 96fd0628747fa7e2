"""Categories: which a hospital names, what the federation agrees on, and a row's indicators.

Categories that are not declared stand in a table of words (``vocabulary.py``), which the server
reads once it is added up; no key comes from a cell. One that fewer than ``min_category_count`` rows
of a hospital have, or fewer patients where the data names them, is not sent: a rare value may point
to a person. Classes of an undeclared target are agreed on in the same table by the same rule.
"""

from __future__ import annotations

from urllib.parse import quote, unquote

import numpy as np
from numpy.typing import NDArray

from wardround.common.errors import TaskError
from wardround.common.figures.sums import Sums
from wardround.common.tasks.class_limits import MOST_CLASSES, too_fine
from wardround.common.tasks.columns import category_codes, column_key
from wardround.common.tasks.data.left_out import LeftOut
from wardround.common.tasks.data.table import Coded, Table
from wardround.common.tasks.options import TabularOptions
from wardround.common.tasks.vocabulary import MOST_WORDS, read_words, write_words

Matrix = NDArray[np.float64]
_CELLS_A_ROW = 32
WORDS = "words"
"""Key of the table of categories and classes that are agreed on, not declared."""


def vocabulary(totals: Sums, column: str, options: TabularOptions) -> list[str]:
    """Categories of a column, in the order of their indicator columns: as declared, else sorted,
    which every party does alike from the same totals."""
    if column in options.columns.categories:
        return options.columns.categories[column]
    prefix = f"category/{quote(column, safe='')}/"
    return sorted(unquote(k.removeprefix(prefix)) for k in totals if k.startswith(prefix))


def classes(totals: Sums, options: TabularOptions) -> list[str]:
    """Class names of a multi-class target, in index order. Raises TaskError for too many."""
    if options.classes is not None:
        return list(options.classes)
    found = [unquote(key.removeprefix("class/")) for key in totals if key.startswith("class/")]
    if why := too_fine(len(found), options.bins):
        raise TaskError(f"task.{'bins' if len(found) <= MOST_CLASSES else 'columns.target'}: {why}")
    return sorted(found)


def undeclared(options: TabularOptions) -> list[str]:
    """Categorical columns whose categories the hospitals agree on."""
    return [c for c in options.columns.categorical if c not in options.columns.categories]


def frequent(table: Table, column: str, options: TabularOptions) -> dict[str, int]:
    """The categories that this hospital names, by the keys of their words, with their rows.

    Raises DataError for one that is too long.
    """
    coded = category_codes(table, column, options)
    rows = coded.counts()
    shared, patients = rows, options.columns.patient_id
    # a patient's many rows are one who shares the value; the hospital's own word goes first
    if table.people is not None:
        names, index = np.unique(table.people, return_inverse=True)
        shared = _patients(coded, Coded(index.astype(np.int64), names.tolist()))
    elif patients is not None:
        shared = _patients(coded, table.coded(patients))
    least = options.min_category_count
    return {
        column_key(table, "category", column, text): count
        for text, count in rows.items()
        if min(count, shared[text]) >= least
    }


def _patients(coded: Coded, whose: Coded) -> dict[str, int]:
    """How many patients have each text."""
    many = len(whose.texts)
    pairs = (coded.index * many + whose.index)[coded.index >= 0]
    if len(coded.texts) * many <= _CELLS_A_ROW * len(coded.index):  # no need to sort them
        there = np.zeros((len(coded.texts), many), dtype=np.bool_)
        there.reshape(-1)[pairs] = True
        each = there.sum(axis=1)
    else:
        each = np.bincount(np.unique(pairs) // many, minlength=len(coded.texts))
    return dict(zip(coded.texts, each.tolist(), strict=True))


def rare_lines(train: Table, options: TabularOptions) -> list[str]:
    """What a hospital should know of columns most of whose rows have a value it doesn't name."""
    lines = []
    for name in undeclared(options):
        rows = int((~train.missing(name)).sum())
        kept = sum(frequent(train, name, options).values())
        if 2 * kept < rows:
            lines.append(
                f"column '{name}': {kept} of {rows} rows have a value that "
                f"{options.min_category_count} training rows share (task.min_category_count); the "
                "others keep a category only where another hospital names it"
            )
    return lines


def uncounted(table: Table, options: TabularOptions) -> list[LeftOut]:
    """Cells outside declared categories, where these are to be ignored."""
    found = []
    for name, known in options.columns.categories.items():
        if options.unknown == "ignore":
            counts = category_codes(table, name, options).counts()
            cells = sum(count for text, count in counts.items() if text not in known)
            reason = f"column '{name}', not in task.columns.categories (task.unknown = 'ignore')"
            found.append(LeftOut(cells, "cells", reason))
    return found


def lost_lines(train: Table, totals: Sums, options: TabularOptions) -> list[str]:
    """For each column, and the target's classes, how many of a hospital's rows have a value that
    nobody agreed on."""
    lines = []
    for name in undeclared(options):
        known = set(vocabulary(totals, name, options))
        counts = category_codes(train, name, options).counts()
        lost = sum(count for text, count in counts.items() if text not in known)
        if lost:
            lines.append(
                f"column '{name}': {lost} of {len(train)} training rows have a value that is rarer "
                "than task.min_category_count at every hospital, and keep no category"
            )
    if rows := without_class(train, totals, options):
        lines.append(
            f"{rows} of {len(train)} training rows have a class that is rarer than "
            "task.min_category_count at every hospital: nothing is learned from them; declare "
            "task.classes to use them"
        )
    return lines


def without_class(table: Table, totals: Sums, options: TabularOptions) -> int:
    """How many rows have a class that nobody agreed on."""
    if options.kind != "multiclass" or options.classes is not None:
        return 0
    known = set(classes(totals, options))
    counts = category_codes(table, str(options.columns.target), options).counts()
    return len(table) - sum(count for text, count in counts.items() if text in known)


def empty_columns(totals: Sums, options: TabularOptions) -> list[str]:
    """What the federation should know of columns that no hospital has named a category of."""
    return [
        f"column '{name}' is no input: 0 of {totals['rows'][0]:.0f} training rows keep a category, "
        f"as no hospital has a value in {options.min_category_count} rows "
        "(task.min_category_count); declare task.columns.categories"
        for name in undeclared(options)
        if not vocabulary(totals, name, options)
    ]


def category_sums(train: Table, options: TabularOptions) -> Sums:
    """This hospital's counts: of declared categories where needed, of others in ``WORDS``."""
    sums: Sums = {}
    words: dict[str, int] = {}
    agreed = undeclared(options)
    for name in options.columns.categorical:
        if name in agreed:
            words |= frequent(train, name, options)
        elif options.normalise_encoded:  # else nothing needs these counts
            counts = category_codes(train, name, options).counts()
            for text in vocabulary({}, name, options):
                key = column_key(train, "category", name, text)
                sums[key] = np.array([float(counts.get(text, 0))])
    if options.kind == "multiclass" and options.classes is None:
        assert options.columns.target is not None  # checked by the options
        agreed.append(options.columns.target)
        for key, count in frequent(train, options.columns.target, options).items():
            words["class/" + key.rsplit("/", 1)[1]] = count
    if agreed:
        sums[WORDS] = write_words(words)
    return sums


def agreed_words(totals: Sums) -> dict[str, int]:
    """Keys and counts of the categories and classes that hospitals named. Raises TaskError."""
    try:
        return read_words(totals[WORDS])
    except ValueError:
        raise TaskError(
            f"the hospitals' undeclared categories can't be agreed on: more than {MOST_WORDS}? "
            "Declare them in task.columns.categories (or task.classes), or list columns of free "
            "text under task.columns.ignore"
        ) from None


def indicators(table: Table, name: str, totals: Sums, options: TabularOptions) -> Matrix:
    """One column per category, 1 where it is the row's; all 0 where it is missing or rare.

    N x K float64, in the order of ``vocabulary``; with ``encoding = "dummy"`` the first category
    has no column, since it follows from the others: a missing or rare value then counts as the
    first. Raises DataError for a cell outside declared categories, unless they are to be ignored.
    """
    known, numbers = _numbered(table, name, totals, options)
    _refuse_odd(table, name, numbers, options)
    matrix = np.zeros((len(table), len(known)))
    rows = np.flatnonzero(numbers >= 0)
    matrix[rows, numbers[rows]] = 1.0
    return matrix[:, 1 if options.encoding == "dummy" else 0 :]


def refuse_unknown(table: Table, name: str, totals: Sums, options: TabularOptions) -> None:
    """Raise DataError, as ``indicators`` does, for a cell outside declared categories."""
    if name in options.columns.categories:
        _refuse_odd(table, name, _numbered(table, name, totals, options)[1], options)


def _numbered(
    table: Table, name: str, totals: Sums, options: TabularOptions
) -> tuple[list[str], NDArray[np.int64]]:
    """(categories, each row's position among them; -1 where it is missing, -2 where unknown)"""
    known = vocabulary(totals, name, options)
    index = {text: number for number, text in enumerate(known)}
    return known, category_codes(table, name, options).numbers_of(index)


def _refuse_odd(
    table: Table, name: str, numbers: NDArray[np.int64], options: TabularOptions
) -> None:
    declared = name in options.columns.categories
    if declared and options.unknown == "refuse" and (odd := np.flatnonzero(numbers == -2)).size:
        what = "the category is not in task.columns.categories; mend the cell, declare it, or set "
        raise table.wrong(odd, name, f"{what}task.unknown = 'ignore'")
