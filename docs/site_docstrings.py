"""Docstrings as Markdown, for the site's page of the Python interface: an extension of griffe.

A docstring here is plain text: paragraphs, lines ``name : meaning`` with indented continuations,
sessions of the interpreter. As Markdown the lines become a list and the sessions blocks of code.
"""

from __future__ import annotations

import re
from itertools import groupby
from typing import Any

import griffe

_FIELD = re.compile(r"^([\w*][\w*, ]*?(?:\[[^\]]*\])?) : (.*)$")


def _kinds(text: str) -> list[tuple[str, str]]:
    """(kind, line): of a 'session', a 'field' and its continuation, or 'text'."""
    found, kind = list[tuple[str, str]](), "text"
    for line in text.splitlines():
        if line.startswith(">>>"):
            kind = "session"
        elif not line.strip():
            kind = "text"
        elif kind != "session":
            goes_on = kind == "field" and line.startswith(" ")
            kind = "field" if goes_on or _FIELD.match(line) else "text"
        found.append((kind, line))
    return found


def markdown(text: str) -> str:
    """A docstring as Markdown."""
    text = re.sub(r"(?m)^(\w+)\n-{3,}$", r"**\1**\n", text)
    parts = list[str]()
    for kind, group in groupby(_kinds(text), key=lambda one: one[0]):
        lines = [line for _, line in group]
        if kind == "session":
            parts += ["```pycon", *lines, "```"]
        elif kind == "field":
            parts += ["", *(_FIELD.sub(r"- `\1`: \2", line) for line in lines), ""]
        else:
            parts += lines
    return "\n".join(parts)


class AsMarkdown(griffe.Extension):
    """Every docstring that is read, rewritten once."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = markdown(obj.docstring.value)
