"""What is told of a rule on shares: alarms, and each group's newest window."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import Any

from wardround.common.drift.compare import ALPHA
from wardround.common.drift.outcomes import FEW
from wardround.common.monitor.shares import Told
from wardround.common.monitor.watch import Watched
from wardround.common.offline_page import table


def share_values(watched: Watched) -> dict[str, Any]:
    """For programs; {} where there is no rule."""
    if watched.rule is None:
        return {}
    return {"rule": vars(watched.rule), "shares": [_value(one) for one in watched.shares]}


def _value(told: Told) -> dict[str, Any]:
    one = told.surge
    return {
        "group": told.group,
        "window": told.window,
        "alarm": one.alarm,
        "rows": one.rows,
        "share": share(one.count, one.rows),
        "history_share": share(one.before, one.of),
        "history_rows": one.of,
        "spread": float(f"{one.spread:.3g}"),
        "chance": float(f"{one.chance:.3g}"),
        "limit": float(f"{one.limit:.3g}"),
    }


def share_lines(watched: Watched) -> Iterator[str]:
    """For a terminal."""
    if watched.rule is None:
        return
    alarms = [one for one in watched.shares if one.surge.alarm]
    windows = len({one.window for one in watched.shares})
    yield (
        f"share of {_what(watched)} in {windows} windows with a history: "
        f"{len(alarms)} alarm{'s' * (len(alarms) != 1)}"
    )
    for one in alarms:
        yield f"  SURGE {_sentence(one)}"
    yield f"without a surge a window raises an alarm with a chance of at most {ALPHA:.0%}"


def share_parts(watched: Watched) -> list[str]:
    """For the page."""
    if watched.rule is None:
        return []
    newest = {one.group: one for one in watched.shares}
    shown = {id(one): one for one in watched.shares if one.surge.alarm}
    shown |= {id(one): one for one in newest.values()}
    rows = [
        [
            "SURGE" if one.surge.alarm else "",
            one.group,
            one.window,
            f"{one.surge.rows:,}",
            share_text(one.surge.count, one.surge.rows),
            share_text(one.surge.before, one.surge.of),
            f"{one.surge.spread:.1f}",
            f"{one.surge.chance:.2g}",
        ]
        for one in shown.values()
    ]
    head = ("", "group", "window", "rows", "share", "history", "spread", "chance")
    return [
        f"<h2>Share of {escape(_what(watched))}</h2>",
        table(head, rows, texts=3),
        "<p>Alarms, and each group's newest window, held against the windows before it. spread: "
        "how much more these vary than draws do. Without a surge a window raises an alarm with a "
        f"chance of at most {ALPHA:.0%}.</p>",
    ]


def _what(watched: Watched) -> str:
    rule = watched.rule
    assert rule is not None
    return f"{rule.column} = {rule.value}" + (f" by {rule.per}" if rule.per else "")


def _sentence(told: Told) -> str:
    one = told.surge
    return (
        f"{told.group}, {told.window}: {share_text(one.count, one.rows)} of {one.rows:,} rows, "
        f"{share_text(one.before, one.of)} before (chance {one.chance:.1g}, limit {one.limit:.1g})"
    )


def share(count: int, rows: int) -> float | None:
    """Of rows; None of fewer than ``FEW``, or where all but so few are in it."""
    few = 0 < count < FEW or 0 < rows - count < FEW
    return None if few else float(f"{count / max(1, rows):.4g}")


def share_text(count: int, rows: int) -> str:
    """The same for people."""
    found = share(count, rows)
    if found is not None:
        return f"{found:.1%}"
    return f"fewer than {FEW}" if count < FEW else f"all but fewer than {FEW}"
