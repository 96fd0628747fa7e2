"""All decisions about a researcher's data: roles of columns, target, hospitals, missing texts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from wardround.common.errors import DataError
from wardround.common.tasks.data.profile import Copy, copies
from wardround.common.tasks.data.profile.words import says_site
from wardround.common.text import near
from wardround.simulations.beginning.differ import differences, lacking_classes
from wardround.simulations.beginning.found import MISSING, Found, Shard
from wardround.simulations.beginning.roles import Role, patient_column, role_of
from wardround.simulations.beginning.seen import Seen, side_by_side
from wardround.simulations.beginning.target import Target, choose

_HOSPITALS = 5
_FEWEST_ROWS_EACH = 20
_FEWEST_OF_EACH = 20
_SIGNS = frozenset(
    [".", "..", "-", "--", "---", "?", "#n/a", "#null!", "#div/0!", "#value!", "#wert!"]
)
_MOST_SITES = 100
_MOST_LISTED = 30
_HOW = {
    "equal": "equal to the target",
    "recoded": "the target in other words",
    "nearly": "all but equal to the target",
    "gaps": "filled for one value of the target only",
}


Partition = Literal["sites", "column", "patient", "iid"]


@dataclass(frozen=True)
class Hospitals:
    """How hospitals are made.

    partition : of ``[simulation]``; 'sites' where each file or folder is one
    column : whose values they are, for 'column'
    """

    partition: Partition
    count: int
    column: str | None = None
    min_examples: int = _FEWEST_ROWS_EACH


@dataclass(frozen=True)
class Decision:
    """What the configuration will say, and what the researcher should know.

    found : columns by name
    roles : of every column of any hospital, in the order of the first file that has it
    missing : texts that mean missing, beside the usual ones
    told : what was decided that isn't plain
    problems : what doesn't fit, with its mend; the configuration runs all the same
    """

    target: Target
    hospitals: Hospitals
    found: Mapping[str, Seen]
    roles: Mapping[str, Role]
    missing: tuple[str, ...] = ()
    told: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def missing_values(self) -> tuple[str, ...]:
        """Every text that means missing."""
        return (*MISSING, *self.missing)

    def of(self, role: str) -> list[Role]:
        """The columns of a role."""
        return [one for one in self.roles.values() if one.role == role]


def decide(read: Found, asked: str | None, positive: Sequence[str]) -> Decision:
    """All that there is to decide. Raises ConfigError where the researcher must say more, DataError
    (a line for each reason) where the hospitals can't train one model."""
    seen = side_by_side(read.shards)
    target = choose(seen, asked, positive)
    _check_everywhere(target, seen, read.shards)
    roles = {role.name: role for role in target.roles}
    site = _site_column(seen, roles) if read.one_set else None
    patients = patient_column({name: one for name, one in seen.items() if name not in roles})
    away = _give_away(read.shards, target)
    for name, one in seen.items():
        if name not in roles and name in read.arrays and _are_numbers(one):
            roles[name] = Role(name, "numeric", "a column of the array")
        elif name not in roles:
            roles[name] = _role(one, name, site, patients, away.get(name))
    if read.by_files:  # names of the files say the split
        roles = {n: replace(r, role="ignore") if r.role == "split" else r for n, r in roles.items()}
    missing, told = _missing(seen, roles)
    parts = [name for name, copy in away.items() if copy.how == "parts" or name in read.arrays]
    told += [
        f"column '{name}' tells the target without one mistake: is it known when the model is to "
        "be used? If not, move it to task.columns.ignore"
        for name in parts
        if roles[name].role in ("numeric", "categorical")
    ]
    told += _rare(target, seen)
    told += lacking_classes(target, seen)
    problems = differences(read.shards, seen, roles)
    if not any(role.role in ("numeric", "categorical", "binary") for role in roles.values()):
        raise _no_inputs(target, {name: roles[name] for name in seen}, problems)
    return Decision(
        target,
        _hospitals(read, seen, site, patients),
        seen,
        {name: roles[name] for name in seen},
        missing,
        [*target.told, *told],
        problems,
    )


def _are_numbers(one: Seen) -> bool:
    """Whether an array's column can be an input as it is: what it is a code of, no name says."""
    whole = one.everywhere and one.kind != "empty"
    return whole and all(part.numeric and not part.odd for _, part in one.filled)


def _rare(target: Target, seen: Mapping[str, Seen]) -> list[str]:
    """What is told of a target one of whose two values few rows have."""
    role = target.roles[0]
    if target.kind not in ("binary", "survival"):
        return []
    rows = {text: sum(counts.values()) for text, counts in seen[role.name].groups.items()}
    ones = sum(rows.get(text, 0) for text in role.positive or ["1"])
    if min(ones, sum(rows.values()) - ones) >= _FEWEST_OF_EACH:
        return []
    return [
        f"column '{role.name}': fewer than {_FEWEST_OF_EACH} rows of all hospitals have the rarer "
        "of its values: figures on held-out rows will mean little"
    ]


def _no_inputs(target: Target, roles: Mapping[str, Role], problems: Sequence[str]) -> DataError:
    rest = [f"'{role.name}': {role.why}" for role in roles.values() if role.role == "ignore"]
    first = f"no column is left to predict '{target.names[0]}' from"
    return DataError("\n".join([first, *rest[:_MOST_LISTED], *problems]))


def _role(one: Seen, name: str, site: str | None, patients: str | None, copy: Copy | None) -> Role:
    if name == site:
        return Role(name, "ignore", "each of its values is a hospital (simulation.column)")
    if name == patients:
        return Role(name, "patient_id", "whose row it is: a patient stays on one side of the split")
    if not one.everywhere:
        return Role(name, "ignore", "not all hospitals have it")
    if copy is not None and copy.how != "parts":
        return Role(name, "ignore", f"{_HOW[copy.how]}: it would give the answer away")
    return role_of(one)


def _check_everywhere(target: Target, seen: Mapping[str, Seen], shards: Sequence[Shard]) -> None:
    lines = []
    for name in target.names:
        for shard in shards:
            if name not in shard.profile:
                meant = near(name, shard.profile.columns)
                instead = f"it has '{meant}': give both one name" if meant else "add it"
                lines.append(f"{shard.title}: there is no column '{name}', the target; {instead}")
    if lines:
        raise DataError("\n".join(lines))


def _give_away(shards: Sequence[Shard], target: Target) -> dict[str, Copy]:
    """Columns that give the target away at hospitals with more than half of all rows."""
    goal = target.roles[0].name
    rows: Counter[str] = Counter()
    found: dict[str, Copy] = {}
    for shard in shards:
        among = [name for name in shard.table.column_names if name not in target.names]
        for name, copy in copies(shard.table, goal, among).items():
            rows[name] += shard.table.num_rows
            found.setdefault(name, copy)
    most = sum(shard.table.num_rows for shard in shards) / 2
    return {name: copy for name, copy in found.items() if rows[name] > most}


# --- missing texts --------------------------------------------------------------------------------
def _missing(
    seen: Mapping[str, Seen], roles: Mapping[str, Role]
) -> tuple[tuple[str, ...], list[str]]:
    """Texts to add to ``task.missing_values``: signs, and words and numbers where they stand among
    numbers or in a column that must be read; and what is only told."""
    adds: dict[str, None] = {}
    told = []
    for name, one in seen.items():
        role = roles[name].role
        for text, rows in one.gap_texts.items():
            if role == "ignore" or text in MISSING:
                continue
            if text.lstrip("-").isdigit() and _is_measured(text, seen):
                told.append(
                    f"column '{name}': {rows} rows have {text}, the only negative value; if it "
                    "means missing, leave these cells empty: in other columns it is a value"
                )
            elif text in _SIGNS or role != "categorical":
                adds[text] = None
            else:
                told.append(
                    f"column '{name}': {rows} rows have '{text}', which stays a category; if it "
                    "means missing, add it to task.missing_values"
                )
    return tuple(adds), told


def _is_measured(text: str, seen: Mapping[str, Seen]) -> bool:
    """Whether a number that stands for 'missing' in one column may be a value of another."""
    value = float(text)
    return any(
        one.numeric
        and one.low is not None
        and one.high is not None
        and one.low <= value <= one.high
        and text not in one.gap_texts
        for column in seen.values()
        for one in column.at.values()
    )


# --- hospitals ------------------------------------------------------------------------------------
def _site_column(seen: Mapping[str, Seen], roles: Mapping[str, Role]) -> str | None:
    """The column of one data set whose values are hospitals."""
    for name, one in seen.items():
        few = one.kind in ("category", "binary", "integer") and 2 <= len(one.texts) <= _MOST_SITES
        if name not in roles and says_site(name) and few and one.gaps == 0:
            return name
    return None


def _hospitals(
    read: Found, seen: Mapping[str, Seen], site: str | None, patients: str | None
) -> Hospitals:
    if not read.one_set:
        return Hospitals("sites", len(read.shards))
    rows = sum(shard.table.num_rows for shard in read.shards)
    if site is not None:
        sizes = [sum(counts.values()) for counts in seen[site].groups.values()]
        return Hospitals("column", len(sizes), site, min(_FEWEST_ROWS_EACH, min(sizes)))
    units, partition = rows, "iid"
    if patients is not None and 2 <= (known := _distinct(seen[patients])) < rows:
        units, partition = known, "patient"
    if units < 2:
        raise DataError(
            f"{read.path}: {rows} row{'s' * (rows > 1)}: no two hospitals can be made of it"
        )
    return dealt(units, partition == "patient")


def dealt(units: int, patients: bool) -> Hospitals:
    """Hospitals made of one data set.

    units : rows, or patients with all of theirs, that are dealt; at least two
    """
    count = max(2, min(_HOSPITALS, units // _FEWEST_ROWS_EACH))
    least = min(_FEWEST_ROWS_EACH, units // (2 * count) or 1)
    return Hospitals("patient" if patients else "iid", count, None, least)


def _distinct(seen: Seen) -> int:
    return max((one.distinct for one in seen.at.values()), default=0)
