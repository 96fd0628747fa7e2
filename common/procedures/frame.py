"""What the pages of all procedures stand in: they open offline, ask no one for anything, and run
nothing."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

_STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --soft: #5a6472; --line: #d9dee5;
  --page: #fff; --card: #f6f8fa; --bar: #7cb7dc; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8ecf1; --soft: #a5b0bd; --line: #38414c;
  --page: #14181d; --card: #1d232a; --bar: #2f6d96; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2.5rem 1.25rem 4rem; max-width: 66rem; background: var(--page);
  color: var(--ink); font: 16px/1.55 system-ui, sans-serif; }
h1 { font-size: 1.8rem; margin: 0; line-height: 1.2; }
h2 { font-size: 1.2rem; margin: 2.5rem 0 .6rem; }
p, li { max-width: 46rem; } .soft { color: var(--soft); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .32rem 1.1rem .32rem 0; border-bottom: 1px solid var(--line); text-align: left;
  vertical-align: top; }
.num { text-align: right; }
.share { display: inline-block; height: .7rem; background: var(--bar); margin-right: .5rem; }
"""
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def framed(title: str, parts: Iterable[str]) -> str:
    """A page of HTML text.

    title : plain text, which is escaped here
    parts : HTML; empty ones are left out
    """
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n"
        f"<style>{_STYLE}</style>\n</head>\n<body>\n"
        + "\n".join([f"<h1>{escape(title)}</h1>", *filter(None, parts)])
        + "\n</body>\n</html>\n"
    )
