"""What a process of ours writes to read it again later says which form it has.

    {"format": "secagg session", "version": 2, ...the values}

Kept with the values, in whatever file or record they lie. What has neither key was written before
there were versions: it is version 1. What is older is brought up step by step; what is newer (an
older wardround was installed again) is refused with the mend, never guessed at.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any, TypeVar

from wardround.common.errors import WardroundError

T = TypeVar("T")
Values = dict[str, Any]
Upgrade = Callable[[Any], Values]
_FORMAT, _VERSION = "format", "version"


@dataclass(frozen=True)
class Format:
    """One kind of stored state.

    name : what it is, for people too
    mend : what helps where it can't be read and the wardround that wrote it is gone
    upgrades : the first makes version 2 of version 1, and so on: a function each, named for what
        it changes; the newest version is what they lead to
    """

    name: str
    mend: str
    upgrades: tuple[Upgrade, ...] = ()

    @property
    def version(self) -> int:
        """The version that is written."""
        return 1 + len(self.upgrades)

    def seal(self, values: Mapping[str, Any]) -> Values:
        """The values to be stored, with format and version before them."""
        return {_FORMAT: self.name, _VERSION: self.version, **values}

    def read(self, stored: Any, error: type[WardroundError], who: str = "") -> Values:
        """The values of what was stored, in the form of the newest version. Which keys there must
        be is for ``make`` or the caller to say.

        who : the file, where the error may name it

        Raises ``error`` with the mend for what is newer, another format or no state at all.
        """
        version, values = 1, stored
        if isinstance(stored, Mapping):
            values = {key: one for key, one in stored.items() if key not in (_FORMAT, _VERSION)}
            version = stored.get(_VERSION, 1)
            if stored.get(_FORMAT, self.name) != self.name:
                raise self._refused("is another thing", error, who)
        if type(version) is not int or version < 1:
            raise self._refused("is damaged", error, who)
        if version > self.version:
            raise self._refused(
                f"has version {version}, and this wardround reads up to {self.version}", error, who
            )
        try:
            for upgrade in self.upgrades[version - 1 :]:
                values = upgrade(values)
        except (ValueError, TypeError, KeyError):
            values = None
        if not isinstance(values, dict):
            raise self._refused("is damaged", error, who)
        return values

    def make(self, kind: type[T], stored: Any, error: type[WardroundError], who: str = "") -> T:
        """``kind``, a dataclass, of what was stored.

        Raises ``error`` as ``read`` does, and for a value that is missing or unknown.
        """
        values = self.read(stored, error, who)
        known = {one.name: one for one in fields(kind)}  # type: ignore[arg-type]
        if unknown := sorted(values.keys() - known):
            raise self._refused(f"holds '{unknown[0]:.50}', which isn't known here", error, who)
        for name, one in known.items():
            if name not in values and (one.default, one.default_factory) == (MISSING, MISSING):
                raise self._refused(f"lacks '{name}'", error, who)
        return kind(**values)

    def _refused(self, what: str, error: type[WardroundError], who: str) -> WardroundError:
        return error(
            f"the stored {self.name} {what}",
            who=who,
            mend=f"install the version of wardround that wrote it, or {self.mend}",
        )
