"""What a model reached at simulated hospitals that took no part (``simulation.leave_out``)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from wardround.common.figures.figure import Figure, with_bound

OUTSIDE = "outside"
"""In ``run.json``: a row for each hospital that was left out."""


def outside_lines(rows: Sequence[dict[str, Any]], figure: Figure) -> list[str]:
    """A line for each: what the model reached where it was never trained."""
    lines, primary = [], figure.name
    for row in rows:
        value = row["figures"].get(primary)
        if row["why"] or value is None:
            why = row["why"] or f"{primary} can't be had of its rows"
            lines.append(f"At {row['title']}, which took no part, it was not evaluated: {why}.")
            continue
        span = row["intervals"].get(primary)
        text = f"{value:.4g}" + (f" ({span[0]:.3g} to {span[1]:.3g})" if span else "")
        text = with_bound(text, figure.bound_in(row["figures"]))
        lines.append(
            f"At {row['title']}, which took no part: {primary} {text}, {row['rows']} rows."
        )
    return lines
