"""What is to be predicted: named by the researcher, plain from a column's name, or asked for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from wardround.common.errors import ConfigError, DataError
from wardround.common.tasks.class_limits import MOST_CLASSES
from wardround.common.text import near, normal_text
from wardround.simulations.beginning.roles import Role, spellings
from wardround.simulations.beginning.seen import Seen
from wardround.simulations.beginning.words import (
    is_outcome,
    means_yes,
    says_censored,
    says_classes,
    says_event,
    says_time,
    target_rank,
    yes_or_no,
)

TaskKind = Literal["binary", "multiclass", "regression", "survival"]
_FEW_NUMBERS = 10
_MOST_LISTED = 30
_POSSIBLE = ("binary", "category", "integer", "number")
"""Kinds of columns that a target can be."""
_NOTHING = "no column has values that differ: are these all rows?"
_AS_NUMBER = (
    "the target's few whole numbers are taken as classes; task.kind = 'regression' takes amounts"
)


@dataclass(frozen=True)
class Target:
    """What is predicted, and from which columns it is read.

    roles : of the target; of time and event
    told : what was decided that isn't plain, one line each
    """

    kind: TaskKind
    roles: tuple[Role, ...]
    told: tuple[str, ...] = ()

    @property
    def names(self) -> list[str]:
        """The columns."""
        return [role.name for role in self.roles]


def choose(found: Mapping[str, Seen], asked: str | None, positive: Sequence[str]) -> Target:
    """The target.

    asked : a column's name; None: the one whose name says it
    positive : texts that mean 1, if the researcher says so

    Raises ConfigError with the columns that could be it; DataError where it can't be read at all
    hospitals, a line for each reason.
    """
    time = next((s.name for s in found.values() if says_time(s.name) and _is_number(s)), None)
    name = _named(found, asked) if asked is not None else _plain(found, time)
    if name == time and (event := _event(found, name)) is not None:
        name = event
    seen = found[name]
    _check(seen)
    survives = time is not None and name != time and says_event(name) and _has_two(seen)
    if survives and time is not None:
        role, told = _two_values(seen, "event", positive)
        other = Role(time, "time", "time to the event, or to the last visit")
        return Target("survival", (role, other), told)
    return _of_one(seen, positive)


def _of_one(seen: Seen, positive: Sequence[str]) -> Target:
    name = seen.name
    if positive or _has_two(seen):
        role, told = _two_values(seen, "target", positive)
        return Target("binary", (role,), told)
    numeric = all(one.numeric for _, one in seen.filled)
    most = max(one.distinct for one in seen.at.values())
    few = most <= _FEW_NUMBERS and (says_classes(name) or target_rank(name) == 2)
    if numeric and (seen.kind == "number" or not few):
        return Target("regression", (Role(name, "target", "a number"),))
    if seen.kind not in ("category", "binary", "integer") or len(seen.texts) > MOST_CLASSES:
        raise DataError(
            f"column '{name}' can't be a target: {_what(seen)}; name another with --target"
        )
    classes = sum(seen.shown(text) for text in seen.texts)
    role = Role(name, "target", f"{classes} classes", spellings(seen))
    return Target("multiclass", (role,), _more_than_two(seen) if not numeric else (_AS_NUMBER,))


def _more_than_two(seen: Seen) -> tuple[str, ...]:
    """What is told of an outcome that happened, didn't, or is something else."""
    known = frozenset(text for text in seen.texts if is_outcome(text))
    if not yes_or_no(known, outcome=True):
        return ()
    yes = [seen.called(text) for text in sorted(known) if means_yes(text)]
    options = " ".join(f"--positive {text}" for text in yes)
    return (
        f"column '{seen.name}' has more than two values, so classes are learned; {options} makes "
        "them two: the others then count as 0",
    )


# --- which column ---------------------------------------------------------------------------------
def _named(found: Mapping[str, Seen], asked: str) -> str:
    name = normal_text(asked)
    if name in found:
        return name
    meant = near(name, found)
    listed = _listed(found)
    instead = f"it could be {listed}" if listed else _NOTHING
    if meant:
        instead = f"did you mean '{meant}'?"
    raise ConfigError(f"--target: no hospital has a column '{asked}'; {instead}")


def _plain(found: Mapping[str, Seen], time: str | None) -> str:
    """The one column whose name says that it is the target."""
    possible = {n: s for n, s in found.items() if s.everywhere and _could_be(s)}
    if time is not None and (event := _event(found, time)) is not None:
        return event
    for least in (2, 1):
        named = [name for name in possible if target_rank(name) >= least]
        if len(named) == 1:
            return named[0]
        if named:
            raise ConfigError(
                f"{len(named)} columns could be the target by their names; say which with "
                f"--target: {', '.join(named[:_MOST_LISTED])}"
            )
    meant = [n for n, s in found.items() if target_rank(n) and s.kind in _POSSIBLE]
    if len(meant) == 1:  # what doesn't fit of it is told by hospital or cell
        return meant[0]
    odd = [f"'{n}' is {_what(s)}" for n, s in found.items() if target_rank(n) and n not in possible]
    why, listed = f" ({', '.join(odd[:5])})" if odd else "", _listed(found)
    raise ConfigError(
        f"no column's name says that it is the target{why}; "
        + (f"say which with --target: {listed}" if listed else _NOTHING)
    )


def _event(found: Mapping[str, Seen], time: str) -> str | None:
    events = [s.name for s in found.values() if says_event(s.name) and s.name != time]
    return events[0] if len(events) == 1 and _has_two(found[events[0]]) else None


def _listed(found: Mapping[str, Seen]) -> str:
    """The columns that could be a target, what has few values first."""
    order = ("constant", "binary", "category", "integer", "number")  # constant: one at each
    possible = [seen for seen in found.values() if _could_be(seen)]
    possible.sort(key=lambda seen: (order.index(seen.kind), not seen.everywhere))
    names = [f"{seen.name} ({_what(seen)})" for seen in possible[:_MOST_LISTED]]
    more = len(possible) - len(names)
    return ", ".join(names) + (f" and {more} more" if more else "")


def _could_be(seen: Seen) -> bool:
    fits = seen.kind in _POSSIBLE or _one_each(seen)
    return fits and not any(one.odd for one in seen.at.values())


def _what(seen: Seen) -> str:
    """A column's kind in words."""
    if _one_each(seen):
        return "two values, one at each hospital"
    if seen.kind == "category":
        return f"{len(seen.texts)} categories"
    words = {
        "binary": "two values",
        "integer": "whole numbers",
        "number": "numbers",
        "text": "free text",
        "constant": "one value only",
        "date": "a date",
        "identifier": "an identifier",
    }
    return words.get(seen.kind, seen.kind)


def _check(seen: Seen) -> None:
    """Raise DataError, a line for each hospital where the target can't be read."""
    lines = [
        f"{title}: column '{seen.name}' is empty; every hospital needs the target"
        for title, one in seen.at.items()
        if one.kind == "empty"
    ]
    odd = seen.kind in ("date", "identifier", "text", "constant", "empty")
    if odd and not _one_each(seen):
        lines.append(
            f"column '{seen.name}' can't be a target: {_what(seen)}; name another with --target"
        )
    if lines:
        raise DataError("\n".join(lines))


# --- which of two values is 1 ---------------------------------------------------------------------
def _is_number(seen: Seen) -> bool:
    return seen.kind in ("number", "integer")


def _has_two(seen: Seen) -> bool:
    """Whether it has two values: at the largest hospital, by its words, or one at each hospital."""
    words = seen.kind == "category" and yes_or_no(seen.texts, outcome=True)
    return seen.kind == "binary" or words or _one_each(seen)


def _one_each(seen: Seen) -> bool:
    return seen.kind == "constant" and len(seen.texts) == 2


def _two_values(
    seen: Seen, role: Literal["target", "event"], asked: Sequence[str]
) -> tuple[Role, tuple[str, ...]]:
    """The role of a column of two values, and what was decided about them."""
    texts = seen.texts
    told: tuple[str, ...] = ()
    if seen.recoded:
        raise DataError("\n".join(_recoded(seen)))
    if asked:
        positive = _asked(seen, asked)
    elif says_censored(seen.name) and texts <= {"0", "1"}:
        positive, told = ["0"], (f"'{seen.name}' = 0 is taken as the event, 1 as censored",)
    elif texts <= {"0", "1"}:
        return Role(seen.name, role, "0 and 1"), ()
    elif yes_or_no(texts, outcome=True):
        positive = sorted(text for text in texts if means_yes(text))
    elif len(texts) == 2:
        positive, told = _guessed(seen)
    else:
        raise DataError("\n".join(_conflict(seen)))
    negative = sorted(texts - set(positive))
    told += _others(seen, negative)
    shown = [seen.called(text) for text in positive]
    why = f"{_quoted(shown)} {'is' if len(shown) == 1 else 'are'} 1"
    return Role(seen.name, role, why, {}, positive, negative or None), told


def _asked(seen: Seen, asked: Sequence[str]) -> list[str]:
    wanted = [normal_text(text).casefold() for text in asked]
    if unknown := [text for text in asked if normal_text(text).casefold() not in seen.texts]:
        shown = sorted(seen.called(text) for text in seen.texts if seen.shown(text))
        raise ConfigError(
            f"--positive: '{unknown[0]}' isn't in column '{seen.name}', which has {_quoted(shown)}"
        )
    if set(wanted) == seen.texts:
        raise ConfigError(f"--positive: all values of column '{seen.name}' would be 1; name fewer")
    return sorted(set(wanted))


def _guessed(seen: Seen) -> tuple[list[str], tuple[str, ...]]:
    """Which of two unknown texts is 1: the larger number, the rarer text."""
    one, other = sorted(seen.texts)
    numbers = all(profile.numeric for _, profile in seen.filled)
    if numbers:
        positive = max(one, other, key=float)
        why = "the larger number"
    else:
        rows = {text: sum(seen.groups[text].values()) for text in (one, other)}
        positive = min(one, other, key=lambda text: (rows[text], text))
        why = "the rarer value"
    if not numbers and not seen.shown(positive):
        raise ConfigError(
            f"column '{seen.name}': which of its two texts means 1? Say it with --positive TEXT"
        )
    line = (
        f"column '{seen.name}': '{seen.called(positive)}' is taken as 1, {why}; --positive says "
        "otherwise"
    )
    return [positive], (line,)


def _conflict(seen: Seen) -> list[str]:
    """Each hospital with the texts that it has, where no rule of all is known."""
    lines = []
    for title, one in seen.at.items():
        shown = sorted(name for name in one.shared)
        lines.append(f"{title}: column '{seen.name}' has {_quoted(shown) or 'no frequent value'}")
    lines.append(
        f"which of these texts of '{seen.name}' mean 1? Name all hospitals' with --positive TEXT, "
        "once for each"
    )
    return lines


def _recoded(seen: Seen) -> list[str]:
    lines = [
        f"{title}: column '{seen.name}' has the numbers {', '.join(sorted(one.counts))}"
        for title, one in seen.at.items()
        if one.kind == "binary"
    ]
    lines.append(
        f"one number of '{seen.name}' means two things; recode the files alike, then try again"
    )
    return lines


def _others(seen: Seen, negative: Sequence[str]) -> tuple[str, ...]:
    """What is told of texts that count as 0 because they aren't among those that are 1."""
    if len(negative) < 2 or yes_or_no(seen.texts, outcome=True):
        return ()
    shown = [seen.called(text) for text in negative if seen.shown(text)]
    return (
        f"column '{seen.name}': {_quoted(shown)} count as 0; what means 'not known' belongs into "
        "task.missing_values",
    )


def _quoted(texts: Iterable[str]) -> str:
    return ", ".join(f"'{text}'" for text in texts)
