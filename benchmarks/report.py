"""What every benchmark does with its figures: print a table, and write JSON rows if asked."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class Row:
    """One figure. ``peers`` were measured in the same run; ``limit`` is a bound or a published one.

    better : 'higher' or 'lower'
    """

    case: str
    metric: str
    value: float
    better: str
    peers: dict[str, float | None] = field(default_factory=dict)
    limit: float | None = None


def arguments(description: str) -> argparse.Namespace:
    """``--quick`` and ``--json PATH``, which every benchmark takes."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="a minute or so on two cores")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the rows here")
    return parser.parse_args()


def emit(title: str, rows: list[Row], json_path: Path | None) -> None:
    """Print the rows as a table and write them as JSON where a path is given."""
    peers = sorted({name for row in rows for name in row.peers})
    table = Table(title=title, title_justify="left")
    for name in ("case", "metric"):
        table.add_column(name)
    for name in ("value", *peers, "limit"):
        table.add_column(name, justify="right")
    table.add_column("better")
    for row in rows:
        cells = [_number(row.value), *(_number(row.peers.get(name)) for name in peers)]
        table.add_row(row.case, row.metric, *cells, _number(row.limit), row.better)
    Console(width=120).print(table)
    if json_path is not None:
        json_path.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")


def _number(value: float | None) -> str:
    if value is not None and 0 < abs(value) < 1e-3:
        return f"{value:.1e}"
    return "" if value is None else f"{value:,.3f}" if abs(value) < 100 else f"{value:,.0f}"
