"""What a study asks of clinical records, for people: every row of it as it is computed, none behind
an ellipsis. The texts are the researcher's own; who shows them makes harmless lines of them.
"""

from __future__ import annotations

from collections.abc import Iterator

from wardround.common.settings.cohort import CohortIndex, CohortTable, CohortVariable


def cohort_rows(cohort: CohortTable) -> Iterator[tuple[str, str]]:
    """Name and text of each row: which events make the rows, then every column.

    >>> from wardround.common.settings.cohort import CohortIndex, CohortVariable
    >>> age = CohortVariable(of="age")
    >>> list(cohort_rows(CohortTable(index=CohortIndex(event="visit"), variables={"age": age})))
    [('rows', "each patient's first visit (any)"), ('column', 'age: age on the index day')]
    """
    yield "rows", _index(cohort.index)
    for name, variable in cohort.variables.items():
        yield "column", f"{name}: {_variable(variable)}"


def _index(index: CohortIndex) -> str:
    which = (
        "every day of a patient with a" if index.take == "each" else f"each patient's {index.take}"
    )
    parts = [f"{which} {index.event} ({', '.join(index.concepts) or 'any'})"]
    if index.date == "end":
        parts.append("by its last day")
    if index.age_years is not None:
        parts.append(f"at the age of {index.age_years[0]} to {index.age_years[1]}")
    if index.earliest:
        parts.append(f"from {index.earliest}")
    if index.latest:
        parts.append(f"until {index.latest}")
    return ", ".join(parts)


def _variable(one: CohortVariable) -> str:
    parts = [f"{one.of} on the index day" if one.of == "age" else one.of]
    if one.window_days is not None:
        low, high = one.window
        which = f" ({', '.join(one.concepts) or 'any'})" if one.of != "death" else ""
        parts = [f"{one.takes} {one.of}{which}, days {low} to {high}"]
    if one.unit is not None:
        parts.append(f"in {one.unit}")
    parts += [f"{factor!r} {one.unit} of 1 {unit}" for unit, factor in one.units.items()]
    parts += [f"'{text}' of {', '.join(codes)}" for text, codes in one.categories.items()]
    if one.rows != "all":
        parts.append(f"only rows {one.rows} it")
    return ", ".join(parts)
