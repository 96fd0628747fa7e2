"""Who is here, and whether that is enough: the server waits before every attempt at a step."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Mapping, Sequence

from wardround.common.config.load import Config
from wardround.server.members.member import Member
from wardround.server.members.sampling import fewest_hospitals
from wardround.server.transport.grid import HospitalGrid

_MOST_NAMED = 8
_LOOK_S = 0.25


class Attendance:
    """Waits for the hospitals of a roster.

    Parameters
    ----------
    roster : a live view
    say : a line for people, said when it changes
    may_come : whether one that is missing is worth waiting for, where enough are here
    """

    def __init__(
        self,
        config: Config,
        grid: HospitalGrid,
        roster: Mapping[str, bytes],
        say: Callable[[str], None],
        may_come: Callable[[str], bool] = lambda name: True,
    ) -> None:
        self._grid, self._roster, self._say = grid, roster, say
        self._may_come = may_come
        self._needed, self._wait_s = fewest_hospitals(config), config.server.wait_s
        self._idle: dict[str, str] = {}  # processes of hospitals that have nothing to train on

    def wait(self, everyone: bool) -> None:
        """Until enough hospitals can be asked; with ``everyone`` the others are waited for, too,
        for at most ``server.wait_s`` after that. Raises what the grid was told to fail by."""
        patience_s, enough_at, said = self._wait_s * everyone, math.inf, ""
        since = time.strftime("%Y-%m-%d %H:%M")
        while True:
            self._grid.check()
            named, ready = set(self._roster), set(self._grid.admitted())
            missing, idle = sorted(named - ready), self._evaluating_only(ready)
            if len(ready) - len(idle) < self._needed:
                enough_at = math.inf
            else:
                enough_at = min(enough_at, time.monotonic())
                come = any(self._may_come(name) for name in missing)
                if not come or time.monotonic() - enough_at >= patience_s:
                    return
            line = self._line(since, len(ready), len(named), missing, idle)
            if line != said:
                said = line
                self._say(line)
            with self._grid.changed:
                self._grid.changed.wait(_LOOK_S)

    def away(self) -> dict[str, str]:
        """Hospitals of the roster that can't be asked now, and why, for the report."""
        found = {}
        for name in sorted(set(self._roster) - set(self._grid.admitted())):
            link = self._grid.links.get(name)
            if link is None or not link.connected:
                found[name] = "it was not connected"
            else:
                why = f"refused the run: {link.refusal}" if link.refusal else "was still asked"
                found[name] = f"it {why}"
        return found

    def note_members(self, members: Sequence[Member]) -> None:
        """Remember which hospitals have nothing to train on, as long as their processes last."""
        for one in members:
            link = self._grid.links.get(one.name)
            if link is not None:
                self._idle[one.name] = "" if one.trains else link.line.instance

    def _line(
        self, since: str, ready: int, named: int, missing: Sequence[str], idle: Sequence[str]
    ) -> str:
        line = f"waiting for hospitals since {since}: {ready} of {named} are ready"
        if missing:
            line += f"; missing: {_list([self._missing(name) for name in missing])}"
        if idle:
            line += f"; in evaluations only: {_list(idle)}"
        if ready - len(idle) < self._needed:
            line += f"; a round needs {self._needed}"
        if named - len(idle) < self._needed:
            line += ", more than there are: admit more with wardround provision"
        return line

    def _evaluating_only(self, ready: Collection[str]) -> list[str]:
        """Of those who are ready: who is known to have no rows to train on."""
        links = self._grid.links
        return sorted(
            name for name in ready if self._idle.get(name) == links[name].line.instance != ""
        )

    def _missing(self, name: str) -> str:
        link = self._grid.links.get(name)
        if link is None or link.admitted or not link.refusal:
            return name
        return f"{name} ({'withdrew' if link.withdrew else 'refuses the run'})"


def _list(names: Sequence[str]) -> str:
    return ", ".join(names[:_MOST_NAMED]) + (" ..." if names[_MOST_NAMED:] else "")
