"""Members of a federation that are made when they are looked at: a host's virtual population.

A list of a million members would take a gigabyte and a message to each of them hours. The host says
instead how many there are, how they are called and what the k-th of them has; a round only looks at
its cohort.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import overload

from wardround.server.members.member import Member


class VirtualMembers(Sequence[Member]):
    """Members in the order of their names; the first one's node id is 1.

    Parameters
    ----------
    names : in their order
    sizes : rows per split of a member, by name
    same_sizes : the same where it is one for all
    """

    def __init__(
        self,
        names: Sequence[str],
        sizes: Callable[[str], dict[str, int]],
        same_sizes: Mapping[str, int] | None = None,
    ) -> None:
        self._names, self._sizes, self.same_sizes = names, sizes, same_sizes

    def __len__(self) -> int:
        return len(self._names)

    @overload
    def __getitem__(self, index: int) -> Member: ...
    @overload
    def __getitem__(self, index: slice) -> list[Member]: ...
    def __getitem__(self, index: int | slice) -> Member | list[Member]:
        if isinstance(index, slice):
            return [self[position] for position in range(*index.indices(len(self)))]
        position = range(len(self))[index]
        name = self._names[position]
        return Member(name, position + 1, self._sizes(name))
