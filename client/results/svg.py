"""A small plot as inline SVG: lines in a unit square, for a page that runs nothing.

Whatever is drawn was worked out here or came from the server: numbers are cut to the square, what
isn't finite is left out, words are escaped.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

Line = tuple[str, Sequence[float], Sequence[float]]
"""Name, x, y."""
_SIZE, _LEFT, _BOTTOM = 300.0, 46.0, 40.0
_COLORS = ("var(--accent)", "var(--soft)")
_TICKS = (0.0, 0.5, 1.0)


def plot(x: str, y: str, lines: Sequence[Line], dots: bool = False) -> str:
    """The SVG element. ``x``, ``y``: what the axes are; ``dots``: marks the points too."""
    width, height = _SIZE + _LEFT + 12, _SIZE + _BOTTOM + 12 + 18 * len(lines)
    parts = [
        f'<svg viewBox="0 0 {width:g} {height:g}" width="{width:g}" role="img" '
        f'aria-label="{escape(y)} by {escape(x)}" font-size="12" fill="currentColor">',
        f'<rect x="{_LEFT:g}" y="6" width="{_SIZE:g}" height="{_SIZE:g}" fill="none" '
        'stroke="var(--line)"/>',
        _path([(0.0, 0.0), (1.0, 1.0)], "var(--soft)", "1", "2 4"),
    ]
    for value in _TICKS:
        across, down = _place(value, value)
        parts.append(
            f'<text x="{across:g}" y="{_SIZE + 22:g}" text-anchor="middle">{value:g}</text>'
        )
        parts.append(f'<text x="{_LEFT - 6:g}" y="{down + 4:g}" text-anchor="end">{value:g}</text>')
    middle = _LEFT + _SIZE / 2
    parts.append(f'<text x="{middle:g}" y="{_SIZE + 38:g}" text-anchor="middle">{escape(x)}</text>')
    turned = f'transform="rotate(-90 12 {_SIZE / 2:g})" text-anchor="middle"'
    parts.append(f'<text x="12" y="{_SIZE / 2:g}" {turned}>{escape(y)}</text>')
    for number, (name, xs, ys) in enumerate(lines):
        color = _COLORS[number % len(_COLORS)]
        points = [_inside(a, b) for a, b in zip(xs, ys, strict=True) if math.isfinite(a + b)]
        parts.append(
            _path(points, color, "2.5" if number == 0 else "1.5", "" if number == 0 else "6 3")
        )
        if dots:
            parts += [_dot(*_place(*point), color) for point in points]
        base = _SIZE + _BOTTOM + 18 * (number + 1)
        parts.append(f'<path d="M{_LEFT:g} {base - 4:g}h24" stroke="{color}" stroke-width="2"/>')
        parts.append(f'<text x="{_LEFT + 30:g}" y="{base:g}">{escape(name)}</text>')
    return "\n".join([*parts, "</svg>"])


def _inside(x: float, y: float) -> tuple[float, float]:
    return min(1.0, max(0.0, x)), min(1.0, max(0.0, y))


def _place(x: float, y: float) -> tuple[float, float]:
    return _LEFT + x * _SIZE, 6 + (1 - y) * _SIZE


def _dot(across: float, down: float, color: str) -> str:
    return f'<circle cx="{across:.1f}" cy="{down:.1f}" r="3.5" fill="{color}"/>'


def _path(points: Sequence[tuple[float, float]], color: str, width: str, dash: str) -> str:
    places = (_place(*point) for point in points)
    steps = "L".join(f"{across:.1f} {down:.1f}" for across, down in places)
    dashes = f' stroke-dasharray="{dash}"' if dash else ""
    return f'<path d="M{steps}" fill="none" stroke="{color}" stroke-width="{width}"{dashes}/>' * (
        len(points) > 1
    )
