"""A decision as tables for a person's terminal. No cell is shown but names of categories that
enough rows share; of numbers a median, with two digits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from rich.table import Table
from rich.text import Text

from wardround.common.text import one_line
from wardround.simulations.beginning.decide import Decision
from wardround.simulations.beginning.found import Found
from wardround.simulations.beginning.roles import Role, share
from wardround.simulations.beginning.seen import Seen

_MOST_ROWS = 40
_MOST_NAMED = 4
_ORDER = (
    "target",
    "event",
    "time",
    "patient_id",
    "split",
    "numeric",
    "categorical",
    "binary",
    "ignore",
)


def hospitals_table(found: Found) -> Table:
    """What was read, a line for each hospital, or for the data set."""
    table = Table()
    table.add_column("data set" if found.one_set else "hospital")
    table.add_column("rows", justify="right")
    table.add_column("columns", justify="right")
    table.add_column("written in")
    for shard in found.shards:
        told = "; ".join(line.partition(": ")[2] for line in shard.told)
        rows, columns = shard.table.num_rows, shard.table.num_columns
        table.add_row(_plain(shard.title), f"{rows:,}", f"{columns:,}", _plain(told))
    return table


def columns_table(decision: Decision) -> Table:
    """What each column is, the target first; at most forty."""
    table = Table()
    for name in ("column", "is", "because", "missing", "seen"):
        table.add_column(name, justify="right" if name == "missing" else "left")
    roles = sorted(decision.roles.values(), key=lambda role: _ORDER.index(role.role))
    for role in roles[:_MOST_ROWS]:
        seen = decision.found[role.name]
        gaps = share(seen.gaps)
        number = role.role == "target" and decision.target.kind == "regression"
        what = _seen(seen, role, number)
        if role.role in ("target", "event") and (ones := _ones(seen, role)) is not None:
            what = f"{share(ones) or 'none'} are 1"
        cells = (role.name, role.role.replace("_", " "), role.why, gaps, what)
        table.add_row(*map(_plain, cells))
    if len(roles) > _MOST_ROWS:
        table.add_row(f"and {len(roles) - _MOST_ROWS} more", "", "as the file says", "", "")
    return table


def _ones(seen: Seen, role: Role) -> float | None:
    """The share of rows whose text means 1; None of what isn't two values."""
    positive = role.positive or (["1"] if seen.texts <= {"0", "1"} else [])
    rows = {text: sum(counts.values()) for text, counts in seen.groups.items()}
    total = sum(rows.values())
    return sum(rows.get(text, 0) for text in positive) / total if positive and total else None


def _seen(seen: Seen, role: Role, number: bool) -> str:
    """Categories by name, or a rounded median."""
    if role.role in ("ignore", "patient_id", "split"):
        return ""
    if role.role in ("numeric", "time") or number:
        medians = [one.median for one in seen.at.values() if one.median is not None]
        unit = f" {seen.unit}" if seen.unit else ""
        middle = sorted(medians)[len(medians) // 2] if medians else None
        return f"about {float(f'{middle:.2g}'):g}{unit}" if middle is not None else ""
    return ", ".join(_named(seen, role))


def _named(seen: Seen, role: Role) -> Iterator[str]:
    called = {text.casefold(): name for name, texts in role.codes.items() for text in texts}
    rows: Counter[str] = Counter()
    for text in seen.texts:
        if seen.shown(text):
            rows[called.get(text, seen.called(text))] += sum(seen.groups[text].values())
    shown = [name for name, _ in rows.most_common()]
    yield from shown[:_MOST_NAMED]
    if len(shown) > _MOST_NAMED:
        yield f"{len(shown) - _MOST_NAMED} more"


def _plain(text: str) -> Text:
    return Text(one_line(text) if text else "")
