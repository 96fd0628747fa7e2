"""What was decided about a program's data, in its own words."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from wardround.common.errors import WardroundError
from wardround.common.text import one_line
from wardround.simulations.beginning.begin import Begun

_MOST = 40
_OPTIONS = (
    (re.compile(r"^--set ([\w.]+):"), r"overrides['\1']:"),
    (re.compile(r"--target COLUMN"), "target='COLUMN'"),
    (re.compile(r"--positive TEXT"), "positive=['TEXT']"),
    (re.compile(r"--positive (\S+)"), r"positive=['\1']"),
    (re.compile(r"with --target\b"), "with target="),
    (re.compile(r"--(target|positive|data)\b"), r"\1"),
    (re.compile(r" is said here by --dialect KEY=VALUE"), " is overrides={...} here"),
    (re.compile(r"--dialect '(\w+)=(.*?)'"), r"overrides={'task.dialect.\1': \2}"),
    (re.compile(r"--dialect "), "task.dialect."),
)


def decided(begun: Begun) -> list[str]:
    """What each column was taken for, and what to know, one line each."""
    roles: dict[str, list[str]] = {}
    for role in begun.decision.roles.values():
        if role.role != "ignore":
            roles.setdefault(role.role.replace("_", " "), []).append(role.name)
    lines = [f"{role}: {_listed(names)}" for role, names in roles.items()]
    lines += [f"not used: '{one.name}' ({one.why})" for one in begun.decision.of("ignore")[:_MOST]]
    told = [*begun.found.notes, *begun.decision.told, *begun.decision.problems]
    return [in_words(one_line(line, limit=2000)) for line in [*lines, *told]]


@contextmanager
def in_python() -> Iterator[None]:
    """Errors within name arguments, not options of a command."""
    try:
        yield
    except WardroundError as error:
        words = in_words(error.what), in_words(error.mend)
        if words == (error.what, error.mend):
            raise
        raise type(error)(words[0], who=error.who, mend=words[1]) from None


def in_words(text: str) -> str:
    """A text of the command line's with arguments for options."""
    for pattern, words in _OPTIONS:
        text = pattern.sub(words, text)
    return text


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _MOST} more" if len(names) > _MOST else ""
    return ", ".join(names[:_MOST]) + more
