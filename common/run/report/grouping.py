"""Many lines as few: refusals with their rounds, warnings with their hospitals, short labels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

LONGEST_LABEL = 20
"""Characters of a hospital's name in a plot; two of them and an ellipsis stand for a longer one."""
_SHOWN = 8


def grouped_refusals(
    rounds: Iterable[Mapping[str, Any]], titles: Mapping[str, str]
) -> list[dict[str, Any]]:
    """One row for each hospital, step and reason, the most frequent first: with the rounds it was
    said in, and how often."""
    found: dict[tuple[str, str, str], list[int]] = {}
    for row in rounds:
        for one in row["refused"]:
            key = (one["hospital"], one["step"], one["reason"])
            found.setdefault(key, []).append(row["round"])
    return [
        {
            "hospital": titles.get(hospital, hospital),
            "step": step,
            "reason": reason,
            "rounds": ranges(numbers),
            "times": len(numbers),
        }
        for (hospital, step, reason), numbers in sorted(found.items(), key=_by_frequency)
    ]


def grouped_failures(rounds: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """How many hospitals had nothing to add to masked sums: by step and number, with the rounds."""
    found: dict[tuple[str, int], list[int]] = {}
    for row in rounds:
        for step, count in row.get("failed", {}).items():
            found.setdefault((step, count), []).append(row["round"])
    return [
        {"step": step, "hospitals": count, "rounds": in_rounds(numbers)}
        for (step, count), numbers in sorted(found.items())
    ]


def contributed(row: Mapping[str, Any]) -> int:
    """How many hospitals' updates are in a round's model; of a round in which one failed none.
    Of results that name no hospital it is a number."""
    return int(row["contributed"]) if "contributed" in row else len(row.get("accepted", ()))


def hospitals_of(row: Mapping[str, Any]) -> str:
    """How many hospitals' updates are in a round's model, of how many that were asked; that it is
    lost, where its sum couldn't be opened and the model stayed."""
    asked = row["asked"] if "asked" in row else len(row["cohort"])
    return "lost" if row.get("lost") else f"{contributed(row)}/{asked}"


def _by_frequency(item: tuple[tuple[str, str, str], list[int]]) -> tuple[int, tuple[str, str, str]]:
    key, numbers = item
    return -len(numbers), key


def ranges(numbers: Iterable[int]) -> str:
    """'1–3, 7' of 1, 2, 3, 3, 7."""
    spans: list[list[int]] = []
    for number in sorted(set(numbers)):
        if spans and number == spans[-1][1] + 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    return ", ".join(f"{a}" if a == b else f"{a}–{b}" for a, b in spans)


def in_rounds(numbers: Iterable[int]) -> str:
    """'round 2', 'rounds 1–3, 7'; empty for none."""
    text = ranges(numbers)
    return f"round{'s' * (not text.isdecimal())} {text}" if text else ""


def grouped_warnings(
    hospitals: Iterable[Mapping[str, Any]], titles: Mapping[str, str]
) -> list[tuple[str, str]]:
    """Each different warning once, after the names of the hospitals that it was said of."""
    said: dict[str, list[str]] = {}
    for row in hospitals:
        name = row["hospital"]
        for line in row.get("warnings", []):
            said.setdefault(line.removeprefix(f"{name}: "), []).append(titles.get(name, name))
    return [(_listed(dict.fromkeys(names)), text) for text, names in said.items()]


def _listed(names: Iterable[str]) -> str:
    names = list(names)
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def labels(names: Sequence[str], titles: Mapping[str, str]) -> dict[str, str]:
    """What stands for each name in a plot: its title, shortened in the middle, and different from
    the others' labels. Escaped, for plotly reads some markup in texts."""
    found: dict[str, str] = {}
    taken: set[str] = set()
    for name in names:
        label = short = shortened(titles.get(name, name))
        number = 1
        while label in taken:
            number += 1
            label = f"{short} ({number})"
        taken.add(label)
        found[name] = escape(label, quote=False)
    return found


def shortened(text: str, most: int = LONGEST_LABEL) -> str:
    """At most so many characters: the ends, which tell long names apart, stay."""
    if len(text) <= most:
        return text
    tail = (most - 1) // 2
    return f"{text[: most - 1 - tail]}…{text[-tail:]}"
