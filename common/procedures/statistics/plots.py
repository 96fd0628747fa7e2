"""Drawings of what an analysis shows, as inline SVG: for a page that runs nothing.

A plot is a mapping with a ``type`` and plain values, as it stands in ``statistics.json``:

    curves   title, x, y, lines: [{name, x, y, low?, high?, step?}], risk?: {times, rows: [{name,
             counts}]}, limits?: [low, high] of y
    forest   title, x, rows: [{name, estimate, low, high, text?}], log?: bool, at?: of no effect
    bars     title, x, y, labels or edges, values
    dots     title, x, rows: [{name, values}], series: names of the values, at?: lines across

Words came from files of others and are escaped; numbers that aren't finite are left out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any

Values = Mapping[str, Any]
_WIDTH, _LEFT, _HIGH, _TOP = 640.0, 64.0, 300.0, 28.0
_RIGHT = 16.0
_COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f7f7f")
"""Okabe and Ito's, told apart with any colour vision."""
_ROW = 26.0
_NAMED = 24
"""Letters of a group's name beside its numbers at risk."""


def drawn(plot: Values) -> str:
    """The plot as SVG; '' for a type that isn't known here."""
    kind = str(plot.get("type"))
    return _TYPES[kind](plot) if kind in _TYPES else ""


def alone(plot: Values) -> str:
    """The same as a file of its own, dark on white, for a paper; '' for a type that isn't known."""
    text = drawn(plot)
    for name, color in (("soft", "#5a6472"), ("line", "#5a6472")):
        text = text.replace(f"var(--{name})", color)
    head = '<svg xmlns="http://www.w3.org/2000/svg" font-family="Helvetica, Arial, sans-serif" '
    return text.replace("<svg ", f'{head}style="background:#fff;color:#1b1f24" ', 1) + "\n" * bool(
        text
    )


class _Scale:
    """From values to places on the page."""

    def __init__(self, low: float, high: float, start: float, end: float, log: bool = False):
        self.log = log and low > 0
        low, high = (math.log(low), math.log(high)) if self.log else (low, high)
        if not high > low:
            low, high = low - 0.5, high + 0.5
        self._low, self._per, self._start = low, (end - start) / (high - low), start
        self.low, self.high = low, high

    def __call__(self, value: float) -> float:
        value = math.log(value) if self.log else value
        return self._start + (value - self._low) * self._per

    def ticks(self, count: int = 5) -> list[float]:
        """Round values within."""
        if self.log:
            return _log_ticks(math.exp(self.low), math.exp(self.high))
        raw = (self.high - self.low) / count
        unit = 10.0 ** math.floor(math.log10(raw))
        step = next(one * unit for one in (1, 2, 2.5, 5, 10) if one * unit >= raw * 0.999)
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [number * step for number in range(first, last + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    found = [
        digit * 10.0**power
        for power in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        for digit in (1, 2, 5)
    ]
    within = [one for one in found if low * 0.999 <= one <= high * 1.001]
    return within if len(within) <= 8 else [one for one in within if _is_power(one)]


def _is_power(value: float) -> bool:
    return abs(math.log10(value) - round(math.log10(value))) < 1e-9


# --- curves ---------------------------------------------------------------------------------------
def _curves(plot: Values) -> str:
    lines = list(plot["lines"])
    xs = [x for one in lines for x in _finite(one["x"])]
    ys = [y for one in lines for key in ("y", "low", "high") for y in _finite(one.get(key) or ())]
    if not xs or not ys:
        return ""
    low, high = plot.get("limits") or (min(ys), max(ys))
    across = _Scale(min(0.0, *xs), max(xs), _LEFT, _WIDTH - _RIGHT)
    down = _Scale(low, high, _TOP + _HIGH, _TOP)
    parts = [*_axes(across, down, plot), *_lines(lines, across, down)]
    height = _TOP + _HIGH + 44
    for number, one in enumerate(lines):
        parts.append(_legend(str(one["name"]), number, height + 18 * number))
    height += 18 * len(lines)
    more = 0.0
    if risk := plot.get("risk"):
        longest = max((len(_short(row["name"], _NAMED)) for row in risk["rows"]), default=0)
        more = 7.0 * max(0, longest - 5)
        parts += _at_risk(risk, across, height + 14, 4 - more)
        height += 20 + 18 * (len(risk["rows"]) + 1)
    return _svg(plot, height, parts, more)


def _lines(lines: Sequence[Values], across: _Scale, down: _Scale) -> list[str]:
    parts = []
    for number, one in enumerate(lines):
        color, step = _color(number), bool(one.get("step"))
        if one.get("low") and one.get("high"):
            there = _points(one["x"], one["low"], across, down, step)
            back = _points(one["x"], one["high"], across, down, step)[::-1]
            if there and back:
                parts.append(
                    f'<path d="M{_joined([*there, *back])}Z" fill="{color}" opacity=".15"/>'
                )
        points = _points(one["x"], one["y"], across, down, step)
        if points:
            parts.append(
                f'<path d="M{_joined(points)}" fill="none" stroke="{color}" stroke-width="2"/>'
            )
    return parts


def _points(
    xs: Sequence[Any], ys: Sequence[Any], across: _Scale, down: _Scale, step: bool
) -> list[tuple[float, float]]:
    found: list[tuple[float, float]] = []
    for x, y in zip(xs, ys, strict=True):
        if not (_is_number(x) and _is_number(y)):
            continue
        place = across(x), down(y)
        if step and found:
            found.append((place[0], found[-1][1]))
        found.append(place)
    return found


def _at_risk(risk: Values, across: _Scale, top: float, left: float) -> list[str]:
    """Numbers at risk below the curves; ``left``: where the groups' names begin."""
    parts = [f'<text x="{left:g}" y="{top:g}" font-weight="600">Number at risk</text>']
    for number, row in enumerate(risk["rows"]):
        base = top + 18 * (number + 1)
        parts.append(_text(left, base, _short(row["name"], _NAMED), "start", _color(number)))
        for time, count in zip(risk["times"], row["counts"], strict=True):
            parts.append(_text(across(time), base, str(count), "middle"))
    return parts


# --- forest and dots ------------------------------------------------------------------------------
def _forest(plot: Values) -> str:
    rows = [one for one in plot["rows"] if _is_number(one.get("estimate"))]
    log = bool(plot.get("log"))
    values = [
        v for one in rows for v in _finite((one["estimate"], one.get("low"), one.get("high")))
    ]
    at = plot.get("at", 1.0 if log else 0.0)
    values = [v for v in [*values, at] if not log or v > 0]
    if not rows:
        return ""
    named, height = 210.0, _TOP + _ROW * len(rows)
    across = _Scale(min(values), max(values), named, _WIDTH - 150, log)
    parts = _across(across, plot, height, at)
    for number, one in enumerate(rows):
        base = _TOP + _ROW * (number + 0.5)
        parts.append(_text(named - 12, base + 4, _short(one["name"], 30), "end"))
        low, high = one.get("low"), one.get("high")
        if _is_number(low) and _is_number(high) and (not log or low > 0):
            parts.append(
                f'<path d="M{across(low):.1f} {base:.1f}H{across(high):.1f}" stroke="{_COLORS[0]}" '
                'stroke-width="1.5"/>'
            )
        if not log or one["estimate"] > 0:
            parts.append(
                f'<rect x="{across(one["estimate"]) - 4:.1f}" y="{base - 4:.1f}" width="8" '
                f'height="8" fill="{_COLORS[0]}"/>'
            )
        shown = str(one.get("text") or _interval(one["estimate"], low, high))
        parts.append(_text(_WIDTH - 142, base + 4, shown, "start"))
    return _svg(plot, height + 44, parts)


def _dots(plot: Values) -> str:
    rows, series = list(plot["rows"]), list(plot["series"])
    values = [v for one in rows for v in _finite(one["values"])]
    marks = list(plot.get("at") or [0.0])
    if not values:
        return ""
    named, height = 210.0, _TOP + _ROW * len(rows)
    across = _Scale(min(*values, *marks), max(*values, *marks), named, _WIDTH - _RIGHT)
    parts = [part for at in marks for part in _across(across, plot, height, at, at == marks[0])]
    for number, one in enumerate(rows):
        base = _TOP + _ROW * (number + 0.5)
        parts.append(_text(named - 12, base + 4, _short(one["name"], 30), "end"))
        parts += [
            f'<circle cx="{across(value):.1f}" cy="{base:.1f}" r="4.5" fill="{_color(place)}"/>'
            for place, value in enumerate(one["values"])
            if _is_number(value)
        ]
    base = height + 48
    parts += [_legend(name, place, base + 18 * place) for place, name in enumerate(series)]
    return _svg(plot, base + 18 * len(series), parts)


def _across(
    across: _Scale, plot: Values, height: float, at: float, named: bool = True
) -> list[str]:
    """An axis below, and a line where ``at`` is."""
    parts = []
    if named:
        parts.append(_line(across, height))
        for tick in across.ticks():
            parts.append(_text(across(tick), height + 18, f"{tick:.4g}", "middle"))
        middle = (across(_least(across)) + across(_most(across))) / 2
        parts.append(_text(middle, height + 38, str(plot.get("x", "")), "middle"))
    if not across.log or at > 0:
        parts.append(
            f'<path d="M{across(at):.1f} {_TOP:g}V{height:g}" stroke="var(--soft)" '
            'stroke-dasharray="4 4"/>'
        )
    return parts


def _line(across: _Scale, height: float) -> str:
    ends = across(_least(across)), across(_most(across))
    return f'<path d="M{ends[0]:.1f} {height:g}H{ends[1]:.1f}" stroke="var(--line)"/>'


def _least(scale: _Scale) -> float:
    return math.exp(scale.low) if scale.log else scale.low


def _most(scale: _Scale) -> float:
    return math.exp(scale.high) if scale.log else scale.high


# --- bars -----------------------------------------------------------------------------------------
def _bars(plot: Values) -> str:
    values = [float(one) if _is_number(one) else 0.0 for one in plot["values"]]
    if not values:
        return ""
    edges = plot.get("edges")
    down = _Scale(min(0.0, *values), max(0.0, *values) or 1.0, _TOP + _HIGH, _TOP)
    wide = _WIDTH - _RIGHT - _LEFT
    if edges:
        across = _Scale(edges[0], edges[-1], _LEFT, _WIDTH - _RIGHT)
        places = [(across(a), across(b)) for a, b in zip(edges, edges[1:], strict=False)]
    else:
        across = _Scale(0.0, float(len(values)), _LEFT, _WIDTH - _RIGHT)
        room = wide / len(values)
        places = [(_LEFT + (n + 0.1) * room, _LEFT + (n + 0.9) * room) for n in range(len(values))]
    parts = _axes(across if edges else None, down, plot)
    for (start, end), value in zip(places, values, strict=True):
        top, base = min(down(value), down(0.0)), max(down(value), down(0.0))
        parts.append(
            f'<rect x="{start:.1f}" y="{top:.1f}" width="{max(0.5, end - start - 1):.1f}" '
            f'height="{base - top:.1f}" fill="{_COLORS[0]}"/>'
        )
    for (start, end), label in zip(places, plot.get("labels") or (), strict=False):
        most = max(3, int((end - start) / 7))
        parts.append(_text((start + end) / 2, _TOP + _HIGH + 18, _short(label, most), "middle"))
    return _svg(plot, _TOP + _HIGH + 48, parts)


# --- parts ----------------------------------------------------------------------------------------
def _axes(across: _Scale | None, down: _Scale, plot: Values) -> list[str]:
    right, base = _WIDTH - _RIGHT, _TOP + _HIGH
    parts = [f'<path d="M{_LEFT:g} {_TOP:g}V{base:g}H{right:g}" fill="none" stroke="var(--line)"/>']
    for tick in down.ticks():
        parts.append(_text(_LEFT - 6, down(tick) + 4, f"{tick:.4g}", "end"))
    if across is not None:
        places = ((across(tick), tick) for tick in across.ticks(8))
        parts += [_text(place, base + 18, f"{tick:.6g}", "middle") for place, tick in places]
    parts.append(_text((_LEFT + right) / 2, base + 38, str(plot.get("x", "")), "middle"))
    middle = _TOP + _HIGH / 2
    parts.append(
        f'<text x="14" y="{middle:g}" transform="rotate(-90 14 {middle:g})" '
        f'text-anchor="middle">{escape(str(plot.get("y", "")))}</text>'
    )
    return parts


def _svg(plot: Values, height: float, parts: Sequence[str], more: float = 0.0) -> str:
    """``more``: room to the left of it all."""
    title = escape(str(plot.get("title", "")))
    head = (
        f'<svg viewBox="{-more:g} 0 {_WIDTH + more:g} {height:g}" width="{_WIDTH + more:g}" '
        'role="img" '
        f'aria-label="{title}" font-size="12" fill="currentColor">\n'
        f'<text x="{_LEFT:g}" y="16" font-size="14" font-weight="600">{title}</text>'
    )
    return "\n".join([head, *parts, "</svg>"])


def _legend(name: str, number: int, base: float) -> str:
    color = _color(number)
    mark = f'<path d="M{_LEFT:g} {base - 4:g}h24" stroke="{color}" stroke-width="3"/>'
    return mark + _text(_LEFT + 30, base, _short(name, 70), "start")


def _text(x: float, y: float, words: str, anchor: str, color: str = "") -> str:
    fill = f' fill="{color}"' if color else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{fill}>{escape(words)}</text>'


def _interval(estimate: float, low: Any, high: Any) -> str:
    if not (_is_number(low) and _is_number(high)):
        return f"{estimate:.3g}"
    return f"{estimate:.3g} ({low:.3g} to {high:.3g})"


def _joined(points: Sequence[tuple[float, float]]) -> str:
    return "L".join(f"{x:.1f} {y:.1f}" for x, y in points)


def _short(text: Any, most: int) -> str:
    words = str(text)
    return words if len(words) <= most else f"{words[: most - 1]}…"


def _color(number: int) -> str:
    return _COLORS[number % len(_COLORS)]


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _finite(values: Sequence[Any]) -> list[float]:
    return [float(one) for one in values if _is_number(one)]


_TYPES: dict[str, Callable[[Values], str]] = {
    "curves": _curves,
    "forest": _forest,
    "dots": _dots,
    "bars": _bars,
}
