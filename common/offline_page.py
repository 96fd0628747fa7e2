"""An HTML page that opens offline, asks no one for anything and runs nothing.

It has no script and may load none (its policy says so). Whatever text comes in is escaped by who
writes the parts; ``table`` does so itself. Equal input gives equal bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

_STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --soft: #5a6472; --line: #d9dee5;
  --page: #fff; --card: #f6f8fa; --accent: #005a8c; --error: #b3261e; --warning: #8a5a00; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8ecf1; --soft: #a5b0bd; --line: #38414c;
  --page: #14181d; --card: #1d232a; --accent: #7cc4f0; --error: #ff8a80; --warning: #ffc66d; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2.5rem 1.25rem 4rem; max-width: 60rem; background: var(--page);
  color: var(--ink); font: 16px/1.55 system-ui, sans-serif; }
h1 { font-size: 1.8rem; margin: 0; line-height: 1.2; }
h2 { font-size: 1.2rem; margin: 2.5rem 0 .6rem; }
p, li { max-width: 46rem; } .soft { color: var(--soft); }
.answer { display: flex; flex-wrap: wrap; gap: .8rem; margin: 1.6rem 0; padding: 0;
  list-style: none; }
.answer li { flex: 1 1 9rem; background: var(--card); border: 1px solid var(--line);
  border-radius: .6rem; padding: .8rem 1rem; }
.answer .own { border: 2px solid var(--accent); }
.answer b { display: block; font-size: 1.7rem; font-variant-numeric: tabular-nums; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .32rem 1.1rem .32rem 0; border-bottom: 1px solid var(--line); text-align: left;
  vertical-align: top; }
caption { text-align: left; color: var(--soft); padding-bottom: .4rem; } .num { text-align: right; }
.plots { display: flex; flex-wrap: wrap; gap: 1rem 2.5rem; } .plots svg { max-width: 100%; }
@page { size: A4; margin: 15mm; }
@media print { body { max-width: none; padding: 0; font-size: 10.5pt; }
  .scroll { overflow: visible; } h2 { break-after: avoid; }
  tr, svg, .answer li { break-inside: avoid; } }
.error { color: var(--error); } .warning { color: var(--warning); }
"""
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def document(title: str, parts: Iterable[str], pictures: bool = False) -> str:
    """A whole page of parts that are HTML; empty ones are left out. ``pictures``: it may show such
    as stand in the page itself."""
    policy = _POLICY + ("; img-src data:" if pictures else "")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n"
        f"<style>{_STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(filter(None, parts))
        + "\n</body>\n</html>\n"
    )


def table(head: Sequence[str], rows: Iterable[Sequence[str]], texts: int = 1) -> str:
    """A table of texts; the first ``texts`` columns are words, the others numbers."""

    def row(cells: Sequence[str], cell: str) -> str:
        marks = ["" if i < texts else ' class="num"' for i in range(len(cells))]
        inside = "".join(
            f"<{cell}{m}>{escape(c)}</{cell}>" for c, m in zip(cells, marks, strict=True)
        )
        return f"<tr>{inside}</tr>"

    body = "\n".join(row(one, "td") for one in rows)
    return (
        f'<div class="scroll"><table>\n<thead>{row(head, "th")}</thead>\n'
        f"<tbody>\n{body}\n</tbody>\n</table></div>"
    )
