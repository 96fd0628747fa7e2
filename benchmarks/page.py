"""The page of all figures, ``docs/benchmarks.md``, made from what ``benchmarks.run`` has kept."""

from __future__ import annotations

import ast
import importlib.util
from pathlib import Path
from typing import Any

_HEAD = """\
# Benchmarks

Made by `make bench` (`python -m benchmarks.run --page docs/benchmarks.md`): every figure beside a
peer or a limit of the same run, on the machine and under the load that stand with it.
`--only NAME` measures one again, without `--quick` the larger cases; what a benchmark does and
what its columns mean stands at the top of its file. A peer that isn't installed leaves its column
empty (`make bench-peers` sets up pfl-research and NVIDIA FLARE), and so does what a peer can't do.

Bold is the best of its row. Other work on the same cores halves a figure: compare within a row.
"""


def page(kept: list[dict[str, Any]]) -> str:
    """Markdown of these benchmarks, each as ``run.measured`` keeps it."""
    parts = [_HEAD]
    for machine in dict.fromkeys(one["machine"] for one in kept):
        of = [one for one in kept if one["machine"] == machine]
        seen: dict[str, str] = {}
        for one in of:
            seen |= one["versions"]
        versions = ", ".join(f"{name} {number}" for name, number in seen.items())
        parts.append(f"**Machine:** {machine}.\n\n**Versions:** {versions}.\n")
    parts += [_section(one) for one in kept]
    return "\n".join(parts)


def _section(one: dict[str, Any]) -> str:
    """A benchmark's heading, how it was measured, and its table."""
    quick = " --quick" if one["quick"] else ""
    lines = [f"## {_title(one['name'])}", ""]
    lines.append(
        f"`python -m benchmarks.{one['name']}{quick}`, {one['when'][:10]}, {one['seconds']:.0f} s, "
        f"load {one['load_before']:.1f} to {one['load_after']:.1f}."
    )
    peers = sorted({name for row in one["rows"] for name in row["peers"]})
    limits = any(row["limit"] is not None for row in one["rows"])
    columns = ["case", "metric", "value", *peers, *(["limit"] if limits else [])]
    lines += ["", f"| {' | '.join(columns)} |", f"|{'---|' * 2}{'---:|' * (len(columns) - 2)}"]
    for row in one["rows"]:
        values = {"": row["value"], **{name: row["peers"].get(name) for name in peers}}
        best = _best(values, row["better"])
        cells = [row["case"], f"{row['metric']} ({row['better']})"]
        cells += [_cell(value, name == best) for name, value in values.items()]
        cells += [_cell(row["limit"], False)] if limits else []
        lines.append(f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |")
    return "\n".join([*lines, ""])


def _title(name: str) -> str:
    """What a benchmark's own file says of it, up to the first stop."""
    spec = importlib.util.find_spec(f"benchmarks.{name}")
    if spec is None or spec.origin is None:
        return name
    text = ast.get_docstring(ast.parse(Path(spec.origin).read_text())) or name
    return text.splitlines()[0].rstrip(".:")


def _best(values: dict[str, float | None], better: str) -> str | None:
    """Whose value is the best, where there is a choice."""
    there = {name: value for name, value in values.items() if value is not None}
    if len(there) < 2:
        return None
    choose = max if better == "higher" else min
    return choose(there, key=lambda name: there[name])


def _cell(value: float | None, best: bool) -> str:
    if value is None:
        return ""
    size = abs(value)
    if size >= 1000:
        text = f"{value:,.0f}"
    elif size >= 10 or size == 0:
        text = f"{value:.1f}"
    else:
        text = f"{value:.3g}"
    return f"**{text}**" if best else text
