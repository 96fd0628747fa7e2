"""What is told of a watch: values for programs, lines for a terminal, a page for people.

A share of fewer than ``FEW`` rows is told as that, so that what is passed on shows nobody. The page
opens offline and asks no one for anything.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from typing import Any

from wardround.common.drift.compare import ALPHA, Finding, least_visible
from wardround.common.drift.outcomes import FEW, Figured
from wardround.common.durable.versioned import Format
from wardround.common.monitor.report_shares import (
    share,
    share_lines,
    share_parts,
    share_text,
    share_values,
)
from wardround.common.monitor.watch import Seen, Watched
from wardround.common.offline_page import document, table
from wardround.common.text import to_json

FORMAT = Format("watch of a model", "watch again")
DRIFTED = 20
"""The exit code where an alarm was raised."""


def values(watched: Watched) -> dict[str, Any]:
    """As it is written for programs."""
    return FORMAT.seal(
        {
            "model": watched.model,
            "run": watched.run,
            "drifted": watched.drifted,
            "most_false_alarms": ALPHA,
            "reference": {
                "whose": watched.reference.whose,
                "rows": watched.reference.counts.rows(),
                "figures": [_figure(one) for one in watched.reference.figures],
            },
            "absent": list(watched.absent),
            "notes": list(watched.notes),
            "shadow": watched.shadow,
            "windows": [_window(one) for one in watched.seen],
            **share_values(watched),
        }
    )


def to_text(watched: Watched) -> str:
    """The same as JSON."""
    return to_json(values(watched), indent=1) + "\n"


def _window(seen: Seen) -> dict[str, Any]:
    found: dict[str, Any] = {
        "name": seen.window.name,
        "rows": len(seen.window.rows),
        "drifted": seen.drifted,
        "fields": [_finding(one) for one in seen.findings],
        "figures": [_figure(one) for one in seen.figures],
    }
    if seen.shadow is not None:
        found["shadow"] = {
            "outputs": [vars(one) for one in seen.shadow.outputs],
            "figures": [_figure(one) for one in seen.shadow.figures],
        }
    return found


def _finding(one: Finding) -> dict[str, Any]:
    return {
        "role": one.field.role,
        "field": one.field.name,
        "drifted": one.drifted,
        "beyond_chance": one.beyond_chance,
        "what": one.what,
        "share": share(one.window, one.n),
        "reference_share": share(one.reference, one.total),
        "chance": float(f"{one.chance:.3g}"),
        "limit": float(f"{one.limit:.3g}"),
        "psi": float(f"{one.psi:.3g}"),
    }


def _figure(one: Figured) -> dict[str, Any]:
    ends = (one.value, one.low, one.high)
    value, low, high = (None if x is None else float(f"{x:.6g}") for x in ends)
    return {"name": one.name, "value": value, "low": low, "high": high, "rows": one.rows}


# --- for people -----------------------------------------------------------------------------------
def lines(watched: Watched) -> Iterator[str]:
    """What a terminal shows: the reference, alarms by window, then a word on what can't be seen."""
    whose, rows = watched.reference.whose, watched.reference.counts.rows()
    yield f"reference: {rows:,} rows{f' of {whose}' if whose else ''}"
    for name in watched.absent:
        yield f"input '{name}' is not among the columns"
    yield from watched.notes
    for seen in watched.seen:
        count = sum(one.drifted for one in seen.findings)
        state = f"{count} alarm{'s' * (count != 1)}" if count else "no drift"
        yield f"{seen.window.name} ({len(seen.window.rows):,} rows): {state}"
        for one in sorted(seen.findings, key=lambda found: found.chance):
            if one.beyond_chance:
                yield f"  {'DRIFT' if one.drifted else 'slight'} {_sentence(one)}"
        for figure in seen.figures:
            yield f"  {_figure_line(figure, watched.reference.figures)}"
        if seen.shadow is not None:
            yield from _shadow_lines(seen, watched.shadow)
    yield from share_lines(watched)
    yield visible(watched)


def _sentence(one: Finding) -> str:
    return (
        f"{one.field.role} '{one.field.name}': {one.what}: "
        f"{share_text(one.window, one.n)} of rows, "
        f"{share_text(one.reference, one.total)} in the reference"
    )


def _figure_line(one: Figured, before: Sequence[Figured]) -> str:
    then = next((other for other in before if other.name == one.name), None)
    beside = f"; in the reference {_interval(then)}" if then is not None else ""
    return f"{one.name} {_interval(one)}{beside}"


def _interval(one: Figured) -> str:
    if one.low is None or one.high is None:
        return f"{one.value:.3f} ({one.rows} rows)"
    return f"{one.value:.3f} ({one.low:.3f} to {one.high:.3f})"


def _shadow_lines(seen: Seen, name: str) -> Iterator[str]:
    assert seen.shadow is not None
    for one in seen.shadow.outputs:
        agree = "" if one.agreement is None else f", {one.agreement:.1%} on the same side of 0.5"
        yield (
            f"  shadow {name}: '{one.output}' differs by {one.difference:+.4f} on average, "
            f"{one.distance:.4f} in size, {one.largest:.4f} at most{agree}"
        )
    for figure in seen.shadow.figures:
        yield f"  shadow {name}: {_figure_line(figure, ())}"


def visible(watched: Watched) -> str:
    """What the smallest window can't show."""
    sizes = [len(one.window.rows) for one in watched.seen]
    tests = max(1, round(ALPHA / 2 / min(_limits(watched), default=ALPHA / 2)))
    n, total = min(sizes, default=1), watched.reference.counts.rows("input")
    change = least_visible(n, max(1, total), 0.5, tests)
    which = "a window raises" if len(sizes) < 2 else f"these {len(sizes)} windows together raise"
    return (
        f"of {n:,} rows a share of one half is seen to change by {change:.0%} or more; without "
        f"drift {which} a false alarm with a chance of at most {ALPHA:.0%}"
    )


def _limits(watched: Watched) -> Iterator[float]:
    for seen in watched.seen:
        yield from (one.limit for one in seen.findings if one.field.role == "input")


def page(watched: Watched) -> str:
    """The page as HTML."""
    title = f"{watched.run or 'model'} at work"
    alarms = sum(one.drifted for seen in watched.seen for one in seen.findings)
    alarms += sum(one.surge.alarm for one in watched.shares)
    whose, rows = watched.reference.whose, watched.reference.counts.rows()
    parts = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="{"error" if alarms else "soft"}">'
        f"{alarms or 'No'} alarm{'s' * (alarms != 1)} in {len(watched.seen)} "
        f"window{'s' * (len(watched.seen) != 1)}, against {rows:,} rows"
        f"{f' of {escape(whose)}' if whose else ''}.</p>",
        *(f'<p class="warning">{escape(note)}</p>' for note in watched.notes),
    ]
    if watched.absent:
        names = ", ".join(watched.absent)
        parts.append(f'<p class="error">Inputs that are no column: {escape(names)}</p>')
    parts += share_parts(watched)
    if len(watched.seen) > 1:
        parts.append(_overview(watched))
    for seen in watched.seen:
        if len(watched.seen) == 1 or seen.drifted:
            parts.append(_section(seen, watched))
    parts += ["<h2>How to read it</h2>", *(f"<p>{escape(text)}</p>" for text in _notes(watched))]
    return document(title, parts)


def _overview(watched: Watched) -> str:
    rows = [
        [
            one.window.name,
            f"{len(one.window.rows):,}",
            str(sum(found.drifted for found in one.findings)),
            *(_interval(figure) for figure in one.figures[:2]),
        ]
        for one in watched.seen
    ]
    names = [figure.name for figure in max((s.figures for s in watched.seen), key=len)[:2]]
    full = [[*row, *["–"] * (3 + len(names) - len(row))] for row in rows]
    return "<h2>Windows</h2>\n" + table(("window", "rows", "alarms", *names), full)


def _section(seen: Seen, watched: Watched) -> str:
    ordered = sorted(seen.findings, key=lambda one: (not one.drifted, one.chance))
    rows = [
        [
            "DRIFT" if one.drifted else "slight" if one.beyond_chance else "",
            f"{one.field.role}: {one.field.name}",
            one.what,
            share_text(one.window, one.n),
            share_text(one.reference, one.total),
            f"{one.psi:.2f}",
        ]
        for one in ordered
    ]
    head = ("", "field", "what differs most", "rows here", "in the reference", "PSI")
    found = f"<h2>{escape(seen.window.name[:1].upper() + seen.window.name[1:])}</h2>\n"
    found += table(head, rows, texts=3)
    if seen.figures:
        before = {one.name: _interval(one) for one in watched.reference.figures}
        figures = [[x.name, _interval(x), before.get(x.name, "–")] for x in seen.figures]
        found += "\n" + table(("figure", "here", "in the reference"), figures)
    if seen.shadow is not None:
        texts = "".join(
            f"<li>{escape(line.strip())}</li>" for line in _shadow_lines(seen, watched.shadow)
        )
        found += f"\n<ul>{texts}</ul>"
    return found


def _notes(watched: Watched) -> list[str]:
    return [
        "DRIFT: more than chance makes with these numbers of rows, and large enough to matter. "
        "slight: more than chance, of a small share. An exact test of counts decides, over all "
        "fields together; the population stability index (PSI) stands there for who knows it.",
        visible(watched) + ".",
        f"A share of fewer than {FEW} rows isn't shown. Figures have intervals of 95 %.",
    ]
