"""Several hospitals' audit logs held against each other: did the server tell them all the same?

Each hospital's log has, in the line ``received``, what it was told in public (``told``; made by
``client/process/public_words.py``), and in ``manifest`` and ``policy`` which plan it was shown.
Aligned by run, session, group, aggregation, purpose and round, an honest server's words are equal:

- *of one thing*: a group of one number, its keys, one aggregation, one opened survivor set. Each
  hospital that was told of it was told the same, once and for all.
- *of one step of a run*, which may be tried again with others: two hospitals' attempts have
  something in common, the model and the totals above all. Who was asked at different attempts only
  is still to be shown the same; so two differ where nothing that they were told is equal.
- *of the preparation's sums*, which a server that is started again before they are kept makes anew,
  with whoever is there then: totals follow from who was asked. Two that were asked at different
  times only agree where others, asked both times, lead from one to the other.

What it can't find: what was told to a hospital whose log isn't given; what was told to all alike;
what no log has because its hospital was not asked; a hospital that changed its own log
(``verify.py`` says up to where that is excluded).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Any

from wardround.common.audit.chain import ReadLog
from wardround.common.audit.lines import Line
from wardround.common.audit.verify import Report, history
from wardround.common.text import one_line

_FIRST = ("manifest", "members", "survivors", "aggregation", "transcript", "model", "totals")
"""Words that say most, named before others."""
_DATA = ("model", "totals", "records")
"""Words of a step that don't depend on who is asked in which attempt."""
_MOST_VALUE = 60
Key = tuple[str | int, ...]


@dataclass(frozen=True)
class _Item:
    """What one line of a log says that its hospital was told.

    key   : of what
    label : the same for a reader
    once  : whether every hospital is told of it once and for all
    anew  : whether it may be done anew of other hospitals' rows
    """

    key: Key
    label: str
    once: bool
    words: Mapping[str, Any]
    time: str
    place: int
    anew: bool = False


@dataclass
class Compared:
    """What ``compare_told`` found.

    differences : one line each, the first one first
    steps : how many things two or more of the hospitals were told of
    notes : what couldn't be compared
    """

    differences: list[str] = field(default_factory=list)
    steps: int = 0
    notes: list[str] = field(default_factory=list)


def compare_told(reports: Sequence[Report]) -> Compared:
    """Hold hospitals' logs, of one party each, against each other. No log is verified here."""
    result = Compared()
    told: dict[Key, dict[int, list[_Item]]] = {}
    for number, report in enumerate(reports):
        items, without, unreadable = _items(report.log)
        for item in items:
            told.setdefault(item.key, {}).setdefault(number, []).append(item)
        path = report.log.path
        if without:
            text = "requests are from before such words were written down, and aren't compared"
            result.notes.append(f"{path}: {without} {text}")
        if unreadable:
            text = "requests could not be read, and aren't compared"
            result.notes.append(f"{path}: {unreadable} {text}")
    found: list[tuple[str, str]] = []
    for asked in told.values():
        result.steps += len(asked) > 1
        found += _differences(reports, asked)
    result.differences = [text for _, text in sorted(found)]
    result.notes += _not_asked(reports, told)
    result.notes += _not_here(reports, told)
    return result


# --- what a log says that its hospital was told --------------------------------------------------
def _items(log: ReadLog) -> tuple[list[_Item], int, int]:
    """The items; how many requests have no words, and how many could not be read."""
    items: list[_Item] = []
    without, unreadable, purposes = 0, 0, dict[Key, str]()
    for file in history(log):
        for place, line in file.sound():
            told = line.values.get("told")
            if line.event in ("manifest", "policy"):
                items += _of_plan(line, place)
            elif line.event == "received" and isinstance(told, dict):
                words = {name: one for name, one in told.items() if name != "run"}
                items += _of_request(line, str(told.get("run")), words, place, purposes)
                unreadable += told.get("unreadable") is True
            elif line.event == "received":
                without += 1
    return items, without, unreadable


def _of_plan(line: Line, place: int) -> Iterator[_Item]:
    """``lasting`` stands for the plan but what a server's next start may change; where an earlier
    version wrote the line, the plan's own digest does."""
    values = line.values
    key = tuple(values.get(name) for name in ("run", "stage", "version", "rounds"))
    if not all(isinstance(one, str | int) for one in key):  # an earlier version's, or a server's
        return
    name = "lasting" if "lasting" in values else "manifest"
    words = {"manifest": values.get(name), "descriptor": values.get("descriptor")}
    run, stage, version, _ = key
    label = f"the plan of run {run}, stage {stage}, of description {version}"
    yield _item((name, *key), label, False, words, line, place)  # type: ignore[arg-type]


def _of_request(
    line: Line, run: str, told: Mapping[str, Any], place: int, purposes: dict[Key, str]
) -> Iterator[_Item]:
    kind = str(line.values.get("kind"))
    group, number = str(told.get("group")), told.get("aggregation")
    if "members" in told:
        first, count = told.get("first"), told.get("count")
        last = first + count - 1 if type(first) is type(count) is int else "?"
        label = f"the group of aggregations {first} to {last}"
        yield _item(("group", str(told.get("session")), str(first)), label, True, told, line, place)
        return
    if "transcript" in told:
        label = f"the keys of group {_short(group)}"
        yield _item(("keys", group), label, True, told, line, place)
        return
    server_round = line.values.get("round")
    where = f" of round {server_round}" if server_round else ""
    if number is None:
        if "settings" in told:
            step = _step(kind, told.get("phase", ""), where)
            key = ("step", run, kind, str(server_round), str(told.get("phase")))
            yield replace(_item(key, step, False, told, line, place), anew="phase" in told)
        return
    sum_of = ("sum", group, str(number))
    if "survivors" in told:
        label = f"opening aggregation {number} of group {_short(group)}{where}"
        yield _item(("opened", *sum_of), label, True, told, line, place)
        if purpose := purposes.get(sum_of):
            words = {"aggregation": f"{number} of group {_short(group)}"}
            label = f"the sum that is opened for '{purpose}'"
            yield _item(("opened", run, purpose), label, False, words, line, place)
        return
    purpose = purposes[sum_of] = one_line(str(told.get("purpose")), 100)
    label = f"'{purpose}'{where} (aggregation {number} of group {_short(group)})"
    yield _item((*sum_of, kind), label, True, told, line, place)
    data = {name: told[name] for name in _DATA if name in told}
    yield _item(("step", run, kind, purpose), f"'{purpose}'{where}", False, data, line, place)


def _step(kind: str, phase: object, where: str) -> str:
    return f"'{kind}'{where}" + (f", phase {phase}" if phase != "" else "")


def _item(
    key: Key, label: str, once: bool, words: Mapping[str, Any], line: Line, place: int
) -> _Item:
    return _Item(key, one_line(label, 300), once, words, str(line.values.get("time")), place)


# --- differences -----------------------------------------------------------------------------
def _differences(
    reports: Sequence[Report], asked: Mapping[int, Sequence[_Item]]
) -> Iterator[tuple[str, str]]:
    """Of one thing: when the first of the two was told, and a line. One for each pair at most."""
    for number, items in asked.items():
        log = reports[number].log
        other = next((x for x in items[1:] if x.once and x.words != items[0].words), None)
        if other is not None:
            word, mine, theirs = _first_word(items[0].words, other.words)
            yield (
                other.time,
                f"{log.path}: line {other.place}: '{log.party}' was told two things of "
                f"{other.label}: {word} is {mine}, and then {theirs}",
            )
    agree = _Agreement(asked)
    for one, peer in combinations(sorted(asked), 2):
        if not agree.between(one, peer):
            yield from _pair(reports[one].log, asked[one], reports[peer].log, asked[peer])


class _Agreement:
    """Which hospitals were told the same of one thing; of what is done anew, also by others."""

    def __init__(self, asked: Mapping[int, Sequence[_Item]]) -> None:
        self._group = {number: {number} for number in asked}
        if not all(items[0].anew for items in asked.values()):
            return
        for one, peer in combinations(asked, 2):
            if _differing(asked[one], asked[peer]) is None:
                joined = self._group[one] | self._group[peer]
                self._group |= dict.fromkeys(joined, joined)

    def between(self, one: int, peer: int) -> bool:
        """Whether nothing else is to be looked at."""
        return peer in self._group[one]


def _pair(
    log: ReadLog, mine: Sequence[_Item], peer: ReadLog, theirs: Sequence[_Item]
) -> Iterator[tuple[str, str]]:
    word = _differing(mine, theirs)
    if word is None:
        return
    here, there = mine[0], theirs[0]
    value, other = _two_values(here.words.get(word), there.words.get(word))
    yield (
        min(here.time, there.time),
        f"{log.path} (line {here.place}) and {peer.path} (line {there.place}) differ in "
        f"{here.label}: {word} is {value} for '{log.party}' and {other} for '{peer.party}'",
    )


def _differing(mine: Sequence[_Item], theirs: Sequence[_Item]) -> str | None:
    """The first word in which two hospitals were told different things; None if they agree, or
    what one of them was told is told of it already."""
    if mine[0].once:
        if any(one.words == other.words for one in mine for other in theirs):
            return None
        return _first_word(mine[0].words, theirs[0].words)[0]
    for word in _ordered({word for item in (*mine, *theirs) for word in item.words}):
        values = [{_text(item.words.get(word)) for item in items} for items in (mine, theirs)]
        if not values[0] & values[1]:
            return word
    return None


def _first_word(mine: Mapping[str, Any], theirs: Mapping[str, Any]) -> tuple[str, str, str]:
    names = _ordered({*mine, *theirs})
    word = next((x for x in names if mine.get(x) != theirs.get(x)), names[0])
    return word, *_two_values(mine.get(word), theirs.get(word))


def _ordered(words: Iterable[str]) -> list[str]:
    first = {word: number for number, word in enumerate(_FIRST)}
    return sorted(words, key=lambda word: (first.get(word, len(first)), word == "group", word))


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _two_values(mine: Any, theirs: Any) -> tuple[str, str]:
    """Both, shortened; of lists what only one of the two has."""
    if (
        isinstance(mine, list)
        and isinstance(theirs, list)
        and {*map(str, mine)} ^ {*map(str, theirs)}
    ):
        return _only(mine, theirs), _only(theirs, mine)
    return _short(mine), _short(theirs)


def _only(mine: list[Any], theirs: list[Any]) -> str:
    more = [str(one) for one in mine if one not in theirs]
    return one_line("with " + ", ".join(more), _MOST_VALUE) if more else "without"


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else _text(value)
    digest = len(text) == 64 and set(text) <= set("0123456789abcdef")
    return text[:12] if digest else one_line(text, _MOST_VALUE) or "''"


# --- what can't be compared ----------------------------------------------------------------------
def _not_asked(
    reports: Sequence[Report], told: Mapping[Key, Mapping[int, Sequence[_Item]]]
) -> Iterator[str]:
    """Which steps of a run a hospital was not told of, and others were; which runs not at all."""
    for number, report in enumerate(reports):
        lacking: dict[str, list[str]] = {}
        took_part: set[str] = set()
        for key, asked in told.items():
            if key[0] != "step":
                continue
            run = str(key[1]) or "no run"
            if number in asked:
                took_part.add(run)
            else:
                label = next(iter(asked.values()))[0].label
                lacking.setdefault(run, []).append(label)
        for run, labels in lacking.items():
            if run in took_part:
                yield (
                    f"'{report.log.party}' was not asked {_listed(labels)} (run {run}), which "
                    "others were: nothing to compare there"
                )
        if none := [run for run in lacking if run not in took_part]:
            yield (
                f"'{report.log.party}' was asked nothing of {_listed(none)}, which others were: "
                "nothing to compare there"
            )


def _listed(labels: Sequence[str]) -> str:
    few = ", ".join(labels[:6])
    return few if len(labels) <= 6 else f"{few} and {len(labels) - 6} more"


def _not_here(
    reports: Sequence[Report], told: Mapping[Key, Mapping[int, Sequence[_Item]]]
) -> Iterator[str]:
    """Members of the groups whose logs aren't given."""
    here = {report.log.party for report in reports}
    others = set[str]()
    for key, asked in told.items():
        if key[0] == "group":
            for items in asked.values():
                members = items[0].words.get("members")
                others |= {str(one) for one in members} if isinstance(members, list) else set()
    if missing := sorted(others - {str(one) for one in here}):
        names = _listed([f"'{one}'" for one in missing])
        yield f"in groups with these hospitals, and without a log here: {names}"
