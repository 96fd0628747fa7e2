"""One column as all hospitals have it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from wardround.common.tasks.data.profile import LEAST, ColumnProfile, Kind
from wardround.simulations.beginning.found import Shard

_SAYS_LITTLE = ("empty", "constant")


@dataclass(frozen=True)
class Seen:
    """A column at the hospitals that have it, by their titles, of ``hospitals`` in all."""

    name: str
    at: Mapping[str, ColumnProfile]
    hospitals: int

    @property
    def everywhere(self) -> bool:
        """Whether all hospitals have it."""
        return len(self.at) == self.hospitals

    @property
    def unit(self) -> str | None:
        """The unit that its name carries."""
        return next(iter(self.at.values())).unit

    @cached_property
    def kind(self) -> Kind:
        """What it is at the hospital with the most values, of those where values differ."""
        telling = [one for one in self.at.values() if one.kind not in _SAYS_LITTLE]
        if not telling:
            full = any(one.kind == "constant" for one in self.at.values())
            return "constant" if full else "empty"
        lead = max(telling, key=lambda one: one.rows - one.gaps)
        numbers = {one.kind for one in telling if one.numeric}
        if lead.kind == "binary" and lead.numeric and numbers & {"number", "integer"}:
            return "integer"
        return lead.kind

    @property
    def filled(self) -> Iterator[tuple[str, ColumnProfile]]:
        """Hospitals that have a value in it."""
        return ((title, one) for title, one in self.at.items() if one.kind != "empty")

    @property
    def mixed(self) -> tuple[list[str], list[str]] | None:
        """Hospitals where it holds numbers, and where texts, if there are both."""
        numbers = [title for title, one in self.filled if one.numeric]
        texts = [title for title, one in self.filled if not one.numeric]
        return (numbers, texts) if numbers and texts else None

    @property
    def recoded(self) -> bool:
        """Whether two values are numbers everywhere, but not the same two at all hospitals."""
        pairs = {
            frozenset(one.counts) for _, one in self.filled if one.numeric and one.kind == "binary"
        }
        return len(pairs) > 1 and self.kind == "binary" and all(o.numeric for _, o in self.filled)

    @property
    def gaps(self) -> float:
        """Share of rows without a value."""
        rows = sum(one.rows for one in self.at.values())
        return sum(one.gaps for one in self.at.values()) / max(1, rows)

    @property
    def gap_texts(self) -> Counter[str]:
        """Rows by text that often means 'missing'."""
        return sum((Counter(one.gap_texts) for one in self.at.values()), Counter())

    @cached_property
    def groups(self) -> dict[str, Counter[str]]:
        """Rows by spelling, by category (casefolded)."""
        found: dict[str, Counter[str]] = defaultdict(Counter)
        for one in self.at.values():
            for text, count in one.counts.items():
                found[text.casefold()][text] += count
        return dict(found)

    @property
    def texts(self) -> frozenset[str]:
        """All its values but gaps, casefolded: not to be shown."""
        return frozenset(self.groups)

    def shown(self, text: str) -> bool:
        """Whether a category may be shown: enough rows of a hospital share it."""
        least = max((one.least for one in self.at.values()), default=LEAST)
        return any(
            sum(n for t, n in one.counts.items() if t.casefold() == text) >= least
            for one in self.at.values()
        )

    def called(self, text: str) -> str:
        """A category by its most frequent spelling."""
        spellings = self.groups[text]
        return max(spellings, key=lambda one: (spellings[one], one))


def side_by_side(shards: Sequence[Shard]) -> dict[str, Seen]:
    """Every column of any hospital, in the order of the first that has it."""
    names = dict.fromkeys(name for shard in shards for name in shard.profile.columns)
    return {
        name: Seen(
            name,
            {s.title: s.profile[name] for s in shards if name in s.profile},
            len(shards),
        )
        for name in names
    }
