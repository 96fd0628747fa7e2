"""What may be published of sums: nothing that gives a count of few persons, or one's value, away.

    cells    of the counts of one column
    tables   of two columns, with their margins
    numbers  of means, deviations and what is worked out from values

Whoever publishes anything of a study goes through here. It protects who reads what is published;
the server has seen the exact totals.
"""

from wardround.common.procedures.hiding.cells import Cell, ShownCell, State, rounded, shown_cells
from wardround.common.procedures.hiding.numbers import (
    dominated,
    few_values,
    grain,
    mover,
    to_grain,
)
from wardround.common.procedures.hiding.tables import Counted, ShownTable, shown_table

__all__ = [
    "Cell",
    "Counted",
    "ShownCell",
    "ShownTable",
    "State",
    "dominated",
    "few_values",
    "grain",
    "mover",
    "rounded",
    "shown_cells",
    "shown_table",
    "to_grain",
]
