"""What doesn't fit between the hospitals, one line each with its place and its mend.

Units are told by headers where these have them, and by medians: a hospital whose median is nine
times the others' measures in another unit, or other patients.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from wardround.common.tasks.data.profile import usual_unit
from wardround.common.text import near
from wardround.simulations.beginning.found import Shard
from wardround.simulations.beginning.roles import Role
from wardround.simulations.beginning.seen import Seen

_APART = 9.0
_FEWEST_ROWS = 10
_CLOSE = 0.25
_FACTORS = {
    88.42: "mg/dL to umol/L of creatinine",
    18.02: "mg/dL to mmol/L of glucose",
    17.1: "mg/dL to umol/L of bilirubin",
    38.67: "mg/dL to mmol/L of cholesterol",
    10.0: "a factor of 10, as g/dL to g/L",
    100.0: "a factor of 100, as m to cm or a share to percent",
    1000.0: "a factor of 1,000, as g to mg",
    365.25: "years to days",
    30.44: "months to days",
    12.0: "years to months",
    24.0: "days to hours",
    60.0: "hours to minutes",
}
"""Factors between units, by what one is usually of; a median is near one within a quarter."""


def differences(
    shards: Sequence[Shard], found: Mapping[str, Seen], roles: Mapping[str, Role]
) -> list[str]:
    """What a researcher should know before these hospitals train one model."""
    lines = [*_twice(shards), *_rows(shards)]
    for seen in found.values():
        if not seen.everywhere:
            lines.append(_lacking(seen, shards, found))
        if roles[seen.name].role == "ignore":
            lines += _mixed(seen)
            lines += _odd(seen, shards)
        else:
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


def _lacking(seen: Seen, shards: Sequence[Shard], found: Mapping[str, Seen]) -> str:
    """A column that only some have: who lacks it, and what these may call it."""
    lack = [shard for shard in shards if seen.name not in shard.profile]
    have = [shard.title for shard in shards if seen.name in shard.profile]
    if 2 * len(have) <= len(shards):
        return (
            f"column '{seen.name}': only {_few(have)} {_has(have)} it, so it is not used"
            f"{_meant(seen, lack, found)}"
        )
    titles = [shard.title for shard in lack]
    return (
        f"column '{seen.name}': {_few(titles)} {'lacks' if len(titles) == 1 else 'lack'} it, so it "
        f"is not used{_meant(seen, lack, found) or '; add it there to use it'}"
    )


def _meant(seen: Seen, lack: Sequence[Shard], found: Mapping[str, Seen]) -> str:
    """What those that lack a column may call it: another unit, or another spelling."""
    base = next(iter(seen.at.values())).base.casefold()
    for shard in lack:
        own = [name for name in shard.profile.columns if not found[name].everywhere]
        for name in own:
            profile = shard.profile[name]
            if profile.base.casefold() == base and (profile.unit or seen.unit):
                same = (
                    profile.unit and seen.unit and usual_unit(profile.unit) == usual_unit(seen.unit)
                )
                convert = "" if same else ", in the same unit"
                return (
                    f"; {shard.title} has '{name}': give both one name{convert} (in the file, or "
                    "between machines in site.toml's [data.NAME.map])"
                )
        if meant := near(seen.name, own):
            return f"; {shard.title} has '{meant}': give both one name if they are the same"
    return ""


def _mixed(seen: Seen) -> Iterator[str]:
    if seen.recoded:
        yield (
            f"column '{seen.name}': the same two values are other numbers at some hospitals "
            "(0 and 1, 1 and 2, ...); to use it, recode the files alike (between machines in "
            "site.toml's [data.NAME.map])"
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
            f"{_known(ratio)}; if it is another unit, bring all to one (in the file, or between "
            "machines in site.toml's [data.NAME.map])"
        )


def _middle(values: Iterable[float | None]) -> float:
    return float(np.median([value for value in values if value is not None]))


def _times(ratio: float) -> str:
    factor = float(f"{max(ratio, 1 / ratio):.2g}")
    return f"{factor:g} times" if ratio > 1 else f"1/{factor:g} of"


def _known(ratio: float) -> str:
    factor = max(ratio, 1 / ratio)
    near_ones = [known for known in _FACTORS if abs(factor / known - 1) < _CLOSE]
    if not near_ones:
        return ""
    best = min(near_ones, key=lambda known: abs(factor / known - 1))
    return f" ({_FACTORS[best]}?)"


def _few(names: Sequence[str]) -> str:
    more = len(names) - 5
    return ", ".join(names[:5]) + (f" and {more} more" if more > 0 else "")


def _has(names: Sequence[str]) -> str:
    return "has" if len(names) == 1 else "have"
