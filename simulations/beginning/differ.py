"""What doesn't fit between the hospitals, one line each with its place and its mend.

Units are told by headers where these have them, and by medians: a hospital whose median is nine
times the others' measures in another unit, or other patients.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from wardround.common.tasks.data.profile import usual_unit
from wardround.common.text import near
from wardround.simulations.beginning.found import Shard
from wardround.simulations.beginning.roles import Role
from wardround.simulations.beginning.seen import Seen
from wardround.simulations.beginning.target import Target

_APART = 9.0
_FEWEST_ROWS = 10
_CLOSE = 0.25
_AT = "(in the file, or between machines in site.toml's [data.NAME.map])"
_FACTORS = (
    (88.42, "mg/dL to umol/L of creatinine", "creat kreat"),
    (18.02, "mg/dL to mmol/L of glucose", "gluc gluk zucker sugar"),
    (17.1, "mg/dL to umol/L of bilirubin", "bili"),
    (38.67, "mg/dL to mmol/L of cholesterol", "chol ldl hdl"),
    (365.25, "years to days", "age alter time zeit day tag year jahr dur dauer stay"),
    (30.44, "months to days", "age alter time zeit day tag month monat dur dauer stay"),
    (12.0, "years to months", "age alter time zeit month monat year jahr dur dauer"),
    (24.0, "days to hours", "time zeit day tag hour stund dur dauer stay"),
    (60.0, "hours to minutes", "time zeit hour stund min dur dauer"),
    (10.0, "a factor of 10, as g/dL to g/L", ""),
    (100.0, "a factor of 100, as m to cm or a share to percent", ""),
    (1000.0, "a factor of 1,000, as g to mg", ""),
)
"""Factors between units, of what, and what the names of such columns have in them ('': any)."""


def differences(
    shards: Sequence[Shard], found: Mapping[str, Seen], roles: Mapping[str, Role]
) -> list[str]:
    """What a researcher should know before these hospitals train one model."""
    lines = [*_twice(shards), *_rows(shards), *_lacking(shards, found)]
    for seen in found.values():
        if roles[seen.name].role == "ignore":
            lines += _mixed(seen)
            lines += _odd(seen, shards)
        elif roles[seen.name].role in ("numeric", "time", "target"):
            lines += _scales(seen)
    return list(dict.fromkeys(lines))


def _twice(shards: Sequence[Shard]) -> Iterator[str]:
    """The same rows under two names."""
    for number, one in enumerate(shards):
        for other in shards[number + 1 :]:
            same = one.table.num_rows == other.table.num_rows and set(
                one.table.column_names
            ) == set(other.table.column_names)
            if same and one.table.select(other.table.column_names).equals(other.table):
                yield (
                    f"{other.title}: the same rows as {one.title}; they would count twice, and "
                    "stand on both sides of a split: remove one"
                )


def _rows(shards: Sequence[Shard]) -> Iterator[str]:
    for shard in shards:
        if len(shards) > 1 and shard.table.num_rows < _FEWEST_ROWS:
            rows = shard.table.num_rows
            yield (
                f"{shard.title}: {rows} row{'s' * (rows > 1)}: too few to learn from, and figures "
                "on them mean little; it takes part all the same"
            )


def _lacking(shards: Sequence[Shard], found: Mapping[str, Seen]) -> Iterator[str]:
    """Columns that only some have: who lacks them, and what these may call them."""
    some = [seen for seen in found.values() if not seen.everywhere]
    by_base: dict[str, list[Seen]] = defaultdict(list)
    for seen in some:
        by_base[next(iter(seen.at.values())).base.casefold()].append(seen)
    told: set[str] = set()
    for group in by_base.values():
        if len(group) > 1 and any(one.unit for one in group):
            told |= {one.name for one in group}
            units = {usual_unit(one.unit) for one in group if one.unit}
            names = "; ".join(f"{_few(list(one.at))}: '{one.name}'" for one in group)
            same = ", in the same unit" if len(units) > 1 else ""
            yield (
                f"one column by several names, so it is not used ({names}); give it one{same} {_AT}"
            )
    for seen in some:
        if seen.name not in told:
            yield _lack(seen, shards, found)


def _lack(seen: Seen, shards: Sequence[Shard], found: Mapping[str, Seen]) -> str:
    have, lack = list(seen.at), [shard for shard in shards if seen.name not in shard.profile]
    meant = ""
    for shard in lack:
        own = [name for name in shard.profile.columns if not found[name].everywhere]
        if close := near(seen.name, own):
            meant = f"; {shard.title} has '{close}': give both one name if they are the same"
            break
    if 2 * len(have) <= len(shards):
        has = "has" if len(have) == 1 else "have"
        return f"column '{seen.name}': only {_few(have)} {has} it, so it is not used{meant}"
    titles = [shard.title for shard in lack]
    lacks = "lacks" if len(titles) == 1 else "lack"
    return (
        f"column '{seen.name}': {_few(titles)} {lacks} it, so it is not used"
        f"{meant or '; add it there to use it'}"
    )


def lacking_classes(target: Target, found: Mapping[str, Seen]) -> list[str]:
    """Which hospitals have no row of a class that others have: a model of theirs alone never learns
    it, and figures that rank are undefined where there is one class. A class is named where enough
    rows of a hospital share it, as everywhere, and never as what all rows of a hospital are."""
    if target.kind == "regression":
        return []
    role = target.roles[0]
    seen = found[role.name]
    classes = _classes(seen, role)
    lines = []
    for title, one in seen.at.items():
        has = {text.casefold() for text, rows in one.counts.items() if rows}
        lacks = [name for name, texts in classes.items() if not has & texts]
        if not lacks or one.rows - one.gaps < max(one.least, 2):
            continue
        if len(classes) - len(lacks) == 1:
            says = (
                "all rows have the same class: what tells classes apart it learns from the others"
            )
        else:
            says = f"no row is {_few(lacks, ' or ')}, as rows of other hospitals are"
        lines.append(f"{title}: column '{seen.name}': {says}")
    return lines


def _classes(seen: Seen, role: Role) -> dict[str, set[str]]:
    """Texts by class, by what it is called for people."""
    if role.positive or seen.texts <= {"0", "1"}:
        ones = {text.casefold() for text in role.positive or ["1"]} & set(seen.texts)
        two = {"1": ones, "0": set(seen.texts) - ones}
        return {name: texts for name, texts in two.items() if texts}
    coded = {text.casefold(): name for name, texts in role.codes.items() for text in texts}
    found: dict[str, set[str]] = defaultdict(set)
    for text in sorted(seen.texts):
        shown = seen.shown(text)
        name = coded.get(text, seen.called(text)) if shown else ""
        found[f"'{name}'" if shown else "of a class that too few rows have to be named"].add(text)
    return dict(found)


def _mixed(seen: Seen) -> Iterator[str]:
    if seen.recoded:
        yield (
            f"column '{seen.name}': the same two values are other numbers at some hospitals "
            f"(0 and 1, 1 and 2, ...); to use it, code all alike {_AT}"
        )
    if seen.mixed and seen.everywhere and seen.kind in ("binary", "category", "number", "integer"):
        numbers, texts = seen.mixed
        yield (
            f"column '{seen.name}': numbers at {_few(numbers)}, texts at {_few(texts)}; to use it, "
            "say which number is which text in task.columns.codes, and list it under "
            "task.columns.categorical"
        )


def _odd(seen: Seen, shards: Sequence[Shard]) -> Iterator[str]:
    for shard in shards:
        one = seen.at.get(shard.title)
        if one is not None and one.odd and one.first_odd is not None:
            more = f" (and {one.odd - 1} more)" if one.odd > 1 else ""
            what = "date" if one.kind == "date" else "number"
            yield (
                f"{shard.place(one.first_odd)}: column '{seen.name}': no {what}{more}, as the "
                "others are; mend the cells, or name their text in task.missing_values"
            )


def _scales(seen: Seen) -> Iterator[str]:
    """Hospitals whose median is far from the others' median, and whose middle half of values has
    none of the others': a column may have values of any size at all of them."""
    known = {
        title: one
        for title, one in seen.at.items()
        if one.median and one.rows - one.gaps >= _FEWEST_ROWS
    }
    for title, one in known.items():
        rest = [other for name, other in known.items() if name != title]
        if not rest:
            continue
        median, others = float(one.median or 0), _middle(other.median for other in rest)
        if others == 0 or (others < 0) != (median < 0):
            continue
        ratio = median / others
        if 1 / _APART < ratio < _APART:
            continue
        lower, upper = _middle(o.lower for o in rest), _middle(o.upper for o in rest)
        if float(one.lower or 0) <= upper and lower <= float(one.upper or 0):
            continue
        if len(known) == 2 and ratio < 1:
            continue  # said once of the two
        yield (
            f"{title}: column '{seen.name}': its median is {_times(ratio)} the others'"
            f"{_known(ratio, seen.name)}; if it is another unit, bring all to one {_AT}"
        )


def _middle(values: Iterable[float | None]) -> float:
    return float(np.median([value for value in values if value is not None]))


def _times(ratio: float) -> str:
    factor = float(f"{max(ratio, 1 / ratio):.2g}")
    return f"{factor:g} times" if ratio > 1 else f"1/{factor:g} of"


def _known(ratio: float, name: str) -> str:
    """The conversion that a factor looks like, of a column of this name."""
    factor, lower = max(ratio, 1 / ratio), name.casefold()
    for known, what, words in _FACTORS:
        fits = not words or any(word in lower for word in words.split())
        if fits and abs(factor / known - 1) < _CLOSE:
            return f" ({what}?)"
    return ""


def _few(names: Sequence[str], between: str = ", ") -> str:
    more = len(names) - 5
    return between.join(names[:5]) + (f" and {more} more" if more > 0 else "")
