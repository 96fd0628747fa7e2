"""What each column is for: an input and of which kind, a patient's number, or left out, and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from wardround.common.tasks.data.profile.words import says_identifier, says_patient, says_site
from wardround.common.tasks.data.shards import SPLIT_NAMES
from wardround.simulations.beginning.seen import Seen
from wardround.simulations.beginning.words import (
    are_sexes,
    means_yes,
    says_code,
    says_split,
    sex_of,
    yes_or_no,
)

RoleName = Literal[
    "target", "time", "event", "numeric", "categorical", "binary", "patient_id", "split", "ignore"
]
_READ_ALONE = frozenset(["1", "true", "t", "yes", "y"]), frozenset(["0", "false", "f", "no", "n"])
"""What ``columns.binary`` reads without being told (``common/tasks/data/two_values.py``)."""

_MOST_CODES = 20


@dataclass(frozen=True)
class Role:
    """What a column is for.

    why : in a few words, without a cell
    codes : spellings by category
    positive, negative : texts that mean 1 and 0; None where nothing needs to be said
    """

    name: str
    role: RoleName
    why: str
    codes: Mapping[str, list[str]] = field(default_factory=dict)
    positive: list[str] | None = None
    negative: list[str] | None = None


def role_of(seen: Seen) -> Role:
    """The role of a column that all hospitals have, and that is neither target nor its copy."""
    kind, name = seen.kind, seen.name
    if says_split(name) and seen.texts and seen.texts <= set(SPLIT_NAMES):
        return Role(name, "split", "says train, validation or test")
    if kind == "empty":
        return Role(name, "ignore", "empty")
    if seen.texts and all(map(_in_other_digits, seen.texts)):
        return Role(name, "ignore", "digits of another script: to use it, write them as 0 to 9")
    if kind == "identifier":
        return Role(name, "ignore", "an identifier: it would tell patients apart, not illnesses")
    if kind == "date":
        return Role(
            name,
            "ignore",
            "a date; an interval can be an input: derive it (site.toml, or before the export)",
        )
    if kind == "text":
        return Role(name, "ignore", "free text, or too many different values")
    if says_site(name):
        return Role(name, "ignore", "names the hospital: it would tell hospitals apart")
    if kind == "constant" and len(seen.texts) <= 1:
        return Role(name, "ignore", "the same value in every row that has one")
    if kind == "constant":
        return Role(name, "ignore", "one value at each hospital: it would tell hospitals apart")
    if any(one.odd for one in seen.at.values()):
        return Role(name, "ignore", "not all of its cells are numbers: see the notes")
    if seen.recoded:
        return Role(name, "ignore", "coded by other numbers at some hospitals: see the notes")
    if all(one.numeric for _, one in seen.filled):
        if kind == "binary" and seen.texts <= {"0", "1"}:
            return Role(name, "binary", "0 and 1")
        if says_code(name) and kind in ("integer", "binary") and 1 < len(seen.texts) <= _MOST_CODES:
            return Role(name, "categorical", "numbers that are codes, by the name")
        whole = kind != "number"
        return Role(name, "numeric", "whole numbers" if whole else "numbers")
    return _of_texts(seen)


def _in_other_digits(text: str) -> bool:
    return any(letter.isdecimal() and not letter.isascii() for letter in text)


def _of_texts(seen: Seen) -> Role:
    """A column of categories, or of yes and no; numbers may be among them at some hospitals."""
    name, texts = seen.name, seen.texts
    if yes_or_no(texts):
        yes, no = _READ_ALONE
        if texts <= yes | no:
            return Role(name, "binary", "yes and no")
        positive = sorted(text for text in texts if means_yes(text))
        return Role(name, "binary", "yes and no", {}, positive, sorted(texts - set(positive)))
    if seen.mixed:
        return Role(name, "ignore", "numbers at some hospitals, texts at others: see the notes")
    shown = [text for text in texts if seen.shown(text)]
    if not shown:
        return Role(name, "ignore", "no category has enough rows (task.min_category_count)")
    codes = spellings(seen)
    others = {text.casefold() for texts in codes.values() for text in texts}
    count = len({text for text in shown if text not in others} | {n.casefold() for n in codes})
    return Role(name, "categorical", f"{count} categories", codes)


def share(part: float) -> str:
    """A share of rows in words; '' for none."""
    return f"{part:.0%}" if part >= 0.005 else "<1%" if part else ""


def spellings(seen: Seen) -> dict[str, list[str]]:
    """The codes of a column whose categories are written in several ways; {} where none is.

    Only categories that may be shown, and words for the sexes, are in it.
    """
    texts = seen.texts
    codes: dict[str, list[str]] = {}
    sexes = are_sexes(texts)
    for text in sorted(texts):
        sex = sex_of(text) if sexes else None
        if sex is None and not seen.shown(text):
            continue
        codes.setdefault(sex or seen.called(text), []).extend(sorted(seen.groups[text]))
    found = {name: [one for one in found if one != name] for name, found in codes.items()}
    return {name: sorted(others) for name, others in sorted(found.items()) if others}


def patient_column(found: Mapping[str, Seen]) -> str | None:
    """The column that names patients: an identifier that all hospitals have in every row, by its
    name; None where there is none."""
    fit = [
        seen
        for seen in found.values()
        if seen.everywhere
        and seen.gaps == 0
        and (seen.kind == "identifier" or (seen.kind == "constant" and says_patient(seen.name)))
        and says_identifier(seen.name)
    ]
    named = [seen for seen in fit if says_patient(seen.name)]
    return next((seen.name for seen in named + fit), None)
